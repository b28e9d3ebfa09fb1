"""The engine seam: the protocol, and the contract behind it.

An engine stores jobs and keeps every rule that must hold at one instant: the order, the limits,
the bounds, who holds which job, and each job's log of events.  Everything else (which queue is
asked next, how many workers are free, what a wait is estimated at, how a server drains) is
written once, above it.

The contract, which the conformance suite holds every engine to:

* **A verb is atomic**, and appends its own event in the same step.  Nothing is visible to anybody
  that the store has not accepted.
* **Order** is a number fixed at enqueue.  ``arrival``: the sequence number.  ``fair``: a turn,
  ``max(V, the client's last turn) + 1``, where V is the turn of the head of the last claim and
  never falls, and a client's last turn is the highest among its waiting jobs, else V.
  ``priority``: the time of enqueue minus ``priority × priority_step``.  Ties go by sequence.  A
  job that comes back from a worker keeps its number.
* **Limits** count claims.  A claim holds its slot until all its jobs have ended, or, after
  ``settle(keep=True)``, until it is released, whatever else is settled.
* **Writes are conditional** on still holding the claim: else :exc:`ClaimLost`, and nothing is
  stored.
* **States** go ``queued → running → succeeded | failed | cancelled``; ``release`` alone leads
  back from running to queued.  A terminal state never changes, and has one terminal event.
* **The clock** is the engine's own; every time it tells is seconds since the epoch by it.
* **Wake-ups are hints.**  One may be lost, early or for nothing: that costs latency, never a job.
  The process that enqueues, settles or releases asks for itself (its ``claim`` follows in the
  same step); ``wait_work`` wakes the others.
* **Payloads are bytes**, in every engine.

An engine raises :exc:`ClaimLost` and :exc:`EngineUnavailable`, and no exception of its store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import attrs

from .._job import (
    AdmissionLimits,
    Claim,
    Demand,
    Emission,
    Event,
    EventId,
    JobRecord,
    Outcome,
    QueuePolicy,
    QueueStats,
    Snapshot,
    frozen,
)

__all__ = [
    "LISTENING_SECONDS",
    "Beat",
    "ClaimReply",
    "Dedup",
    "Engine",
    "Enqueued",
    "EventPage",
    "ReapReport",
    "Retention",
    "Work",
]

LISTENING_SECONDS = 30.0
"""How long one ``attend`` says that somebody is listening; enqueue says it for the submitter."""


@attrs.frozen(slots=True, kw_only=True)
class Retention:
    """How much an engine keeps: of each job's log, and of jobs that have ended."""

    max_log_events: int = 10_000
    max_log_bytes: int = 1 << 20
    max_event_bytes: int = 1 << 20
    result_ttl: float = 600.0
    max_results: int = 10_000
    max_result_bytes: int = 256 << 20


@frozen
class Dedup:
    """An idempotency key: the same ``scope`` and ``key`` is the same job, once."""

    scope: str
    key: str
    fingerprint: bytes


@frozen
class Enqueued:
    """The answer to an enqueue.

    ``accepted``; ``duplicate`` (``job_id`` is the job that has the key already); ``conflict``
    (the key was used for something else); or refused: ``queue_full``, ``quota_exceeded``,
    ``wait_too_long``.
    """

    outcome: Literal[
        "accepted", "duplicate", "conflict", "queue_full", "quota_exceeded", "wait_too_long"
    ]
    job_id: str
    queue_size: int = 0
    max_size: int | None = None


@frozen
class ClaimReply:
    """What a worker got.

    Attributes:
        claims: what it must run now.
        ready_at: when the head of the line has waited long enough for mates (engine's clock).
        blocked: the capacity that the head of the line needs and the worker has none of.
        ended: jobs that ended instead of being claimed: their time was over.
    """

    claims: Sequence[Claim] = ()
    ready_at: float | None = None
    blocked: str | None = None
    ended: Sequence[str] = ()


@frozen
class EventPage:
    """What a job's log holds after some event.

    Attributes:
        events: in order, without gaps.
        truncated: whether some that the reader has not seen are gone from the log.
        ended: whether the job has ended, and nothing follows these events.
        progress: the newest ephemeral news of the current attempt, whenever it was said.
    """

    events: Sequence[Event]
    truncated: bool = False
    ended: bool = False
    progress: bytes | None = None


@frozen
class Work:
    """A hint to a worker: queues that may have work for it, jobs whose cancel was requested."""

    queues: Sequence[str] = ()
    cancelled: Sequence[str] = ()


@attrs.frozen(slots=True)
class Beat:
    """The answer to a heartbeat: claims that are lost, jobs whose cancel was requested."""

    lost: Sequence[str] = ()
    cancelled: Sequence[str] = ()


@attrs.frozen(slots=True)
class ReapReport:
    """What time did: jobs that ended because theirs was over."""

    ended: Sequence[str] = ()


