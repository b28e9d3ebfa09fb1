"""A batch from its window to its end: its jobs may end one by one, its slot once, with the work."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import pytest
from aiohttp import ClientSession, web

import aioqueue
from aioqueue import JobHandle
from aioqueue.web import _RUNTIME
from tests.batches import (
    KINDS,
    Function,
    ends,
    engine_of,
    events,
    in_a_thread,
    line_up,
    on_the_loop,
)
from tests.inside import Inside, make_app, scheduler_of, states
from tests.stage import Stage, a_while, until

# The window

# The engine's clock stands still in these tests until it is moved, and alone says when a window is
# over.  The loop's timer, short and real, only asks again.
SOON = 0.01


@attrs.frozen
class Window:
    """A batch function of up to three jobs whose window is open until the test moves the clock."""

    app: web.Application
    inside: Inside
    function: Function
    stage: Stage

    def pass_time(self, seconds: float) -> None:
        """Move the engine's clock."""
        self.inside._passed += seconds

    async def a_window(self) -> None:
        """Give the loop's timer more than the time it needs to ask again."""
        await asyncio.sleep(3 * SOON)

    @property
    def timers(self) -> list[Any]:
        """The timers that are set for windows."""
        return list(scheduler_of(self.app)._windows.values())


@pytest.fixture
async def window(serve, stage: Stage) -> Window:
    """One slot, three jobs a batch, a window of a moment."""
    function = on_the_loop(stage, max_batch_size=3, batch_timeout=SOON)
    app = make_app(function)
    await serve(app)
    return Window(app, Inside(app), function, stage)


async def test_the_first_job_waits_for_mates(window: Window) -> None:
    """Until its window is over a batch that is not full stays open, then it starts as it is."""
    handles = [await window.function.submit(1)]
    await window.a_window()
    handles.append(await window.function.submit(2))
    await window.a_window()
    assert not window.stage.begun
    assert await states(handles) == ["queued", "queued"]
    assert len(window.timers) == 1

    window.pass_time(SOON)
    await until(lambda: window.stage.begun)
    assert window.stage.begun == [(1, 2)]
    assert not window.timers
    window.stage.end((1, 2), value=["a", "b"])
    assert await ends(handles) == ["a", "b"]


async def test_a_full_batch_starts_at_once(window: Window) -> None:
    """A batch that is full waits for nobody, and leaves no timer."""
    for number in (1, 2, 3):
        await window.function.submit(number)
    await window.stage.has_begun((1, 2, 3))

    assert not window.timers


async def test_the_window_is_the_heads(window: Window) -> None:
    """It is counted from when the head came: not again from each mate, nor from the free slot."""
    for number in (1, 2, 3):
        await window.function.submit(number)
    await window.function.submit(4)
    window.pass_time(SOON)
    await window.function.submit(5)
    assert not window.timers  # there is no slot to wait for mates with
    window.stage.end((1, 2, 3), value=[0, 0, 0])
    await window.stage.has_begun((1, 2, 3), (4, 5))

    assert not window.timers


async def test_the_timer_is_set_for_the_rest_of_the_window(serve, stage: Stage) -> None:
    """A head that has waited for its slot already waits that much less for mates."""
    function = on_the_loop(stage, batch_timeout=1000)
    app = make_app(function)
    await serve(app)
    inside, loop = Inside(app), asyncio.get_running_loop()
    for number in (1, 2, 3):
        await function.submit(number)
    inside._passed += 400
    stage.end((1, 2), value=[0, 0])
    await until(lambda: scheduler_of(app)._windows)

    (timer,) = scheduler_of(app)._windows.values()
    assert 500 < timer.when() - loop.time() <= 600.1


async def test_cancelled_in_the_window(window: Window) -> None:
    """A job that is cancelled while it waits is in no batch, and its window is over with it."""
    handles = [await window.function.submit(1)]
    window.pass_time(0.5 * SOON)
    handles.append(await window.function.submit(2))
    assert await handles[0].cancel() == "cancelled"
    window.pass_time(0.7 * SOON)
    await window.a_window()
    assert not window.stage.begun
    handles.append(await window.function.submit(3))
    window.pass_time(SOON)
    await until(lambda: window.stage.begun)

    assert window.stage.begun == [(2, 3)]
    assert not window.timers
    window.stage.end((2, 3), value=["b", "c"])
    assert await ends(handles) == ["job_cancelled", "b", "c"]


# Cancelling what runs


async def running(app: web.Application, function: Function) -> int:
    """How many slots are taken."""
    return len((await engine_of(app).stats(function.name)).running)


