"""What the shop is made of, all of it kept in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Settings:
    max_body: int = 16 * 1024  # what may be posted as JSON or as a form
    max_upload: int = 128 * 1024
    heartbeat: float = 15.0  # seconds between signs of life in the live feed


@dataclass(frozen=True)
class User:
    name: str
    password: str
    admin: bool = False


@dataclass
class Session:
    user: User
    flashes: list[str] = field(default_factory=list)


@dataclass
class Item:
    id: int
    name: str
    price: int

    def as_json(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "price": self.price}


@dataclass
class Order:
    id: int
    item: Item
    buyer: User
    request_id: str
    packed: asyncio.Event = field(default_factory=asyncio.Event)


class Activity:
    """What happened in the shop, in order, and a way to wait for more."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.closed = False
        self._news = asyncio.Event()

    def add(self, entry: str) -> None:
        self.entries.append(entry)
        self._wake()

    def close(self) -> None:
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def after(self, seen: int) -> list[str]:
        """The entries after the first ``seen``: waits until there is one."""
        while len(self.entries) <= seen and not self.closed:
            await self._news.wait()
        return self.entries[seen:]

    async def wait_for(self, entry: str, times: int = 1) -> None:
        while self.entries.count(entry) < times:
            await self._news.wait()


class Shop:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        people = [User("ada", "lovelace"), User("bob", "builder"), User("eve", "boss", admin=True)]
        self.users = {user.name: user for user in people}
        self.items = {1: Item(1, "teapot", 25), 2: Item(2, "cup", 4), 3: Item(3, "thé vert", 9)}
        self.orders: dict[int, Order] = {}
        self.reviews: list[tuple[str, str]] = []
        self.sessions: dict[str, Session] = {}
        self.chatters: dict[web.WebSocketResponse, User] = {}
        self.activity = Activity()
        self.to_pack: asyncio.Queue[Order] = asyncio.Queue()
        self.warehouse_open = asyncio.Event()
        self.warehouse_open.set()


SHOP = web.AppKey("SHOP", Shop)
UPLOADS = web.AppKey("UPLOADS", Path)
SESSION = web.RequestKey("SESSION", Session)
