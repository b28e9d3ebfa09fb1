"""Those who visit the shop in its tests: browsers, listeners and bare connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from .models import SHOP, UPLOADS, Shop
from .shop import COOKIE

# Often enough to use up whatever a server might forget to give back.
OFTEN = 6

# What a browser's EventSource sends.
EVENT_SOURCE = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}

# A websocket handshake on a bare connection.
UPGRADE = [
    "GET /chat HTTP/1.1",
    "Host: shop",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]


def file_form(name: str, content: bytes, **fields: str) -> aiohttp.FormData:
    """A form with a file and some other fields."""
    form = aiohttp.FormData(fields, quote_fields=False)
    form.add_field("file", content, filename=name)
    return form


async def in_pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    """A body of unknown length."""
    for piece in pieces:
        yield piece


@dataclass(frozen=True)
class Reply:
    """A response which has been read to its end."""

    status: int
    headers: CIMultiDict[str] | CIMultiDictProxy[str]
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Browser:
    """A client with cookies of its own, which follows no redirects."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def request(self, method: str, path: str, **options: Any) -> Reply:
        options.setdefault("allow_redirects", False)
        async with self.session.request(method, path, **options) as response:
            return Reply(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Reply:
        return await self.request("POST", path, **options)

    async def order_teapot(self) -> str:
        """Order a teapot; where the receipt can be had."""
        reply = await self.post("/api/orders", json={"item": 1})
        assert reply.status == 202
        return reply.headers["Location"]


class Feed:
    """The live feed as a listener reads it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def block(self) -> list[str]:
        """The lines up to the next blank one."""
        lines = []
        while line := (await self.response.content.readline()).decode().rstrip("\n"):
            lines.append(line)
        return lines

    async def event(self) -> list[str]:
        """The next block which is not just a sign of life."""
        while (block := await self.block()) == [": still here"]:
            pass
        return block


class Wire:
    """A bare connection, to say exactly what is sent and see exactly what comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *lines: str, body: bytes = b"") -> None:
        """Send the head made of these lines, the blank line after it, and a body."""
        self.writer.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode() + body)
        await self.writer.drain()

    async def send_raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read_head(self) -> tuple[str, CIMultiDict[str]]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status_line, *lines = head.rstrip().split("\r\n")
        fields = (line.partition(": ") for line in lines)
        return status_line, CIMultiDict((name, value) for name, _, value in fields)

    async def read_reply(self, *, has_body: bool = True) -> Reply:
        status_line, headers = await self.read_head()
        body = b""
        if not has_body:
            pass
        elif headers.get("Transfer-Encoding") == "chunked":
            while size := int(await self.reader.readline(), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
        elif "Content-Length" in headers:
            body = await self.reader.readexactly(int(headers["Content-Length"]))
        else:
            body = await self.reader.read()
        return Reply(int(status_line.split()[1]), headers, body)

    async def at_end(self) -> bool:
        """Whether the server sends nothing more and closes; waits until that is known."""
        return await self.reader.read(1) == b""

    def vanish(self) -> None:
        """Break the connection off, without a word."""
        self.writer.transport.abort()

    async def close(self) -> None:
        """Close the connection, whatever has become of it."""
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class Site:
    """The running server and everybody who is connected to it."""

    anybody: Browser
    uploads: Path

    def __init__(self, app: web.Application) -> None:
        self.shop: Shop = app[SHOP]
        self.port = 0
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
        self._visitors = AsyncExitStack()

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        self.uploads = self._runner.app[UPLOADS]
        self.anybody = await self.browser()

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def close(self) -> None:
        await self._visitors.aclose()
        await self.stop()

    async def assert_healthy(self) -> None:
        """The shop still serves several visitors at once."""
        replies = await asyncio.gather(*(self.anybody.get("/api/items") for _ in range(OFTEN)))
        assert [reply.status for reply in replies] == [200] * OFTEN

    async def browser(self, user: str | None = None) -> Browser:
        """A new browser, logged in if a user is given."""
        session = aiohttp.ClientSession(
            f"http://127.0.0.1:{self.port}", cookie_jar=aiohttp.CookieJar(unsafe=True)
        )
        browser = Browser(await self._visitors.enter_async_context(session))
        if user is not None:
            form = {"name": user, "password": self.shop.users[user].password}
            assert (await browser.post("/login", data=form)).status == 303
        return browser

    async def cookie_line(self, user: str) -> str:
        """The header line which makes a bare connection that user's."""
        browser = await self.browser(user)
        (cookie,) = browser.session.cookie_jar
        return f"Cookie: {COOKIE}={cookie.value}"

    async def wire(self) -> Wire:
        """A new bare connection."""
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port))
        self._visitors.push_async_callback(wire.close)
        return wire
