"""Who is told which position and time left, and when.

A line of n people that moves once would cost n messages if everybody were told at once, and n² by
the time it is empty.  Here each waits for news about a tenth of the time that is left to wait, at
least a second and at most fifteen, and all together get no more than a budget: the most overdue
first; and none waits longer for news than he has waited so far, since a first estimate is often
wrong.  So somebody near the head hears every second and somebody far back now and then: a drain
costs O(n log n) messages, and four a minute for everybody who waits longer than some minutes.

What is shown falls with the clock.  A time left that is a little longer than the clock says is not
told; one that is much longer is, and with it the reason, as with a place that is further back.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import insort
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Protocol

import attrs
import orjson

from ._admission import Estimate, Forecast, time_left
from ._job import Demand, JobRecord, JobState, Snapshot
from ._overtaking import Overtaking
from .engines.base import Engine

__all__ = ["Estimator", "Positions", "Waiting"]

logger = logging.getLogger("aioqueue")

_SHORTEST, _LONGEST = 1.0, 15.0
_UNKNOWN = 5.0
"""Seconds between two looks at most, where there is no time to tell yet."""
_SHARE = 0.1
_FRESH = 0.1
"""Seconds for which the forecast of a queue is good: faster changes are noise to people."""
_FRESHEST = 0.02
"""At least so many, however fast one job starts after the other."""
_SLICE = 64
"""How many are told in one turn of the loop, which then has time for others."""
_ENDED = Estimate(None, None, None, None)


class Estimator:
    """Position and time left of any job, now.

    Args:
        engine: what counts.
        workers: for each queue, how many of its claims this process can run at once.
        demands: how the jobs of each function batch.
    """

    def __init__(
        self, engine: Engine, workers: Mapping[str, int], demands: Mapping[str, Demand]
    ) -> None:
        self._engine = engine
        self._workers = workers
        self._demands = demands
        self._forecasts: dict[str, tuple[float, bool, Forecast]] = {}
        self._overtaking: dict[str, Overtaking] = {}

    async def forecast(self, queue: str, *, full: bool = False) -> Forecast:
        """What can be said of a queue, at most a moment old.

        Args:
            queue: which one.
            full: whether it is known to be full; what was said while a slot was free is out of
                date then, by a whole run of the function.
        """
        now = await self._engine.now()
        known = self._forecasts.get(queue)
        if known is not None and not (full and known[1]):
            pace = known[2].pace
            fresh = _FRESH if pace is None else min(_FRESH, max(_FRESHEST, pace * 0.1))
            if now - known[0] < fresh:
                return known[2]
        stats = await self._engine.stats(queue)
        limit, workers = stats.concurrency_limit, self._workers[queue]
        has_slot = len(stats.running) < (workers if limit is None else min(limit, workers))
        forecast = Forecast(stats, workers, now, self._demands)
        self._forecasts[queue] = (now, has_slot, forecast)
        overtaking = self._overtaking.get(queue)
        if overtaking is not None and (watched := overtaking.watched):
            places = await self._engine.ahead(watched)
            if watched == overtaking.watched:  # else others are watched by now
                overtaking.look(places, forecast.started)
        return forecast

    def overtaken(
        self, queue: str, job_id: str, priority: float, ahead: Mapping[str, int] | None
    ) -> tuple[float, float]:
        """How many more will come before a job that has these before it: mean and variance."""
        if ahead is None:
            return 0.0, 0.0
        overtaking = self._overtaking.get(queue)
        if overtaking is None:
            overtaking = self._overtaking[queue] = Overtaking()
        overtaking.watch(job_id, priority)
        return overtaking.expected(priority, sum(ahead.values()))

    async def estimate(self, snapshot: Snapshot) -> Estimate:
        """What to tell whoever asks about this job."""
        record = snapshot.record
        if snapshot.state is JobState.QUEUED:
            forecast = await self.forecast(record.queue, full=True)
            (ahead,) = await self._engine.ahead([record.id])
            waited = await self._engine.now() - snapshot.created
            expected = self.overtaken(record.queue, record.id, record.priority, ahead)
            return forecast.estimate(record.function, ahead, waited, expected)
        if snapshot.state is JobState.RUNNING and snapshot.started is not None:
            forecast = await self.forecast(record.queue)
            elapsed = await self._engine.now() - snapshot.started
            eta, high = time_left(forecast.durations.get(record.function), elapsed)
            return Estimate(None, forecast.queue_size, eta, high)
        return _ENDED

    async def next_start(self, function: str, queue: str) -> float | None:
        """Seconds until the next job starts, which makes room for one more to wait."""
        forecast = await self.forecast(queue, full=True)
        return _start(forecast, function, forecast.estimate(function, {}))

    async def wait(self, record: JobRecord) -> tuple[float | None, float | None]:
        """The likely seconds until a job that joined now would start, and until its result."""
        forecast = await self.forecast(record.queue, full=True)
        estimate = forecast.estimate(record.function, await self._engine.ahead_of(record))
        return _start(forecast, record.function, estimate), estimate.eta

    async def joining(self, function: str, queue: str) -> Estimate:
        """What a job of nobody's would be told that joined now, wherever its place would be."""
        stats = await self._engine.stats(queue)
        now = await self._engine.now()
        forecast = Forecast(stats, self._workers[queue], now, self._demands)
        visitor = JobRecord(id="", function=function, queue=queue)
        return forecast.estimate(function, await self._engine.ahead_of(visitor))


