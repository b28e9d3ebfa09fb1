"""The shop, really running, as it is and behind the request queue."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from .clients import Site, file_form
from .models import Settings
from .shop import make_app

SETTINGS = Settings(heartbeat=0.02)

# Seconds after which a test, or the end of its server, will not come any more.
PATIENCE = 10


def plain_app() -> web.Application:
    """The application as it is."""
    return make_app(SETTINGS)


def queued_app() -> web.Application:
    """The same application with the queue as the innermost middleware of its root."""
    import aioqueue

    app = make_app(SETTINGS)
    queue = aioqueue.middleware(match=lambda request: True, concurrency_limit=4, max_size=100)
    app.middlewares.append(queue)
    aioqueue.setup(app)
    return app


def queued_outermost_app() -> web.Application:
    """The same application with the queue in front of its own middlewares."""
    import aioqueue

    app = make_app(SETTINGS)
    queue = aioqueue.middleware(match=lambda request: True, concurrency_limit=4, max_size=100)
    app.middlewares.insert(0, queue)
    aioqueue.setup(app)
    return app


BUILDS: dict[str, Callable[[], web.Application]] = {
    "plain": plain_app,
    "queued": queued_app,
    "queued-outermost": queued_outermost_app,
}


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both loops as in production: in debug mode, the tests here take three times as long."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture(params=list(BUILDS))
def build(request: pytest.FixtureRequest) -> str:
    """Which build of the application the test meets."""
    name: str = request.param
    return name


@pytest.fixture
async def site(build: str, anyio_backend: object) -> AsyncIterator[Site]:
    """The server, started for one test."""
    # aiohttp remembers the last thousand handlers, and with them the applications of the tests
    # before this one: no need to look through those after each test.
    gc.freeze()
    # A test that waits in vain is cancelled from within: a timeout from without would leave it
    # in the way of its own fixtures.
    test, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert test is not None
    patience = loop.call_later(PATIENCE, test.cancel, f"no end after {PATIENCE} seconds")
    site = Site(BUILDS[build]())
    try:
        await site.start()
        yield site
    finally:
        patience.cancel()
        async with asyncio.timeout(PATIENCE):
            await site.close()


@pytest.fixture
async def alphabet(site: Site) -> str:
    """The path of an uploaded file of 26 bytes."""
    ada = await site.browser("ada")
    await ada.post("/uploads", data=file_form("abc.txt", b"abcdefghijklmnopqrstuvwxyz"))
    return "/uploads/abc.txt"
