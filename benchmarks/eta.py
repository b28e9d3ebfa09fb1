"""The time left that somebody is told when he joins, against what then happened.

Nothing sleeps: time is a number, and the real engine and the real estimator live in it.  Next to
them an oracle is asked, who knows how the durations are distributed, and who comes how often, but
not what will come next: it plays the line on, from the very same state, many times over.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

import attrs
import orjson

from aioqueue._job import (
    AdmissionLimits,
    Claim,
    Content,
    Demand,
    JobRecord,
    JobState,
    Order,
    Outcome,
    QueuePolicy,
    RunningClaim,
)
from aioqueue._positions import Estimator
from aioqueue.engines.base import Retention
from aioqueue.engines.memory import MemoryEngine
from benchmarks.workloads import WORKLOADS, Arrival, Arrivals, Workload

__all__ = ["Score", "play", "report"]

_WARM = 200
"""How many jobs come before anybody's estimate counts."""
_FUTURES = 60
_NO_LIMITS = AdmissionLimits()
_DONE = Content(b"null")


Place = tuple[float, int, str, str | None, float]
"""A job that waits: its order, its number, its function, its client, and since when."""


class Guess(NamedTuple):
    """What somebody was told, and what then happened."""

    eta: float
    high: float
    truth: float = math.nan
    oracle: float = math.nan


class Play:
    """One run of a workload, from one seed."""

    def __init__(self, workload: Workload, arrivals: Arrivals, seed: int, asked: int) -> None:
        self.workload = workload
        self.arrivals = arrivals
        self.now = 0.0
        self.guesses: dict[str, Guess] = {}
        self._asked = asked
        self._values, self._dreams = random.Random(seed), random.Random(-seed - 1)
        self._engine = MemoryEngine(lambda: self.now)
        self._demands = {
            name: Demand("loop", workload.batch, workload.window) for name in workload.draws
        }
        self._estimator = Estimator(self._engine, {"queue": workload.slots}, self._demands)
        self._ends: list[tuple[float, int, Claim]] = []
        self._ready_at = math.inf
        self._joined: dict[str, float] = {}

    async def run(self) -> None:
        """Let everybody come, wait and end."""
        policy = QueuePolicy(
            concurrency_limit=self.workload.slots, order=self.workload.order, priority_step=30.0
        )
        await self._engine.open({"queue": policy}, Retention())
        coming = self.arrivals.come(random.Random(self._values.random()))
        for number in range(self.workload.jobs):
            arrival = next(coming)
            await self._until(arrival.at)
            await self._join(f"{number}", arrival, number)
        await self._until(math.inf)

    async def _until(self, time: float) -> None:
        while True:
            end = self._ends[0][0] if self._ends else math.inf
            at = min(end, self._ready_at)
            if at > time or at == math.inf:
                break
            self.now = max(self.now, at)
            if end <= at:
                claim = heapq.heappop(self._ends)[2]
                jobs = [attempt.record.id for attempt in claim.attempts]
                outcomes = [Outcome(job, JobState.SUCCEEDED, _DONE) for job in jobs]
                await self._engine.settle(claim, outcomes)
                for job in jobs:
                    self._happened(job)
            await self._claim()
        if time < math.inf:
            self.now = time

    def _happened(self, job: str) -> None:
        joined = self._joined.pop(job)
        guess = self.guesses.get(job)
        if guess is not None:
            self.guesses[job] = guess._replace(truth=self.now - joined)

    async def _claim(self) -> None:
        reply = await self._engine.claim("worker", "queue", self._demands, {"loop": 1_000_000})
        self._ready_at = math.inf if reply.ready_at is None else reply.ready_at
        for claim in reply.claims:
            seconds = self.workload.draws[claim.function](self._values)
            heapq.heappush(self._ends, (self.now + seconds, int(claim.id), claim))

    async def _join(self, job: str, arrival: Arrival, number: int) -> None:
        record = JobRecord(
            id=job,
            function=arrival.function,
            queue="queue",
            client=arrival.client,
            priority=arrival.priority,
            retained=False,
        )
        await self._engine.enqueue(record, limits=_NO_LIMITS)
        self._joined[job] = self.now
        await self._claim()
        snapshot = await self._engine.get(job)
        assert snapshot is not None
        estimate = await self._estimator.estimate(snapshot)
        if number >= _WARM and estimate.eta is not None and estimate.eta_high is not None:
            oracle = math.nan
            if number % self._asked == 0:
                oracle = await self._oracle(job, arrival.function)
            self.guesses[job] = Guess(estimate.eta, estimate.eta_high, oracle=oracle)

    # The oracle

    async def _oracle(self, job: str, function: str) -> float:
        entry = self._engine._jobs.get(job)
        assert entry is not None
        if entry.key is None:
            return median(self.arrivals.samples[function])
        waiting = sorted(
            (other.order, other.sequence, other.record.function, other.record.client, other.created)
            for other in map(self._engine._jobs.get, self._joined)
            if other is not None and other.key is not None
        )
        me = entry.order, entry.sequence
        running = (await self._engine.stats("queue")).running
        return median(self._future(function, me, waiting, running) for _ in range(_FUTURES))

    def _future(
        self,
        function: str,
        me: tuple[float, int],
        waiting: Sequence[Place],
        running: Sequence[RunningClaim],
    ) -> float:
        """Play the line on until one job ends; answers how long that took."""
        values, work = self._dreams, self.workload
        slots = [
            self.now + self.arrivals.residual(values, one.function, self.now - one.started)
            for one in running
        ]
        slots += [self.now] * (work.slots - len(running))
        heapq.heapify(slots)
        line = [one for one in waiting if one[:2] <= me or work.batch > 1]
        heapq.heapify(line)
        turns: dict[str | None, float] = {}
        for order, _, _, client, _ in waiting:
            turns[client] = max(turns.get(client, 0.0), order)
        turn, sequence = self._engine._queues["queue"]._turn, 10**9
        coming = self.arrivals.come(values, self.now) if work.foresees_arrivals else iter(())
        after = next(coming, None)
        while True:
            free = slots[0]
            ready = max(free, line[0][4] + work.window if len(line) < work.batch else free)
            while after is not None and after.at <= ready:
                sequence += 1
                order = float(sequence)
                if work.order is Order.PRIORITY:
                    order = after.at - after.priority * 30.0
                elif work.order is Order.FAIR:
                    order = max(turn, turns.get(after.client, turn)) + 1
                    turns[after.client] = order
                if (order, sequence) <= me or work.batch > 1:
                    heapq.heappush(line, (order, sequence, after.function, after.client, after.at))
                    if work.window and len(line) == work.batch:
                        ready = max(free, after.at)
                after = next(coming, None)
            for _ in range(min(work.batch, len(line))):
                head = heapq.heappop(line)
                turn = max(turn, head[0])
                if head[:2] == me:
                    return ready - self.now + work.draws[function](values)
            heapq.heapreplace(slots, ready + work.draws[head[2]](values))


