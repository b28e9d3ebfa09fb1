"""A process that serves an app: its loop, its signals, and an end that nothing holds up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable
from typing import Any

from aiohttp import web

from ._executors import THREAD_NAME

__all__ = ["run_app"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_BACKLOG = 4096
"""Connections that may wait to be accepted.  A crowd comes in one instant, and whoever finds no
room among them tries again a second later; aiohttp's own number is 128."""


def run_app(app: web.Application | Awaitable[web.Application], **options: Any) -> None:
    """``aiohttp.web.run_app`` on a uvloop loop, with an end that nothing holds up.

    A second signal does not interrupt the drain, which is bounded by ``drain_timeout``.  A thread
    that is still in a function after it does not hold up the exit either: such a thread can't be
    stopped, and native code in it could crash an interpreter that is being taken down.

    Args:
        app: the application, or a coroutine that makes it.
        **options: as for ``aiohttp.web.run_app``; ``backlog`` is 4096 here, for crowds.
    """
    handles_signals = options.get("handle_signals", True)
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    options = {"backlog": _BACKLOG, **options}
    web.run_app(_with_quiet_end(app) if handles_signals else app, loop=_new_loop(), **options)
    if any(thread.name.startswith(THREAD_NAME) for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    if handles_signals:
        for number, handler in before.items():
            if handler is not None:  # not one that Python knows nothing of
                signal.signal(number, handler)


async def _with_quiet_end(
    app: web.Application | Awaitable[web.Application],
) -> web.Application:
    made = app if isinstance(app, web.Application) else await app
    made.on_shutdown.insert(0, _ignore_signals)
    return made


async def _ignore_signals(app: web.Application) -> None:
    """Not by the loop, which would let go of its handlers before the process has ended."""
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.remove_signal_handler(number)
        # A handler, since SIG_IGN would be inherited by whatever programs jobs start.
        signal.signal(number, lambda number, frame: None)


def _new_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()