def _start(forecast: Forecast, function: str, estimate: Estimate) -> float | None:
    """The likely seconds until a start, from those until the result."""
    durations = forecast.durations.get(function)
    if estimate.eta is None or durations is None:
        return None
    return max(0.0, estimate.eta - durations.quantile(0.5))


class Hearer(Protocol):
    """Somebody who can be told."""

    async def tell(self, kind: str, data: bytes) -> bool:
        """Hear of an event.  Answers whether it could be sent: who is behind hears the next."""


@attrs.define(slots=True, eq=False, weakref_slot=False)
class Waiting:
    """Somebody who waits for a job and wants to know how long.

    Whoever leaves sets ``listener`` to None: then nothing of his is kept.
    """

    job_id: str
    function: str
    queue: str
    listener: Hearer | None
    told: Estimate
    priority: float = 0.0
    told_at: float = 0.0
    since: float = 0.0
    due: float = 0.0
    """When there may be news for him."""
    slots: int | None = None
    """How many jobs could run at once when that was told, as far as is known."""


_DUE = attrgetter("due")


class Positions:
    """Tells everybody who waits, within a budget.

    Args:
        engine: what knows who is ahead of whom.
        estimator: what knows how long that takes.
        max_updates_per_second: the budget.
    """

    def __init__(self, engine: Engine, estimator: Estimator, max_updates_per_second: int) -> None:
        self._engine = engine
        self._estimator = estimator
        self._budget = max_updates_per_second
        self._due: list[Waiting] = []  # sorted: ten thousand are moved up in microseconds

    def follow(self, waiting: Waiting, now: float) -> None:
        """Begin to tell somebody, who has just been told ``waiting.told``."""
        waiting.told_at = waiting.since = now
        self._again(waiting, waiting.told, now)

    def _again(self, waiting: Waiting, estimate: Estimate, now: float) -> None:
        # Whoever could not be told a time hears soon after there is one.  And a first estimate is
        # often a bad one, made while a crowd arrives: nobody is left alone with it for longer than
        # he has waited so far.
        waited = now - waiting.since
        if estimate.eta is None:
            pause = max(_SHORTEST, min(_UNKNOWN, waited / 8))
        else:
            pause = max(_SHORTEST, min(_LONGEST, estimate.eta * _SHARE, waited))
        waiting.due = now + pause
        if self._due and waiting.due < self._due[-1].due:
            insort(self._due, waiting, key=_DUE)
        else:  # as it mostly is: they pause alike
            self._due.append(waiting)

    async def tick(self, now: float) -> None:
        """Once a second: tell those who are due, the most overdue first."""
        left = self._budget
        while due := self._take(now, min(left, _SLICE)):
            left -= len(due)
            await self._tell_all(due, now)
            await asyncio.sleep(0)

    def _take(self, now: float, most: int) -> list[Waiting]:
        """Who is due, out of the list; whoever has left meanwhile is forgotten."""
        due: list[Waiting] = []
        looked = 0
        for waiting in self._due:
            if waiting.due > now or len(due) == most:
                break
            looked += 1
            if waiting.listener is not None:
                due.append(waiting)
        del self._due[:looked]
        return due

    async def _tell_all(self, due: Sequence[Waiting], now: float) -> None:
        """Tell those who are due what is news to them; one who can't be told holds up nobody."""
        try:
            places = await self._engine.ahead([waiting.job_id for waiting in due])
            queues = {waiting.queue for waiting in due}
            forecasts = {queue: await self._estimator.forecast(queue) for queue in queues}
        except Exception:
            for waiting in due:
                self._again(waiting, waiting.told, now)
            raise
        for waiting, ahead in zip(due, places, strict=True):
            try:
                await self._look(waiting, ahead, forecasts[waiting.queue], now)
            except Exception:
                logger.exception("a position can't be told, and is told no more")

    async def _look(
        self, waiting: Waiting, ahead: Mapping[str, int] | None, forecast: Forecast, now: float
    ) -> None:
        """Tell somebody what is news to him, and when to look again."""
        if ahead is None and not await self._waits(waiting.job_id):
            return
        expected = self._estimator.overtaken(waiting.queue, waiting.job_id, waiting.priority, ahead)
        estimate = forecast.estimate(waiting.function, ahead, now - waiting.since, expected)
        if _is_news(waiting, estimate, now):
            reason = _reason(waiting, estimate, forecast.slots, now)
            await self._tell(waiting, _shown(waiting, estimate, reason, now), reason, now)
        if waiting.told_at == now or waiting.slots is None:
            waiting.slots = forecast.slots
        self._again(waiting, estimate, now)

    async def _waits(self, job_id: str) -> bool:
        """Whether a job that is not in line is held beside it."""
        snapshot = await self._engine.get(job_id)
        return snapshot is not None and snapshot.state is JobState.QUEUED

    async def _tell(
        self, waiting: Waiting, estimate: Estimate, reason: str | None, now: float
    ) -> None:
        event = {
            "type": "position",
            "job": waiting.job_id,
            "position": estimate.position,
            "held": estimate.position is None,
            "queue_size": estimate.queue_size,
            "eta": estimate.eta,
            "eta_high": estimate.eta_high,
        }
        if reason is not None:
            event["reason"] = reason
        listener = waiting.listener
        if listener is not None and await listener.tell("position", orjson.dumps(event)):
            waiting.told, waiting.told_at = estimate, now


