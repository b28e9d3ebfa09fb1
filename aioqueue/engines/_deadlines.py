"""When time will ask something of a job: one note each, in a bucket per second.

A heap would keep the note of every short job until its time came, half a minute after the job was
forgotten.  Here a note is taken back when its job ends; and a new job, which has mostly ended by
the next look, is only remembered until then.
"""

from __future__ import annotations

from collections.abc import Iterator

from ._entry import Entry

__all__ = ["Deadlines"]


class Deadlines:
    """Entries by the second in which they are to be looked at."""

    def __init__(self) -> None:
        self._seconds: dict[int, dict[Entry, None]] = {}
        self._new: dict[Entry, None] = {}  # still to be noted

    def add(self, entry: Entry) -> None:
        """Note a new entry, when somebody next asks what is due."""
        self._new[entry] = None

    def note(self, entry: Entry) -> None:
        """Look at this entry when its next deadline has passed.

        A deadline that moved away needs no new note: the entry is looked at early, and noted
        again.
        """
        deadline = entry.next_deadline()
        if deadline is None:
            return
        second = int(deadline) + 1
        if entry.due is not None:
            if entry.due <= second:
                return
            self.drop(entry)
        entry.due = second
        self._seconds.setdefault(second, {})[entry] = None

    def drop(self, entry: Entry) -> None:
        """Take the note of this entry back, if there is one."""
        self._new.pop(entry, None)
        if entry.due is None:
            return
        notes = self._seconds[entry.due]
        del notes[entry]
        if not notes:
            del self._seconds[entry.due]
        entry.due = None

    def due(self, now: float) -> Iterator[Entry]:
        """Hand out the entries whose second has come; their notes are gone."""
        new, self._new = self._new, {}
        for entry in new:
            self.note(entry)
        for second in sorted(second for second in self._seconds if second <= now):
            for entry in list(self._seconds.get(second, ())):
                if entry.due == second:  # and has not ended since this began
                    self.drop(entry)
                    yield entry
