"""What we use of aiohttp and aiohttp-sse that they do not document.

Each test pins one thing, so that a release that changes it fails here, by its name, and not as
some stream that hangs.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.http_writer import StreamWriter
from aiohttp_sse import EventSourceResponse

import aioqueue
from aioqueue import QueuedFunction
from aioqueue._stream import EventStream
from aioqueue.web import OwnRoute

Serve = Callable[..., Awaitable[str]]


@aioqueue.queued
def function(number: int) -> None:
    """Be a handler."""


class Service:
    @aioqueue.queued
    def method(self, number: int) -> None: ...


async def look(
    serve: Serve, http: ClientSession, handler: Callable[[web.Request], Any], **options: Any
) -> None:
    """Run a handler on a real connection; what it raises fails the test."""
    seen: list[BaseException] = []

    async def run(request: web.Request) -> web.StreamResponse:
        try:
            answer: web.StreamResponse = await handler(request)
        except BaseException as error:
            seen.append(error)
            raise
        return answer

    app = web.Application()
    app.router.add_post("/{name}", run)
    url = await serve(app)
    async with http.post(f"{url}/path?a=b", **options) as response:
        await response.read()
    if seen:
        raise seen[0]
    assert response.status == 200


async def test_headers_wait_for_the_first_bytes(serve, http: ClientSession) -> None:
    """``_send_headers_immediately``: False keeps a response's head back until there is a body."""
    assert web.StreamResponse._send_headers_immediately
    assert not web.Response._send_headers_immediately

    async def handler(request: web.Request) -> web.StreamResponse:
        response = EventStream(120, {})
        await response.prepare(request)
        assert request.writer.output_size == 0
        await response.write(b"data: 1\n\n")
        assert request.writer.output_size > 0
        return response

    await look(serve, http, handler)


async def test_ping_task(serve, http: ClientSession) -> None:
    """``_ping_task``: aiohttp-sse starts one for each stream, which ours goes without."""

    async def theirs(request: web.Request) -> web.StreamResponse:
        async with EventSourceResponse(allow_all_methods=True) as response:
            await response.prepare(request)
            assert isinstance(response._ping_task, asyncio.Task)
        return response

    async def ours(request: web.Request) -> web.StreamResponse:
        before = asyncio.all_tasks()
        response = EventStream(120, {})
        await response.prepare(request)
        assert asyncio.all_tasks() == before
        assert response._ping_task is None
        await response.send("1")
        await response.write_eof()
        return response

    await look(serve, http, theirs)
    await look(serve, http, ours)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has it")
async def test_tcp_user_timeout(serve, http: ClientSession) -> None:
    """``_set_tcp_user_timeout`` sets that of the request's socket to ``send_timeout``."""

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        response = EventStream(7, {})
        await response.prepare(request)
        response._set_tcp_user_timeout(request)
        sock = request.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
        return response

    await look(serve, http, handler)


async def test_writer_of_a_response(serve, http: ClientSession) -> None:
    """``_payload_writer`` and ``_req``: where a prepared response writes, and for whom."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = EventStream(120, {})
        assert response._payload_writer is None
        assert response._req is None
        writer = await response.prepare(request)
        assert response._payload_writer is writer is request.writer
        assert response._req is request
        return response

    await look(serve, http, handler)


async def test_write_without_waiting(serve, http: ClientSession) -> None:
    """``write(…, drain=False)`` of the payload writer never waits, whatever the client reads."""
    assert "drain" in inspect.signature(StreamWriter.write).parameters

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        response = EventStream(120, {})
        writer = await response.prepare(request)
        assert writer is not None
        for _ in range(20):
            with pytest.raises(StopIteration):
                writer.write(bytes(1 << 20), drain=False).send(None)
        assert request.transport.get_write_buffer_size() > 1 << 20
        return response

    await look(serve, http, handler)


async def test_output_size(serve, http: ClientSession) -> None:
    """``output_size`` of the payload writer counts all bytes that were handed to the transport."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = EventStream(120, {})
        await response.prepare(request)
        await response.write(b"1")
        before = request.writer.output_size
        await response.write(b"12345")
        assert request.writer.output_size == before + len(b"5\r\n12345\r\n")
        return response

    await look(serve, http, handler)


async def test_writer_of_a_request(serve, http: ClientSession) -> None:
    """``_payload_writer`` of a request: the only way that a response to it takes to the client."""

    class NoWay:
        def __getattr__(self, name: str) -> Any:
            raise ZeroDivisionError(name)

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request._payload_writer is request.writer
        clone = request.clone()
        assert clone._payload_writer is request.writer
        clone._payload_writer = NoWay()
        for response in (web.Response(text="1"), web.StreamResponse(), web.FileResponse(__file__)):
            with pytest.raises(ZeroDivisionError):
                await response.prepare(clone)
        assert request.writer.output_size == 0
        return web.Response()

    await look(serve, http, handler)


async def test_clone(serve, http: ClientSession) -> None:
    """A clone has its request's route and query; ``_read_bytes`` is a body that was read."""

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request._read_bytes is None
        clone = request.clone()
        assert clone.match_info is request.match_info
        assert (clone.path, clone.query["a"], clone.app) == ("/path", "b", request.app)
        assert await clone.read() == clone._read_bytes == b"body"
        assert await clone.text() == "body"

        assert await request.read() == b""  # they share the stream, so it is read once
        with pytest.raises(RuntimeError, match="Cannot clone request after reading its content"):
            clone.clone()
        return web.Response()

    await look(serve, http, handler, data=b"body")


@pytest.mark.parametrize(
    "handler",
    [function, Service().method, OwnRoute(Service().method)],
    ids=lambda one: repr(type(one)),
)
def test_handlers_are_taken_as_they_are(handler: Any) -> None:
    """The mark of a coroutine function: aiohttp warns about, and wraps, what does not have it."""
    app = web.Application()
    route = app.router.add_post("/", handler)

    assert route.handler is handler
    marked = inspect if sys.version_info >= (3, 12) else asyncio
    assert marked.iscoroutinefunction(handler)
    assert not marked.iscoroutinefunction(QueuedFunction.options)


def test_sub_app_of_a_resource() -> None:
    """``get_info()["app"]`` of a resource is the sub-app mounted there; others have none."""
    app, sub_app, domain = web.Application(), web.Application(), web.Application()
    app.add_subapp("/sub", sub_app)
    app.add_domain("example.org", domain)
    app.router.add_post("/", function)

    infos = [resource.get_info() for resource in app.router.resources()]
    assert [info.get("app") for info in infos] == [sub_app, domain, None]


def test_canonical_path_of_a_sub_apps_resource() -> None:
    """A prefix is put before the paths of a sub-app when it is added, which is how we see it."""
    app, sub_app = web.Application(), web.Application()
    resource = sub_app.router.add_post("/jobs/{job_id}", function).resource
    assert resource is not None
    assert resource.canonical == "/jobs/{job_id}"
    app.add_subapp("/sub", sub_app)

    assert resource.canonical == "/sub/jobs/{job_id}"


def test_path_of_a_file_response() -> None:
    """``_path`` is the file that a response will send."""
    assert web.FileResponse(__file__)._path == Path(__file__)
