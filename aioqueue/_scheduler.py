"""What runs next: claim up to free capacity, execute, settle, and claim again.

The scheduler is the worker of this process.  It never polls: whoever enqueues asks it to dispatch
in the same step, whoever ends frees a place and dispatches, and the engine wakes it for the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import Context, copy_context
from types import MappingProxyType
from typing import Any

from ._active import Active, Local, Runnable, Surroundings
from ._errors import Problem
from ._executors import Ended, Executor
from ._job import AdmissionLimits, Claim, Demand, JobRecord, Snapshot
from ._outbox import OutboxBounds
from ._outcomes import ContentOf
from ._spool import Spool
from .engines.base import Dedup, Engine, Enqueued

__all__ = ["Scheduler"]

logger = logging.getLogger("aioqueue")

_PAUSE = 1.0
"""Seconds after an error before the next hint is looked at."""

_WAIT_SECONDS = 60.0
"""How long one wait for a hint lasts; hints come when there is something, this is only a bound."""

OnEnd = Callable[[str, Local], Awaitable[None]]


class Scheduler:
    """The worker of this process.

    Args:
        engine: what decides who may run.
        functions: by name.
        executors: by the name that functions use for them.
        app: the root application, for jobs that came through another process.
        node: the name of this process, which jobs bound to it carry.
        max_result_bytes: bytes above which a result fails its job.
        content_of: makes what a function gave back a result.
        spool: has the jobs' files.
        bounds: how much jobs may have said that is not stored yet.
        on_end: is told each job of this process that has ended.
        slots: the names of the slots of queues that have such names.
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
        content_of: ContentOf,
        spool: Spool,
        bounds: OutboxBounds,
        on_end: OnEnd,
        slots: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self.node = node
        self._app = app
        self.accepting = True
        self._engine = engine
        self._functions = functions
        self._executors = executors
        self._on_end = on_end
        self._spool = spool
        self._slots = slots
        self._around = Surroundings(
            engine=engine,
            bounds=bounds,
            max_result_bytes=max_result_bytes,
            content_of=content_of,
            spool=spool,
            spawn=self._spawn,
            ended=self._ended,
            over=self._over,
        )
        self._context = copy_context()  # for work that is no single request's
        self._demands: dict[str, dict[str, Demand]] = {}
        self._executor_of: dict[str, Executor] = {}  # by function
        self._workers: dict[str, dict[str, Executor]] = {}  # by queue: what runs its functions
        for function in functions.values():
            name, queue, capacity = function.name, function.queue, function.demand.capacity
            self._demands.setdefault(queue, {})[name] = function.demand
            self._executor_of[name] = executors[capacity]
            self._workers.setdefault(queue, {})[capacity] = executors[capacity]
        self._windows: dict[str, asyncio.TimerHandle] = {}
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
        return self._executor_of[function].free > 0

    def runs(self, job_id: str) -> bool:
        """Whether a job holds a place here."""
        return job_id in self._active

    def holder(self, job_id: str) -> str | None:
        """The job that holds the place of one that runs here: the first of its batch."""
        active = self._active.get(job_id)
        return None if active is None else active.job.id

    def waits(self, job_id: str) -> bool:
        """Whether a job that was enqueued here waits for its turn."""
        return job_id in self._locals and job_id not in self._active

    def queue_of(self, job_id: str) -> str | None:
        """The queue of a job that runs here; None if it does not."""
        active = self._active.get(job_id)
        return None if active is None else active.claim.queue

    def holders(self, record: JobRecord) -> tuple[list[str], list[str]]:
        """Who holds the slots and the places here that a waiting job could get."""
        executor = self._executor_of[record.function]
        active = dict.fromkeys(self._active.values())
        slots = [one.job.id for one in active if one.claim.queue == record.queue]
        places = [one.job.id for one in active if one.executor is executor]
        return slots, places

    def holders_of_client(self, record: JobRecord) -> list[str]:
        """Who holds the place of each running job of this job's client in its queue."""
        return [
            active.job.id
            for active in dict.fromkeys(self._active.values())
            if active.claim.queue == record.queue
            for attempt in active.claim.attempts
            if attempt.record.client == record.client and active.is_open(attempt.record.id)
        ]

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
            self.clear(record.id)
        return enqueued

    async def cancel(self, job_id: str, reason: str) -> Snapshot | None:
        """Cancel a job, wherever it is.  Answers it as it then stands."""
        snapshot = await self._engine.cancel(job_id, reason)
        if snapshot is not None and snapshot.state.terminal:
            await self._ended(job_id)
        else:
            self._interrupt(job_id)
        return snapshot

    def _interrupt(self, job_id: str) -> None:
        active = self._active.get(job_id)
        if active is not None:
            active.interrupt(job_id)

    async def tick(self) -> None:
        """Once a second: let time do its work."""
        for job_id in (await self._engine.reap()).ended:
            await self._ended(job_id)
        for job_id in await self._spool.forgotten(self._engine.get):
            self.clear(job_id)

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
        free = {name: executor.free for name, executor in self._workers[queue].items()}
        reply = await self._engine.claim(self.node, queue, self._demands[queue], free)
        for claim in reply.claims:
            self._start(claim)
        for job_id in reply.ended:
            await self._ended(job_id)
        if reply.blocked is not None:
            self._blocked[reply.blocked][queue] = None
        if (window := self._windows.pop(queue, None)) is not None:
            window.cancel()
        if reply.ready_at is not None:
            await self._look_again(queue, reply.ready_at)

    async def _look_again(self, queue: str, ready_at: float) -> None:
        """Claim again when the head of a line has waited long enough for mates."""
        seconds = max(0.0, ready_at - await self._engine.now())
        timer = asyncio.get_running_loop().call_later(seconds, self._window_is_over, queue)
        self._windows[queue] = timer

    def _window_is_over(self, queue: str) -> None:
        self._spawn(self.dispatch(queue), self._context.copy())

    def _start(self, claim: Claim) -> None:
        locals = [self._local(attempt.record.id) for attempt in claim.attempts]
        function = self._functions[claim.function]
        # Only copies of it are entered: what the work sets stays with it, and a hook sees no job.
        context = self._context if function.is_batch else locals[0].context
        executor = self._executor_of[claim.function]
        names = self._slots.get(claim.queue, ())
        slot = names[claim.slot] if claim.slot < len(names) else None
        active = Active(claim, function, executor, locals, context, self._around, slot)
        for attempt in claim.attempts:
            self._active[attempt.record.id] = active
        gate = locals[0].gate
        if gate is None:
            active.start()
        elif gate.done():  # its client left in this very moment
            active.spawn(self.finish_gated(active, Ended(error=asyncio.CancelledError())))
        else:
            gate.set_result(active)

    def _local(self, job_id: str) -> Local:
        """What lies here of a job: of one that came through another process, nothing yet."""
        local = self._locals.get(job_id)
        if local is None:
            local = self._locals[job_id] = Local(self._context.copy(), self._app)
        return local

    def _spawn(self, coroutine: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def finish_gated(self, active: Active, ended: Ended) -> None:
        """A gated request has been answered by its own handler."""
        active.executor.let_go(active.job)
        await active.finish(ended)

    async def _over(self, active: Active, is_waited_for: bool) -> None:
        """A place is free: for the queues that wait for one, in turn, and for whom has its slot.

        One that gets it and wants another waits again, behind the others.
        """
        for attempt in active.claim.attempts:
            del self._active[attempt.record.id]
            self.clear(attempt.record.id)
        if self._idle is not None and not self._active and not self._idle.done():
            self._idle.set_result(None)
        blocked = self._blocked[active.function.demand.capacity]
        while blocked and active.executor.free > 0:
            other = next(iter(blocked))
            del blocked[other]
            await self.dispatch(other)
        if is_waited_for:
            await self.dispatch(active.claim.queue)

    async def _ended(self, job_id: str) -> None:
        """A job has ended, however."""
        local = self._locals.pop(job_id, None)
        if local is None:
            return
        if local.gate is not None and not local.gate.done():
            local.gate.set_result(None)
        self.clear(job_id)
        await self._on_end(job_id, local)

    def clear(self, job_id: str) -> None:
        """Let a job's files go, unless it waits, is worked on, or has one of them as its result."""
        if job_id in self._locals or job_id in self._active:
            return
        if self._spool.is_removable(job_id):
            self._spawn(self._spool.remove(job_id), self._context.copy())

    # The end

    async def drain(self, timeout: float) -> None:
        """Take nothing more, cancel what waits, and let what runs end within ``timeout``."""
        self.accepting = False
        for job_id in [job_id for job_id in self._locals if job_id not in self._active]:
            if await self._engine.cancel(job_id, "shutdown", only_queued=True) is not None:
                await self._ended(job_id)
        if self._active:
            self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._idle], timeout=timeout)
        left = list(dict.fromkeys(self._active.values()))
        for active in left:
            active.shut_down()
        for active in left:
            await active.given_up()

    async def close(self) -> bool:
        """Stop.  Answers whether all work has ended; a thread can't be made to."""
        self.accepting = False
        for window in self._windows.values():
            window.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        for patience in (0.1, 0.1):  # what was interrupted ends at once, if it ends
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=patience)
            for task in self._tasks:
                task.cancel()  # it may be a function's that does not let go
        ended = [await executor.close() for executor in self._executors.values()]
        return all(ended)
