"""The contract of wake-ups: who is told, and that a hint is only a hint.  On both loops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from aioqueue._job import JobState
from aioqueue.engines.base import Work
from tests.engines.conformance import Bench

OpenBench = Callable[..., Awaitable[Bench]]

PATIENCE = 5.0
"""Seconds after which a hint that has not come will not come."""


async def hints(bench: Bench) -> Work:
    """What the worker is told now, if anything."""
    return await bench.engine.wait_work("w", 0)


async def next_hint(bench: Bench, act: Callable[[], Awaitable[object]]) -> Work:
    """What wakes a worker that waits while something is done."""
    await hints(bench)
    waiting = asyncio.create_task(bench.engine.wait_work("w", 60.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    await act()
    async with asyncio.timeout(PATIENCE):
        return await waiting


# wait_work


async def test_nothing_to_do(bench: Bench) -> None:
    """Without a hint the wait ends at its timeout, with nothing."""
    assert await bench.engine.wait_work("w", 0.01) == Work()


async def test_left_in_line(bench: Bench) -> None:
    """A queue with a new job is told of, until somebody has claimed from it."""
    await bench.add("1")
    assert (await hints(bench)).queues == ("q",)
    await bench.add("2")
    await bench.start()

    assert await hints(bench) == Work()


async def test_cancel_wakes(bench: Bench) -> None:
    """The worker of a job is told that its cancel was requested."""
    await bench.add("1")
    await bench.start()

    work = await next_hint(bench, lambda: bench.engine.cancel("1", "client"))
    assert work.cancelled == ("1",)


async def test_limit_wakes(open_bench: OpenBench) -> None:
    """A changed limit wakes a worker: there may be slots now."""
    bench = await open_bench(concurrency_limit=1)
    await bench.add_all("1 2")
    await bench.start()

    work = await next_hint(bench, lambda: bench.engine.set_limit("q", 2))
    assert work.queues == ("q",)
    assert await bench.start() == ["2"]


async def test_cancel_of_the_head_wakes(bench: Bench) -> None:
    """When the job in the way is cancelled, who waits behind it may be able to start."""
    await bench.add_all("1 2")

    work = await next_hint(bench, lambda: bench.engine.cancel("1", "client"))
    assert work.queues == ("q",)


async def test_timeout_wakes(bench: Bench) -> None:
    """So it is when its time is over."""
    await bench.add("1", queue_timeout=10.0)
    await bench.add("2")
    bench.clock.advance(11)

    work = await next_hint(bench, bench.engine.reap)
    assert work.queues == ("q",)


async def test_free_slot(bench: Bench) -> None:
    """A queue whose slot is free again is told of."""
    await bench.add_all("1 2")
    await bench.start()
    assert await hints(bench) == Work()
    await bench.settle("1")

    assert (await hints(bench)).queues == ("q",)


async def test_end_takes_the_hint_back(bench: Bench) -> None:
    """A job that has ended needs no cancelling any more."""
    await bench.add("1")
    await bench.start()
    await bench.engine.cancel("1", "client")
    await bench.settle("1", state=JobState.CANCELLED)

    assert (await hints(bench)).cancelled == ()


async def test_abandoned_wait(bench: Bench) -> None:
    """A wait that is cancelled leaves nothing behind, and loses no hint that comes after it."""
    waiting = asyncio.create_task(bench.engine.wait_work("w", PATIENCE))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    await bench.add("1")

    assert (await hints(bench)).queues == ("q",)


async def test_close_wakes(bench: Bench) -> None:
    """Nobody waits for an engine that has closed."""
    assert await next_hint(bench, bench.engine.close) == Work()


# heartbeat


async def test_heartbeat(open_bench: OpenBench) -> None:
    """A heartbeat repeats which cancels are requested, and which claims are not held any more."""
    bench = await open_bench(concurrency_limit=9)
    await bench.add_all("1 2 3 4")
    await bench.start(free=2, batch=2)
    names = [bench.claims[job_id].id for job_id in ("1", "3")]
    beat = bench.engine.heartbeat("w", names)
    assert (list(beat.lost), list(beat.cancelled)) == ([], [])

    await bench.engine.cancel("2", "client")
    await hints(bench)
    for _ in range(2):
        beat = bench.engine.heartbeat("w", names)
        assert (list(beat.lost), list(beat.cancelled)) == ([], ["2"])
    await bench.settle("2", state=JobState.CANCELLED)
    await bench.release("3")
    beat = bench.engine.heartbeat("w", [*names, "never"])
    assert (list(beat.lost), list(beat.cancelled)) == ([names[1], "never"], [])


async def test_heartbeat_of_kept_work(bench: Bench) -> None:
    """Work that goes on after its job has ended still holds its claim."""
    await bench.add("1")
    await bench.start()
    await bench.settle("1", state=JobState.FAILED, keep=True)

    beat = bench.engine.heartbeat("w", [bench.claims["1"].id])
    assert (list(beat.lost), list(beat.cancelled)) == ([], [])


async def test_heartbeat_from_a_thread(bench: Bench) -> None:
    """A thread may call it."""
    await bench.add("1")
    await bench.start()
    name = bench.claims["1"].id

    beat = await asyncio.to_thread(bench.engine.heartbeat, "w", [name])
    assert not beat.lost


# watch


class Watcher:
    """Somebody who wants to know when a log has grown."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._event = asyncio.Event()

    def wake(self, job_id: str) -> None:
        """Hear of a job."""
        self.heard.append(job_id)
        self._event.set()

    async def hears(self, act: Awaitable[object]) -> bool:
        """Whether something that is done is heard of."""
        self._event.clear()
        await act
        try:
            async with asyncio.timeout(PATIENCE):
                await self._event.wait()
        except TimeoutError:
            return False
        return True


