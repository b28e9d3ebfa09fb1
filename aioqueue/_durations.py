"""How long a function takes: a histogram that forgets.

Bins grow by a tenth each, so a value is known to about 5 %; each bin keeps the mean of what fell
into it, so a function that always takes the same time is known exactly.  Every new value outweighs
the one before it by a little: the last few hundred decide.  When the newest all fall on one side
of what was usual, they weigh much more at once, so a model that got faster is believed soon.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from itertools import accumulate
from operator import mul, truediv
from typing import NamedTuple

__all__ = ["Durations"]

_GROWTH = 1.0 + 1.0 / 1024
"""How much more the next value weighs than this one; the memory is about 1000 values long."""
_BIN = math.log(1.1)
_DUST = 1e-9
"""The share of all weight, or of the newest value's, below which a bin does not count."""
_SHORTEST = 1e-5
_RESCALE = 1e100
_WATCHED = ((1.0 / 16, 0.18), (1.0 / 128, 0.064))
"""The newest 16 and the newest 128: the weight of the last one in their mean rank, and how far that
rank is from the middle only if things have changed, which is 3.5 of its deviations."""
_SURPRISE = 16.0
"""How much more values weigh from then on."""
_NEXT = 1.25
"""Bins whose means are further apart than this are not next to each other: nothing is between."""


class Table(NamedTuple):
    """The bins in ascending order: the mean of each, and sums over it and all before it."""

    values: list[float]
    weights: list[float]
    totals: list[float]
    squares: list[float]


