"""A started app: its clock."""

from __future__ import annotations

import asyncio

import pytest

import aioqueue
from tests.inside import STREAM, Inside, make_app, until
from tests.sse_client import read_events


async def test_a_tick_that_fails(
    serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in a tick is logged, and the next one comes all the same."""

    @aioqueue.queued
    async def work() -> None: ...

    app = make_app(work)
    await serve(app)
    runtime = Inside(app).runtime
    ticks = []

    async def tick(now: float) -> None:
        ticks.append(now)
        if len(ticks) == 1:
            raise ZeroDivisionError

    monkeypatch.setattr("aioqueue._runtime._TICK", 0.001)
    runtime.ticks.insert(0, tick)
    ticker = asyncio.create_task(runtime._tick())
    await until(lambda: len(ticks) >= 3)
    ticker.cancel()
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("aioqueue", "ERROR")
    assert record.exc_info[0] is ZeroDivisionError


@pytest.mark.one_loop
async def test_the_clock_ticks(serve, http, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, the app tells positions and cancels what nobody waits for any more."""
    monkeypatch.setattr("aioqueue._runtime._TICK", 0.01)
    monkeypatch.setattr("aioqueue._positions._SHORTEST", 0.01)

    @aioqueue.queued(on_disconnect="cancel")
    async def work() -> None:
        await asyncio.Event().wait()

    url = await serve(make_app(work))
    first, second, third = [
        await http.post(f"{url}/work", json={}, headers=STREAM) for _ in range(3)
    ]
    events = read_events(third)
    assert (await anext(events)).data["position"] == 2
    async with http.delete(url + second.headers["Location"]):
        moved = await anext(events)
    assert (moved.event, moved.data["position"]) == ("position", 1)
    first.close()
    assert (await anext(events)).event == "started"
    for response in (second, third):
        response.close()
