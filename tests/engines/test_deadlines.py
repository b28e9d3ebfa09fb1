"""Deadlines: looked at within a second, noted once, and taken back for nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from aioqueue._job import JobRecord, JobState, Outcome
from aioqueue.engines._deadlines import Deadlines
from aioqueue.engines._entry import Entry
from aioqueue.engines.base import Retention

seconds = st.floats(0.001, 100)


def entry_of(now: float, queue_timeout: float | None = None, grace: float | None = None) -> Entry:
    """A job that waits since then."""
    record = JobRecord(id="1", function="a", queue="q", queue_timeout=queue_timeout, grace=grace)
    entry = Entry(record, 1, now)
    if grace is not None:
        entry.listened_until = now
    return entry


def noted(*entries: Entry) -> Deadlines:
    """Deadlines with a note of each of these."""
    deadlines = Deadlines()
    for entry in entries:
        deadlines.note(entry)
    return deadlines


@given(start=st.floats(0, 2e9), timeout=seconds, early=seconds)
def test_in_time(start: float, timeout: float, early: float) -> None:
    """An entry is handed out within a second after its deadline, and not before it."""
    entry = entry_of(start, timeout)
    deadlines, deadline = noted(entry), entry.next_deadline()
    assert deadline is not None

    assert list(deadlines.due(deadline - early)) == []
    assert list(deadlines.due(deadline)) == []
    assert list(deadlines.due(deadline + 1)) == [entry]
    assert list(deadlines.due(deadline + 2)) == []


@given(st.lists(seconds, max_size=30), st.floats(0, 110))
def test_all_that_are_due(timeouts: list[float], now: float) -> None:
    """All whose second has come are handed out, the earlier seconds first, and no others."""
    entries = [entry_of(0.0, timeout) for timeout in timeouts]
    deadlines = noted(*entries)
    due = list(deadlines.due(now))

    whole = [int(entry.record.queue_timeout or 0) for entry in due]
    assert whole == sorted(whole)
    assert set(due) == {entry for entry in entries if int(entry.next_deadline() or 0) + 1 <= now}
    assert set(deadlines.due(200)) == set(entries) - set(due)


def test_no_deadline() -> None:
    """What time asks nothing of is not noted."""
    deadlines = noted(entry_of(0.0))

    assert not deadlines._seconds


def test_a_new_entry() -> None:
    """What is added is noted at the next look; what has ended by then is forgotten."""
    entries = [entry_of(0.0, 10.0), entry_of(0.0, 10.0)]
    deadlines = Deadlines()
    for entry in entries:
        deadlines.add(entry)
    assert not deadlines._seconds
    deadlines.drop(entries[0])

    assert list(deadlines.due(5)) == []
    assert list(deadlines.due(11)) == [entries[1]]
    assert not deadlines._new
    assert not deadlines._seconds


def test_taken_back() -> None:
    """A note that is taken back is gone, and so is what held it."""
    entries = [entry_of(0.0, 10.0), entry_of(0.0, 10.0), entry_of(0.0, 20.0)]
    deadlines = noted(*entries)
    deadlines.drop(entries[0])
    deadlines.drop(entries[0])
    assert list(deadlines.due(11)) == [entries[1]]
    deadlines.drop(entries[2])

    assert not deadlines._seconds


def test_moved_away() -> None:
    """A deadline that has moved away costs no new note: the entry is looked at early."""
    entry = entry_of(0.0, grace=5.0)
    deadlines = noted(entry)
    entry.listened_until = 30.0
    deadlines.note(entry)
    assert len(deadlines._seconds) == 1

    assert list(deadlines.due(6)) == [entry]
    deadlines.note(entry)
    assert list(deadlines.due(35)) == []
    assert list(deadlines.due(36)) == [entry]


def test_moved_near() -> None:
    """A deadline that has come nearer moves the note."""
    entry = entry_of(0.0, grace=5.0)
    entry.listened_until = 30.0
    deadlines = noted(entry)
    entry.listened_until = 10.0
    deadlines.note(entry)

    assert list(deadlines.due(16)) == [entry]
    assert not deadlines._seconds


def test_ended_in_the_meantime() -> None:
    """Who is taken back while the others are handed out is not handed out any more."""
    entries = [entry_of(0.0, timeout) for timeout in (10.0, 10.5, 20.0)]
    deadlines = noted(*entries)
    due = deadlines.due(100)
    assert next(due) == entries[0]
    deadlines.drop(entries[1])
    deadlines.drop(entries[2])

    assert list(due) == []


@pytest.mark.parametrize("queue_timeout", [None, 3.0, 9.0])
def test_next_deadline(queue_timeout: float | None) -> None:
    """The next deadline is the nearer one; once it runs only the listeners' counts, then none."""
    entry = entry_of(0.0, queue_timeout, grace=5.0)
    assert entry.next_deadline() == min(5.0, queue_timeout or 5.0)
    entry.start(1.0, None)
    assert entry.next_deadline() == 5.0
    entry.end(Outcome("1", JobState.SUCCEEDED), 2.0, Retention())

    assert entry.next_deadline() is None
