"""The vocabulary: what a job is, and the values that travel between the layers.

Everything here is data.  A value is frozen once made; the only thing that changes is what an
engine stores about a job, and that is the engine's own business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from ._durations import Durations

__all__ = [
    "BEGINNING",
    "JSON_TYPE",
    "AdmissionLimits",
    "Attempt",
    "Claim",
    "Content",
    "Demand",
    "Emission",
    "Event",
    "EventId",
    "JobRecord",
    "JobState",
    "Order",
    "Outcome",
    "QueuePolicy",
    "QueueStats",
    "RunningClaim",
    "Snapshot",
    "event_data",
    "frozen",
]

if TYPE_CHECKING:
    from attrs import frozen
else:
    # Frozen for the type checker alone: where it is so at run time as well, each field is set by a
    # call, and a named tuple takes twice the time to make and several times to read.
    frozen = partial(attrs.define, unsafe_hash=True, weakref_slot=False)

JSON_TYPE = "application/json"


class JobState(StrEnum):
    """Where a job is in its life: ``queued``, ``running``, then one of three ends."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether this is an end: a terminal state never changes."""
        return self is not JobState.QUEUED and self is not JobState.RUNNING


class Order(StrEnum):
    """How a queue orders the jobs that wait in it.  One order per queue."""

    ARRIVAL = "arrival"
    FAIR = "fair"
    PRIORITY = "priority"


@frozen
class EventId:
    """The place of a durable event: the ``number``-th of an ``attempt``, both from 1.

    Number 0 stands before the first event.  The text form, ``1-4``, is the ``id`` field of a
    server-sent event and what comes back as ``Last-Event-ID``.
    """

    attempt: int
    number: int

    def __str__(self) -> str:
        return f"{self.attempt}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> EventId | None:
        """Read ``<attempt>-<n>``; anything else is None, which means "from the beginning"."""
        attempt, dash, number = text.partition("-")
        # Ten digits hold every number that is real; a longer one only costs memory.
        if not dash or not (0 < len(attempt) <= 10 and 0 < len(number) <= 10):
            return None
        if not (text.isascii() and attempt.isdigit() and number.isdigit()):
            return None
        return cls(int(attempt), int(number))


BEGINNING = EventId(1, 0)
"""The place before the first event of a first attempt."""


@frozen
class Event:
    """One durable entry of a job's log, encoded once and sent as it is to every reader."""

    job_id: str
    id: EventId
    type: str
    data: bytes
    """The whole JSON object, ``{"type": …, "job": …, …}``, on one line."""


def event_data(job_id: str, kind: str, fields: bytes = b"{}") -> bytes:
    """The JSON object of an event: its type and job, then whatever else it holds."""
    head = f'{{"type":"{kind}","job":"{job_id}"'.encode()
    return head + (b"}" if fields == b"{}" else b"," + fields[1:])


@frozen
class Content:
    """The result of a job: JSON, other bytes, or a file."""

    body: bytes = b""
    content_type: str = JSON_TYPE
    name: str | None = None
    """What it is called, if that is known."""
    truncated: bool = False
    """Whether it stands for outputs that the log did not keep all of; then it is null."""
    path: str | None = None
    """Where the file is; then there is no body."""
    file_size: int = 0
    is_file: bool = False
    """Whether a file was given back; what was not may lie in one too, for its size."""

    @property
    def is_value(self) -> bool:
        """Whether it is JSON that a function's value became, wherever it lies for its size."""
        return self.content_type == JSON_TYPE and not self.is_file

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.body) if self.path is None else self.file_size

    def is_told(self, max_bytes: int) -> bool:
        """Whether it may stand in an event; what is no JSON, or large, is fetched by itself."""
        return self.path is None and len(self.body) <= max_bytes and self.is_value

    @property
    def file(self) -> dict[str, Any]:
        """What an event says instead."""
        return {"content_type": self.content_type, "size": self.size, "name": self.name}


