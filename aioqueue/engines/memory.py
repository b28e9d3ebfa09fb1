"""The memory engine: everything in this process, and the specification that others are held to.

The verbs are ``async def`` without an ``await`` inside, so each is atomic by the event loop and
costs a method call.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from .._errors import ClaimLost
from .._job import (
    TERMINAL,
    AdmissionLimits,
    Attempt,
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
from ._deadlines import Deadlines
from ._entry import Entry
from ._queue import Queue
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
        self._retention = Retention()
        self._queues: dict[str, Queue] = {}
        self._jobs: dict[str, Entry] = {}
        self._claims: dict[str, Queue] = {}
        self._ended: OrderedDict[str, Entry] = OrderedDict()  # by the time of their end
        self._deadlines = Deadlines()
        self._keys: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._groups: dict[str, dict[str, None]] = {}
        self._sequence = 0
        self._queued = 0
        self._queued_bytes = 0
        self._result_bytes = 0
        self._by_function: dict[str, int] = {}  # waiting jobs
        self._by_client: dict[str, int] = {}
        self._ready: dict[str, None] = {}  # queues that wait_work tells of
        self._cancelled: dict[str, None] = {}  # and jobs
        self._waiter: asyncio.Future[None] | None = None

    async def open(self, queues: Mapping[str, QueuePolicy], retention: Retention) -> None:
        """Get ready for these queues."""
        self._retention = retention
        self._queues = {name: Queue(name, policy) for name, policy in queues.items()}

    async def close(self) -> None:
        """Forget everything."""
        self._wake()
        self._jobs.clear()
        self._queues.clear()
        self._claims.clear()

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
        if dedup is not None:
            known = self._keys.get((dedup.scope, dedup.key))
            if known is not None:
                same = known[1] == dedup.fingerprint
                return Enqueued("duplicate" if same else "conflict", known[0])
        queue = self._queues[record.queue]
        refused = self._refusal(record, queue, limits, can_start)
        if refused is not None:
            return refused
        now = self._clock()
        self._sequence += 1
        entry = Entry(record, self._sequence, now)
        self._jobs[record.id] = entry
        if dedup is not None:
            entry.dedup = (dedup.scope, dedup.key)
            self._keys[entry.dedup] = (record.id, dedup.fingerprint)
        if group is not None:
            entry.group = group
            self._groups.setdefault(group, {})[record.id] = None
        if record.grace is not None:
            entry.listened_until = now + LISTENING_SECONDS
        self._count(entry, 1)
        queue.enter(entry)
        self._deadlines.note(entry)
        self._ready[queue.name] = None
        return Enqueued("accepted", record.id, self._queued, limits.max_size)

    def _refusal(
        self, record: JobRecord, queue: Queue, limits: AdmissionLimits, can_start: bool
    ) -> Enqueued | None:
        """Why this job can't be taken, if it can't."""
        quota = limits.max_queued_per_client
        if quota is not None and record.client is not None:
            size = self._by_client.get(record.client, 0)
            if size >= quota:
                return Enqueued("quota_exceeded", record.id, size, quota)
        if can_start and queue.starts_at_once(record):
            return None
        for size, bound in (
            (self._queued, limits.max_size),
            (self._by_function.get(record.function, 0), limits.function_max_size),
        ):
            if bound is not None and size >= bound:
                return Enqueued("queue_full", record.id, size, bound)
        bound = limits.max_queued_bytes
        if bound is not None and self._queued_bytes + len(record.payload) > bound:
            return Enqueued("queue_full", record.id, self._queued, limits.max_size)
        return None

    def _count(self, entry: Entry, step: int) -> None:
        """Keep the counts of what waits: 1 when a job begins to wait, -1 when it stops."""
        record = entry.record
        self._queued += step
        self._queued_bytes += step * len(record.payload)
        self._by_function[record.function] = self._by_function.get(record.function, 0) + step
        if record.client is not None:
            left = self._by_client.pop(record.client, 0) + step
            if left:
                self._by_client[record.client] = left

    # Reading

    async def get(self, job_id: str) -> Snapshot | None:
        """The job as it stands."""
        entry = self._jobs.get(job_id)
        return None if entry is None else entry.snapshot(self._retention.result_ttl)

    async def events(self, job_id: str, after: EventId) -> EventPage | None:
        """The log after an event."""
        entry = self._jobs.get(job_id)
        return None if entry is None else entry.log.page(after, entry.state in TERMINAL)

    def watch(self, job_id: str, wake: Callable[[str], None]) -> None:
        """Call ``wake(job_id)`` whenever the job's log has grown."""
        entry = self._jobs.get(job_id)
        if entry is not None:
            entry.watchers = (*entry.watchers, wake)

    def unwatch(self, job_id: str, wake: Callable[[str], None]) -> None:
        """Stop calling ``wake`` for this job."""
        entry = self._jobs.get(job_id)
        if entry is not None:
            entry.watchers = tuple(other for other in entry.watchers if other != wake)

    async def ahead(self, job_ids: Sequence[str]) -> Sequence[Mapping[str, int] | None]:
        """For each job the waiting jobs before it, by function; None if it is not in line."""
        entries = (self._jobs.get(job_id) for job_id in job_ids)
        return [
            None
            if entry is None or entry.key is None
            else self._queues[entry.record.queue].ahead(entry.key)
            for entry in entries
        ]

    async def stats(self, queue: str) -> QueueStats:
        """The counts of one queue."""
        return self._queues[queue].stats()

    async def members(self, group: str) -> Sequence[str]:
        """The ids of the known jobs with this label."""
        return tuple(self._groups.get(group, ()))

    # Ending

    async def cancel(
        self, job_id: str, reason: str, *, only_queued: bool = False
    ) -> Snapshot | None:
        """End a waiting job; ask the worker of a running one."""
        entry = self._jobs.get(job_id)
        if entry is None:
            return None
        self._cancel(entry, reason, only_queued)
        return entry.snapshot(self._retention.result_ttl)

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
        self._count(entry, -1)
        self._end(entry, outcome)
        self._hint(queue)  # a held job may have joined the line

    def _end(self, entry: Entry, outcome: Outcome) -> None:
        entry.end(outcome, self._clock())
        self._deadlines.drop(entry)
        self._cancelled.pop(entry.record.id, None)
        self._ended[entry.record.id] = entry
        self._result_bytes += entry.result_size
        if entry.record.retained:
            self._evict()
        else:
            self._forget(entry)

    def _evict(self) -> None:
        """Forget the oldest ended jobs: those past their time, and those beyond the bounds."""
        kept, ended = self._retention, self._ended
        oldest = self._clock() - kept.result_ttl
        while ended:
            entry = next(iter(ended.values()))
            if not (
                len(ended) > kept.max_results
                or (self._result_bytes > kept.max_result_bytes and len(ended) > 1)
                or (entry.finished is not None and entry.finished <= oldest)
            ):
                break
            self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        job_id = entry.record.id
        del self._ended[job_id], self._jobs[job_id]
        self._result_bytes -= entry.result_size
        if entry.dedup is not None:
            del self._keys[entry.dedup]
        if entry.group is not None:
            group = self._groups[entry.group]
            del group[job_id]
            if not group:
                del self._groups[entry.group]
        entry.notify()

    # Time

    async def attend(self, job_ids: Sequence[str], seconds: float | None) -> None:
        """Say that somebody listens to these jobs, for so many seconds; None detaches them."""
        now = self._clock()
        for job_id in job_ids:
            entry = self._jobs.get(job_id)
            if entry is not None and entry.listened_until is not None:
                entry.listened_until = None if seconds is None else now + seconds
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
        self._evict()
        return ReapReport(ended)

    def _overdue(self, entry: Entry, now: float) -> bool:
        """End a job whose time is over.  Answers whether it has ended."""
        if entry.unheard(now):
            self._cancel(entry, "disconnect")
        elif entry.waited_too_long(now):
            self._end_waiting(entry, entry.queue_timeout_outcome())
        return entry.state in TERMINAL

    # Workers

    async def claim(
        self, worker: str, queue: str, demands: Mapping[str, Demand], free: Mapping[str, int]
    ) -> ClaimReply:
        """Take what may start."""
        line = self._queues[queue]
        self._ready.pop(queue, None)
        if not (line.waiting and line.has_slot):
            return _NOTHING
        now = self._clock()
        left = dict(free)
        claims: list[Claim] = []
        ended: list[str] = []
        while line.has_slot and (head := line.head(worker, demands)) is not None:
            demand = demands[head.record.function]
            mates = line.mates(head, demand.max_batch_size)
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
        name, function = str(self._sequence), batch[0].record.function
        durations = queue.durations.get(function)
        for entry in batch:
            queue.start(entry)
            self._count(entry, -1)
            entry.start(name, now, durations)
        attempts = tuple(Attempt(entry.record, entry.log.attempt) for entry in batch)
        claim = Claim(name, queue.name, function, attempts)
        queue.take_slot(claim, batch[0].order, now)
        self._claims[name] = queue
        return claim

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

    def _held(self, claim: Claim, job_id: str) -> Entry | None:
        """A job of a claim, unless it has ended or is another claim's by now."""
        entry = self._jobs.get(job_id)
        if entry is None or entry.claim != claim.id or entry.state is not JobState.RUNNING:
            return None
        return entry

    def _require(self, claim: Claim, job_id: str) -> Entry:
        entry = self._held(claim, job_id)
        if entry is None:
            raise ClaimLost(f"claim {claim.id} does not hold this job any more")
        return entry

    async def emit(self, claim: Claim, job_id: str, emissions: Sequence[Emission]) -> None:
        """Append what a running job says."""
        entry = self._require(claim, job_id)
        for emission in emissions:
            entry.say(emission, self._retention)
        entry.notify()

    async def settle(
        self, claim: Claim, outcomes: Sequence[Outcome], *, keep: bool = False
    ) -> None:
        """End jobs of a claim."""
        entries = [self._require(claim, outcome.job_id) for outcome in outcomes]
        queue = self._claims[claim.id]
        for entry, outcome in zip(entries, outcomes, strict=True):
            queue.finish(entry)
            self._end(entry, outcome)
        left = any(self._held(claim, attempt.record.id) for attempt in claim.attempts)
        if not left and not keep:
            # What was cut short says nothing about how long the function takes.
            if any(outcome.state is not JobState.CANCELLED for outcome in outcomes):
                queue.measure(claim, self._clock())
            self._free(claim)

    async def release(self, claim: Claim) -> None:
        """Free the slot; jobs that have not ended go back to their place in line."""
        if claim.id not in self._claims:
            raise ClaimLost(f"claim {claim.id} is not held any more")
        queue = self._claims[claim.id]
        for attempt in claim.attempts:
            entry = self._held(claim, attempt.record.id)
            if entry is None:
                continue
            entry.give_back()
            self._count(entry, 1)
            queue.come_back(entry)
            self._deadlines.note(entry)
            if entry.cancel_reason:
                self._cancel(entry, entry.cancel_reason)
        self._free(claim)

    def _free(self, claim: Claim) -> None:
        queue = self._claims.pop(claim.id)
        queue.free_slot(claim)
        self._ready[queue.name] = None

    def heartbeat(self, worker: str, claims: Sequence[str]) -> Beat:
        """Claims live as long as this process does; only cancels are repeated."""
        lost = [name for name in claims if name not in self._claims]
        held = [
            entry
            for name in claims
            if name in self._claims
            for attempt in self._claims[name].slots[name].claim.attempts
            if (entry := self._jobs.get(attempt.record.id)) is not None
            and entry.claim == name
            and entry.state is JobState.RUNNING
        ]
        return Beat(lost, [entry.record.id for entry in held if entry.cancel_reason])

    async def set_limit(self, queue: str, limit: int | None) -> None:
        """Override a queue's limit: 0 pauses it, None restores it."""
        self._queues[queue].override = limit
        self._hint(self._queues[queue])
