"""A claim at work in this process: its call, what its jobs say, and how each of them ends.

The work and its jobs may end at different times.  A job of a batch can be cancelled while the
others go on; a function that outlives its time limit, or its cancel, has lost its jobs while it
keeps its place and its slot.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from functools import partial
from typing import Any, Protocol

import attrs

from ._batch import Batch
from ._errors import ClaimLost, Refused
from ._eventlog import outputs
from ._executors import Ended, Executor
from ._job import Attempt, Claim, Content, Demand, JobState, Outcome
from ._outbox import Outbox, OutboxBounds
from ._outcomes import (
    ContentOf,
    NoFile,
    failed,
    found,
    outcomes_of,
    refused,
    timed_out,
    unexplained,
)
from ._running import Job, output_count
from ._spool import Spool
from .engines.base import Engine

__all__ = ["Active", "Local", "Runnable", "Surroundings"]

logger = logging.getLogger("aioqueue")


class Runnable(Protocol):
    """What it takes to run a function."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def queue(self) -> str:
        """Where its jobs wait."""

    @property
    def is_batch(self) -> bool:
        """Whether it takes the arguments of many jobs at once, as lists."""

    @property
    def demand(self) -> Demand:
        """What runs it, and how many of its jobs at once."""

    @property
    def cancel_timeout(self) -> float:
        """Seconds it has to end when it is cancelled."""

    @property
    def time_limit(self) -> float | None:
        """Seconds it may run."""

    @property
    def capture_logs(self) -> bool:
        """Whether its log records go to its clients."""

    @property
    def track_tqdm(self) -> bool:
        """Whether any bar of tqdm's in it is its progress."""

    def call(self, attempts: Sequence[Attempt], job: Job, locals: Sequence[Local]) -> Any:
        """The function with its arguments, as its executor takes it."""


@attrs.define(slots=True, eq=False)
class Local:
    """What of a job lies in this process only: it can't be stored, and is dropped at its end."""

    context: Context
    app: Any
    """The (sub-)application the job came through."""
    subject: Any = None
    """The object whose method the function is, if it is one."""
    request: Any = None
    """The live request, where the function takes it."""
    gate: asyncio.Future[Active | None] | None = None
    """Resolved when a gated request may go on; None says that its job has ended before."""


@attrs.frozen(slots=True, kw_only=True)
class Surroundings:
    """What all work in a process has around it.

    Attributes:
        engine: what stores its jobs.
        bounds: how much jobs may have said that is not stored yet.
        max_result_bytes: bytes above which a result fails its job.
        content_of: makes what a function gave back a result.
        spool: has the jobs' directories.
        spawn: starts a coroutine as a task that the process waits for at its end.
        ended: is told each job that has ended.
        over: is told when all is over, and whether somebody may wait for the slot.
    """

    engine: Engine
    bounds: OutboxBounds
    max_result_bytes: int
    content_of: ContentOf
    spool: Spool
    spawn: Callable[[Coroutine[Any, Any, None], Context], asyncio.Task[None]]
    ended: Callable[[str], Awaitable[None]]
    over: Callable[[Active, bool], Awaitable[None]]