# The score


@attrs.frozen
class Score:
    """How good the estimates of one workload were, all seeds together."""

    workload: Workload
    guesses: Sequence[Guess]

    @property
    def error(self) -> float:
        """The median relative error."""
        return median(abs(one.truth - one.eta) / one.truth for one in self.guesses)

    @property
    def before(self) -> float:
        """The share of jobs that ended before ``eta``; one that ended just then counts half."""
        return fmean(_sooner(one.truth, one.eta) for one in self.guesses)

    @property
    def before_high(self) -> float:
        """The share of jobs that ended before ``eta_high``, or just then."""
        return fmean(_sooner(one.truth, one.high) > 0.0 for one in self.guesses)

    @property
    def mean_errors(self) -> tuple[float, float]:
        """The mean absolute error, of ours and of the oracle's."""
        both = [one for one in self.guesses if not math.isnan(one.oracle)]
        ours = fmean(abs(one.truth - one.eta) for one in both)
        return ours, fmean(abs(one.truth - one.oracle) for one in both)

    @property
    def is_exact(self) -> bool:
        """Whether nothing varies, so that there is nothing to be calibrated."""
        return self.mean_errors[1] < 0.01 * fmean(one.truth for one in self.guesses)

    def misses(self) -> list[str]:
        """The targets that were missed."""
        ours, oracle = self.mean_errors
        checks = {
            "error": self.workload.most_error is None or self.error <= self.workload.most_error,
            "eta": self.is_exact or 0.45 <= self.before <= 0.55,
            "eta_high": self.is_exact or 0.85 <= self.before_high <= 0.95,
            "oracle": self.is_exact or ours <= 1.1 * oracle,
            "never negative": all(0.0 <= one.eta <= one.high for one in self.guesses),
        }
        return [name for name, met in checks.items() if not met]

    def calibration(self, parts: int = 5) -> list[tuple[float, float, float]]:
        """For parts of the jobs by what they were told: median eta, shares before eta, high."""
        told = sorted(self.guesses)
        size = math.ceil(len(told) / parts)
        groups = (told[start : start + size] for start in range(0, len(told), size))
        return [
            (
                median(one.eta for one in group),
                fmean(_sooner(one.truth, one.eta) for one in group),
                fmean(_sooner(one.truth, one.high) > 0.0 for one in group),
            )
            for group in groups
        ]

    def as_dict(self) -> dict[str, object]:
        """What is written down."""
        ours, oracle = self.mean_errors
        return {
            "workload": self.workload.name,
            "jobs": len(self.guesses),
            "median_relative_error": self.error,
            "before_eta": self.before,
            "before_eta_high": self.before_high,
            "mean_error": ours,
            "oracle_mean_error": oracle,
            "exact": self.is_exact,
            "missed": self.misses(),
            "calibration": self.calibration(10),
        }

    def __str__(self) -> str:
        ours, oracle = self.mean_errors
        ratio = "exact" if self.is_exact else f"{ours / oracle:.2f}"
        shares = f"{self.before:5.0%} {self.before_high:9.0%}"
        missed = self.misses()
        return (
            f"{self.workload.name:26} {len(self.guesses):6} {self.error:7.1%} {shares} "
            f"{ours:8.2f} {oracle:8.2f} {ratio:>6}  "
            + (f"MISSED {', '.join(missed)}" if missed else "met")
        )


