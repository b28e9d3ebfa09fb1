"""The memory engine: everything in this process, and the specification that others are held to.

The verbs are ``async def`` without an ``await`` inside, so each is atomic by the event loop and
costs a method call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from .._errors import ClaimLost
from .._job import (
    AdmissionLimits,
    Claim,
    Demand,
    Emission,
    EventId,
    JobRecord,
    JobState,
    Outcome,
    QueuePolicy,
    QueueStats,
    Snapshot,
)
from ._backlog import Backlog
from ._deadlines import Deadlines
from ._entry import Entry
from ._kept import Kept
from ._queue import Queue, Slot
from .base import (
    LISTENING_SECONDS,
    Beat,
    ClaimReply,
    Dedup,
    Enqueued,
    EventPage,
    ReapReport,
    Retention,
    Work,
)

__all__ = ["MemoryEngine"]

_NOTHING = ClaimReply()


def steady_clock() -> Callable[[], float]:
    """Seconds since the epoch that never step back, whatever happens to the system's clock."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset


class MemoryEngine:
    """Jobs in dictionaries and sorted lines.

    Args:
        clock: seconds since the epoch, never stepping back; tests pass their own.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or steady_clock()
        self._queues: dict[str, Queue] = {}
        self._jobs = Kept()
        self._backlog = Backlog()
        self._deadlines = Deadlines()
        self._sequence = 0
        self._ready: dict[str, None] = {}  # queues that wait_work tells of
        self._cancelled: dict[str, None] = {}  # and jobs
        self._waiter: asyncio.Future[None] | None = None

    async def open(self, queues: Mapping[str, QueuePolicy], retention: Retention) -> None:
        """Get ready for these queues."""
        self._jobs.retention = retention
        self._queues = {name: Queue(name, policy) for name, policy in queues.items()}

    async def close(self) -> None:
        """Forget everything."""
        self._wake()
        self._queues = {}
        self._jobs, self._backlog, self._deadlines = Kept(), Backlog(), Deadlines()
        self._ready, self._cancelled = {}, {}

    async def now(self) -> float:
        """The engine's clock."""
        return self._clock()

    # Enqueue

    async def enqueue(
        self,
        record: JobRecord,
        *,
        limits: AdmissionLimits,
        can_start: bool = True,
        dedup: Dedup | None = None,
        group: str | None = None,
    ) -> Enqueued:
        """Accept a job, recognise it, or refuse it, in one step."""
        known = None if dedup is None else self._jobs.recognise(dedup)
        if known is not None:
            return known
        queue = self._queues[record.queue]
        if not (can_start and queue.starts_at_once(record)):
            refused = self._backlog.refusal(record, queue.waiting(record.function), limits)
            if refused is not None:
                return refused
        now = self._clock()
        self._sequence += 1
        entry = Entry(record, self._sequence, now)
        if record.grace is not None:
            entry.listened_until = now + LISTENING_SECONDS
        self._jobs.add(entry, dedup, group)
        self._backlog.grow(record)
        queue.enter(entry)
        self._deadlines.add(entry)
        self._ready[queue.name] = None
        return Enqueued("accepted", record.id, self._backlog.size, limits.max_size)

    # Reading

    async def get(self, job_id: str) -> Snapshot | None:
        """The job as it stands."""
        entry = self._jobs.get(job_id)
        return None if entry is None else entry.snapshot(self._jobs.retention.result_ttl)

    async def events(self, job_id: str, after: EventId) -> EventPage | None:
        """The log after an event."""
        entry = self._jobs.get(job_id)
        if entry is None:
            return None
        return entry.page(after)

    def watch(self, job_id: str, wake: Callable[[str], None]) -> None:
        """Call ``wake(job_id)`` whenever the job's log has grown."""
        entry = self._jobs.get(job_id)
        if entry is not None:
            entry.watchers = (*entry.watchers, wake)

    def unwatch(self, job_id: str, wake: Callable[[str], None]) -> None:
        """Stop calling ``wake`` for this job."""
        entry = self._jobs.get(job_id)
        if entry is not None:
            entry.watchers = tuple([other for other in entry.watchers if other != wake])

    async def ahead(self, job_ids: Sequence[str]) -> Sequence[Mapping[str, int] | None]:
        """For each job the waiting jobs before it, by function; None if it is not in line."""
        return [
            None
            if (entry := self._jobs.get(job_id)) is None or entry.key is None
            else self._queues[entry.record.queue].ahead(entry.key)
            for job_id in job_ids
        ]

    async def ahead_of(self, record: JobRecord) -> Mapping[str, int] | None:
        """What would stand before this job if it joined now, by function; None if it were held."""
        newcomer = Entry(record, self._sequence + 1, self._clock())
        return self._queues[record.queue].ahead_of(newcomer)

    async def stats(self, queue: str) -> QueueStats:
        """The counts of one queue."""
        return self._queues[queue].stats()

    async def members(self, group: str) -> Sequence[str]:
        """The ids of the known jobs with this label."""
        return self._jobs.members(group)

    # Ending

    async def cancel(
        self, job_id: str, reason: str, *, only_queued: bool = False
    ) -> Snapshot | None:
        """End a waiting job; ask the worker of a running one."""
        entry = self._jobs.get(job_id)
        if entry is None:
            return None
        self._cancel(entry, reason, only_queued)
        return entry.snapshot(self._jobs.retention.result_ttl)

    def _cancel(self, entry: Entry, reason: str, only_queued: bool = False) -> None:
        if entry.state is JobState.QUEUED:
            self._end_waiting(entry, Outcome(entry.record.id, JobState.CANCELLED, reason=reason))
        elif entry.state is JobState.RUNNING and not only_queued and not entry.cancel_reason:
            entry.cancel_reason = reason
            self._cancelled[entry.record.id] = None
            self._wake()

    def _end_waiting(self, entry: Entry, outcome: Outcome) -> None:
        """A job that waits ends without having run."""
        queue = self._queues[entry.record.queue]
        queue.leave(entry)
        self._backlog.shrink(entry.record)
        self._end(entry, outcome, self._clock())
        self._hint(queue)  # a held job may have joined the line

    def _end(self, entry: Entry, outcome: Outcome, now: float) -> None:
        entry.end(outcome, now, self._jobs.retention)
        self._deadlines.drop(entry)
        self._cancelled.pop(entry.record.id, None)
        self._jobs.end(entry, now)

    # Time

    async def attend(self, job_ids: Sequence[str], seconds: float | None) -> None:
        """Say that somebody listens to these jobs, for so many seconds; None detaches them."""
        until = None if seconds is None else self._clock() + seconds
        for job_id in job_ids:
            entry = self._jobs.get(job_id)
            if entry is not None and entry.listened_until is not None:
                entry.listened_until = until
                self._deadlines.note(entry)

    async def reap(self) -> ReapReport:
        """End jobs whose time is over, forget ended ones."""
        now = self._clock()
        ended: list[str] = []
        for entry in self._deadlines.due(now):
            if self._overdue(entry, now):
                ended.append(entry.record.id)
            elif not entry.cancel_reason:
                self._deadlines.note(entry)
        self._jobs.evict(now)
        return ReapReport(ended)

    def _overdue(self, entry: Entry, now: float) -> bool:
        """End a job whose time is over.  Answers whether it has ended."""
        deadline = entry.next_deadline()
        if deadline is None or now < deadline:
            return False
        if entry.unheard(now):
            self._cancel(entry, "disconnect")
        elif entry.waited_too_long(now):
            self._end_waiting(entry, entry.queue_timeout_outcome())
        return entry.finished is not None

    # Workers

    async def claim(
        self, worker: str, queue: str, demands: Mapping[str, Demand], free: Mapping[str, int]
    ) -> ClaimReply:
        """Take what may start."""
        line = self._queues[queue]
        self._ready.pop(queue, None)
        if not line.in_line:
            return _NOTHING
        now = self._clock()
        left = dict(free)
        claims: list[Claim] = []
        ended: list[str] = []
        while line.in_line and line.has_slot() and (head := line.head(worker, demands)) is not None:
            demand = demands[head.record.function]
            mates = line.mates(head, worker, demand.max_batch_size)
            overdue = [mate.record.id for mate in mates if self._overdue(mate, now)]
            if overdue:
                ended += overdue
                continue
            if left.get(demand.capacity, 0) <= 0:
                return ClaimReply(claims, blocked=demand.capacity, ended=ended)
            ready_at = head.created + demand.batch_timeout
            if len(mates) < demand.max_batch_size and now < ready_at:
                return ClaimReply(claims, ready_at=ready_at, ended=ended)
            left[demand.capacity] -= 1
            claims.append(self._start(line, mates, now))
        return ClaimReply(claims, ended=ended)

    def _start(self, queue: Queue, batch: Sequence[Entry], now: float) -> Claim:
        """Put these jobs into one running slot."""
        self._sequence += 1
        durations = queue.durations.get(batch[0].record.function)
        eta = None if durations is None else durations.median
        for entry in batch:
            queue.step_out(entry)
            self._backlog.shrink(entry.record)
            entry.start(now, eta)
        return queue.take_slot(str(self._sequence), batch, now)

    async def wait_work(self, worker: str, timeout: float) -> Work:
        """Wait for a hint that there is something to do."""
        if not self._ready and not self._cancelled:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._waiter
            except TimeoutError:
                pass
            finally:
                self._waiter = None
        work = Work(tuple(self._ready), tuple(self._cancelled))
        self._ready.clear()
        self._cancelled.clear()
        return work

    def _hint(self, queue: Queue) -> None:
        """Tell the worker that a queue may have something for it."""
        self._ready[queue.name] = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _held(self, claim: Claim, job_ids: Iterable[str] = ()) -> tuple[Queue, Slot]:
        """The slot that a claim holds, in which these jobs have not ended."""
        queue = self._queues.get(claim.queue)
        slot = None if queue is None else queue.slots.get(claim.id)
        if queue is None or slot is None:
            raise ClaimLost(f"claim {claim.id} is not held any more")
        for job_id in job_ids:
            if job_id not in slot.entries:
                raise ClaimLost(f"claim {claim.id} does not hold this job any more")
        return queue, slot

    async def emit(self, claim: Claim, job_id: str, emissions: Sequence[Emission]) -> None:
        """Append what a running job says."""
        _, slot = self._held(claim, (job_id,))
        entry = slot.entries[job_id]
        for emission in emissions:
            entry.say(emission, self._jobs.retention)
        entry.notify()

    async def settle(
        self, claim: Claim, outcomes: Sequence[Outcome], *, keep: bool = False
    ) -> bool:
        """End jobs of a claim."""
        queue, slot = self._held(claim, [outcome.job_id for outcome in outcomes])
        now, measured = self._clock(), False
        for outcome in outcomes:
            entry = slot.entries[outcome.job_id]
            self._end(entry, outcome, now)
            del slot.entries[outcome.job_id]
            queue.finish(entry)
            # What was cut short by a cancel says nothing about how long the function takes.
            measured = measured or outcome.state is not JobState.CANCELLED
        if keep:
            slot.kept, slot.measured = True, measured
        if slot.kept or slot.entries:
            self._hint(queue)  # a job that was held beside the line may have joined it
            return False
        if measured:
            queue.measure(slot, now)
        return self._free(queue, claim)

    async def release(self, claim: Claim) -> None:
        """Free the slot; jobs that have not ended go back to their place in line."""
        queue, slot = self._held(claim)
        for entry in slot.entries.values():
            entry.give_back()
            self._backlog.grow(entry.record)
            queue.come_back(entry)
            if entry.cancel_reason:
                self._cancel(entry, entry.cancel_reason)
        if slot.measured:
            queue.measure(slot, self._clock())
        self._free(queue, claim)

    def _free(self, queue: Queue, claim: Claim) -> bool:
        """A slot is free.  Answers whether somebody waits for it."""
        queue.free_slot(claim)
        if not queue.in_line:
            return False
        self._ready[queue.name] = None
        return True

    def heartbeat(self, worker: str, claims: Sequence[str]) -> Beat:
        """Claims live as long as this process does; only cancels are repeated."""
        lost: list[str] = []
        cancelled: list[str] = []
        for name in claims:
            # A thread asks, so a claim may end between two looks: one look each.
            slots = [slot for queue in self._queues.values() if (slot := queue.slots.get(name))]
            if not slots:
                lost.append(name)
            for slot in slots:
                entries = list(slot.entries.values())
                cancelled += [entry.record.id for entry in entries if entry.cancel_reason]
        return Beat(lost, cancelled)

    async def set_limit(self, queue: str, limit: int | None) -> None:
        """Override a queue's limit: 0 pauses it, None restores it."""
        self._queues[queue].override(limit)
        self._hint(self._queues[queue])