class Active:
    """A claim whose work goes on here.  It holds its place from the moment it is made.

    Args:
        claim: the claim.
        function: what its jobs run.
        executor: what runs that.
        locals: what of the jobs lies here, in their order.
        context: the context variables of the work.
        around: everything else.
        slot: the name of its slot, if it has one.
    """

    __slots__ = (
        "_around",
        "_ending",
        "_finishing",
        "_giving_up",
        "_interrupted",
        "_locals",
        "_open",
        "_outbox",
        "_timers",
        "claim",
        "context",
        "executor",
        "function",
        "job",
    )

    def __init__(
        self,
        claim: Claim,
        function: Runnable,
        executor: Executor,
        locals: Sequence[Local],
        context: Context,
        around: Surroundings,
        slot: str | None = None,
    ) -> None:
        self.claim = claim
        self.function = function
        self.executor = executor
        self._around = around
        self.context = context
        self._locals = locals
        self._outbox = Outbox(partial(around.engine.emit, claim), around.bounds)
        self._open: dict[str, Job] = {}  # what has not ended
        for attempt, local in zip(claim.attempts, locals, strict=True):
            self.job = self._open[attempt.record.id] = Job(
                attempt,
                local.app,
                self._outbox,
                function.capture_logs,
                function.track_tqdm,
                slot,
                around.spool.folder,
            )
        if function.is_batch:
            self.job = Batch(list(self._open.values()))
        self._interrupted = False
        self._finishing = False
        self._giving_up = False
        self._ending: list[asyncio.Task[None]] = []  # they end jobs while the work goes on
        self._timers: list[asyncio.TimerHandle] = []
        # In this step, so that the next claim counts it.
        executor.hold(self.job)

    def is_open(self, job_id: str) -> bool:
        """Whether a job of the claim has not ended."""
        return job_id in self._open

    def start(self) -> None:
        """Start the function, whose end is the end of this."""
        try:
            call = self.function.call(self.claim.attempts, self.job, self._locals)
            self.executor.start(call, self)
        except Exception as error:  # it could not begin; what it raises itself is in its end
            self.executor.let_go(self.job)
            self.spawn(self.finish(Ended(error=error)))

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task, in a copy of the context."""
        return self._around.spawn(coroutine, self.context.copy())

    def begin(self) -> None:
        """The function begins: its time counts from here."""
        limit = self.function.time_limit
        if limit is not None and not self._finishing:
            loop = asyncio.get_running_loop()
            self._timers.append(loop.call_later(limit, self._time_is_over, limit))

    def _time_is_over(self, limit: float) -> None:
        self.executor.interrupt(self.job)
        self.give_up(lambda job_id: timed_out(job_id, limit))

    async def finish(self, ended: Ended) -> None:
        """The work has really ended, and so do the jobs that have not before."""
        self._finishing = True
        is_waited_for = True
        try:
            for timer in self._timers:
                timer.cancel()
            if self._ending:
                await self.given_up()
            if self._outbox.is_silent:
                self._outbox.discard()
            else:
                await self._outbox.close()
            try:
                if self._giving_up:
                    await self._around.engine.release(self.claim)
                else:
                    is_waited_for = await self._settle(ended)
            except ClaimLost:
                logger.warning(
                    "%s: a job was taken from this process while it ran", self.claim.function
                )
            await self._have_ended()
        finally:
            await self._around.over(self, is_waited_for)

    async def _settle(self, ended: Ended) -> bool:
        around, name = self._around, self.claim.function
        if ended.streamed:
            ended = await self._streamed()
        try:
            outcomes = outcomes_of(
                self.job, name, ended, around.max_result_bytes, around.content_of
            )
        except Exception as error:  # of a value's own methods, or an exception's
            outcomes = [unexplained(job_id, name, error) for job_id in self._open]
        kept = []
        for one in outcomes:
            if one.job_id in self._open:
                is_on_disk = one.result is not None and one.result.path is not None
                kept.append(await self._kept(one) if is_on_disk else one)
        try:
            return await around.engine.settle(self.claim, kept)
        except ClaimLost:
            for one in kept:
                around.spool.let_go(one.job_id)
            raise
        except Exception as error:
            await self._settle_anyway([one.job_id for one in kept], error)
            return True

    async def _streamed(self) -> Ended:
        """The end of a generator: what it has said is its value."""
        if isinstance(self.job, Batch):
            return Ended([await self._outputs(job) for job in self.job.jobs], None, True)
        return Ended(await self._outputs(self.job))

    async def _settle_anyway(self, job_ids: Sequence[str], error: Exception) -> None:
        """The engine can't store how jobs ended: they fail, and don't hold their slot for good."""
        for job_id in job_ids:
            outcome = unexplained(job_id, self.claim.function, error)
            try:
                await self._around.engine.settle(self.claim, [outcome])
            except ClaimLost:
                continue  # how this one ended was stored
            self._around.spool.let_go(job_id)

    async def _kept(self, outcome: Outcome) -> Outcome:
        """An outcome whose file is there and, if it is one of ours, stays as long as the result."""
        content, spool = outcome.result, self._around.spool
        assert content is not None
        try:
            if content.is_file:
                within = spool.folder(outcome.job_id).parent
                content = await spool.in_thread(found, content, within)
            content = await spool.keep(outcome.job_id, content)
        except Refused as error:
            return refused(outcome.job_id, error.problem)
        except NoFile as error:
            return failed(outcome.job_id, self.claim.function, error)
        except OSError as error:
            return unexplained(outcome.job_id, self.claim.function, error)
        return attrs.evolve(outcome, result=content)

    async def _outputs(self, job: Job) -> Content:
        return await outputs(self._around.engine, job.id, output_count(job))

    async def _have_ended(self) -> None:
        """Tell that all jobs have ended that were still open."""
        ended, self._open = self._open, {}
        for job_id in ended:
            await self._around.ended(job_id)

    # Ending it early

    def interrupt(self, job_id: str) -> None:
        """End a job: one of several at once, the only one when its function has let go of it."""
        job = self._open.get(job_id)
        if job is None or self._interrupted or self._giving_up or self._finishing:
            return
        if len(self._open) > 1:
            self.executor.drop(self.job, job)
            del self._open[job_id]
            self._ending.append(self.spawn(self._settle_one(job_id)))
            return
        self._interrupted = True
        self.executor.interrupt(self.job)
        timer = asyncio.get_running_loop().call_later(
            self.function.cancel_timeout, self.give_up, _cancelled
        )
        self._timers.append(timer)

    async def _settle_one(self, job_id: str) -> None:
        """A job of a batch ends; the others go on, so the slot stays taken."""
        await self._outbox.flush()  # what it said before belongs into its log
        try:
            await self._around.engine.settle(self.claim, [_cancelled(job_id)])
        except ClaimLost:
            logger.debug("a job ended while it was cancelled")
        await self._around.ended(job_id)

    def shut_down(self) -> None:
        """The server goes: ask the function to end, and don't wait for it."""
        self.executor.interrupt(self.job)
        self.give_up(lambda job_id: Outcome(job_id, JobState.CANCELLED, reason="shutdown"))

    def give_up(self, outcome: Callable[[str], Outcome]) -> None:
        """End the jobs for their clients; the slot stays taken until the function ends."""
        if not self._giving_up and not self._finishing:
            self._giving_up = True
            outcomes = [outcome(job_id) for job_id in self._open]
            self._ending.append(self.spawn(self._give_up(outcomes)))

    async def _give_up(self, outcomes: Sequence[Outcome]) -> None:
        await self._outbox.close()
        try:
            await self._around.engine.settle(self.claim, outcomes, keep=True)
        except ClaimLost:
            logger.debug("a job ended while it was given up")
        await self._have_ended()

    async def given_up(self) -> None:
        """Wait until those of its jobs have ended that were to end before the work does."""
        if self._ending:
            await asyncio.wait(self._ending)


def _cancelled(job_id: str) -> Outcome:
    """With the reason that was asked for, which the engine knows."""
    return Outcome(job_id, JobState.CANCELLED)