class Engine(Protocol):
    """What stores jobs and decides who may run.  See the module for the contract."""

    async def open(self, queues: Mapping[str, QueuePolicy], retention: Retention) -> None:
        """Get ready for these queues.  Called once, inside the running loop."""

    async def close(self) -> None:
        """Let go of everything.  No verb may be called after it."""

    # Any node

    async def enqueue(
        self,
        record: JobRecord,
        *,
        limits: AdmissionLimits,
        can_start: bool = True,
        dedup: Dedup | None = None,
        group: str | None = None,
    ) -> Enqueued:
        """Accept a job, recognise it, or refuse it, in one step.

        A duplicate is looked for first, so that a retry finds its job in a full queue too.  The
        limits bound what waits: a job that can start at once (its line is empty, a slot is free
        and ``can_start`` says that a worker is, too) meets none of them.
        """

    async def get(self, job_id: str) -> Snapshot | None:
        """The job as it stands; None if it is not known, or no longer."""

    async def cancel(
        self, job_id: str, reason: str, *, only_queued: bool = False
    ) -> Snapshot | None:
        """End a waiting job; ask the worker of a running one (unless ``only_queued``).

        Answers the job as it then stands, None if it is unknown.  Never races a claim: a job
        is either cancelled here or runs.  On an ended job it changes nothing.
        """

    async def attend(self, job_ids: Sequence[str], seconds: float | None) -> None:
        """Say that somebody listens to these jobs, for so many seconds; None detaches them.

        An attached job is cancelled (reason ``disconnect``) when its ``grace`` after the last such
        promise has run out, by ``claim`` or ``reap``.  Zero says that the last listener has left.
        Detached, ended and unknown jobs are passed over.
        """

    async def ahead(self, job_ids: Sequence[str]) -> Sequence[Mapping[str, int] | None]:
        """For each job the waiting jobs before it, by function; None if it is not in line."""

    async def ahead_of(self, record: JobRecord) -> Mapping[str, int] | None:
        """What would stand before this job if it joined now, by function; None if it were held."""

    async def stats(self, queue: str) -> QueueStats:
        """The counts of one queue."""

    async def events(self, job_id: str, after: EventId) -> EventPage | None:
        """The log after an event.

        A place that is no place of this log (another attempt's, or beyond its end) means the
        whole log of the current attempt.  None if the job is unknown.
        """

    def watch(self, job_id: str, wake: Callable[[str], None]) -> None:
        """Call ``wake(job_id)`` whenever the job's log has grown, in this process.

        A hint like all wake-ups.  Not a coroutine: it only registers, and ``wake`` must not block.
        """

    def unwatch(self, job_id: str, wake: Callable[[str], None]) -> None:
        """Stop calling ``wake`` for this job."""

    async def members(self, group: str) -> Sequence[str]:
        """The ids of the known jobs that were enqueued with this label."""

    async def now(self) -> float:
        """The engine's clock."""

    # Workers

    async def claim(
        self, worker: str, queue: str, demands: Mapping[str, Demand], free: Mapping[str, int]
    ) -> ClaimReply:
        """Take what may start: from the head of the line, up to limits and free capacity.

        Args:
            worker: the process's name, which jobs bound to a node must carry.
            queue: the queue to claim from.
            demands: the functions this worker runs, and how.
            free: places left, by the name of the capacity.

        The head of the line is the oldest job of a function in ``demands``; nothing overtakes it.
        """

    async def wait_work(self, worker: str, timeout: float) -> Work:
        """Wait for a hint that this worker has something to do, at most ``timeout`` seconds."""

    async def emit(self, claim: Claim, job_id: str, emissions: Sequence[Emission]) -> None:
        """Append what a running job says.

        Raises:
            ClaimLost: the claim is no longer held, or the job in it has ended.
        """

    async def settle(
        self, claim: Claim, outcomes: Sequence[Outcome], *, keep: bool = False
    ) -> bool:
        """End jobs of a claim.  Its slot is free when all have ended, unless ``keep``.

        Answers whether it is free now and somebody waits in line, so that whoever settles claims
        again; False is the end of it.

        Args:
            claim: the claim that holds them.
            outcomes: how they ended; a cancelled one without a reason takes the requested one.
            keep: the work goes on although its jobs have ended for their clients; the slot stays
                taken until ``release``.

        Raises:
            ClaimLost: the claim is no longer held, or one of the jobs has ended already; then
                none of the outcomes is stored.
        """

    async def release(self, claim: Claim) -> None:
        """Free the slot; jobs that have not ended go back to their place in line.

        Their next attempt begins with the event ``restarted``; ``queue_timeout`` bounds only the
        first wait.  One whose cancel was requested is cancelled instead.

        Raises:
            ClaimLost: the claim is no longer held.
        """

    def heartbeat(self, worker: str, claims: Sequence[str]) -> Beat:
        """Say that this worker still holds these claims.  Not a coroutine: a thread calls it."""

    async def reap(self) -> ReapReport:
        """Do what time asks for: end jobs whose time is over, forget ended ones."""

    # Operators

    async def set_limit(self, queue: str, limit: int | None) -> None:
        """Override a queue's limit until the engine closes: 0 pauses it, None restores it."""
