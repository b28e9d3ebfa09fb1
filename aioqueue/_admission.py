"""Position and time left, from the counts of a queue.  Pure functions.

The model: each slot is busy until what runs in it ends; the jobs ahead are dealt to the slots as
they come free; then one's own run begins.  Where everything takes the same time that is exact;
where it varies, the mean is right and the spread grows with the square root of the line.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import attrs

from ._durations import Durations
from ._job import QueueStats

__all__ = ["Estimate", "Forecast", "retry_after", "time_left"]

_NINETY = 1.2816
"""Standard deviations above the mean that nine of ten stay under, for a normal distribution."""


@attrs.frozen(slots=True)
class Estimate:
    """A place in line, and the seconds until the result: likely, and at worst (nine of ten)."""

    position: int | None
    queue_size: int | None
    eta: float | None
    eta_high: float | None


class Forecast:
    """What can be said of a queue at one moment, for everyone who waits in it.

    Args:
        stats: the queue's counts.
        workers: how many of its claims this process can run at once, whatever the limit.
        now: the engine's clock.
    """

    __slots__ = ("_free_at", "_slots", "durations", "queue_size")

    def __init__(self, stats: QueueStats, workers: int, now: float) -> None:
        limit = stats.concurrency_limit
        self._slots = max(1, workers if limit is None else min(limit, workers))
        self.durations = stats.durations
        self.queue_size = stats.queue_size
        busy = [
            durations.remaining(now - claim.started) if durations else math.inf
            for claim in stats.running
            for durations in (stats.durations.get(claim.function),)
        ]
        idle = [0.0] * (self._slots - len(busy))
        self._free_at: list[float] = sorted(idle + busy)[: self._slots]

    def _start(self, ahead: Mapping[str, int], own: Durations) -> tuple[float, float] | None:
        """The mean and the variance of the seconds until a job behind these starts."""
        count, work, spread = 0, 0.0, 0.0
        for function, jobs in ahead.items():
            durations = self.durations.get(function) or own
            count += jobs
            work += jobs * durations.mean
            spread += jobs * durations.variance
        rounds, rest = divmod(count, self._slots)
        free_at = self._free_at[rest]
        if math.isinf(free_at):
            return None  # something runs that has never ended yet
        each = work / count if count else 0.0
        return free_at + rounds * each, spread / self._slots**2

    def estimate(self, function: str, ahead: Mapping[str, int] | None) -> Estimate:
        """What to tell a job of this function that has these before it; None = not in line."""
        if ahead is None:
            return Estimate(None, self.queue_size, None, None)
        position = 1 + sum(ahead.values())
        size = max(self.queue_size, position)  # a forecast may be a moment older than a place
        own = self.durations.get(function)
        start = self._start(ahead, own) if own else None
        if own is None or start is None:
            return Estimate(position, size, None, None)
        mean, variance = start
        eta = mean + own.quantile(0.5)
        high = mean + own.mean + _NINETY * math.sqrt(variance + own.variance)
        high = max(high, mean + own.quantile(0.9), eta)
        return Estimate(position, size, round(eta, 3), round(high, 3))


def time_left(durations: Durations | None, elapsed: float) -> tuple[float | None, float | None]:
    """Seconds until the result of a running job: likely, and at worst."""
    if not durations:
        return None, None
    left = durations.remaining(elapsed)
    return round(left, 3), round(max(left, durations.quantile(0.9) - elapsed), 3)


def retry_after(seconds: float | None) -> int:
    """Whole seconds for a ``Retry-After`` header: 1 to 3600, spread so that not all come back."""
    likely = 1.0 if seconds is None else max(1.0, seconds)
    return min(3600, math.ceil(likely * random.uniform(1.0, 1.25)))
