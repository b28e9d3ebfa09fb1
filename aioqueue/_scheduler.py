"""What runs next: claim up to free capacity, execute, settle, and claim again.

The scheduler is the worker of this process.  It never polls: whoever enqueues asks it to dispatch
in the same step, whoever ends frees a place and dispatches, and the engine wakes it for the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextvars import Context, copy_context
from typing import Any, Protocol

import attrs

from ._errors import ClaimLost, Problem
from ._executors import Call, Ended, Executor
from ._job import AdmissionLimits, Claim, Demand, JobRecord, JobState, Outcome, Snapshot
from ._outcomes import outcome_of
from ._running import Job
from .engines.base import Dedup, Engine, Enqueued

__all__ = ["Active", "Local", "Runnable", "Scheduler"]

logger = logging.getLogger("aioqueue")

_PAUSE = 1.0
"""Seconds after an error before the next hint is looked at."""

_WAIT_SECONDS = 60.0
"""How long one wait for a hint lasts; hints come when there is something, this is only a bound."""


class Runnable(Protocol):
    """What the scheduler needs to know of a function."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def queue(self) -> str:
        """Where its jobs wait."""

    @property
    def executor(self) -> str:
        """What runs it."""

    @property
    def cancel_timeout(self) -> float:
        """Seconds it has to end when it is cancelled."""

    def call(self, record: JobRecord, job: Job, local: Local) -> Call:
        """The function with its arguments, ready to run."""


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


@attrs.define(slots=True, eq=False)
class Active:
    """A claim whose work goes on in this process."""

    claim: Claim
    job: Job
    function: Runnable
    settled: bool = False
    interrupted: bool = False
    timer: asyncio.TimerHandle | None = None