@frozen
class JobRecord:
    """One accepted request, as it is stored.  Whoever enqueues makes it; nobody changes it."""

    id: str
    function: str
    queue: str
    payload: bytes = b""
    node: str | None = None
    """The only process that may run it, or None for any."""
    owner: str | None = None
    client: str | None = None
    """Whose turn it takes in a fair queue; None is a client of its own."""
    priority: float = 0.0
    metadata: bytes | None = None
    grace: float | None = None
    """Seconds the job outlives its last listener; None = detached, it needs none."""
    queue_timeout: float | None = None
    """Seconds it may wait before it fails unrun; None = as long as it takes."""
    retained: bool = True
    """Whether it is kept for a while once it has ended; a gated request is not."""


@frozen
class Attempt:
    """One run of a job; number 1 unless its worker was lost or gave it back."""

    record: JobRecord
    number: int


@frozen
class Claim:
    """One running slot of a queue, holding one or more jobs of one function."""

    id: str
    queue: str
    function: str
    attempts: tuple[Attempt, ...]
    slot: int = 0
    """The number of the slot, from 0: the lowest that no other claim of the queue has."""


@frozen
class Outcome:
    """How a job ended, as a value: the executor makes it once and nobody interprets it again."""

    job_id: str
    state: JobState
    result: Content | None = None
    error: bytes | None = None
    """The problem document (RFC 9457) of a failed job, as JSON."""
    reason: str | None = None
    """Why a job was cancelled: ``client``, ``disconnect`` or ``shutdown``."""


@frozen
class Emission:
    """Something a running job says: durable (a log entry) or ephemeral (the latest wins)."""

    type: str
    fields: bytes
    """A JSON object of what the event holds besides its type and job."""
    durable: bool = True


@frozen
class Snapshot:
    """A job as it stood at one moment."""

    record: JobRecord
    state: JobState
    created: float
    started: float | None = None
    finished: float | None = None
    expires: float | None = None
    last: EventId = BEGINNING
    """The newest durable event; in a terminal state, the terminal one."""
    cancel_requested: bool = False
    progress: bytes | None = None
    result: Content | None = None
    error: bytes | None = None
    reason: str | None = None

    @property
    def id(self) -> str:
        """The job's id."""
        return self.record.id

    def is_for(self, owner: str | None) -> bool:
        """Whether somebody may see it, and cancel it: its owner, or anybody where it has none."""
        return self.record.owner in (None, owner)


@attrs.frozen(slots=True, kw_only=True)
class QueuePolicy:
    """What an engine must know of a queue to keep its limits and its order by itself."""

    concurrency_limit: int | None = 1
    order: Order = Order.ARRIVAL
    priority_step: float = 60.0
    """Seconds of waiting that weigh as much as one step of priority."""
    max_running_per_client: int | None = None


@attrs.frozen(slots=True)
class Demand:
    """What a worker takes of one function: which capacity a claim costs, and how jobs batch."""

    capacity: str
    """The name of the pool a claim takes one place of."""
    max_batch_size: int = 1
    batch_timeout: float = 0.0


@attrs.frozen(slots=True, kw_only=True)
class AdmissionLimits:
    """The bounds an enqueue must respect; None is no bound."""

    max_size: int | None = None
    function_max_size: int | None = None
    max_queued_bytes: int | None = None
    max_queued_per_client: int | None = None
    too_long: bool = False
    """Whether the wait was found to be too long: then nothing new may wait."""


@frozen
class RunningClaim:
    """A claim as seen from outside: which function holds the slot, and since when."""

    function: str
    started: float


@frozen
class QueueStats:
    """The counts of one queue, and how long its functions took lately."""

    concurrency_limit: int | None
    waiting: Mapping[str, int]
    running: Sequence[RunningClaim]
    durations: Mapping[str, Durations]

    @property
    def queue_size(self) -> int:
        """How many jobs wait."""
        return sum(self.waiting.values())
