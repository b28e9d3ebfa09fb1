"""Waiting for a job to end, as long as the client is willing to and is still there."""

from __future__ import annotations

import asyncio

from aiohttp import web

from ._eventlog import Reader
from ._job import BEGINNING
from ._listeners import Listener, Place
from .engines.base import Engine

__all__ = ["wait_for_end"]


class _Waiter(Listener):
    """Who waits for the end of one job."""

    __slots__ = ("_reader",)

    def __init__(self, request: web.Request, job_id: str, reader: Reader) -> None:
        super().__init__(request, (job_id,))
        self._reader = reader

    def wake(self) -> None:
        """Look again."""
        self._reader.wake()


async def wait_for_end(
    engine: Engine, place: Place, request: web.Request, job_id: str, seconds: float
) -> bool:
    """Wait until a job has ended, at most so many seconds.  Answers whether it has."""
    over = False

    def stop() -> None:
        nonlocal over
        over = True
        reader.wake()

    with Reader(engine, {job_id: BEGINNING}) as reader:
        listener = place.listener = _Waiter(request, job_id, reader)
        await asyncio.sleep(0)  # a job that is quick has ended by the next turn of the loop
        await reader.read()
        if not reader.cursors:
            return True
        # It is not the clock that says the time is over: uvloop's may be a hair behind its timers.
        timer = asyncio.get_running_loop().call_later(seconds, stop)
        try:
            while reader.cursors and not listener.dropped and not over:
                await reader.wait()
                await reader.read()
        finally:
            timer.cancel()
        return not reader.cursors