class Scheduler:
    """The worker of this process.

    Args:
        engine: what decides who may run.
        functions: by name.
        executors: by the name that functions use for them.
        app: the root application, for jobs that came through another process.
        node: the name of this process, which jobs bound to it carry.
        max_result_bytes: bytes above which a result fails its job.
    """

    def __init__(
        self,
        engine: Engine,
        functions: Mapping[str, Runnable],
        executors: Mapping[str, Executor],
        *,
        app: Any,
        node: str,
        max_result_bytes: int,
    ) -> None:
        self.node = node
        self._app = app
        self.accepting = True
        self._engine = engine
        self._functions = functions
        self._executors = executors
        self._max_result_bytes = max_result_bytes
        self._demands: dict[str, dict[str, Demand]] = {}
        for function in functions.values():
            demand = Demand(function.executor)
            self._demands.setdefault(function.queue, {})[function.name] = demand
        self._locals: dict[str, Local] = {}
        self._active: dict[str, Active] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._due: dict[str, None] = {}  # queues to claim from, in this order
        self._dispatching = False
        self._blocked: dict[str, dict[str, None]] = {name: {} for name in executors}
        self._idle: asyncio.Future[None] | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to listen for hints."""
        self._watcher = asyncio.create_task(self._watch(), name="aioqueue-scheduler")

    async def _watch(self) -> None:
        while True:
            try:
                work = await self._engine.wait_work(self.node, _WAIT_SECONDS)
                for job_id in work.cancelled:
                    self._interrupt(job_id)
                for queue in work.queues:
                    await self.dispatch(queue)
            except Exception:
                logger.exception("a hint could not be followed; the next one will be")
                await asyncio.sleep(_PAUSE)

    # In

    def can_start(self, function: str) -> bool:
        """Whether a worker is free for this function."""
        return self._executors[self._functions[function].executor].free > 0

    def runs(self, job_id: str) -> bool:
        """Whether a job holds a place here."""
        return job_id in self._active

    def waits(self, job_id: str) -> bool:
        """Whether a job that was enqueued here waits for its turn."""
        return job_id in self._locals and job_id not in self._active

    def queue_of(self, job_id: str) -> str | None:
        """The queue of a job that runs here; None if it does not."""
        active = self._active.get(job_id)
        return None if active is None else active.claim.queue

    def holders(self, record: JobRecord) -> tuple[list[str], list[str]]:
        """The jobs here that hold the slots and the places that a waiting one could get."""
        executor = self._functions[record.function].executor
        slots = [name for name, one in self._active.items() if one.claim.queue == record.queue]
        places = [name for name, one in self._active.items() if one.function.executor == executor]
        return slots, places

    async def submit(
        self,
        record: JobRecord,
        limits: AdmissionLimits,
        local: Local,
        dedup: Dedup | None = None,
    ) -> Enqueued:
        """Enqueue a job, and start what may start, in the same step."""
        self._locals[record.id] = local
        can_start = self.can_start(record.function)
        enqueued = await self._engine.enqueue(
            record, limits=limits, can_start=can_start, dedup=dedup
        )
        if enqueued.outcome == "accepted":
            await self.dispatch(record.queue)
        else:
            del self._locals[record.id]
        return enqueued

    async def cancel(self, job_id: str, reason: str) -> Snapshot | None:
        """Cancel a job, wherever it is.  Answers it as it then stands."""
        snapshot = await self._engine.cancel(job_id, reason)
        if snapshot is not None and snapshot.state.terminal:
            self._forget(job_id)
        else:
            self._interrupt(job_id)
        return snapshot

    async def tick(self) -> None:
        """Once a second: let time do its work."""
        for job_id in (await self._engine.reap()).ended:
            self._forget(job_id)

    def why_not_run(self) -> Problem:
        """What to tell a gated request whose job has ended before its turn."""
        if not self.accepting:
            return Problem.of("shutting_down", "The server is shutting down.")
        return Problem.of("queue_timeout", "The request waited too long for its turn.")

    # Who runs

    async def dispatch(self, queue: str) -> None:
        """Claim from a queue whatever may start now.

        One dispatch at a time, so that what one has claimed is counted before the next asks;
        others leave a note with it.
        """
        self._due[queue] = None
        if self._dispatching or not self.accepting:
            return
        self._dispatching = True
        try:
            while self._due:
                queue = next(iter(self._due))
                del self._due[queue]
                await self._claim(queue)
        finally:
            self._dispatching = False

    async def _claim(self, queue: str) -> None:
        free = {name: executor.free for name, executor in self._executors.items()}
        reply = await self._engine.claim(self.node, queue, self._demands[queue], free)
        for claim in reply.claims:
            self._start(claim)
        for job_id in reply.ended:
            self._forget(job_id)
        if reply.blocked is not None:
            self._blocked[reply.blocked][queue] = None

    def _start(self, claim: Claim) -> None:
        (attempt,) = claim.attempts
        record = attempt.record
        function = self._functions[record.function]
        local = self._locals.get(record.id) or Local(copy_context(), self._app)
        active = Active(claim, Job(attempt, local.app), function)
        self._active[record.id] = active
        # In this step, so that the next claim counts it.
        self._executors[function.executor].hold(active.job)
        # The task gets a copy: a thread may be in the context while its task is woken.
        context = local.context.copy()
        if local.gate is None:
            self._spawn(self._execute(active, record, local), context)
        elif local.gate.done():  # its client left in this very moment
            ended = Ended(error=asyncio.CancelledError())
            self._spawn(self.finish_gated(active, ended), context)
        else:
            local.gate.set_result(active)

    def _spawn(self, coroutine: Any, context: Context) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _execute(self, active: Active, record: JobRecord, local: Local) -> None:
        """Run a job to its end."""
        executor = self._executors[active.function.executor]
        try:
            call = active.function.call(record, active.job, local)
            ended = await executor.run(call, active.job, local.context)
        except Exception as error:  # it could not begin; what it raises itself is in ``ended``
            executor.let_go(active.job)
            ended = Ended(error=error)
        await self._finish(active, ended)

    async def finish_gated(self, active: Active, ended: Ended) -> None:
        """A gated request has been answered by its own handler."""
        self._executors[active.function.executor].let_go(active.job)
        await self._finish(active, ended)

    async def _finish(self, active: Active, ended: Ended) -> None:
        job, claim = active.job, active.claim
        if active.timer is not None:
            active.timer.cancel()
        try:
            if active.settled:
                await self._engine.release(claim)
            else:
                outcome = outcome_of(job.id, claim.function, ended, self._max_result_bytes)
                await self._engine.settle(claim, [outcome])
        except ClaimLost:
            logger.warning("%s: a job was taken from this process while it ran", claim.function)
        del self._active[job.id]
        self._forget(job.id)
        if self._idle is not None and not self._active and not self._idle.done():
            self._idle.set_result(None)
        await self._after(claim.queue, active.function.executor)

    async def _after(self, queue: str, executor: str) -> None:
        """A place is free: for the queues that wait for one, in turn.

        One that gets it and wants another waits again, behind the others.
        """
        blocked = self._blocked[executor]
        while blocked and self._executors[executor].free > 0:
            other = next(iter(blocked))
            del blocked[other]
            await self.dispatch(other)
        await self.dispatch(queue)

    def _forget(self, job_id: str) -> None:
        local = self._locals.pop(job_id, None)
        if local is not None and local.gate is not None and not local.gate.done():
            local.gate.set_result(None)

    # Ending what runs

    def _interrupt(self, job_id: str) -> None:
        """Ask a running function to end, and give up on it after its time."""
        active = self._active.get(job_id)
        if active is None or active.interrupted:
            return
        active.interrupted = True
        self._executors[active.function.executor].interrupt(active.job)
        loop = asyncio.get_running_loop()
        active.timer = loop.call_later(
            active.function.cancel_timeout,
            lambda: self._spawn(self._give_up(active, None), copy_context()),
        )

    async def _give_up(self, active: Active, reason: str | None) -> None:
        """The job ends for its client; its slot stays taken until the function ends."""
        if active.settled or active.job.id not in self._active:
            return
        active.settled = True
        outcome = Outcome(active.job.id, JobState.CANCELLED, reason=reason)
        try:
            await self._engine.settle(active.claim, [outcome], keep=True)
        except ClaimLost:
            logger.debug("a job ended while it was given up")

    async def drain(self, timeout: float) -> None:
        """Take nothing more, cancel what waits, and let what runs end within ``timeout``."""
        self.accepting = False
        for job_id in [job_id for job_id in self._locals if job_id not in self._active]:
            if await self._engine.cancel(job_id, "shutdown", only_queued=True) is not None:
                self._forget(job_id)
        if self._active:
            self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._idle], timeout=timeout)
        for active in list(self._active.values()):
            self._executors[active.function.executor].interrupt(active.job)
            await self._give_up(active, "shutdown")

    async def close(self) -> bool:
        """Stop.  Answers whether all work has ended; a thread can't be made to."""
        self.accepting = False
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        for patience in (0.1, 0.1):  # what was interrupted ends at once, if it ends
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=patience)
            for task in self._tasks:
                task.cancel()  # it waits for a thread that may never return
        ended = [await executor.close() for executor in self._executors.values()]
        return all(ended)
