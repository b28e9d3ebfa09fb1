"""Who is told which position when: often enough, never for nothing, and never too many at once."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from aioqueue._admission import Estimate
from aioqueue._job import Order, QueuePolicy
from aioqueue._overtaking import Overtaking
from aioqueue._positions import Estimator, Positions, Waiting
from aioqueue.engines.base import Retention
from tests.clock import ManualClock
from tests.inside import Worker

NOBODY_KNOWS = Estimate(None, None, None, None)


class Hearer:
    """One of those who wait in a line."""

    def __init__(self, line: Line, name: str) -> None:
        self._line = line
        self._name = name

    async def tell(self, kind: str, data: bytes) -> bool:
        """Hear of a position."""
        assert kind == "position"
        return self._line.hear(self._name, data)


class Line:
    """People who wait in a line, and the clock over it."""

    def __init__(self, limit: int = 1, budget: int = 1_000_000) -> None:
        self.clock = ManualClock(0.0)
        self.worker = Worker(self.clock)
        self.estimator = Estimator(self.worker.engine, {"queue": limit}, {})
        self.positions = Positions(self.worker.engine, self.estimator, budget)
        self.limit = limit
        self.told: dict[str, list[tuple[float, dict[str, Any]]]] = defaultdict(list)
        """What each was told, and when."""
        self.ticks: list[list[str]] = []
        """Who was told, tick by tick, in this order."""
        self.behind: set[str] = set()
        """Whose socket takes nothing just now."""
        self.ends: dict[str, float] = {}

    async def open(self, **policy: Any) -> Line:
        """Get ready; answers itself."""
        policy = {"concurrency_limit": self.limit, **policy}
        await self.worker.engine.open({"queue": QueuePolicy(**policy)}, Retention())
        return self

    async def learn(self, seconds: float, name: str = "first") -> None:
        """Let a job take so long, so that there is a history."""
        await self.worker.enqueue(name)
        await self.start(seconds)
        await self.until(self.clock() + seconds)

    async def join(self, *names: str, **fields: Any) -> list[Waiting]:
        """Let people join the line, who are told at once how it stands and then by us."""
        joined = []
        for name in names:
            await self.worker.enqueue(name, **fields)
            snapshot = await self.worker.engine.get(name)
            told = await self.estimator.estimate(snapshot)
            hearer, priority = Hearer(self, name), snapshot.record.priority
            waiting = Waiting(name, "function", "queue", hearer, told, priority)
            self.positions.follow(waiting, self.clock())
            joined.append(waiting)
        return joined

    def hear(self, name: str, data: bytes) -> bool:
        """Somebody is told something; answers whether he could be."""
        if name in self.behind:
            return False
        self.told[name].append((self.clock(), orjson.loads(data)))
        self.ticks[-1].append(name)
        return True

    async def tick(self) -> list[str]:
        """Tell who is due; answers who was."""
        self.ticks.append([])
        await self.positions.tick(self.clock())
        return self.ticks[-1]

    async def start(self, seconds: float | Callable[[], float]) -> None:
        """Start what may start, to take so long."""
        for name in await self.worker.claim():
            self.ends[name] = self.clock() + (seconds() if callable(seconds) else seconds)

    async def until(self, time: float, service: float | Callable[[], float] | None = None) -> None:
        """Let time pass: jobs end, others start (where ``service`` says how long they take)."""
        while self.clock() < time:
            second = math.floor(self.clock()) + 1.0
            now = min([second, time, *self.ends.values()])
            self.clock.advance(now - self.clock())
            for name in [name for name, end in self.ends.items() if end <= now]:
                del self.ends[name]
                await self.worker.end(name)
                if service is not None:
                    await self.start(service)
            if now == second:
                await self.tick()

    async def drain(self, service: float) -> None:
        """Let everybody have their turn."""
        await self.start(service)
        while self.ends:
            await self.until(self.clock() + 1.0, service)

    @property
    def messages(self) -> int:
        """How many were sent."""
        return sum(map(len, self.told.values()))


async def drained(people: int, service: float, limit: int = 1, budget: int = 1_000_000) -> Line:
    """A line of people that was served to its end."""
    line = await Line(limit, budget).open()
    await line.learn(service)
    await line.join(*(f"p{number}" for number in range(people)))
    await line.drain(service)
    return line


# How often


@pytest.mark.one_loop
@pytest.mark.parametrize(("service", "limit"), [(0.1, 1), (0.7, 1), (2.0, 3), (20.0, 1)])
async def test_gaps(service: float, limit: int) -> None:
    """While a line moves everybody hears: a second apart at least, fifteen and a tick at most."""
    line = await drained(100, service, limit)
    start = math.floor(service)
    for name, told in line.told.items():
        times = [start, *(time for time, _ in told)]
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert all(gap >= 1.0 for gap in gaps[1:])
        longest = 16.0 if service <= 15 else 16.0 + service
        assert max(gaps) <= longest, (name, gaps)
    assert len(line.told) >= 90 - 10 / service


async def test_nobody_is_left_alone_with_a_wrong_estimate() -> None:
    """Told of hours in a crowd that takes seconds, one hears after 1, 2, 4 s, not after 15."""
    line = await Line().open()
    await line.learn(600.0)
    await line.join(*(f"p{number}" for number in range(100)))
    began = line.clock()
    await line.start(0.1)
    await line.until(began + 9.0, 0.1)
    times = [time - began for time, _ in line.told["p99"]]
    assert len(times) >= 3
    assert all(after <= 2 * before + 1 for before, after in itertools.pairwise([0, *times]))


async def test_not_within_a_second() -> None:
    """However often time is looked at, nobody hears twice in a second."""
    line = await Line().open()
    await line.join("a", "b", "c")
    await line.start(1000.0)
    heard = []
    for quarter in range(1, 13):
        line.clock.advance(0.25)
        if quarter == 5:
            await line.worker.engine.cancel("b", "client")
        heard += [quarter] * ("c" in await line.tick())
    assert heard == [4, 8]


@pytest.mark.one_loop
async def test_a_drain_costs_n_log_n() -> None:
    """Twice the people cost each at most seven messages more, not twice as many."""
    each = [(await drained(people, 0.1)).messages / people for people in (125, 250, 500, 1000)]
    for fewer, more in itertools.pairwise(each):
        assert more - fewer <= 10 * math.log(2)
    assert each[0] >= 4


@pytest.mark.one_loop
async def test_a_long_drain_costs_four_a_minute_each() -> None:
    """Before the last two and a half minutes nobody hears more than four times a minute."""
    people, service = 500, 2.0
    line = await drained(people, service)
    for number in range(people):
        wait = number * service
        most = 10 * math.log(150) + 11 + max(0.0, wait - 150) / 15
        assert len(line.told[f"p{number}"]) <= most


@pytest.mark.one_loop
async def test_a_budget_for_all() -> None:
    """No tick tells more than the budget, and what is left over comes first the next time."""
    line = await Line(budget=20).open()
    await line.worker.enqueue("running", "next")
    await line.join(*(f"p{number:03}" for number in range(100)))
    await line.start(1000.0)
    line.clock.advance(1.0)
    heard = [await line.tick() for _ in range(6)]
    assert [len(names) for names in heard] == [20] * 5 + [0]
    assert sorted(itertools.chain(*heard)) == [f"p{number:03}" for number in range(100)]


@pytest.mark.one_loop
async def test_others_have_turns_meanwhile() -> None:
    """To tell many lets the loop do other things; who has left meanwhile is not told."""
    line = await Line().open()
    await line.worker.enqueue("running", "next")
    crowd = await line.join(*(f"p{number:03}" for number in range(500)))
    await line.start(1000.0)
    line.clock.advance(1.0)
    tick = asyncio.create_task(line.tick())
    turns = 0
    while not tick.done():
        await asyncio.sleep(0)
        turns += 1
        if turns == 2:
            crowd[-1].listener = None

    assert 5 <= turns <= 50
    assert tick.result() == [f"p{number:03}" for number in range(499)]


@pytest.mark.one_loop
async def test_one_who_can_not_be_told(caplog: pytest.LogCaptureFixture) -> None:
    """An error in telling one is logged and ends his being told; all others go on being told."""
    line = await Line().open()
    await line.worker.enqueue("running", "next")
    crowd = await line.join("a", "b", "c")

    class Broken(Hearer):
        async def tell(self, kind: str, data: bytes) -> bool:
            raise ZeroDivisionError

    crowd[1].listener = Broken(line, "b")
    await line.start(1000.0)
    line.clock.advance(1.0)
    assert await line.tick() == ["a", "c"]
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]
    assert sorted(waiting.job_id for waiting in line.positions._due) == ["a", "c"]


@pytest.mark.one_loop
async def test_an_engine_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was due while the engine did not answer is told once it does."""
    line = await Line().open()
    await line.worker.enqueue("running", "next")
    await line.join("a", "b")
    await line.start(1000.0)
    line.clock.advance(1.0)

    async def fail(job_ids: Any) -> Any:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(line.worker.engine, "ahead", fail)
        with pytest.raises(ConnectionError):
            await line.tick()
    line.clock.advance(5.0)
    assert await line.tick() == ["a", "b"]