@pytest.mark.parametrize("kind", KINDS)
async def test_cancel_one_of_a_batch(serve, http: ClientSession, stage: Stage, kind: Any) -> None:
    """It is answered at once as cancelled; the others go on in their slot, and succeed."""
    app = make_app(function := kind(stage, max_batch_size=3, cancel_timeout=60))
    url = await serve(app)
    handles = await line_up(app, function, 1, 2, 3, 4)
    await stage.has_begun((1, 2, 3))
    for _ in range(2):  # as often as one likes
        async with http.delete(f"{url}/queue/jobs/{handles[0].id}") as response:
            assert (response.status, (await response.json())["state"]) == (200, "cancelled")
    assert await states(handles) == ["cancelled", "running", "running", "queued"]
    assert await running(app, function) == 1

    stage.end((1, 2, 3), value=["a", "b", "c"])
    stage.end((4,), value=["d"])
    assert await ends(handles) == ["job_cancelled", "b", "c", "d"]
    assert await events(handles[0], "reason") == [("started",), ("cancelled", "client")]
    assert not scheduler_of(app)._active


async def test_a_batch_sees_who_was_cancelled(serve, stage: Stage) -> None:
    """A job of the list says that it is cancelled, and its progress is no news; no more."""
    seen: list[Any] = []

    @aioqueue.queued(batch=True)
    async def function(words: list[str], jobs: list[aioqueue.Job] = aioqueue.JOB) -> list[str]:
        await stage.play("work")
        seen.extend([*(job.cancelled for job in jobs), aioqueue.current_job().cancelled])
        for job in [aioqueue.current_job(), *jobs]:
            job.log("on we go")
            job.progress(0.5)
        with pytest.raises(aioqueue.JobCancelled):
            jobs[0].raise_if_cancelled()
        return words

    app = make_app(function)
    await serve(app)
    handles = await line_up(app, function, "a", "b")
    await stage.has_begun("work")
    await handles[0].cancel()
    stage.end("work")

    assert await ends(handles) == ["job_cancelled", "b"]
    assert seen == [True, False, False]
    assert await events(handles[0]) == [("started",), ("cancelled",)]


async def test_last_words_of_a_cancelled_job(serve, stage: Stage) -> None:
    """What a job of a batch said before its cancel is in its log."""
    handles: list[JobHandle[Any]] = []

    @aioqueue.queued(batch=True)
    async def function(words: list[str]) -> list[str]:
        await stage.play("work")
        aioqueue.current_job().log("last words")
        await handles[0].cancel()
        return words

    app = make_app(function)
    await serve(app)
    handles += await line_up(app, function, "a", "b")
    stage.end("work")
    await ends(handles)

    assert await events(handles[0]) == [("started",), ("log",), ("cancelled",)]


async def test_cancel_all_of_a_batch(serve, stage: Stage) -> None:
    """When the last of its jobs is cancelled, the function is interrupted."""
    app = make_app(function := on_the_loop(stage, max_batch_size=3, cancel_timeout=60))
    await serve(app)
    handles = await line_up(app, function, 1, 2, 3, 4)
    await stage.has_begun((1, 2, 3))
    for handle in handles[:2]:
        await handle.cancel()
    await a_while()
    assert stage.running[1, 2, 3]
    await handles[2].cancel()
    await until(lambda: not stage.running[1, 2, 3])
    stage.end((4,), value=["d"])

    assert await ends(handles) == [*["job_cancelled"] * 3, "d"]


@pytest.mark.parametrize("whose", ["all", "the first", "the last"])
async def test_cancel_all_of_a_batch_in_a_thread(serve, stage: Stage, whose: str) -> None:
    """Then, and not before, progress raises in a thread, whichever job it is said of."""

    @aioqueue.queued(batch=True, max_batch_size=2, cancel_timeout=60)
    def function(numbers: list[int], jobs: list[aioqueue.Job] = aioqueue.JOB) -> list[int]:
        speakers = {"all": aioqueue.current_job(), "the first": jobs[0], "the last": jobs[-1]}
        stage.begun.append(numbers)
        while numbers[0] == 1:
            speakers[whose].progress(0.5)
        return numbers

    app = make_app(function)
    await serve(app)
    handles = await line_up(app, function, 1, 2, 3)
    await until(lambda: stage.begun)
    await handles[1].cancel()
    await a_while()
    assert len(stage.begun) == 1
    await handles[0].cancel()

    assert await ends(handles) == ["job_cancelled", "job_cancelled", 3]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_last_one_may_still_succeed(serve, stage: Stage, kind: Any) -> None:
    """A value within ``cancel_timeout`` of the last cancel is that job's; the others are gone."""

    @aioqueue.queued(name="f", batch=True, cancel_timeout=60)
    async def on_loop(words: list[str]) -> list[str]:
        try:
            await stage.play("work")
        except asyncio.CancelledError:
            return words
        return []

    @aioqueue.queued(name="f", batch=True, cancel_timeout=60)
    def in_thread(words: list[str]) -> list[str]:
        stage.begun.append("work")
        while not aioqueue.current_job().cancelled:
            pass
        return words

    app = make_app(function := in_thread if kind is in_a_thread else on_loop)
    await serve(app)
    handles = await line_up(app, function, "a", "b", "c")
    await stage.has_begun("work")
    for handle in handles:
        await handle.cancel()

    assert await ends(handles) == ["job_cancelled", "job_cancelled", "c"]


