"""How long a function takes: a histogram that forgets.

Bins grow by a tenth each, so a value is known to about 5 %; each bin keeps the mean of what fell
into it, so a function that always takes the same time is known exactly.  Every new value outweighs
the one before it by a little: the last hundred or so decide, and a model that got faster is
believed soon.
"""

from __future__ import annotations

import math

__all__ = ["Durations"]

_GROWTH = 1.0 + 1.0 / 64
"""How much more the next value weighs than this one; the memory is about 64 values long."""
_BIN = math.log(1.1)
_SHORTEST = 1e-5
_RESCALE = 1e100


class Durations:
    """A decaying log histogram of seconds.

    ``add`` is O(1).  Quantiles sort the few bins in use, and are kept until enough has been added
    to move them, so that asking at every job costs nothing.
    """

    __slots__ = ("_bins", "_fresh", "_quantiles", "_square", "_sum", "_weight", "_weight_next")

    def __init__(self) -> None:
        self._bins: dict[int, list[float]] = {}
        self._weight = 0.0
        self._sum = 0.0
        self._square = 0.0
        self._weight_next = 1.0
        self._quantiles: dict[float, float] = {}
        self._fresh = 0

    def __bool__(self) -> bool:
        """Whether there is any history."""
        return self._weight > 0.0

    def add(self, seconds: float) -> None:
        """Remember one duration."""
        seconds = max(seconds, _SHORTEST)
        weight = self._weight_next
        cell = self._bins.setdefault(round(math.log(seconds) / _BIN), [0.0, 0.0])
        cell[0] += weight
        cell[1] += weight * seconds
        self._weight += weight
        self._sum += weight * seconds
        self._square += weight * seconds * seconds
        self._weight_next = weight * _GROWTH
        # While there is little history each value counts; later one in eight redraws the picture.
        self._fresh += 1
        if self._fresh > 8 or self._weight < weight * 16:
            self._quantiles.clear()
            self._fresh = 0
        if weight > _RESCALE:
            self._rescale()

    def _rescale(self) -> None:
        """Divide all weights by the newest one, and drop the bins that no longer count."""
        scale = 1.0 / self._weight_next
        self._bins = {
            key: [weight * scale, total * scale]
            for key, (weight, total) in self._bins.items()
            if weight * scale > 1e-9
        }
        self._weight = sum(weight for weight, _ in self._bins.values())
        self._sum *= scale
        self._square *= scale
        self._weight_next = 1.0

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

    def quantile(self, share: float) -> float:
        """The duration that ``share`` (0 to 1) of the jobs stay under; 0 without history."""
        known = self._quantiles.get(share)
        if known is None:
            known = self._quantiles[share] = self._quantile(share)
        return known

    def _quantile(self, share: float) -> float:
        target = self._weight * share
        value = 0.0
        for key in sorted(self._bins):
            weight, total = self._bins[key]
            value = total / weight
            target -= weight
            if target <= 0.0:
                break
        return value

    def remaining(self, elapsed: float) -> float:
        """The mean time still to go for a job that has run ``elapsed`` seconds.

        A job that has outlived all history is taken to need a tenth more of what it has had:
        unknown, but neither nothing nor for ever.
        """
        weight = total = 0.0
        for cell_weight, cell_total in self._bins.values():
            if cell_total > elapsed * cell_weight:
                weight += cell_weight
                total += cell_total
        return total / weight - elapsed if weight else elapsed * 0.1