async def test_the_most_overdue_first() -> None:
    """Who has waited longest for news is told first, wherever he stands in the line."""
    line = await Line(budget=1).open()
    await line.join("head")
    await line.start(1000.0)
    await line.worker.enqueue("before")  # whoever joins behind it moves up when it is cancelled
    first, second, third = await line.join("a", "b", "c")
    line.positions._due.clear()
    for waiting, since in ((third, 0.0), (first, 0.2), (second, 0.4)):
        line.positions.follow(waiting, since)
    await line.worker.engine.cancel("before", "client")
    line.clock.advance(1.5)
    assert [await line.tick() for _ in range(4)] == [["c"], ["a"], ["b"], []]


# What is news


async def test_the_clock_is_no_news() -> None:
    """While nothing moves but time, nobody is told what he can count himself."""
    line = await Line().open()
    await line.learn(60.0)
    await line.join("a")
    await line.start(60.0)
    await line.join("b", "c")
    started = line.clock()
    await line.until(started + 59.0)
    assert line.messages == 0
    await line.until(started + 80.0, 60.0)
    assert {name: told[0][1]["position"] for name, told in line.told.items()} == {"c": 1}


async def test_a_prediction_that_fails_is_news() -> None:
    """Who is to wait much longer than he was told hears so, though nobody moved."""
    line = await Line().open()
    await line.learn(10.0)
    await line.join("a", "b")
    await line.start(1000.0)
    await line.until(line.clock() + 60.0)
    ((_, first), *_) = line.told["b"]
    assert first["position"] == 1
    assert first["eta"] > 10.0


