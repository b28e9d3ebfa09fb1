"""However the jobs of a claim and its work come to their ends: each job once, the slot once."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import Context, copy_context
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from aioqueue._active import Active, Local, Surroundings
from aioqueue._executors import LoopExecutor
from aioqueue._job import (
    BEGINNING,
    AdmissionLimits,
    Attempt,
    Claim,
    Content,
    Demand,
    JobRecord,
    JobState,
    QueuePolicy,
)
from aioqueue._outbox import OutboxBounds
from aioqueue._outcomes import ContentOf, content_of
from aioqueue._running import Job
from aioqueue.engines._queue import Queue
from aioqueue.engines.base import Retention
from aioqueue.engines.memory import MemoryEngine
from tests.clock import ManualClock
from tests.stage import a_while

TERMINAL = [state for state in JobState if state.terminal]

CANCEL_TIMEOUT, TIME_LIMIT = 5.0, 60.0

NAMES = "abcd"

# Nothing here touches its directory.
NOWHERE: Any = SimpleNamespace(
    folder=lambda job_id: f"/nowhere/{job_id}", let_go=lambda job_id: None
)

WAYS = ["obeys", "goes on", "thread"]
"""What the work does when it is interrupted."""

# What may happen, besides "pause" and the cancels of jobs, which are their names.
HAPPENINGS = ["work", "patience", "time", "shutdown"]


class HandLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still until a test moves it."""

    clock: ManualClock

    def __init__(self) -> None:
        self.clock = ManualClock()
        super().__init__()

    def time(self) -> float:
        """The time of its timers."""
        return self.clock()


class CountingEngine(MemoryEngine):
    """Says when a slot is freed."""

    freed: Callable[[], None]

    def _free(self, queue: Queue, claim: Claim) -> bool:
        self.freed()
        return super()._free(queue, claim)


class Threadlike(LoopExecutor):
    """What runs here can look whether it is cancelled, and be stopped by nobody."""

    def interrupt(self, job: Job) -> None:
        """Let the work see it."""
        job.cancel()


@attrs.define(slots=False, eq=False)
class Play:
    """One claim of so many jobs, whose work ends when the play says so, and a job behind it."""

    size: int
    way: str
    is_working: bool = False
    freed: int = 0
    content_of: ContentOf = content_of
    told: Counter[str] = attrs.field(factory=Counter)
    tasks: list[asyncio.Task[None]] = attrs.field(factory=list)

    # What runs, as a Runnable

    name = queue = "f"
    is_batch = True
    cancel_timeout = CANCEL_TIMEOUT
    time_limit = TIME_LIMIT
    capture_logs = track_tqdm = False
    demand = Demand("loop", len(NAMES))

    def call(self, attempts: Sequence[Attempt], job: Job, locals: Sequence[Local]) -> Any:
        """Work until it is told to end, or interrupted."""

        async def work() -> list[str]:
            self.is_working = True
            job.log("working")
            try:
                while not self.done.is_set():
                    try:
                        await self.done.wait()
                    except asyncio.CancelledError:
                        if self.way == "obeys":
                            raise
                return [attempt.record.id for attempt in attempts]
            finally:
                self.is_working = False

        return work

    # What is around it

    def spawn(self, coroutine: Coroutine[Any, Any, None], context: Context) -> Any:
        """Start a task."""
        task = asyncio.get_running_loop().create_task(coroutine, context=context)
        self.tasks.append(task)
        return task

    async def ended(self, job_id: str) -> None:
        """Hear of a job that has ended."""
        self.told[job_id] += 1
        assert (await self.engine.get(job_id)).state in TERMINAL

    async def over(self, active: Active, is_waited_for: bool) -> None:
        """Hear of the end of all."""
        self.run.set_result(None)

    def slot_is_free(self) -> None:
        """Hear of the slot."""
        self.freed += 1
        assert not self.is_working

    # The play

    async def begin(self) -> None:
        """Claim the jobs, and start."""
        self.loop: Any = asyncio.get_running_loop()
        self.done = asyncio.Event()
        self.engine = CountingEngine(self.loop.clock)
        self.engine.freed = self.slot_is_free
        await self.engine.open(
            {"f": QueuePolicy(concurrency_limit=1, max_running_per_client=len(NAMES))}, Retention()
        )
        jobs = NAMES[: self.size]
        for job_id in jobs:
            record = JobRecord(id=job_id, function="f", queue="f", client="c")
            await self.engine.enqueue(record, limits=AdmissionLimits())
        reply = await self.engine.claim("w", "f", {"f": self.demand}, {"loop": 1})
        (claim,) = reply.claims
        self.executor = (Threadlike if self.way == "thread" else LoopExecutor)(1)
        around = Surroundings(
            engine=self.engine,
            bounds=OutboxBounds(),
            max_result_bytes=1000,
            content_of=self.content_of,
            spool=NOWHERE,
            spawn=self.spawn,
            ended=self.ended,
            over=self.over,
        )
        locals = [Local(copy_context(), None) for _ in jobs]
        self.active = Active(claim, self, self.executor, locals, copy_context(), around)
        self.run = self.loop.create_future()
        self.active.start()

    async def happen(self, what: str) -> None:
        """Let something happen, in this step of the loop."""
        match what:
            case "pause":
                await a_while(6)
                await self.check()
            case "work":
                self.done.set()
            case "patience":
                self.loop.clock.advance(CANCEL_TIMEOUT)
            case "time":
                self.loop.clock.advance(TIME_LIMIT)
            case "shutdown":
                if not self.run.done():
                    self.active.shut_down()
            case job_id:
                snapshot = await self.engine.cancel(job_id, "client")
                if snapshot.state not in TERMINAL:
                    self.active.interrupt(job_id)

    async def check(self) -> None:
        """What must be so at any time."""
        slots = len((await self.engine.stats("f")).running)
        assert slots == 1 - self.freed
        if self.is_working:
            assert (slots, self.executor.free) == (1, 0)
            assert not self.run.done()

    async def finish(self) -> None:
        """Let the work end, and look at what has become of all."""
        self.done.set()
        await asyncio.wait([self.run])
        await self.check()
        assert (self.freed, self.executor.free) == (1, 1)
        assert not self.engine._queues["f"]._admitted  # what its client may run at once
        assert self.told == Counter(NAMES[: self.size])
        for task in self.tasks:
            await task
        for job_id in NAMES[: self.size]:
            page = await self.engine.events(job_id, BEGINNING)
            kinds = [event.type for event in page.events]
            assert [kind in TERMINAL for kind in kinds].count(True) == 1
            assert kinds[-1] in TERMINAL
            assert kinds[0] == "started"
        assert all(timer.cancelled() or timer.when() <= self.loop.time() for timer in self.timers)

    @property
    def timers(self) -> list[asyncio.TimerHandle]:
        """The timers of the claim."""
        return self.active._timers

    async def state(self, job_id: str) -> str:
        """How a job has ended."""
        snapshot = await self.engine.get(job_id)
        assert snapshot is not None
        return snapshot.state.value


