"""How many will come before somebody who waits already, learned from those who waited before him.

In a queue with fair turns or priorities who comes later may be served earlier.  How often depends
on who comes, which nobody knows but from experience: a few who join are watched on their way to
the head, and how many were served before them that were not before them then is remembered, by
priority and by how far back they stood.  Where nobody is overtaken that is nothing, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

__all__ = ["Overtaking"]

_MOST = 16
"""So many are watched at once."""
_FORGET = 1.0 - 1.0 / 64
_KINDS = 64
"""So many kinds are remembered, the latest."""


@attrs.define(slots=True)
class _Watched:
    """Somebody on his way to the head of the line."""

    priority: float
    ahead: int = 0
    started: int | None = None
    """How many had ever started when so many were before him; None until that is known."""
    overtaken: int = 0


@attrs.define(slots=True)
class _Known:
    """What happened to those of one kind: decaying sums."""

    weight: float = 0.0
    ahead: float = 0.0
    overtaken: float = 0.0
    squares: float = 0.0


class Overtaking:
    """What is known of one queue."""

    __slots__ = ("_known", "_watched")

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}
        self._known: dict[tuple[float, int], _Known] = {}

    @property
    def watched(self) -> list[str]:
        """The jobs whose places ``look`` wants to know."""
        return list(self._watched)

    def watch(self, job_id: str, priority: float) -> None:
        """Watch somebody who waits, from the next look on, if there is room."""
        if len(self._watched) < _MOST:
            self._watched.setdefault(job_id, _Watched(priority))

    def look(self, places: Sequence[Mapping[str, int] | None], started: int) -> None:
        """See where those are now who are watched, and learn from those who wait no longer.

        Args:
            places: for each of ``watched`` those before it, by function; None: it waits no longer.
            started: how many of the queue have ever started.
        """
        for (job_id, one), place in zip(list(self._watched.items()), places, strict=True):
            if place is None:
                del self._watched[job_id]
                if one.started is not None:
                    self._learn(one)
            elif one.started is None:
                one.ahead, one.started = sum(place.values()), started
            else:
                one.overtaken = max(0, sum(place.values()) - one.ahead + started - one.started)

    def _learn(self, one: _Watched) -> None:
        kind = _kind(one.priority, one.ahead)
        known = self._known[kind] = self._known.pop(kind, _Known())
        if len(self._known) > _KINDS:
            del self._known[next(iter(self._known))]
        known.weight = known.weight * _FORGET + 1.0
        known.ahead = known.ahead * _FORGET + one.ahead + 1
        known.overtaken = known.overtaken * _FORGET + one.overtaken
        known.squares = known.squares * _FORGET + one.overtaken**2

    def expected(self, priority: float, ahead: int) -> tuple[float, float]:
        """How many more will come before somebody: the mean and the variance."""
        known = self._known.get(_kind(priority, ahead))
        if known is None or not known.overtaken:
            return 0.0, 0.0
        scale = (ahead + 1) * known.weight / known.ahead
        mean = known.overtaken / known.weight
        return mean * scale, max(mean, known.squares / known.weight - mean * mean) * scale * scale


def _kind(priority: float, ahead: int) -> tuple[float, int]:
    """Those who are alike: of one priority, and about as far back."""
    return priority, (ahead + 1).bit_length()