@pytest.mark.one_loop
@pytest.mark.parametrize(("service", "limit"), [(0.3, 1), (2.0, 4), (7.0, 2)])
async def test_positions_only_fall(service: float, limit: int) -> None:
    """In a plain line nobody's position rises, nor is one said twice; each is the real one."""
    line = await drained(60, service, limit)
    for told in line.told.values():
        positions = [message["position"] for _, message in told]
        assert positions == sorted(positions, reverse=True)
        assert all(1 <= position <= 60 for position in positions)
        assert all(message["queue_size"] >= message["position"] for _, message in told)
        assert all(message["eta_high"] >= message["eta"] >= 0 for _, message in told)


@pytest.mark.one_loop
async def test_the_time_left_comes_true() -> None:
    """Where all jobs take the same time, what was said of the end is when the end came."""
    line = await drained(50, 3.0, limit=2)
    start = 3.0
    for number in range(50):
        end = start + 3.0 * (number // 2 + 1)
        for time, message in line.told[f"p{number}"]:
            assert abs(time + message["eta"] - end) <= 0.51


async def test_without_history() -> None:
    """Nobody is promised a time that nobody knows; once it is known all hear it."""
    line = await Line().open()
    await line.join("a", "b", "c")
    await line.start(5.5)
    await line.until(5.0)
    assert [(time, one["position"], one["eta"]) for time, one in line.told["b"]] == [(1.0, 1, None)]
    assert [(time, one["position"], one["eta"]) for time, one in line.told["c"]] == [(1.0, 2, None)]
    await line.until(6.0, 5.5)
    time, message = line.told["c"][-1]
    assert (time, message["position"]) == (6.0, 1)
    assert message["eta"] == pytest.approx(10.5, abs=0.1)


async def test_the_event() -> None:
    """The event is one line of JSON with what a client needs to draw it."""
    line = await Line().open()
    await line.learn(4.0)
    await line.join("a", "b")
    await line.start(4.0)
    line.clock.advance(1.0)
    await line.tick()
    (message,) = [message for _, message in line.told["b"]]
    assert message == {
        "type": "position",
        "job": "b",
        "position": 1,
        "held": False,
        "queue_size": 1,
        "eta": 7.0,
        "eta_high": 7.0,
    }


# On screen


def check_screen(told: list[tuple[float, dict[str, Any]]], first: Estimate, since: float) -> None:
    """What one was told falls at least as the clock does, or says why not."""
    before, place, last = first.eta, first.position, since
    for time, message in told:
        if before is not None and message["eta"] is not None and "reason" not in message:
            assert message["eta"] <= max(0.0, before - (time - last)) + 0.002
        if place is not None and "reason" not in message:
            assert (message["position"] or 0) <= place
        before, place, last = message["eta"], message["position"], time


@pytest.mark.one_loop
@pytest.mark.parametrize("limit", [1, 3])
async def test_it_only_falls(limit: int) -> None:
    """Where jobs vary the time left falls with the clock or faster, or there is a reason."""
    values = random.Random(1)
    line = await Line(limit).open()
    for number in range(40):
        await line.learn(values.lognormvariate(0.0, 1.0), f"first{number}")
    joined = await line.join(*(f"p{number}" for number in range(40)))
    first, since = [waiting.told for waiting in joined], line.clock()
    await line.start(lambda: values.lognormvariate(0.0, 1.0))
    while line.ends:
        await line.until(line.clock() + 1.0, lambda: values.lognormvariate(0.0, 1.0))
    for waiting, estimate in zip(joined, first, strict=True):
        check_screen(line.told[waiting.job_id], estimate, since)
    reasons = [message.get("reason") for told in line.told.values() for _, message in told]
    assert set(reasons) <= {None, "slower"}
    assert reasons.count(None) > len(reasons) / 2


async def test_slower() -> None:
    """When jobs take much longer than expected the time left rises, and says so."""
    line = await Line().open()
    await line.learn(10.0)
    await line.join("a", "b")
    await line.start(1000.0)
    await line.until(line.clock() + 60.0)
    assert {message.get("reason") for _, message in line.told["b"][1:]} == {"slower"}
    assert line.told["b"][0][1].get("reason") is None


async def test_a_little_slower_is_not_told() -> None:
    """Who moves up while jobs take a little longer sees the clock go on, not back."""
    line = await Line().open()
    await line.learn(10.0)
    await line.join("a", "b", "c")
    await line.start(10.3)
    began = line.clock()
    await line.join("d")
    told = 40.0
    await line.until(began + 12.0, 10.3)
    time, message = line.told["d"][-1]
    assert message["position"] == 2
    assert message["eta"] == pytest.approx(told - (time - began), abs=0.01)
    assert "reason" not in message


async def test_a_lower_limit() -> None:
    """When fewer may run at once than before, that is the reason."""
    line = await Line(4).open()
    await line.learn(30.0)
    await line.join(*"abcd")
    await line.start(60.0)
    await line.join(*(f"p{number}" for number in range(12)))
    await line.until(line.clock() + 5.0)
    assert line.told["p11"] == []
    await line.worker.engine.set_limit("queue", 1)
    await line.until(line.clock() + 10.0)
    (_, message) = line.told["p11"][0]
    assert message["reason"] == "limit"
    assert message["eta"] > 200.0


async def test_a_paused_queue() -> None:
    """Nobody knows when a paused queue goes on, and that is said; then there is a time again."""
    line = await Line().open()
    await line.learn(30.0)
    await line.join("a")
    await line.start(30.0)
    await line.join("b")
    await line.until(line.clock() + 2.0)
    await line.worker.engine.set_limit("queue", 0)
    await line.until(line.clock() + 15.0)
    (_, message) = line.told["b"][-1]
    assert (message["eta"], message["reason"]) == (None, "paused")
    await line.worker.engine.set_limit("queue", None)
    await line.until(line.clock() + 3.0)
    (_, message) = line.told["b"][-1]
    assert message["eta"] > 0
    assert "reason" not in message


async def test_overtaken() -> None:
    """When somebody of a higher priority comes before one, the place is further back for that."""
    line = await Line().open(order=Order.PRIORITY)
    await line.learn(10.0)
    await line.join("a")
    await line.start(10.0)
    await line.join("b")
    await line.worker.enqueue("c", "d", priority=5)
    await line.until(line.clock() + 3.0)
    (_, message) = line.told["b"][0]
    assert (message["position"], message["reason"]) == (3, "overtaken")
    assert message["eta"] == pytest.approx(39.0, abs=2.0)


async def test_given_back() -> None:
    """A job that comes back to its place in line is before those behind it again."""
    line = await Line().open()
    await line.learn(10.0)
    await line.join("a")
    await line.start(10.0)
    await line.join("b", "c")
    await line.worker.engine.release(line.worker.claims.pop("a"))
    line.ends.clear()
    await line.until(line.clock() + 3.0)
    (_, message) = line.told["b"][0]
    assert (message["position"], message["reason"]) == (2, "overtaken")


# Overtaking


async def test_nobody_is_overtaken_in_a_plain_line() -> None:
    """Where nobody overtakes nothing is added, exactly, however many were watched."""
    line = await drained(60, 2.0, limit=2)
    overtaking = line.estimator._overtaking["queue"]
    assert overtaking._known
    assert all(overtaking.expected(0, ahead) == (0.0, 0.0) for ahead in range(100))


def test_those_who_come_before_are_learned() -> None:
    """Whoever joins is told of those who came before his like, by priority and place."""
    overtaking = Overtaking()
    started = 0
    for number in range(100):
        overtaking.watch(f"low{number}", 0)
        overtaking.watch(f"high{number}", 5)
        # Four are before each; two come before the low one while two start, then he starts too.
        overtaking.look([{"f": 4}, {"f": 4}], started)
        started += 2
        overtaking.look([{"f": 4}, {"f": 2}], started)
        started += 5
        overtaking.look([None, None], started)
    mean, variance = overtaking.expected(0, 4)
    assert mean == pytest.approx(2.0)
    assert variance == pytest.approx(2.0)
    assert overtaking.expected(5, 4) == (0.0, 0.0)
    assert overtaking.expected(0, 50) == (0.0, 0.0)
    assert overtaking.watched == []


def test_watching_is_bounded() -> None:
    """Of those who wait a few are watched, and of the kinds of them the latest are remembered."""
    overtaking = Overtaking()
    for number in range(1000):
        overtaking.watch(f"{number}", number)
    assert len(overtaking.watched) == 16
    for number in range(1000):
        places = [None] * len(overtaking.watched)
        overtaking.look(places, number)
        overtaking.watch("one", number)
        overtaking.look([{"f": 3}], number)
    assert len(overtaking._known) == 64


def test_who_never_was_seen_teaches_nothing() -> None:
    """Who had his turn before the first look at him is forgotten."""
    overtaking = Overtaking()
    overtaking.watch("a", 0)
    overtaking.look([None], 5)
    assert overtaking.watched == []
    assert overtaking.expected(0, 0) == (0.0, 0.0)


# Who is told


async def test_who_comes_later_may_hear_first() -> None:
    """Somebody who has waited long, and hears seldom, keeps nobody new from hearing soon."""
    line = await Line().open()
    await line.learn(100.0)
    await line.join("a")
    await line.start(100.0)
    await line.join("b")
    await line.until(line.clock() + 62.0)
    assert line.positions._due[0].due > line.clock() + 10.0
    await line.join("c")
    await line.worker.engine.cancel("b", "client")
    await line.until(line.clock() + 2.0)
    assert [message["position"] for _, message in line.told["c"]] == [1]


async def test_who_has_gone_is_forgotten() -> None:
    """Neither who has left nor who has had his turn is told, or kept."""
    line = await Line().open()
    await line.join("a")
    await line.start(3.0)
    _, left = await line.join("b", "c")
    await line.worker.engine.cancel("b", "client")
    left.listener = None
    await line.until(20.0)
    assert line.messages == 0
    assert line.positions._due == []


async def test_a_drained_line_is_empty() -> None:
    """When all have had their turn, nothing is left that would be looked at each second."""
    line = await drained(30, 0.5)
    line.clock.advance(16.0)
    await line.tick()
    assert line.positions._due == []


async def test_who_is_behind() -> None:
    """A reader whose socket is full hears what he missed as soon as it is not."""
    line = await Line().open()
    await line.join("a", "b", "c")
    await line.start(1000.0)
    await line.until(1.0)
    line.behind = {"c"}
    await line.worker.engine.cancel("b", "client")
    await line.until(5.0)
    assert [message["position"] for _, message in line.told["c"]] == [2]
    line.behind = set()
    await line.until(6.0)
    assert [message["position"] for _, message in line.told["c"]] == [2, 1]
    await line.until(20.0)
    assert len(line.told["c"]) == 2


async def test_beside_the_line() -> None:
    """A job that its client's cap holds back has no position, and is told when it gets one."""
    line = await Line().open(max_running_per_client=1)
    await line.learn(2.0)
    await line.worker.enqueue("a", client="x")
    await line.worker.enqueue("b", client="y")
    await line.start(3.5)
    await line.join("c", client="x")
    assert await line.worker.engine.ahead(["c"]) == [None]
    await line.until(line.clock() + 3.0)
    assert line.told["c"] == []
    await line.until(line.clock() + 2.0, 20.0)
    assert [message["position"] for _, message in line.told["c"]] == [1]


# Estimates


class Counted(Worker):
    """A worker who counts how often the line is counted."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.stats = 0
        self._count, self.engine.stats = self.engine.stats, self._stats

    async def _stats(self, queue: str) -> Any:
        self.stats += 1
        return await self._count(queue)


async def test_one_forecast_for_all() -> None:
    """However many ask in a tenth of a second, the line is looked at once."""
    clock = ManualClock()
    worker = await Counted(clock).open()
    estimator = Estimator(worker.engine, {"queue": 1}, {})
    await worker.enqueue("a", "b", "c")
    await worker.claim()
    for job_id in "abc" * 50:
        await estimator.estimate(await worker.engine.get(job_id))
    assert worker.stats == 1
    clock.advance(0.11)
    await estimator.estimate(await worker.engine.get("a"))
    assert worker.stats == 2


async def test_a_crowd_in_one_moment() -> None:
    """Those who come in the very moment in which the last slot is taken are told the truth."""
    line = await Line(limit=2).open()
    await line.learn(60.0)
    await line.join("a")
    await line.start(60.0)
    told = []
    for name in ("b", "c", "d"):
        (waiting,) = await line.join(name)
        await line.start(60.0)
        told.append(waiting.told.eta)
    assert told == [60.0, 120.0, 120.0]


async def test_estimates_by_state() -> None:
    """Who waits has a position, who runs a time left, and who has ended neither."""
    line = await Line().open()
    await line.learn(8.0)
    line.clock.advance(1.0)
    await line.worker.enqueue("a", "b", "c")
    await line.start(8.0)
    line.clock.advance(2.0)

    async def estimate(job_id: str) -> Estimate:
        return await line.estimator.estimate(await line.worker.engine.get(job_id))

    assert await estimate("a") == Estimate(None, 2, 6.0, 6.0)
    assert await estimate("b") == Estimate(1, 2, 14.0, 14.0)
    assert await estimate("c") == Estimate(2, 2, 22.0, 22.0)
    assert await estimate("first") == NOBODY_KNOWS
    joining = await line.estimator.joining("function", "queue")
    assert joining == Estimate(3, 3, 30.0, 30.0)
