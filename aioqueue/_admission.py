"""Position and time left, from the counts of a queue.  Pure functions.

The model: each slot is busy until what runs in it ends; the jobs ahead are dealt to the slots as
they come free; then one's own run begins.  Where everything takes the same time that is exact,
but for a few per cent far back in a line.  Where it varies, the number of jobs that have started by
some time is about known, and so is how far it may be off; that makes equally likely times of one's
own start, and with the equally likely durations of one's own run equally likely ends: their middle
is ``eta``, nine of ten are before ``eta_high``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from ._durations import Durations
from ._job import Demand, QueueStats, frozen
from ._starts import LIKELY, Starts, Work

__all__ = ["Estimate", "Forecast", "retry_after", "time_left"]

_NINETY = 1.2816
"""Standard deviations above the mean that nine of ten stay under, for a normal distribution."""
_RUNS = 16
"""How many equally likely durations stand for those of a function."""
_SINGLY = Demand("")
_FAR = 32
"""Jobs ahead for each slot from which one more or less is nothing next to all of them."""
_THIN = 64
"""Into how many thin slots all slots together are cut, about."""


@frozen
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
        demands: how the jobs of each function batch; one that is not in it takes them singly.
    """

    __slots__ = (
        "_busy",
        "_demands",
        "_far",
        "_idle",
        "_running_variance",
        "_slots",
        "_starts",
        "_step",
        "_usual",
        "durations",
        "queue_size",
        "slots",
        "started",
    )

    def __init__(
        self,
        stats: QueueStats,
        workers: int,
        now: float,
        demands: Mapping[str, Demand],
    ) -> None:
        self._demands = demands
        self.durations = stats.durations
        self.queue_size = stats.queue_size
        self.started = len(stats.running) + sum(one.added for one in self.durations.values())
        limit = stats.concurrency_limit
        slots = max(1, workers if limit is None else min(limit, workers))
        running = [(stats.durations.get(one.function), now - one.started) for one in stats.running]
        self.slots = slots if limit != 0 else 0
        self._idle = max(0, slots - len(running))
        if len(running) > slots:
            # Where a limit was lowered more run than may, and those above it must end first.
            running.sort(key=lambda one: one[0].remaining(one[1]) if one[0] else math.inf)
            del running[: len(running) - slots]
        # Nobody knows when what has never ended yet will end, or when a paused queue goes on.
        self._busy = [(one, elapsed) for one, elapsed in running if one]
        if limit == 0:
            self._busy, self._idle = [], 0
        self._slots = len(self._busy) + self._idle
        known = {
            name: math.ceil(jobs / self._demand(name).max_batch_size)
            for name, jobs in stats.waiting.items()
            if jobs and self.durations.get(name)
        }
        work = {name: claims * self.durations[name].mean for name, claims in known.items()}
        self._step = sum(work.values()) / sum(known.values()) if work else 0.0
        self._usual = self.durations[max(work, key=lambda name: work[name])] if work else None
        self._starts: dict[float, Starts] = {}
        self._far: dict[tuple[str, int], tuple[float, float]] = {}
        self._running_variance: float | None = None

    @property
    def pace(self) -> float | None:
        """Seconds between two starts, on average; None if that is not known."""
        return self._step / self._slots if self._step and self._slots else None

    def _demand(self, function: str) -> Demand:
        return self._demands.get(function, _SINGLY)

    def _claims(self, jobs: int, function: str, own: str) -> int:
        """How many claims these jobs before one are; the last of its own function run with it."""
        size = self._demand(function).max_batch_size
        return jobs // size if function == own else math.ceil(jobs / size)

    def _likely(
        self,
        ahead: Mapping[str, int],
        function: str,
        waited: float,
        overtaken: tuple[float, float],
    ) -> tuple[float, float]:
        """The seconds until the result of a job behind these: likely, and at worst."""
        own = self.durations[function]
        before = Work()
        for other, jobs in ahead.items():
            before.add(self._claims(jobs, other, function), self.durations.get(other) or own)
        step = self._step or own.mean
        if overtaken[0]:
            before.add_others(*overtaken, step)
        window = self._window(ahead.get(function, 0), function, waited)
        running = self._variance_of_running()
        more = own.variance * self._slots**2 + running
        if before.count >= self._idle and not window and more <= 0.1 * before.variance:
            middle, high = self._behind_many(before, more, own, step)
            return middle + own.mean, high + own.mean
        starts = self._start_times(before, running, own, step)
        if window:
            starts = list(map(max, starts, window))
        runs = own.points(_RUNS)
        ends = sorted([at + run for at in starts for run in runs])
        half, nine = len(ends) // 2, len(ends) * 9 // 10
        return (ends[half - 1] + ends[half]) / 2, ends[nine]

    def _likely_far(self, function: str, jobs: int) -> tuple[float, float]:
        """The same behind so many jobs of its own function: between a few less and a few more.

        A crowd asks for all its places in the same moment, and this is worked out for few of them.
        """
        apart = 1 << (jobs.bit_length() - 6)
        share = (jobs % apart) / apart
        low = self._likely_at(function, jobs - jobs % apart)
        high = self._likely_at(function, jobs - jobs % apart + apart)
        return low[0] + share * (high[0] - low[0]), low[1] + share * (high[1] - low[1])

    def _likely_at(self, function: str, jobs: int) -> tuple[float, float]:
        place = function, jobs
        if place not in self._far:
            self._far[place] = self._likely({function: jobs}, function, 0.0, (0.0, 0.0))
        return self._far[place]

    def _behind_many(
        self, before: Work, more: float, own: Durations, step: float
    ) -> tuple[float, float]:
        """The start behind so much that one's own run is just one of many: likely, and at worst.

        ``more`` is the variance that does not come from what stands before.
        """
        if self._slots == 1:
            (middle,), (high,) = before.sums((0.0,), more), before.sums((_NINETY,), more)
            return middle + self._left(), high + self._left()
        line = self._starts_of(own, step)
        (middle,), (high,) = line.likely(before, 0.0, (0.0,)), line.likely(before, more, (_NINETY,))
        return middle, high

    def _start_times(
        self, before: Work, running: float, own: Durations, step: float
    ) -> Sequence[float]:
        """Equally likely times of the start behind this work."""
        if before.count < self._idle:
            return (0.0,) * len(LIKELY)
        if self._slots == 1:
            return self._one_by_one(before)
        return self._starts_of(own, step).likely(before, running, LIKELY)

    def _one_by_one(self, before: Work) -> list[float]:
        """When the only slot comes free for a job behind this work: equally likely times."""
        if not self._busy:
            return before.sums(LIKELY)
        durations, elapsed = self._busy[0]
        if before.mean:
            sums = before.sums(LIKELY)
            slices = durations.slices(len(LIKELY), elapsed)
            left = sorted([at + work for at in slices for work in sums])
        else:
            left = durations.slices(_RUNS, elapsed)
        size = len(left) // len(LIKELY)
        return [sum(left[i : i + size]) / size for i in range(0, len(left), size)]

    def _window(self, before: int, function: str, waited: float) -> tuple[float, ...]:
        """Equally likely times until a batch that is not full stops waiting for more."""
        demand = self._demand(function)
        mates = before % demand.max_batch_size
        left = demand.batch_timeout - waited
        if left <= 0.0 or mates == demand.max_batch_size - 1:
            return ()
        if not mates:
            return (left,) * len(LIKELY)
        # The first of them came some time before; the more came since, the longer ago.
        shares = ((number + 0.5) / len(LIKELY) for number in range(len(LIKELY)))
        return tuple(left * (1 - share ** (1 / mates)) for share in shares)

    def _variance_of_running(self) -> float:
        """The variance of when one of the slots comes free."""
        if self._running_variance is None:
            variance = sum(durations.moments(elapsed)[1] for durations, elapsed in self._busy)
            self._running_variance = variance / self._slots
        return self._running_variance

    def _left(self) -> float:
        """The mean time until the only slot comes free."""
        return sum(durations.remaining(elapsed) for durations, elapsed in self._busy)

    def _starts_of(self, own: Durations, step: float) -> Starts:
        """The starts of this queue if its jobs take ``step`` on average."""
        known = self._starts.get(step)
        if known is None:
            thin = max(1, min(_RUNS, _THIN // self._slots))
            if thin == 1:
                free_at = [[durations.remaining(elapsed)] for durations, elapsed in self._busy]
            else:
                free_at = [durations.slices(thin, elapsed) for durations, elapsed in self._busy]
            free_at += [[0.0] * thin] * self._idle
            usual = self._usual or own
            runs = [run / usual.mean for run in usual.slices(_RUNS)]
            known = self._starts[step] = Starts(free_at, step, runs)
        return known

    def estimate(
        self,
        function: str,
        ahead: Mapping[str, int] | None,
        waited: float = 0.0,
        overtaken: tuple[float, float] = (0.0, 0.0),
    ) -> Estimate:
        """What to tell a job of this function that has these before it; None = not in line.

        Args:
            function: its function.
            ahead: those before it, by function.
            waited: how long it has waited so far.
            overtaken: how many more will come before it, mean and variance.
        """
        if ahead is None:
            return Estimate(None, self.queue_size, None, None)
        position = 1 + sum(ahead.values())
        size = max(self.queue_size, position)  # a forecast may be a moment older than a place
        if not self._slots or not self.durations.get(function):
            return Estimate(position, size, None, None)
        if (
            position > self._slots * _FAR
            and len(ahead) == 1
            and function in ahead
            and not overtaken[0]
            and self._demand(function).max_batch_size == 1
        ):
            eta, high = self._likely_far(function, position - 1)
        else:
            eta, high = self._likely(ahead, function, waited, overtaken)
        return Estimate(position, size, round(eta, 3), round(max(eta, high), 3))


def time_left(durations: Durations | None, elapsed: float) -> tuple[float | None, float | None]:
    """Seconds until the result of a running job: likely, and at worst."""
    if not durations:
        return None, None
    left = durations.quantile(0.5, elapsed) - elapsed
    return round(left, 3), round(max(left, durations.quantile(0.9, elapsed) - elapsed), 3)


def retry_after(seconds: float | None) -> int:
    """Whole seconds for a ``Retry-After`` header: 1 to 3600, spread so that not all come back."""
    likely = 1.0 if seconds is None else max(1.0, seconds)
    return math.ceil(min(3600.0, likely * random.uniform(1.0, 1.25)))
