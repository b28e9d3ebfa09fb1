"""The demo's page reads pictures in a real Chromium, whatever happens to the network."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import orjson
import pytest

from tests.demo_page import chromium
from tests.processes import ROOT, ServerProcess, server_process
from tests.relay import Relay, port_of

pytestmark = [
    pytest.mark.one_loop,
    pytest.mark.timeout(180),  # a model, a browser, and whatever else the machine does
    pytest.mark.skipif(chromium() is None, reason="there is no Chromium: make system-deps"),
    pytest.mark.skipif(
        importlib.util.find_spec("rapidocr") is None, reason="onnxruntime has no wheel for this"
    ),
]


DEMO: Any = {"env": {"HOST": "127.0.0.1"}, "timeout": 30}


async def play(url: str, scene: str) -> AsyncIterator[Any]:
    """What a person sees in a scene, one thing after the other."""
    command = (sys.executable, "-m", "tests.demo_page", url, scene)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    try:
        async for line in process.stdout:
            yield orjson.loads(line)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def start(server_process: Any) -> Callable[[], Awaitable[ServerProcess]]:
    """Start a demo for a test that ends it; it is there once its model is warm."""

    async def start() -> ServerProcess:
        server: ServerProcess = await server_process("examples/demo.py", **DEMO)
        return server

    return start


@pytest.fixture(scope="module")
def demo(free_tcp_port_factory: Callable[[], int]) -> Iterator[str]:
    """The address of a demo that all share who do it no harm: a model takes seconds to load."""
    server = server_process("examples/demo.py", port=free_tcp_port_factory(), **DEMO)
    with asyncio.Runner() as runner:
        yield runner.run(server.__aenter__()).url
        runner.run(server.__aexit__(None, None, None))


async def test_upload(demo: str) -> None:
    """A picture's text is read line by line; what is no picture gets a sentence."""
    seen = [one async for one in play(demo, "upload")]

    assert seen == [
        ["HARBOUR", "HARBOUR\nFerry 300 m", "HARBOUR\nFerry 300 m\nOld Town 1.2 km"],
        ["HARBOUR\nFerry 300 m\nOld Town 1.2 km", 3],
        "This is no picture that can be read.",
        {"errors": []},
    ]


async def test_reload(demo: str) -> None:
    """A page that is reloaded in the middle has all of its pictures, and gets their texts."""
    seen = [one async for one in play(demo, "reload")]

    assert seen == [4, "All done: 4 read.", {"errors": []}]


async def test_cut(demo: str) -> None:
    """A connection that is cut in the middle costs nothing."""
    async with Relay(port_of(demo)) as relay:
        seen = []
        async for one in play(relay.url, "cut"):
            seen.append(one)
            if one == "waiting":
                relay.cut()
                before = relay.connections

        assert seen == ["waiting", "done", {"errors": []}]
        assert relay.connections > before


async def test_a_server_that_is_stopped(start: Callable[[], Awaitable[ServerProcess]]) -> None:
    """Who waits when the server is stopped reads that, and the server ends as it should."""
    server, url = await start()
    seen = []
    async for one in play(url, "stopped"):
        seen.append(one)
        if one == "waiting":
            server.terminate()

    assert seen == ["waiting", "The server was stopped. Please send it again.", {"errors": []}]
    assert await asyncio.to_thread(server.wait, 15) == 0


async def test_a_server_that_is_killed(
    start: Callable[[], Awaitable[ServerProcess]], demo: str
) -> None:
    """Who waits hears that the connection is lost, then that another server knows nothing."""
    server, url = await start()
    seen = []
    async with Relay(port_of(url)) as relay:
        async for one in play(relay.url, "killed"):
            seen.append(one)
            if one == "waiting":
                server.kill()
            if one == "told":
                relay.port = port_of(demo)

    sentence = "There is no such job, or it has ended and is no longer kept."
    assert seen == ["waiting", "told", sentence, "nothing spins", {"errors": []}]


async def test_event_source(demo: str) -> None:
    """The browser's own EventSource hears the end once, comes back, and stops for good: 204."""
    seen = [one async for one in play(demo, "event_source")]

    assert seen == [1, {"errors": []}]


async def test_batches(demo: str) -> None:
    """64 files of many kinds share few calls, all get their types, and a reload keeps them."""
    pytest.importorskip("magika")
    types, ways, kept, errors = [one async for one in play(demo, "batches")]

    assert len(types) == 64
    known = {"Python 1": "Python source", "JSON 2": "JSON document", "PNG 3": "PNG image"}
    assert known.items() <= types.items()
    assert types["gzip 4"] == "gzip compressed data"
    found = re.match(r" 64 files, (\d+) calls: (\d+) calls saved · ", ways[0])
    assert found
    calls, saved = map(int, found.groups())
    assert (8 <= calls < 64, calls + saved) == (True, 64)
    assert ways[1].startswith(" 64 files, 64 calls · ")
    assert kept == [64, f"{saved} calls saved", ""]
    assert errors == {"errors": []}
