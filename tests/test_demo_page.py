"""The demo's page reads pictures in a real Chromium, whatever happens to the network."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from tests.demo_page import chromium
from tests.processes import ROOT
from tests.relay import Relay

pytestmark = [
    pytest.mark.one_loop,
    pytest.mark.skipif(chromium() is None, reason="there is no Chromium: make system-deps"),
    pytest.mark.skipif(
        importlib.util.find_spec("rapidocr") is None, reason="onnxruntime has no wheel for this"
    ),
]


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
async def demo(server_process: Any) -> str:
    """The address of a demo whose model is warm."""
    env = {"HOST": "127.0.0.1"}
    _, url = await server_process("examples/demo.py", env=env, timeout=30)
    return str(url)


async def test_upload(demo: str) -> None:
    """A picture's text is read through the queue; what is no picture gets a sentence."""
    seen = [one async for one in play(demo, "upload")]

    assert seen == [
        ["HARBOUR\nFerry 300 m\nOld Town 1.2 km", 3],
        "This is no picture that can be read.",
        {"errors": []},
    ]


async def test_reload(demo: str) -> None:
    """A page that is reloaded in the middle has all of its pictures, and gets their texts."""
    seen = [one async for one in play(demo, "reload")]

    assert seen == [20, "All done: 20 read.", {"errors": []}]


async def test_cut(demo: str) -> None:
    """A connection that is cut in the middle costs nothing."""
    async with Relay(int(demo.rsplit(":", 1)[1])) as relay:
        seen = []
        async for one in play(relay.url, "cut"):
            seen.append(one)
            if one == "waiting":
                relay.cut()
                before = relay.connections

        assert seen == ["waiting", "done", {"errors": []}]
        assert relay.connections > before


async def test_event_source(demo: str) -> None:
    """The browser's own EventSource hears the end once, comes back, and stops for good: 204."""
    seen = [one async for one in play(demo, "event_source")]

    assert seen == [1, {"errors": []}]