_HEADER = (
    f"{'workload':26} {'jobs':>6} {'error':>7} {'<eta':>5} {'<eta_high':>9} "
    f"{'MAE, s':>8} {'oracle':>8} {'ratio':>6}"
)


def _sooner(truth: float, told: float) -> float:
    """1 if something ended sooner than told, 0 if later, and a half if it was just then."""
    slack = 0.0015 + 0.001 * told
    return 0.5 if abs(truth - told) <= slack else float(truth < told)


def play(workload: Workload, seeds: int = 5, asked: int = 60) -> Score:
    """Play a workload from several seeds."""
    arrivals = Arrivals(workload)
    guesses: list[Guess] = []
    for seed in range(seeds):
        one = Play(workload, arrivals, seed, asked)
        asyncio.run(one.run())
        guesses += one.guesses.values()
    return Score(workload, guesses)


# The report


def report(json: Path | None = None, plots: Path | None = None) -> None:
    """Play all workloads, print what came of each, and write that down where it is asked for."""
    print(_HEADER, flush=True)
    scores = []
    for workload in WORKLOADS:
        scores.append(play(workload))
        print(scores[-1], flush=True)
    print(
        "error: median relative; <eta, <eta_high: the share of jobs that ended before;\n"
        "MAE: mean absolute error, its ratio to that of an oracle who knows the distributions "
        "but not the draws."
    )
    if json is not None:
        document = {"scenario": "eta", "workloads": [score.as_dict() for score in scores]}
        json.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    if plots is not None:
        plot(scores, plots)


def plot(scores: Sequence[Score], folder: Path) -> None:
    """Draw what was told against what happened, and how often it was so."""
    try:
        pyplot = import_module("matplotlib.pyplot")
    except ImportError:
        print("There is no plot: matplotlib is missing (pip install 'aiohttp-queue[bench]').")
        return
    columns = 4
    rows = math.ceil(len(scores) / columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(4 * columns, 3 * rows), layout="constrained"
    )
    for axis, score in itertools.zip_longest(axes.flat, scores):
        if score is None:
            axis.set_visible(False)
            continue
        parts = score.calibration(10)
        told = [part[0] for part in parts]
        for share, target, color in ((1, 0.5, "tab:blue"), (2, 0.9, "tab:orange")):
            axis.axhspan(target - 0.05, target + 0.05, color=color, alpha=0.12, linewidth=0)
            axis.plot(told, [part[share] for part in parts], "o-", color=color, markersize=3)
        axis.set(title=score.workload.name, ylim=(0, 1.02), xscale="log")
        axis.title.set_fontsize(9)
        axis.minorticks_off()
        axis.set_xticks([told[0], told[-1]], [f"{at:.3g} s" for at in (told[0], told[-1])])
    figure.supxlabel("eta told at joining, seconds (tenths of the jobs)")
    figure.supylabel("share that ended before eta (blue) and eta_high (orange)", fontsize=10)
    folder.mkdir(parents=True, exist_ok=True)
    for ending in ("png", "svg"):
        figure.savefig(folder / f"eta-calibration.{ending}", dpi=110)
    pyplot.close(figure)
