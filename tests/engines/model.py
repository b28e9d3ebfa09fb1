"""An engine as one would write it without a thought for speed, to compare the real ones with.

It keeps lists and looks through all of them every time. What it answers is what DESIGN says:
each rule of the queue stands here in its plainest form.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs

from aioqueue._job import (
    AdmissionLimits,
    Demand,
    JobRecord,
    JobState,
    Order,
    QueuePolicy,
)
from aioqueue.engines.base import LISTENING_SECONDS, Retention


@attrs.define(eq=False)
class Job:
    """What the model knows of a job."""

    record: JobRecord
    number: int
    created: float
    order: float
    held: bool = False
    state: JobState = JobState.QUEUED
    claim: Claim | None = None
    listened_until: float | None = None
    cancel_requested: bool = False
    attempt: int = 1
    log: list[str] = attrs.field(factory=list)
    finished: float = 0.0

    @property
    def place(self) -> tuple[float, int]:
        """What a line is sorted by."""
        return self.order, self.number

    def say(self, kind: str) -> None:
        """Add an event to the log."""
        self.log.append(f"{self.attempt}-{len(self.log) + 1} {kind}")

    def waits_too_long(self, now: float) -> bool:
        """Whether it has waited too long for its first start."""
        timeout = self.record.queue_timeout
        return timeout is not None and not self.log and now > self.created + timeout

    def is_unheard(self, now: float) -> bool:
        """Whether nobody has listened for longer than it lives without."""
        if self.listened_until is None or self.record.grace is None:
            return False
        return now >= self.listened_until + self.record.grace


@attrs.define(eq=False)
class Claim:
    """A running slot."""

    queue: Queue
    jobs: list[Job]
    kept: bool = False


@attrs.define(eq=False)
class Queue:
    """The jobs of a queue that wait, and its slots."""

    policy: QueuePolicy
    limit: int | None
    turn: float = 0.0
    waiting: list[Job] = attrs.field(factory=list)
    claims: list[Claim] = attrs.field(factory=list)

    @property
    def has_slot(self) -> bool:
        """Whether another claim may run."""
        return self.limit is None or len(self.claims) < self.limit

    @property
    def line(self) -> list[Job]:
        """Who stands in line, in order."""
        return sorted((job for job in self.waiting if not job.held), key=lambda job: job.place)

    def at_cap(self, client: str | None) -> bool:
        """Whether a client has as many jobs in line or running as it may."""
        cap = self.policy.max_running_per_client
        running = [job for claim in self.claims for job in claim.jobs if not job.state.terminal]
        mine = [job for job in [*self.line, *running] if job.record.client == client]
        return cap is not None and client is not None and len(mine) >= cap

    def order_of(self, record: JobRecord, number: int, now: float) -> float:
        """The number that a job is ordered by."""
        match self.policy.order:
            case Order.ARRIVAL:
                return number
            case Order.PRIORITY:
                return now - record.priority * self.policy.priority_step
        mine = [
            job.order
            for job in self.waiting
            if job.record.client is not None and job.record.client == record.client
        ]
        return max(self.turn, max(mine, default=self.turn)) + 1

    def let_in(self, client: str | None) -> None:
        """Whoever is held for this client's sake and need be no longer joins the line."""
        while not self.at_cap(client):
            held = [job for job in self.waiting if job.held and job.record.client == client]
            if not held:
                return
            min(held, key=lambda job: job.place).held = False


