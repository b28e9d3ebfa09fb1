"""One queue of the memory engine: who waits in which order, and who holds its slots."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from .._durations import Durations
from .._job import (
    Attempt,
    Claim,
    Demand,
    JobRecord,
    Order,
    QueuePolicy,
    QueueStats,
    RunningClaim,
)
from ._entry import Entry
from ._line import Line

__all__ = ["Queue", "Slot"]


class Slot:
    """A running slot, and the jobs of its claim that have not ended."""

    __slots__ = ("claim", "entries", "kept", "measured", "started")

    def __init__(self, claim: Claim, entries: dict[str, Entry], started: float) -> None:
        self.claim = claim
        self.entries = entries
        self.started = started
        self.kept = False
        """Whether only a release frees it: its jobs have ended for their clients, its work not."""
        self.measured = False
        """Whether the time until that release is how long the function takes."""


class Queue:
    """The lines, the order, the per-client caps and the slots of one queue."""

    def __init__(self, name: str, policy: QueuePolicy) -> None:
        self.name = name
        self.limit = policy.concurrency_limit
        """How many claims may run at once; None is no limit."""
        self.in_line = 0
        """How many jobs wait, without those that are held beside the line."""
        self.slots: dict[str, Slot] = {}
        self.durations: dict[str, Durations] = {}
        self._policy = policy
        self._is_fair = policy.order is Order.FAIR
        self._is_plain = policy.order is Order.ARRIVAL
        self._numbers = 0  # how many slots have had a number
        self._freed: list[int] = []  # and which of these are free: a heap
        self._lines: dict[tuple[str, str | None], Line] = {}  # by function and node
        self._waiting: dict[str, int] = {}  # by function, held ones included
        self._turn = 0.0  # V of the fair order
        self._turns: dict[str, Line] = {}  # of each client's waiting jobs
        self._admitted: dict[str, int] = {}  # jobs of each client in line or running
        self._held: dict[str, Line] = {}  # beside the line: their client is at its cap

    def override(self, limit: int | None) -> None:
        """Set another limit; None restores that of the policy."""
        self.limit = self._policy.concurrency_limit if limit is None else limit

    def has_slot(self) -> bool:
        """Whether another claim may run."""
        return self.limit is None or len(self.slots) < self.limit

    def waiting(self, function: str) -> int:
        """How many jobs of a function wait, held ones included."""
        return self._waiting.get(function, 0)

    def starts_at_once(self, record: JobRecord) -> bool:
        """Whether a job that joined now would not wait: nobody is before it, a slot is free."""
        return not self.in_line and self.has_slot() and not self._at_cap(record.client)

    def _at_cap(self, client: str | None) -> bool:
        cap = self._policy.max_running_per_client
        return cap is not None and client is not None and self._admitted.get(client, 0) >= cap

    # Joining and leaving

    def enter(self, entry: Entry) -> None:
        """A job begins to wait: its order is fixed now."""
        client = entry.record.client
        entry.order = self._order(entry)
        self._count(entry, 1)
        if client is not None and self._at_cap(client):
            held = self._held.setdefault(client, Line())
            held.add((entry.order, entry.sequence, entry))
        else:
            self._join(entry)

    def come_back(self, entry: Entry) -> None:
        """A job that ran waits again, at its old place."""
        self._count(entry, 1)
        self._line_up(entry)

    def _join(self, entry: Entry) -> None:
        client = entry.record.client
        if client is not None:
            self._admitted[client] = self._admitted.get(client, 0) + 1
        self._line_up(entry)

    def _line_up(self, entry: Entry) -> None:
        entry.key = (entry.order, entry.sequence, entry)
        place = (entry.record.function, entry.record.node)
        line = self._lines.get(place)
        if line is None:
            line = self._lines[place] = Line()
        line.add(entry.key)
        self.in_line += 1

    def leave(self, entry: Entry) -> None:
        """A job stops waiting and will not run."""
        if entry.key is None:
            self._count(entry, -1)
            assert entry.record.client is not None
            self._let_go(entry.record.client, (entry.order, entry.sequence, entry))
        else:
            self.step_out(entry)
            self.finish(entry)

    def step_out(self, entry: Entry) -> None:
        """A job leaves the line, to run or for good."""
        self._count(entry, -1)
        self._lines[entry.record.function, entry.record.node].remove(entry.key)
        entry.key = None
        self.in_line -= 1

    def finish(self, entry: Entry) -> None:
        """A job no longer counts against its client's cap; one that was held may join."""
        client = entry.record.client
        if client is None:
            return
        self._admitted[client] -= 1
        if not self._admitted[client]:
            del self._admitted[client]
        held = self._held.get(client)
        if held is not None:
            first = held.first()
            self._let_go(client, first)
            self._join(first[2])

    def _let_go(self, client: str, place: tuple[float, int, Entry]) -> None:
        """A job is held no longer."""
        held = self._held[client]
        held.remove(place)
        if not held:
            del self._held[client]

    def _count(self, entry: Entry, step: int) -> None:
        """Keep the counts of what waits, and the turns that a fair order gives out."""
        record = entry.record
        self._waiting[record.function] = self._waiting.get(record.function, 0) + step
        if not self._is_fair or record.client is None:
            return
        turns = self._turns.setdefault(record.client, Line())
        if step > 0:
            turns.add((entry.order, entry.sequence))
        else:
            turns.remove((entry.order, entry.sequence))
            if not turns:
                del self._turns[record.client]

    def _order(self, entry: Entry) -> float:
        record = entry.record
        if self._is_plain:
            return entry.sequence
        if self._policy.order is Order.PRIORITY:
            return entry.created - record.priority * self._policy.priority_step
        turns = None if record.client is None else self._turns.get(record.client)
        last: float = turns.last()[0] if turns else self._turn
        return max(self._turn, last) + 1

    # Who is next

    def head(self, worker: str, demands: Mapping[str, Demand]) -> Entry | None:
        """The first in line among the functions that this worker runs."""
        best = None
        for (function, node), line in self._lines.items():
            first = line.first()
            if first is None or (best is not None and best < first):
                continue
            if function in demands and (node is None or node == worker):
                best = first
        return None if best is None else best[2]

    def mates(self, head: Entry, worker: str, count: int) -> Sequence[Entry]:
        """The head and those behind it that this worker may run with it, up to ``count``."""
        if count == 1:
            return (head,)
        first: list[tuple[float, int, Entry]] = []
        for node in (None, worker):
            line = self._lines.get((head.record.function, node))
            if line is not None:
                first += line.head(count)
        return [entry for _, _, entry in sorted(first)[:count]]

    def ahead(self, key: tuple[float, int, Entry]) -> dict[str, int]:
        """How many jobs of each function stand before this place."""
        return self._before(key[:2])

    def ahead_of(self, newcomer: Entry) -> dict[str, int] | None:
        """The same for a job that has not joined; None if it would be held beside the line."""
        if self._at_cap(newcomer.record.client):
            return None
        return self._before((self._order(newcomer), newcomer.sequence))

    def _before(self, place: tuple[float, int]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for (function, _), line in self._lines.items():
            before = line.rank(place)
            if before:
                counts[function] = counts.get(function, 0) + before
        return counts

    # Slots

    def take_slot(self, name: str, batch: Sequence[Entry], now: float) -> Claim:
        """These jobs begin to run, as a claim of this name.

        Its number is the lowest that no claim has.
        """
        self._turn = max(self._turn, batch[0].order)
        if self._freed:
            number = heapq.heappop(self._freed)
        else:
            number, self._numbers = self._numbers, self._numbers + 1
        attempts = tuple([Attempt(entry.record, entry.attempt) for entry in batch])
        claim = Claim(name, self.name, batch[0].record.function, attempts, number)
        self.slots[name] = Slot(claim, {entry.record.id: entry for entry in batch}, now)
        return claim

    def free_slot(self, claim: Claim) -> None:
        """A claim has ended, and so has its work."""
        del self.slots[claim.id]
        heapq.heappush(self._freed, claim.slot)

    def measure(self, slot: Slot, now: float) -> None:
        """Remember how long a claim's work took."""
        function = slot.claim.function
        durations = self.durations.get(function)
        if durations is None:
            durations = self.durations[function] = Durations()
        durations.add(now - slot.started)

    def stats(self) -> QueueStats:
        """The counts, as they are now."""
        return QueueStats(
            concurrency_limit=self.limit,
            waiting={name: count for name, count in self._waiting.items() if count},
            running=[
                RunningClaim(slot.claim.function, slot.started) for slot in self.slots.values()
            ],
            durations=self.durations,
        )
