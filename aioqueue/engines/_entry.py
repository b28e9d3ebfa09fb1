"""What the memory engine stores of one job, and of what it said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import orjson

from .._errors import Problem
from .._job import (
    Content,
    Emission,
    Event,
    EventId,
    JobRecord,
    JobState,
    Outcome,
    Snapshot,
    event_data,
)
from .base import EventPage, Retention

__all__ = ["Entry", "Log"]

_SMALL = 1024
"""How large arguments of an ended job are kept: to let go of fewer costs more than it gives."""


_NOTHING: Any = ()


class Log:
    """The durable events of a job's current attempt: a ring that remembers how far it got.

    An event is kept as a plain tuple of its type and its data, which the garbage collector soon
    passes over; thousands of ended jobs have nothing else.
    """

    __slots__ = ("_bytes", "_events", "_start", "attempt", "number")

    def __init__(self) -> None:
        self.attempt = 1
        self.number = 0
        self._events: list[tuple[str, bytes] | None] = _NOTHING
        self._start = 0  # index of the oldest event that is kept
        self._bytes = 0

    def last(self) -> EventId:
        """The place of the newest event."""
        return EventId(self.attempt, self.number)

    def restart(self) -> None:
        """Begin the log of another attempt."""
        self.attempt += 1
        self.number = 0
        self._events = _NOTHING
        self._start = self._bytes = 0

    def append(self, kind: str, data: bytes) -> None:
        """Add an event, whatever the bounds say: see ``trim``."""
        if self.number == 0:
            self._events = []  # not before: thousands wait and have said nothing
        self.number += 1
        self._events.append((kind, data))
        self._bytes += len(data)

    def close(self, kind: str, data: bytes) -> None:
        """Add the last event.  The collector passes over a tuple of them, but not over a list."""
        self.append(kind, data)
        self._events = tuple(self._events[self._start :])  # type: ignore[assignment]
        self._start = 0

    def trim(self, retention: Retention) -> None:
        """Let the oldest events go until the rest is within its bounds."""
        events = self._events
        while len(events) - self._start > 1 and (
            self._bytes > retention.max_log_bytes
            or len(events) - self._start > retention.max_log_events
        ):
            oldest = events[self._start]
            self._bytes -= len(oldest[1]) if oldest else 0
            events[self._start] = None
            self._start += 1
        # Moving the rest up now and then keeps dropping one event O(1) on the whole.
        if self._start > 64 and self._start * 2 > len(events):
            del events[: self._start]
            self._start = 0

    def after(self, place: EventId, job_id: str) -> tuple[list[Event], bool]:
        """What stands after an event, and whether some of it is gone.

        The whole log if that place is not in it.
        """
        events, attempt = self._events, self.attempt
        first = self.number - (len(events) - self._start) + 1
        seen = place.number
        if place.attempt != attempt or seen > self.number:
            seen = 0
        number = max(first, seen + 1)
        kept = [
            Event(job_id, EventId(attempt, at), *event)
            for at, event in enumerate(events[self._start + number - first :], number)
            if event is not None
        ]
        return kept, seen + 1 < first


class Entry(Log):
    """One job: what was accepted, its log, and everything else that has happened to it since."""

    __slots__ = (
        "cancel_reason",
        "created",
        "dedup",
        "due",
        "error",
        "finished",
        "group",
        "key",
        "listened_until",
        "order",
        "progress",
        "reason",
        "record",
        "result",
        "sequence",
        "started",
        "state",
        "watchers",
    )

    def __init__(self, record: JobRecord, sequence: int, now: float) -> None:
        Log.__init__(self)
        self.record = record
        self.sequence = sequence
        self.created = now
        self.order: float = sequence
        self.key: tuple[float, int, Entry] | None = None  # its place in line, while it has one
        self.state = JobState.QUEUED
        self.started: float | None = None
        self.finished: float | None = None
        self.cancel_reason: str | None = None
        self.progress: bytes | None = None
        self.result: Content | None = None
        self.error: bytes | None = None
        self.reason: str | None = None
        self.listened_until: float | None = None  # None: nobody needs to listen
        self.due: int | None = None  # the second at which the reaper looks at it
        self.dedup: tuple[str, str] | None = None
        self.group: str | None = None
        self.watchers: tuple[Callable[[str], None], ...] = ()

    def has_run(self) -> bool:
        """Whether it has ever begun to run: that is the first thing a log says."""
        return self.number > 0

    def notify(self) -> None:
        """Tell whoever watches that the log has grown."""
        for wake in self.watchers:
            wake(self.record.id)

    def start(self, now: float, eta: float | None) -> None:
        """Begin an attempt, which will likely take ``eta`` seconds."""
        job_id = self.record.id
        if self.has_run():
            self.restart()
            self.append("restarted", event_data(job_id, "restarted"))
        self.state = JobState.RUNNING
        self.started = now
        fields = b'{"eta":null}' if eta is None else b'{"eta":%.3f}' % eta
        self.append("started", event_data(job_id, "started", fields))
        self.notify()

    def give_back(self) -> None:
        """The attempt is over without an end; the job waits again."""
        self.state = JobState.QUEUED
        self.started = self.progress = None

    def say(self, emission: Emission, retention: Retention) -> None:
        """Add what the running function said."""
        if not emission.durable:
            self.progress = emission.fields
            return
        self.append(emission.type, event_data(self.record.id, emission.type, emission.fields))
        self.trim(retention)

    def end(self, outcome: Outcome, now: float, retention: Retention) -> None:
        """Reach a terminal state, with its event."""
        kind = outcome.state.value
        if outcome.state is JobState.CANCELLED and outcome.reason is None:
            outcome = attrs.evolve(outcome, reason=self.cancel_reason)
        # First, so that a job whose end can't be told has not ended.
        fields = terminal_fields(outcome, retention.max_event_bytes)
        self.state = outcome.state
        self.result, self.error, self.reason = outcome.result, outcome.error, outcome.reason
        self.finished = now
        self.listened_until = None
        self.close(kind, event_data(self.record.id, kind, fields))
        if len(self.record.payload) > _SMALL:
            self.record = attrs.evolve(self.record, payload=b"")  # nobody will run it again
        self.notify()

    def page(self, after: EventId) -> EventPage:
        """What its log holds after an event."""
        events, truncated = self.after(after, self.record.id)
        return EventPage(events, truncated, self.finished is not None, self.progress)

    def result_size(self) -> int:
        """The bytes its result takes."""
        return 0 if self.result is None else len(self.result.body)

    # Deadlines

    def next_deadline(self) -> float | None:
        """When time will next ask something of this job."""
        unheard = timeout = None
        if self.listened_until is not None and self.record.grace is not None:
            unheard = self.listened_until + self.record.grace
        if self.record.queue_timeout is not None and not self.has_run():
            timeout = self.created + self.record.queue_timeout
        if unheard is None or timeout is None:
            return timeout if unheard is None else unheard
        return min(unheard, timeout)

    def unheard(self, now: float) -> bool:
        """Whether it is attached, and nobody has listened for longer than its grace."""
        return (
            self.listened_until is not None
            and self.record.grace is not None
            and now >= self.listened_until + self.record.grace
        )

    def waited_too_long(self, now: float) -> bool:
        """Whether it has waited longer than it may; only its first wait is limited."""
        return (
            self.record.queue_timeout is not None
            and not self.has_run()
            and now > self.created + self.record.queue_timeout
        )

    def queue_timeout_outcome(self) -> Outcome:
        """How a job ends that waited too long."""
        detail = f"The job did not start within {self.record.queue_timeout:g} s."
        problem = Problem.of("queue_timeout", detail)
        return Outcome(self.record.id, JobState.FAILED, error=problem.to_json())

    def snapshot(self, result_ttl: float) -> Snapshot:
        """The job as it stands."""
        finished = self.finished
        # In the order of the fields: by their names it takes more than twice the time.
        return Snapshot(
            self.record,
            self.state,
            self.created,
            self.started,
            finished,
            None if finished is None else finished + result_ttl,
            self.last(),
            self.cancel_reason is not None and finished is None,
            self.progress,
            self.result,
            self.error,
            self.reason,
        )


def terminal_fields(outcome: Outcome, max_event_bytes: int) -> bytes:
    """What a terminal event holds besides its type and job."""
    if outcome.state is JobState.SUCCEEDED:
        return _result_fields(outcome.result, max_event_bytes)
    if outcome.state is JobState.FAILED:
        return b'{"error":%b}' % (outcome.error or b"null")
    return orjson.dumps({"reason": outcome.reason})


def _result_fields(result: Content | None, max_event_bytes: int) -> bytes:
    if result is None:
        return b'{"result":null}'
    if result.is_told(max_event_bytes):
        truncated = b',"truncated":true' if result.truncated else b""
        return b'{"result":%b%b}' % (result.body, truncated)
    return b'{"result":null,"file":%b}' % orjson.dumps(result.file)
