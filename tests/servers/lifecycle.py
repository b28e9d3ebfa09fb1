"""A server that a test ends: `python -m tests.servers.lifecycle aiohttp|aioqueue`."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from aiohttp import web

import aioqueue

ending = asyncio.Event()


@aioqueue.queued
async def forever() -> None:
    """Never end by itself."""
    await asyncio.Event().wait()


@aioqueue.queued
async def until_the_end() -> str:
    """End when the server is told to."""
    await ending.wait()
    return "in time"


@aioqueue.queued
def blocked() -> None:
    """Hold a thread, as native code does, for longer than any server would wait."""
    time.sleep(60)


@aioqueue.queued
async def size(image: bytes) -> int:
    """Take an upload."""
    return len(image)


async def begin_to_end(app: web.Application) -> None:
    """Called before aioqueue drains."""
    ending.set()


app = web.Application(client_max_size=1 << 30)
for function in (forever, until_the_end, blocked, size):
    app.router.add_post(f"/{function.name}", function)
app.on_shutdown.append(begin_to_end)
aioqueue.setup(app)

if __name__ == "__main__":
    run_app = aioqueue.run_app if sys.argv[1] == "aioqueue" else web.run_app
    run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)