class Durations:
    """A decaying log histogram of seconds.

    ``add`` is O(1).  What asks for the order of the few bins in use sorts them, and that is kept
    until enough has been added to move it, so that asking at every job costs nothing.
    """

    __slots__ = (
        "_bins",
        "_cube",
        "_drifts",
        "_fresh",
        "_means",
        "_median",
        "_points",
        "_square",
        "_sum",
        "_table",
        "_weight",
        "_weight_next",
        "_weight_squares",
        "added",
    )

    def __init__(self) -> None:
        self.added = 0
        self._bins: dict[int, list[float]] = {}
        self._weight = 0.0
        self._weight_squares = 0.0
        self._sum = 0.0
        self._square = 0.0
        self._cube = 0.0
        self._weight_next = 1.0
        self._drifts = [0.0] * len(_WATCHED)
        self._table: Table | None = None
        self._points: dict[int, list[float]] = {}
        self._means: dict[int, list[float]] = {}
        self._median: float | None = None
        self._fresh = 0.0

    def __bool__(self) -> bool:
        """Whether there is any history."""
        return self._weight > 0.0

    def add(self, seconds: float) -> None:
        """Remember one duration."""
        self.added += 1
        seconds = max(seconds, _SHORTEST)
        self._watch(seconds)
        weight = self._weight_next
        total = weight * seconds
        square = total * seconds
        number = round(math.log(seconds) / _BIN)
        cell = self._bins.get(number)
        if cell is None:
            self._bins[number] = [weight, total]
        else:
            cell[0] += weight
            cell[1] += total
        self._weight += weight
        self._weight_squares += weight * weight
        self._sum += total
        self._square += square
        self._cube += square * seconds
        self._weight_next = weight * _GROWTH
        # While there is little history each value counts; later a twelfth of it must be new for the
        # picture to be drawn again.
        self._fresh += weight
        if self._fresh > 0.08 * self._weight or self._weight < weight * 16:
            self._table = self._median = None
            self._points.clear()
            self._means.clear()
            self._fresh = 0.0
        if weight > _RESCALE:
            self._rescale()

    def _watch(self, seconds: float) -> None:
        """See whether the newest are unlike the others, and believe them more if they are."""
        if self._weight < self._weight_next * 16:
            return
        values, weights, _, _ = self._sorted()
        below = bisect_left(values, seconds / 1.05)
        upto = bisect_right(values, seconds * 1.05)
        rank = (weights[below] + weights[upto]) / (2.0 * weights[-1])
        drifts = self._drifts
        for number, (share, most) in enumerate(_WATCHED):
            drift = drifts[number] = drifts[number] + share * (rank - 0.5 - drifts[number])
            if not -most <= drift <= most:
                self._drifts = [0.0] * len(_WATCHED)
                self._weight_next *= _SURPRISE
                break

    def _rescale(self) -> None:
        """Divide all weights by the newest one, and drop the bins that no longer count."""
        scale = 1.0 / self._weight_next
        self._bins = {
            key: [weight * scale, total * scale]
            for key, (weight, total) in self._bins.items()
            if weight * scale > _DUST
        }
        self._weight = sum(weight for weight, _ in self._bins.values())
        self._weight_squares *= scale * scale
        self._sum *= scale
        self._square *= scale
        self._cube *= scale
        self._fresh *= scale
        self._weight_next = 1.0

    @property
    def count(self) -> float:
        """How many values the history is worth: those that would say as much, all of one weight."""
        return self._weight**2 / self._weight_squares if self._weight else 0.0

    @property
    def mean(self) -> float:
        """The weighted mean, in seconds; 0 without history."""
        return self._sum / self._weight if self._weight else 0.0

    @property
    def variance(self) -> float:
        """The weighted variance, in seconds squared; 0 without history."""
        if not self._weight:
            return 0.0
        return float(max(0.0, self._square / self._weight - self.mean**2))

    @property
    def asymmetry(self) -> float:
        """How far the median of many runs is below their mean, in seconds: a sixth of the skewness.

        Never less than nothing; where runs vary little it is little.
        """
        variance, mean = self.variance, self.mean
        if variance <= 1e-9 * mean * mean:
            return 0.0
        third = self._cube / self._weight - 3 * mean * variance - mean**3
        return float(max(0.0, third / (6 * variance)))

    def _sorted(self) -> Table:
        if self._table is None:
            # What is all but forgotten would be lost in the sums, and then be divided by nothing.
            dust = _DUST * self._weight
            bins = [cell for _, cell in sorted(self._bins.items()) if cell[0] > dust]
            weights = [weight for weight, _ in bins]
            totals = [total for _, total in bins]
            values = list(map(truediv, totals, weights))
            squares = map(mul, totals, values)
            self._table = Table(
                values,
                list(accumulate(weights, initial=0.0)),
                list(accumulate(totals, initial=0.0)),
                list(accumulate(squares, initial=0.0)),
            )
        return self._table

    @property
    def median(self) -> float:
        """The duration that half of the jobs stay under; 0 without history."""
        if self._median is None:
            self._median = self.quantile(0.5)
        return self._median

    def quantile(self, share: float, elapsed: float = 0.0) -> float:
        """The duration that ``share`` (0 to 1) of the jobs stay under; 0 without history.

        With ``elapsed``, of those that take longer than that.
        """
        if not self._weight:
            return 0.0
        values, weights, _, _ = self._sorted()
        first = bisect_right(values, elapsed)
        if first == len(values):
            return elapsed * 1.1
        target = weights[first] + (weights[-1] - weights[first]) * share
        index = min(max(bisect_left(weights, target) - 1, first), len(values) - 1)
        # The middle of a bin is where half of its weight is; values go evenly from one to the next.
        part = (target - weights[index]) / (weights[index + 1] - weights[index]) - 0.5
        other = index + 1 if part > 0.0 else index - 1
        if not first <= other < len(values):
            return values[index]
        low, high = sorted((values[index], values[other]))
        if high > _NEXT * low:
            return values[index]
        between = (weights[other + 1] - weights[other]) / (weights[index + 1] - weights[index])
        return values[index] + (values[other] - values[index]) * abs(part) * 2 / (1 + between)

    def remaining(self, elapsed: float) -> float:
        """The mean time still to go for a job that has run ``elapsed`` seconds.

        A job that has outlived all history is taken to need a tenth more of what it has had:
        unknown, but neither nothing nor for ever.
        """
        return self.moments(elapsed)[0]

    def moments(self, elapsed: float) -> tuple[float, float]:
        """The mean and the variance of what is left of a job that has run so long."""
        values, weights, totals, squares = self._sorted()
        first = bisect_right(values, elapsed)
        if first == len(values):
            return elapsed * 0.1, (elapsed * 0.1) ** 2
        weight = weights[-1] - weights[first]
        mean = (totals[-1] - totals[first]) / weight
        variance = (squares[-1] - squares[first]) / weight - mean * mean
        return max(0.0, mean - elapsed), max(0.0, variance)

    def slices(self, count: int, elapsed: float = 0.0) -> list[float]:
        """What is left of a job that has run so long: the means of so many equally likely parts.

        The list is not the caller's to change.
        """
        if elapsed > 0.0:
            return self._slices(count, elapsed)
        known = self._means.get(count)
        if known is None:
            known = self._means[count] = self._slices(count, 0.0)
        return known

    def _slices(self, count: int, elapsed: float) -> list[float]:
        values, weights, totals, _ = self._sorted()
        first = bisect_right(values, elapsed)
        if first == len(values):
            return [elapsed * 0.1] * count
        if first == len(values) - 1:
            return [values[-1] - elapsed] * count
        step = (weights[-1] - weights[first]) / count
        before, parts, index = totals[first], [], first
        for number in range(1, count):
            target = weights[first] + number * step
            while weights[index + 1] < target:
                index += 1
            total = totals[index] + (target - weights[index]) * values[index]
            parts.append(max(0.0, (total - before) / step - elapsed))
            before = total
        parts.append(max(0.0, (totals[-1] - before) / step - elapsed))
        return parts

    def points(self, count: int) -> list[float]:
        """So many equally likely durations, in ascending order."""
        known = self._points.get(count)
        if known is None:
            shares = ((number + 0.5) / count for number in range(count))
            known = self._points[count] = [self.quantile(share) for share in shares]
        return known