class Model:
    """The verbs of an engine."""

    def __init__(self, queues: Mapping[str, QueuePolicy], retention: Retention) -> None:
        self.queues = {
            name: Queue(policy, policy.concurrency_limit) for name, policy in queues.items()
        }
        self.jobs: dict[str, Job] = {}
        self.retention = retention
        self._ended: list[Job] = []
        self._number = 0

    @property
    def waiting(self) -> list[Job]:
        """Whoever waits, in any queue."""
        return [job for queue in self.queues.values() for job in queue.waiting]

    def enqueue(
        self, record: JobRecord, limits: AdmissionLimits, can_start: bool, now: float
    ) -> tuple[str, int]:
        """What becomes of a new job, and how many then wait."""
        queue = self.queues[record.queue]
        capped = queue.at_cap(record.client)
        if queue.line or not queue.has_slot or not can_start or capped:
            quota, size = limits.max_queued_per_client, limits.max_size
            mine = [job for job in self.waiting if job.record.client == record.client]
            if record.client is not None and quota is not None and len(mine) >= quota:
                return "quota_exceeded", len(mine)
            if size is not None and len(self.waiting) >= size:
                return "queue_full", len(self.waiting)
            if limits.too_long:
                return "wait_too_long", len(self.waiting)
        self._number += 1
        order = queue.order_of(record, self._number, now)
        job = Job(record, self._number, now, order, held=capped)
        if record.grace is not None:
            job.listened_until = now + LISTENING_SECONDS
        self.jobs[record.id] = job
        queue.waiting.append(job)
        return "accepted", len(self.waiting)

    def end(self, job: Job, state: JobState, now: float) -> None:
        """A job ends, wherever it is."""
        queue = self.queues[job.record.queue]
        if job in queue.waiting:
            queue.waiting.remove(job)
        job.state, job.finished, job.cancel_requested = state, now, False
        job.say(state)
        self._ended.append(job)
        if not job.record.retained:
            self.forget(job)
        else:
            self.evict(now)
        queue.let_in(job.record.client)

    def evict(self, now: float) -> None:
        """Forget the oldest ended jobs."""
        while self._ended and (
            len(self._ended) > self.retention.max_results
            or now >= self._ended[0].finished + self.retention.result_ttl
        ):
            self.forget(self._ended[0])

    def forget(self, job: Job) -> None:
        """Forget an ended job."""
        self._ended.remove(job)
        del self.jobs[job.record.id]

    def cancel(self, job: Job, only_queued: bool, now: float) -> None:
        """End a waiting job, ask for the end of a running one."""
        if job.state is JobState.QUEUED:
            self.end(job, JobState.CANCELLED, now)
        elif job.state is JobState.RUNNING and not only_queued:
            job.cancel_requested = True

    def time_is_over(self, job: Job, now: float) -> None:
        """What becomes of a job whose time is over, if it is."""
        if job.is_unheard(now):
            self.cancel(job, False, now)
        elif job.waits_too_long(now):
            self.end(job, JobState.FAILED, now)

    def claim(
        self, queue: Queue, demands: Mapping[str, Demand], free: int, now: float
    ) -> tuple[list[list[Job]], set[str], str | None, float | None]:
        """What starts; who ends instead; what the next one lacks: a place, or mates until when."""
        started: list[list[Job]] = []
        ended: set[str] = set()
        while queue.has_slot:
            line = [job for job in queue.line if job.record.function in demands]
            if not line:
                break
            demand = demands[line[0].record.function]
            mates = [job for job in line if job.record.function == line[0].record.function]
            batch = mates[: demand.max_batch_size]
            for job in batch:
                self.time_is_over(job, now)
            over = {job.record.id for job in batch if job.state.terminal}
            if over:
                ended |= over
                continue
            if len(started) >= free:
                return started, ended, demand.capacity, None
            ready_at = line[0].created + demand.batch_timeout
            if len(batch) < demand.max_batch_size and now < ready_at:
                return started, ended, None, ready_at
            self._start(queue, batch)
            started.append(batch)
        return started, ended, None, None

    def _start(self, queue: Queue, batch: list[Job]) -> None:
        claim = Claim(queue, batch)
        queue.claims.append(claim)
        queue.turn = max(queue.turn, batch[0].order)
        for job in batch:
            queue.waiting.remove(job)
            job.state, job.claim = JobState.RUNNING, claim
            if job.log:
                job.attempt += 1
                job.log.clear()
                job.say("restarted")
            job.say("started")

    def settle(self, claim: Claim, ends: Mapping[str, JobState], keep: bool, now: float) -> None:
        """End jobs of a claim."""
        for job in claim.jobs:
            if job.record.id in ends:
                self.end(job, ends[job.record.id], now)
        claim.kept = claim.kept or keep
        if not claim.kept and not running(claim.jobs):
            claim.queue.claims.remove(claim)

    def release(self, claim: Claim, now: float) -> None:
        """Free a slot, and let those of its jobs wait again that have not ended."""
        claim.queue.claims.remove(claim)
        back = running(claim.jobs)
        for job in back:
            job.state, job.claim = JobState.QUEUED, None
        claim.queue.waiting += back
        for job in back:
            if job.cancel_requested:
                self.end(job, JobState.CANCELLED, now)


def running(jobs: Sequence[Job]) -> Collection[Job]:
    """Those that run."""
    return [job for job in jobs if job.state is JobState.RUNNING]
