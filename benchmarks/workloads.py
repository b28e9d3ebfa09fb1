"""What people wait for, and who comes when: the workloads that times left are judged by."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import attrs

from aioqueue._job import Order

__all__ = ["WORKLOADS", "Arrival", "Arrivals", "Workload"]

Draw = Callable[[random.Random], float]


def constant(seconds: float) -> Draw:
    """Always the same."""
    return lambda _: seconds


def exponential(mean: float) -> Draw:
    """Without memory."""
    return lambda values: values.expovariate(1.0 / mean)


def lognormal(middle: float, sigma: float) -> Draw:
    """With a long tail."""
    return lambda values: values.lognormvariate(math.log(middle), sigma)


def bimodal(short: float) -> Draw:
    """Four of five are short, the fifth takes 16 times as long; each varies by a twentieth."""

    def draw(values: random.Random) -> float:
        long = values.random() < 0.2
        return short * (16.0 if long else 1.0) * values.lognormvariate(0.0, 0.05)

    return draw


@attrs.frozen
class Workload:
    """Who comes how often, to what."""

    name: str
    draws: Mapping[str, Draw]
    """How long the functions of the queue take; they are called equally often."""
    slots: int = 1
    load: float = 0.85
    """The share of the time in which a slot is busy."""
    burst: int = 1
    """How many come in one moment, on average."""
    batch: int = 1
    window: float = 0.0
    order: Order = Order.ARRIVAL
    clients: Sequence[float] = ()
    """How often each client comes, relative to the others."""
    most_error: float | None = None
    """The target of the median relative error, where there is one."""
    jobs: int = 4000

    @property
    def foresees_arrivals(self) -> bool:
        """Whether those who come later matter to those who wait."""
        return self.order is not Order.ARRIVAL or self.window > 0


class Arrival(NamedTuple):
    """A job that comes."""

    at: float
    function: str
    client: str | None
    priority: int


class Arrivals:
    """Who comes when: the process, which the oracle knows too."""

    def __init__(self, workload: Workload) -> None:
        values = random.Random(7)
        self._workload = workload
        self._names = list(workload.draws)
        self.samples = {
            name: sorted(draw(values) for _ in range(20_000))
            for name, draw in workload.draws.items()
        }
        mean = fmean(fmean(samples) for samples in self.samples.values())
        self._gap = workload.burst * mean / (workload.load * workload.slots * workload.batch)
        self._clients = [f"client{number}" for number in range(len(workload.clients))]

    def come(self, values: random.Random, start: float = 0.0) -> Iterator[Arrival]:
        """Everybody who comes from a moment on."""
        work, now = self._workload, start
        while True:
            now += values.expovariate(1.0 / self._gap)
            crowd = 1
            while work.burst > 1 and values.random() > 1.0 / work.burst:
                crowd += 1
            for _ in range(crowd):
                client = values.choices(self._clients, work.clients)[0] if work.clients else None
                priority = values.randrange(3) if work.order is Order.PRIORITY else 0
                yield Arrival(now, values.choice(self._names), client, priority)

    def residual(self, values: random.Random, function: str, elapsed: float) -> float:
        """How long a job goes on that has run so long."""
        samples = self.samples[function]
        first = bisect_right(samples, elapsed)
        if first == len(samples):
            return elapsed * 0.05
        return samples[values.randrange(first, len(samples))] - elapsed


_F = "function"
_MANY = (8.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0)
WORKLOADS = (
    Workload("steady", {_F: constant(3.0)}, most_error=0.03),
    Workload("steady, 2 slots", {_F: constant(3.0)}, slots=2, load=0.95, most_error=0.03),
    Workload("exponential", {_F: exponential(3.0)}),
    Workload("exponential, 2 slots", {_F: exponential(3.0)}, slots=2),
    Workload("exponential, 8 slots", {_F: exponential(3.0)}, slots=8),
    Workload("bursty", {_F: lognormal(3.0, 0.4)}, burst=15, load=0.6),
    Workload("bursty, 8 slots", {_F: lognormal(3.0, 0.4)}, slots=8, burst=20, load=0.6, jobs=8000),
    Workload("bimodal", {_F: bimodal(1.0)}),
    Workload("bimodal, 2 slots", {_F: bimodal(1.0)}, slots=2),
    Workload("bimodal, 8 slots", {_F: bimodal(1.0)}, slots=8),
    Workload("heavy-tailed", {_F: lognormal(2.0, 1.0)}, load=0.8),
    Workload("heavy-tailed, 8 slots", {_F: lognormal(2.0, 1.0)}, slots=8),
    Workload("heavy-tailed, long lines", {_F: lognormal(2.0, 1.0)}, burst=20, load=0.6),
    Workload("batched", {_F: lognormal(3.0, 0.1)}, batch=8, most_error=0.08),
    Workload("batched, window", {_F: lognormal(3.0, 0.1)}, batch=8, window=2.0, load=0.5),
    Workload("shared", {"fast": lognormal(1.0, 0.3), "slow": lognormal(8.0, 0.3)}),
    Workload("shared, 2 slots", {"fast": exponential(1.0), "slow": exponential(8.0)}, slots=2),
    Workload("fair", {_F: exponential(3.0)}, order=Order.FAIR, clients=_MANY),
    Workload("fair, 2 slots", {_F: lognormal(3.0, 0.3)}, slots=2, order=Order.FAIR, clients=_MANY),
    Workload("priority", {_F: exponential(3.0)}, order=Order.PRIORITY, load=0.8),
)