async def test_cancelled_in_the_step_in_which_the_work_ends(serve, stage: Stage) -> None:
    """However close to its end a job of a batch is cancelled, the next batch starts."""
    handles: list[JobHandle[Any]] = []

    @aioqueue.queued(batch=True, max_batch_size=2)
    async def function(numbers: list[int]) -> list[int]:
        await stage.play(tuple(numbers))
        await handles[0].cancel()
        return numbers

    app = make_app(function)
    await serve(app)
    handles += await line_up(app, function, 1, 2, 3)
    stage.end((1, 2), (3,))
    await until(lambda: (3,) in stage.begun)

    assert await ends(handles) == ["job_cancelled", 2, 3]


async def test_a_thread_that_outlives_its_cancel(serve, stage: Stage) -> None:
    """All of its jobs have ended for their clients; the slot is taken until it returns."""
    app = make_app(function := in_a_thread(stage, cancel_timeout=0))
    await serve(app)
    handles = await line_up(app, function, 1, 2, 3, 4)
    await stage.has_begun((1, 2))
    for handle in handles[:2]:
        await handle.cancel()
    assert await ends(handles[:2]) == ["job_cancelled", "job_cancelled"]
    await a_while()
    assert stage.begun == [(1, 2)]
    assert await running(app, function) == 1

    stage.end((1, 2), value=["late", "late"])
    await stage.has_begun((1, 2), (3, 4))
    stage.end((3, 4), value=["c", "d"])
    assert await ends(handles) == ["job_cancelled", "job_cancelled", "c", "d"]


# Time, and the end


@pytest.mark.parametrize("kind", KINDS)
async def test_time_limit(serve, stage: Stage, kind: Any) -> None:
    """It fails all jobs of the batch that have not ended before; a thread keeps the slot."""
    app = make_app(function := kind(stage, max_batch_size=3, time_limit=1000))
    await serve(app)
    handles = await line_up(app, function, 1, 2, 3, 4)
    await stage.has_begun((1, 2, 3))
    await handles[1].cancel()
    active = scheduler_of(app)._active[handles[0].id]
    (timer,) = active._timers
    assert 500 < timer.when() - asyncio.get_running_loop().time() <= 1000
    active._time_is_over(1000)
    assert await ends(handles[:3]) == ["job_timeout", "job_cancelled", "job_timeout"]
    await a_while()
    assert ((4,) in stage.begun) is (kind is on_the_loop)

    if kind is in_a_thread:
        stage.end((1, 2, 3), value=["late"] * 3)
    stage.end((4,), value=["d"])
    assert await ends(handles) == ["job_timeout", "job_cancelled", "job_timeout", "d"]


@pytest.mark.parametrize("kind", KINDS)
async def test_drain(serve, stage: Stage, kind: Any) -> None:
    """At shutdown a running batch may end in time; one that waits for mates is cancelled."""
    function = kind(stage, concurrency_limit=2, batch_timeout=1000)
    app = make_app(function, drain_timeout=20)
    await serve(app)
    (runtime,) = app[_RUNTIME]
    handles = [await function.submit(number) for number in (1, 2, 3)]
    await stage.has_begun((1, 2))
    await handles[0].cancel()
    draining = asyncio.create_task(runtime.drain())
    await a_while()
    assert await states(handles) == ["cancelled", "running", "cancelled"]
    assert not draining.done()

    stage.end((1, 2), value=["a", "b"])
    await draining
    assert await ends(handles) == ["job_cancelled", "b", "lost_on_shutdown"]


async def test_drain_that_takes_too_long(serve, stage: Stage) -> None:
    """A batch that does not end in time has its jobs cancelled, each for its own reason."""
    app = make_app(function := in_a_thread(stage, cancel_timeout=60), drain_timeout=0)
    await serve(app)
    (runtime,) = app[_RUNTIME]
    handles = await line_up(app, function, 1, 2)
    await stage.has_begun((1, 2))
    await handles[0].cancel()
    await runtime.drain()

    assert await ends(handles) == ["job_cancelled", "lost_on_shutdown"]
    stage.end((1, 2), value=["a", "b"])


@pytest.mark.parametrize("which", [0, 1])
async def test_a_batch_that_waits_for_itself(serve, stage: Stage, which: int) -> None:
    """Whichever of its jobs it waits for, that would never end: it is told."""
    handles: list[JobHandle[Any]] = []

    @aioqueue.queued(batch=True)
    async def function(words: list[str]) -> list[str]:
        await stage.play("work")
        with pytest.raises(aioqueue.AioqueueError, match="would wait for ever"):
            await handles[which].result()
        return words

    app = make_app(function)
    await serve(app)
    handles += await line_up(app, function, "a", "b")
    stage.end("work")

    assert await ends(handles) == ["a", "b"]
