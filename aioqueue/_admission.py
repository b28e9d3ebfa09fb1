"""Position and time left, from the counts of a queue.  Pure functions.

The model: each slot is busy until what runs in it ends; the jobs ahead are dealt to the slots as
they come free; then one's own run begins.  Where everything takes the same time that is exact;
where it varies, the mean is right and the spread grows with the square root of the line.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Mapping
from types import MappingProxyType

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
        batch_sizes: how many jobs one claim takes, by function; else one.
    """

    __slots__ = ("_batch_sizes", "_free_at", "_rounds", "_step", "durations", "queue_size")

    def __init__(
        self,
        stats: QueueStats,
        workers: int,
        now: float,
        batch_sizes: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._batch_sizes = batch_sizes
        self.durations = stats.durations
        self.queue_size = stats.queue_size
        limit = stats.concurrency_limit
        slots = max(1, workers if limit is None else min(limit, workers))
        busy = [
            durations.remaining(now - claim.started) if durations else math.inf
            for claim in stats.running
            for durations in (stats.durations.get(claim.function),)
        ]
        # Where a limit was lowered more run than may, and those above it must end first.
        free_at = sorted([0.0] * (slots - len(busy)) + busy)[-slots:]
        # Nobody knows when a paused queue goes on, or what has never ended yet will end.
        self._free_at = [] if limit == 0 else [at for at in free_at if at < math.inf]
        known = {
            name: math.ceil(jobs / batch_sizes.get(name, 1))
            for name, jobs in stats.waiting.items()
            if self.durations.get(name)
        }
        work = sum(claims * self.durations[name].mean for name, claims in known.items())
        self._step = work / sum(known.values()) if work else 0.0
        self._rounds: dict[tuple[int, float], tuple[int, list[float]]] = {}

    def _claims(self, jobs: int, function: str, own: str) -> int:
        """How many claims these jobs before one are; the last of its own function run with it."""
        size = self._batch_sizes.get(function, 1)
        return jobs // size if function == own else math.ceil(jobs / size)

    def _start(self, ahead: Mapping[str, int], function: str) -> tuple[float, float] | None:
        """The mean and the variance of the seconds until a job behind these starts."""
        own = self.durations[function]
        free_at = self._free_at
        if not free_at:
            return None
        count, work, spread = 0, 0.0, 0.0
        for other, jobs in ahead.items():
            durations = self.durations.get(other) or own
            claims = self._claims(jobs, other, function)
            count += claims
            work += claims * durations.mean
            spread += claims * durations.variance
        # As if all that work were jobs of the usual length: who has more of it before him is never
        # told an earlier start, whatever his and theirs are like.
        step = self._step or own.mean
        nth, part = divmod(work / step + 1e-6, 1.0)
        start = self._nth_start(int(nth), step)
        if part > 2e-6:
            start += part * (self._nth_start(int(nth) + 1, step) - start)
        if count < len(free_at):
            start = min(start, free_at[count])  # however long those take that stand before
        return start, spread / len(free_at) ** 2

    def _nth_start(self, nth: int, step: float) -> float:
        """When the nth start is, from 0, if every job takes ``step`` and all slots are in use."""
        free_at = self._free_at
        slots = len(free_at)
        if free_at[-1] - free_at[0] > step:
            # Some slots come free so late that others start several jobs before.
            numbers = range(2, slots + 1)
            slots = 1 + bisect_right(numbers, nth, key=lambda number: self._round(number, step)[0])
        before, starts = self._round(slots, step)
        rounds, index = divmod(nth - before, slots)
        return starts[index] + rounds * step

    def _round(self, slots: int, step: float) -> tuple[int, list[float]]:
        """The first so many slots, once the last of them is free: starts before, next starts."""
        known = self._rounds.get((slots, step))
        if known is None:
            free_at = self._free_at[:slots]
            counts = [math.ceil((free_at[-1] - at) / step) for at in free_at]
            starts = sorted(at + count * step for at, count in zip(free_at, counts, strict=True))
            known = self._rounds[slots, step] = sum(counts), starts
        return known

    def estimate(self, function: str, ahead: Mapping[str, int] | None) -> Estimate:
        """What to tell a job of this function that has these before it; None = not in line."""
        if ahead is None:
            return Estimate(None, self.queue_size, None, None)
        position = 1 + sum(ahead.values())
        size = max(self.queue_size, position)  # a forecast may be a moment older than a place
        own = self.durations.get(function)
        start = self._start(ahead, function) if own else None
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
    return math.ceil(min(3600.0, likely * random.uniform(1.0, 1.25)))
