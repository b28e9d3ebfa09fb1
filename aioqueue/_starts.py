"""When the next jobs of a queue start, one after the other.

With one slot that is a sum: what is left of the job that runs, and those that stand before one.

With more, each slot is cut into thin ones, equally likely ways in which what runs there may end: a
slot whose job is certain to end in a second has all of them then.  The next jobs are dealt to the
thin slots as those come free, as many thin jobs for each; so the nth start is reached when n slots'
worth of thin slots have come free, on average.  Where everything takes the same time it is exact.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Sequence

import attrs

from ._durations import Durations

__all__ = ["LIKELY", "Starts", "Work"]

LIKELY = (-1.534, -0.887, -0.489, -0.157, 0.157, 0.489, 0.887, 1.534)
"""Eight equally likely values of what is normally distributed, in standard deviations."""
_ROUNDS, _MOST = 3, 256
"""So many jobs for each slot are dealt one by one, and so many thin ones at most; later ones follow
from how that went on."""


@attrs.define(slots=True)
class Work:
    """Runs that come one after the other: how many, and sums over them."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    """Of their mean durations."""
    variance: float = 0.0
    """As far as their durations vary."""
    unsure: float = 0.0
    """The variance of ``mean`` itself, as little as is known of them."""
    third: float = 0.0
    """A sixth of the third central moment."""

    def add(self, count: float, durations: Durations) -> None:
        """So many runs of a function."""
        mean, variance = durations.mean, durations.variance
        self.count += count
        self.mean += count * mean
        self.squares += count * mean * mean
        self.variance += count * variance
        self.unsure += count * count * variance / durations.count
        self.third += count * variance * durations.asymmetry

    def add_others(self, count: float, variance: float, mean: float) -> None:
        """So many runs, more or less, that take so long."""
        self.count += count
        self.mean += count * mean
        self.squares += count * mean * mean
        variance *= mean * mean
        self.variance += variance
        self.third += variance * variance / (3 * count * mean)

    @property
    def low(self) -> float:
        """How far the middle of their sum is below its mean."""
        if not self.variance:
            return 0.0
        return min(self.third / self.variance, self.variance / (2 * self.mean))

    def sums(self, deviations: Sequence[float], more: float = 0.0) -> list[float]:
        """What they may take together, for each of these standard deviations.

        ``more`` is variance that comes from elsewhere.  The shape is that of a gamma distribution,
        by the approximation of Wilson and Hilferty.
        """
        deviation = math.sqrt(self.variance + self.unsure + more)
        if deviation <= 1e-9 * self.mean:
            return [self.mean] * len(deviations)
        skew = max(1e-6, 6 * self.low * self.variance / deviation**3)
        return [
            max(
                0.0,
                self.mean
                + deviation * 2 / skew * ((1 + skew * each / 6 - skew * skew / 36) ** 3 - 1),
            )
            for each in deviations
        ]


class Starts:
    """The starts of a queue with several slots.

    Args:
        free_at: for each slot the equally likely times at which it comes free, equally many each.
        step: how long a job takes on average.
        runs: equally likely durations, relative to ``step``.
    """

    __slots__ = (
        "_dealt",
        "_free_at",
        "_rounds",
        "_runs",
        "_shift",
        "_slots",
        "_step",
        "_thin",
    )

    def __init__(
        self, free_at: Sequence[Sequence[float]], step: float, runs: Sequence[float]
    ) -> None:
        self._slots = len(free_at)
        self._thin = len(free_at[0])
        mean_square = sum(run * run for run in runs) / len(runs)
        self._shift = min(1.0, mean_square - 1.0) / 10
        self._step = step
        self._runs = runs
        self._free_at = sorted(at for slot in free_at for at in slot)
        varies = runs[0] != runs[-1]
        self._dealt = self._deal(min(_ROUNDS * len(self._free_at), _MOST) if varies else 0)
        self._rounds: dict[int, tuple[int, list[float]]] = {}

    def likely(self, work: Work, running: float, deviations: Sequence[float]) -> list[float]:
        """When the job behind that work may start, for each of these standard deviations.

        As if all that work were jobs of the usual length: who has more of it before him is never
        told an earlier start, whatever his and theirs are like.  Of a part of a start there is as
        much as of the whole: 2.5 is half way between 2 and 3.

        Args:
            work: what stands before it.
            running: the variance of when a slot comes free.
            deviations: what to answer.
        """
        step, slots = self._step, self._slots
        nth = work.mean / step + 1e-6
        if work.count < slots:
            nth = min(nth, work.count + 1e-6)  # however long those take that stand before
        part = nth % 1.0
        middle = max(0.25, nth + 0.5 + self._lag(work, nth))
        # How many have started by some time is about normal, a little skewed.
        deviation = math.sqrt(
            (work.variance + work.unsure) / step**2 + 0.6 * min(running / step**2, nth + 1)
        )
        third = deviation / (3 * middle)
        # Where little varies a start is one slot coming free, and its thin slots say when.
        many = min(1.0, max(0.0, (deviation - 0.15) / 0.3))
        times = []
        for each in deviations:
            number = middle * max(0.0, 1 + each * third) ** 3
            if many < 1.0:
                one = nth + 0.5 + 0.5 * math.erf(each / math.sqrt(2))
                number = many * number + (1 - many) * one
            number = max(0.0, number - part)
            at = self._at(number)
            times.append(at if part < 2e-6 else at + part * (self._at(number + 1) - at))
        return times

    def _lag(self, work: Work, nth: float) -> float:
        """How far the middle of the number of starts is from its mean."""
        if not work.count:
            return self._shift
        step, far = self._step, nth / self._slots
        skew = work.variance / (2 * work.count * step**2)
        low = min(skew, work.low / step)
        # Others are still busy when one starts, with long functions more than with short ones.
        unlike = (work.squares / work.count - (work.mean / work.count) ** 2) / (2 * step**2)
        low += min(nth / 2, (self._slots - 1) * max(0.0, unlike))
        # That the dealt jobs vary lets some start earlier on average; those that are not dealt any
        # more do not vary.
        dealt = len(self._dealt) / len(self._free_at)
        lag = skew * min(1.0, max(0.0, dealt + 1 - far)) - low
        return self._shift + (lag - self._shift) * min(1.0, far)

    def _at(self, number: float) -> float:
        """When so many have started, counted from 0, parts of one included."""
        index, dealt = int(number * self._thin), self._dealt
        return dealt[index] if index < len(dealt) else self._nth(index - len(dealt))

    def _deal(self, count: int) -> list[float]:
        """The first so many thin starts; their slots are busy again then."""
        free_at, step, runs = self._free_at, self._step, self._runs
        kinds, replace = len(runs), heapq.heapreplace
        dealt: list[float] = []
        for number in range(count):
            at = free_at[0]
            dealt.append(at)
            # An odd stride: each kind comes equally often, and short and long ones alternate.
            replace(free_at, at + step * runs[number * 7 % kinds])
        free_at.sort()
        return dealt

    def _nth(self, nth: int) -> float:
        """When the nth thin start is, from 0, if every job takes ``step`` and all are in use."""
        free_at, step = self._free_at, self._step
        slots = len(free_at)
        before, starts = self._round(slots)
        if nth < before and free_at[-1] - free_at[0] > step:
            # Some slots come free so late that others start several jobs before.
            numbers = range(2, slots + 1)
            slots = 1 + bisect_right(numbers, nth, key=lambda number: self._round(number)[0])
            before, starts = self._round(slots)
        rounds, index = divmod(nth - before, slots)
        return starts[index] + rounds * step

    def _round(self, slots: int) -> tuple[int, list[float]]:
        """The first so many slots, once the last of them is free: starts before, next starts."""
        known = self._rounds.get(slots)
        if known is None:
            free_at, step = self._free_at[:slots], self._step
            counts = [-((at - free_at[-1]) // step) for at in free_at]
            starts = sorted(at + count * step for at, count in zip(free_at, counts, strict=True))
            known = self._rounds[slots] = int(sum(counts)), starts
        return known
