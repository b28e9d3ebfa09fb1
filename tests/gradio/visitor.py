"""A client that speaks Gradio's protocol by hand, and sees every byte."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import ClientResponse

import aioqueue.gradio
from tests.inside import Shop

Message = dict[str, Any]

NAME = "a-session-of-mine"


def messages_of(body: bytes) -> list[Message]:
    """The messages of a session's stream, of which every byte is as the clients need it."""
    *blocks, rest = body.split(b"\n\n")
    assert rest == b""
    assert b"\r" not in body
    messages = []
    for block in blocks:
        assert block.startswith(b"data: ")
        assert b"\n" not in block
        messages.append(orjson.loads(block[6:]))
    return messages


def kinds_of(messages: list[Message]) -> list[str]:
    """What messages are called."""
    return [message["msg"] for message in messages]


def events_of(body: bytes) -> list[tuple[str, Any]]:
    """The events of a call's stream."""
    *blocks, rest = body.decode().split("\n\n")
    assert rest == ""
    events = []
    for block in blocks:
        kind, data = block.split("\n")
        assert kind.startswith("event: ")
        assert data.startswith("data: ")
        events.append((kind[7:], orjson.loads(data[6:])))
    return events


class Stream:
    """A session's stream, as it comes."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.body = b""

    async def take(self) -> Message:
        """The next message."""
        block = await self.response.content.readuntil(b"\n\n")
        self.body += block
        (message,) = messages_of(block)
        return message

    async def until(self, kind: str) -> list[Message]:
        """The next messages, to one of this kind."""
        messages = [await self.take()]
        while messages[-1]["msg"] != kind:
            messages.append(await self.take())
        return messages

    async def rest(self) -> list[Message]:
        """All messages to come, to the end."""
        return messages_of(await self.response.read())


class Visitor:
    """Calls the functions of a shop, as Gradio's clients do.

    Args:
        shop: where.
        path: what stands before every path.
        headers: with every request.
    """

    def __init__(self, shop: Shop, path: str = "", **headers: str) -> None:
        self.shop = shop
        self.base = path
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def url(self, below: str) -> str:
        """The address of what most routes are below."""
        return f"{self.shop.url}{self.base}/gradio_api{below}"

    async def get(self, below: str) -> ClientResponse:
        """Get something, with its body read."""
        response = await self.shop.http.get(self.url(below), headers=self.headers)
        await response.read()
        return response

    async def post(self, below: str, body: Any) -> ClientResponse:
        """Post JSON; answers with the body read."""
        url = self.url(below)
        response = await self.shop.http.post(url, json=body, headers=self.headers)
        await response.read()
        return response

    async def index(self, api_name: str) -> int:
        """The number of a function."""
        url = f"{self.shop.url}{self.base}/config"
        async with self.shop.http.get(url, headers=self.headers) as response:
            names = [one["api_name"] for one in (await response.json())["dependencies"]]
        return names.index(api_name)

    async def try_join(
        self, api_name: str, *values: Any, session: Any = NAME, **fields: Any
    ) -> ClientResponse:
        """Submit a job, or be refused."""
        body = {"data": list(values), "session_hash": session}
        if "fn_index" not in fields:
            body["fn_index"] = await self.index(api_name)
        return await self.post("/queue/join", body | fields)

    async def join(self, api_name: str, *values: Any, session: str = NAME) -> str:
        """Submit a job; answers its id."""
        response = await self.try_join(api_name, *values, session=session)
        assert response.status == 200, await response.text()
        job_id: str = (await response.json())["event_id"]
        return job_id

    @asynccontextmanager
    async def stream(self, session: str = NAME) -> AsyncIterator[Stream]:
        """Listen to a session."""
        address = self.url(f"/queue/data?session_hash={session}")
        async with self.shop.http.get(address, headers=self.headers) as response:
            assert response.status == 200, await response.text()
            assert response.headers["Content-Type"] == "text/event-stream"
            yield Stream(response)
            response.close()  # or what is left would be read

    async def told(self, session: str = NAME) -> list[Message]:
        """All that a session is told, to the end of its stream."""
        async with self.stream(session) as stream:
            return await stream.rest()

    async def cancel(self, job_id: str, session: str = NAME) -> ClientResponse:
        """Cancel a job."""
        body = {"event_id": job_id, "session_hash": session, "fn_index": 0}
        return await self.post("/cancel", body)

    async def call(self, api_name: str, *values: Any) -> list[tuple[str, Any]]:
        """Submit a job with nothing but HTTP; answers its events."""
        response = await self.post(f"/call/{api_name}", {"data": list(values)})
        assert response.status == 200, await response.text()
        job_id = (await response.json())["event_id"]
        response = await self.get(f"/call/{api_name}/{job_id}")
        return events_of(await response.read())


def gradio_shop(*functions: Any, settings: dict[str, Any] | None = None, **options: Any) -> Shop:
    """A shop whose functions Gradio's clients can call."""
    shop = Shop().sells(*functions, **(settings or {}))
    aioqueue.gradio.setup(shop.app, **options)
    return shop