async def test_watch(bench: Bench) -> None:
    """Whoever watches a job is woken by all that it says, and by its end."""
    watcher = Watcher()
    await bench.add_all("1 2")
    bench.engine.watch("1", watcher.wake)

    assert await watcher.hears(bench.start())
    assert await watcher.hears(bench.emit("1", "output"))
    assert await watcher.hears(bench.emit("1", "progress", durable=False))
    assert await watcher.hears(bench.settle("1"))
    assert set(watcher.heard) == {"1"}


@pytest.mark.parametrize("retained", [True, False])
async def test_watch_a_cancel(bench: Bench, retained: bool) -> None:
    """Whoever watches a waiting job hears of its end, though it is forgotten at once."""
    watcher = Watcher()
    await bench.add("1", retained=retained)
    bench.engine.watch("1", watcher.wake)

    assert await watcher.hears(bench.engine.cancel("1", "client"))


async def test_watch_what_is_forgotten(bench: Bench) -> None:
    """Whoever still watches an ended job hears when it is forgotten."""
    watcher = Watcher()
    await bench.add("1")
    await bench.start()
    await bench.settle("1")
    bench.engine.watch("1", watcher.wake)
    bench.clock.advance(601)

    assert await watcher.hears(bench.engine.reap())


async def test_unwatch(bench: Bench) -> None:
    """Who has stopped watching hears nothing; the others do."""
    watcher, other = Watcher(), Watcher()
    await bench.add("1")
    for each in (watcher, other):
        bench.engine.watch("1", each.wake)
    bench.engine.unwatch("1", watcher.wake)
    bench.engine.unwatch("nobody", watcher.wake)

    assert await other.hears(bench.start())
    assert watcher.heard == []


async def test_stored_before_told(bench: Bench) -> None:
    """Whoever is woken finds in the log what he was woken for."""
    await bench.add("1")
    found = []
    event = asyncio.Event()
    bench.engine.watch("1", lambda _: event.set())
    for act, kind in ((bench.start, "started"), (lambda: bench.settle("1"), "succeeded")):
        event.clear()
        await act()
        async with asyncio.timeout(PATIENCE):
            await event.wait()
        found.append((await bench.log("1"))[-1].endswith(kind))

    assert found == [True, True]