def _expected(waiting: Waiting, now: float) -> tuple[float, float] | None:
    """What the clock has made of the time that somebody was told."""
    told, passed = waiting.told, now - waiting.told_at
    if told.eta is None or told.eta_high is None:
        return None
    return max(0.0, told.eta - passed), max(0.0, told.eta_high - passed)


def _slack(told: float) -> float:
    """A difference that is not worth a word."""
    return max(0.5, 0.1 * told)


def _is_news(waiting: Waiting, estimate: Estimate, now: float) -> bool:
    """Whether it is anything but the clock that has moved since somebody was told."""
    told = waiting.told
    if estimate.position != told.position or (estimate.eta is None) != (told.eta is None):
        return True
    if estimate.eta is None or told.eta is None:
        return False
    return abs(estimate.eta - (told.eta - (now - waiting.told_at))) > _slack(told.eta)


def _reason(waiting: Waiting, estimate: Estimate, slots: int, now: float) -> str | None:
    """Why a place is further back than it was, or an end further away; None if neither is.

    ``overtaken``: others came before, by their turn or priority, or came back.  ``paused``: nothing
    starts.  ``limit``: fewer may run at once than before.  ``slower``: jobs take longer than it
    seemed.
    """
    told, expected = waiting.told, _expected(waiting, now)
    if told.position is not None and (estimate.position or 0) > told.position:
        return "overtaken"
    if told.eta is None or expected is None:
        return None
    if estimate.eta is None:
        return None if slots else "paused"
    if estimate.eta - expected[0] <= _slack(told.eta):
        return None
    return "limit" if waiting.slots is not None and slots < waiting.slots else "slower"


def _shown(waiting: Waiting, estimate: Estimate, reason: str | None, now: float) -> Estimate:
    """What to show: without a reason never more than the clock has made of what was told."""
    expected = _expected(waiting, now)
    if reason or expected is None or estimate.eta is None or estimate.eta_high is None:
        return estimate
    eta = min(estimate.eta, round(expected[0], 3))
    high = max(eta, min(estimate.eta_high, round(expected[1], 3)))
    return Estimate(estimate.position, estimate.queue_size, eta, high)