async def perform(size: int, way: str, happenings: Iterable[str]) -> dict[str, str]:
    """Play this, in this order; answers how each job has ended."""
    play = Play(size, way)
    await play.begin()
    for what in happenings:
        await play.happen(what)
    await play.finish()
    return {job_id: await play.state(job_id) for job_id in NAMES[:size]}


def on_a_stage(performance: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run something on a loop whose time is the test's."""
    with asyncio.Runner(loop_factory=HandLoop) as runner:
        return runner.run(performance())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1, 2])
def test_every_order(size: int, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """One or two jobs: all orders of everything that can happen, in one step or in many."""
    what = [*NAMES[:size], "work", "time", "shutdown"]

    async def all_of_them() -> None:
        for order in itertools.permutations(what):
            await perform(size, way, order)
            await perform(size, way, ["pause", *order])
            await perform(size, way, itertools.chain(*(("pause", each) for each in order)))

    on_a_stage(all_of_them)
    assert not caplog.records


@given(
    size=st.integers(1, 4),
    way=st.sampled_from(WAYS),
    happenings=st.lists(st.sampled_from([*NAMES, *HAPPENINGS, *["pause"] * 4]), max_size=20),
)
@settings(max_examples=400)
def test_any_order(size: int, way: str, happenings: list[str]) -> None:
    """Up to four jobs: whatever happens however often; who was left alone has his result."""
    happenings = [what for what in happenings if what not in NAMES[size:]]
    ends = on_a_stage(lambda: perform(size, way, happenings))

    if not {"time", "shutdown"}.intersection(happenings):
        alone = [job_id for job_id in ends if job_id not in happenings]
        assert [ends[job_id] for job_id in alone] == ["succeeded"] * len(alone)


@pytest.mark.parametrize("way", WAYS)
def test_each_for_its_own_reason(way: str) -> None:
    """Who was cancelled before the time was over is cancelled, the others have failed."""
    happenings = ["pause", "b", "pause", "time", "pause", "c", "shutdown", "pause"]

    ends = on_a_stage(lambda: perform(4, way, happenings))
    assert ends == {"a": "failed", "b": "cancelled", "c": "failed", "d": "failed"}


@pytest.mark.parametrize("way", WAYS)
def test_patience(way: str) -> None:
    """The last one cancelled is given ``cancel_timeout`` to succeed, and no more."""
    both = ["pause", "a", "pause", "b", "pause"]
    in_time = on_a_stage(lambda: perform(2, way, [*both, "work", "pause"]))
    late = on_a_stage(lambda: perform(2, way, [*both, "patience", "pause", "work"]))

    assert in_time == {"a": "cancelled", "b": "cancelled" if way == "obeys" else "succeeded"}
    assert late == {"a": "cancelled", "b": "cancelled"}


@pytest.mark.parametrize("bad", ["a", "b", "ab"])
def test_ends_that_cannot_be_stored(bad: str, caplog: pytest.LogCaptureFixture) -> None:
    """A job whose end the engine can't store fails; the slot is free again, whatever happens."""

    def some(value: Any) -> Content:
        return Content(b"x", "a/b", "\udcff") if value in bad else content_of(value)

    async def play() -> dict[str, str]:
        play = Play(2, "obeys", content_of=some)
        await play.begin()
        await play.happen("work")
        await play.finish()
        return {job_id: await play.state(job_id) for job_id in "ab"}

    ends = on_a_stage(play)
    assert ends == {"a": "succeeded" if bad == "b" else "failed", "b": "failed"}
    assert "error id" in caplog.text
