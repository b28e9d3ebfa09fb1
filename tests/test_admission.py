"""Position and time left: exact where it can be, cautious where not, and never absurd."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, strategies as st

from aioqueue._admission import Estimate, Forecast, retry_after, time_left
from aioqueue._durations import Durations
from aioqueue._job import Demand, QueueStats, RunningClaim

NOW = 1000.0

seconds = st.floats(0.01, 1000)


def history(*values: float) -> Durations:
    """A function that took this long."""
    durations = Durations()
    for value in values:
        durations.add(value)
    return durations


def forecast(
    limit: int | None = 1,
    workers: int = 100,
    running: Sequence[tuple[str, float]] = (),
    waiting: dict[str, int] | None = None,
    sizes: dict[str, int] | None = None,
    **durations: Durations,
) -> Forecast:
    """A queue in which these functions run, each for so many seconds already."""
    stats = QueueStats(
        concurrency_limit=limit,
        waiting=waiting or {},
        running=[RunningClaim(function, NOW - elapsed) for function, elapsed in running],
        durations=durations,
    )
    demands = {name: Demand("thread", size) for name, size in (sizes or {}).items()}
    return Forecast(stats, workers, NOW, demands)


def eta(estimate: Estimate) -> float:
    """The time left, which must be known."""
    assert estimate.eta is not None
    assert estimate.eta_high is not None
    return estimate.eta


def start_of(free_at: Sequence[float], runs: Sequence[float]) -> float:
    """When the next one starts after these runs, each in the slot that is free first."""
    slots = list(free_at)
    heapq.heapify(slots)
    for run in runs:
        heapq.heapreplace(slots, slots[0] + run)
    return slots[0]


# Exact


@given(
    duration=seconds,
    shares=st.lists(st.floats(0, 0.99), max_size=8),
    idle=st.integers(0, 4),
    ahead=st.integers(0, 50),
)
def test_constant_service_time(duration: float, shares: list[float], idle: int, ahead: int) -> None:
    """If every run takes the same time, the estimate is what will happen, with any slots."""
    slots = len(shares) + idle or 1
    running = [("f", share * duration) for share in shares]
    known = forecast(slots, running=running, waiting={"f": ahead}, f=history(*[duration] * 9))
    free_at = [duration - elapsed for _, elapsed in running] + [0.0] * (slots - len(running))
    expected = start_of(free_at, [duration] * ahead) + duration

    estimate = known.estimate("f", {"f": ahead})
    assert eta(estimate) == pytest.approx(expected, abs=0.01)
    assert estimate.eta_high == pytest.approx(expected, abs=0.01)
    assert (estimate.position, estimate.queue_size) == (ahead + 1, ahead + 1)


@given(
    elapsed=st.lists(st.floats(0, 90), min_size=1, max_size=6),
    idle=st.integers(0, 2),
    ahead=st.integers(0, 300),
)
def test_slots_that_are_taken_for_long(elapsed: list[float], idle: int, ahead: int) -> None:
    """Slots that come free late, of a slow function, hold nobody up who can use the others."""
    slots = len(elapsed) + idle
    running = [("slow", each) for each in elapsed]
    histories = {"f": history(*[1.5] * 9), "slow": history(*[100.0] * 9)}
    known = forecast(slots, running=running, waiting={"f": ahead}, **histories)
    free_at = [100.0 - each for each in elapsed] + [0.0] * idle
    expected = start_of(free_at, [1.5] * ahead) + 1.5

    # Far back it is worked out for some places, and the others lie between them.
    close = 1 / 32 if ahead >= 32 * slots else 0.0
    assert eta(known.estimate("f", {"f": ahead})) == pytest.approx(expected, abs=0.01, rel=close)


@given(
    durations=st.lists(st.floats(0.01, 10), min_size=1, max_size=40),
    slots=st.integers(1, 9),
    elapsed=st.floats(0, 5),
    first=st.integers(0, 5000),
)
def test_far_back(durations: list[float], slots: int, elapsed: float, first: int) -> None:
    """Far back the times are those of each place, but for a tenth."""
    known = forecast(
        slots, running=[("f", elapsed)] * slots, waiting={"f": 9000}, f=history(*durations)
    )
    places = [32 * slots + first + number for number in range(-9, 70)]
    shown = [known.estimate("f", {"f": ahead}) for ahead in places]
    each = [known._likely({"f": ahead}, "f", 0.0, (0.0, 0.0)) for ahead in places]

    assert [eta(one) for one in shown] == pytest.approx([middle for middle, _ in each], rel=0.1)
    assert [one.eta_high for one in shown] == pytest.approx([high for _, high in each], rel=0.1)


def test_fewer_workers_than_the_limit() -> None:
    """No more run at once than this process has workers for, limit or none."""
    for limit in (None, 9):
        known = forecast(limit, workers=2, f=history(10.0))

        assert [eta(known.estimate("f", {"f": ahead})) for ahead in range(5)] == pytest.approx(
            [10.0, 10.0, 20.0, 20.0, 30.0]
        )


def test_lowered_limit() -> None:
    """Where more run than may, those above the limit must end first."""
    known = forecast(1, running=[("f", 1.0), ("f", 4.0), ("f", 9.0)], f=history(10.0))

    assert eta(known.estimate("f", {})) == pytest.approx(9.0 + 10.0)


def test_enough_free_slots() -> None:
    """Who finds a free slot for himself starts at once, however long the others take."""
    histories = {"f": history(1.0), "slow": history(1000.0)}
    known = forecast(3, waiting={"slow": 2, "f": 1}, **histories)

    assert eta(known.estimate("f", {"slow": 2})) == pytest.approx(1.0)


def test_functions_of_one_queue() -> None:
    """Each function ahead takes its own time."""
    histories = {"f": history(1.0), "g": history(10.0)}
    known = forecast(1, waiting={"f": 2, "g": 1}, **histories)

    assert eta(known.estimate("f", {"f": 1, "g": 1})) == pytest.approx(12.0)


def test_slow_behind_fast() -> None:
    """Ten fast jobs on two slots take half their sum, though a slow one asks."""
    histories = {"slow": history(100.0), "fast": history(10.0)}
    known = forecast(2, waiting={"slow": 1, "fast": 10}, **histories)

    assert eta(known.estimate("slow", {"fast": 10})) == pytest.approx(50.0 + 100.0, rel=0.1)


def test_function_without_history() -> None:
    """A function ahead that never ended yet is taken to be like one's own."""
    known = forecast(1, waiting={"new": 2, "f": 1}, f=history(5.0))

    assert eta(known.estimate("f", {"new": 2})) == pytest.approx(15.0)


# Batches


@pytest.mark.parametrize(("ahead", "calls"), [(0, 0), (7, 0), (8, 1), (15, 1), (16, 2)])
def test_batches_ahead(ahead: int, calls: int) -> None:
    """As many as fit into one call start together; whoever has a whole call before him waits."""
    for running, free_at in (([], 0.0), ([("f", 4.0)], 6.0)):
        known = forecast(
            1, running=running, waiting={"f": 40}, sizes={"f": 8}, f=history(*[10.0] * 9)
        )
        estimate = known.estimate("f", {"f": ahead})

        assert eta(estimate) == pytest.approx(free_at + 10.0 * calls + 10.0)
        assert (estimate.position, estimate.queue_size) == (ahead + 1, 40)


def test_batches_of_another_function() -> None:
    """What another function has ahead is full calls and a last one that is not."""
    histories = {"f": history(1.0), "g": history(10.0)}
    known = forecast(1, waiting={"f": 9, "g": 9}, sizes={"f": 4, "g": 4}, **histories)

    # The calls of an average length make up the same work: three of "g", two of "f" before him.
    assert eta(known.estimate("f", {"f": 8, "g": 9})) == pytest.approx(30.0 + 2.0 + 1.0)


def test_batches_in_free_slots() -> None:
    """Who finds a free slot for his own call starts at once, however long the others take."""
    histories = {"f": history(1.0), "slow": history(1000.0)}
    known = forecast(2, waiting={"slow": 4, "f": 8}, sizes={"slow": 4, "f": 8}, **histories)

    assert eta(known.estimate("f", {"slow": 4, "f": 7})) == pytest.approx(1.0)


# A window


def windowed(ahead: int, waited: float = 0.0, running: Sequence[tuple[str, float]] = ()) -> float:
    """The time left of who waits in a batch of four, for at most 2 s, that runs for 10."""
    stats = QueueStats(
        concurrency_limit=1,
        waiting={"f": ahead + 1},
        running=[RunningClaim(function, NOW - elapsed) for function, elapsed in running],
        durations={"f": history(*[10.0] * 9)},
    )
    demands = {"f": Demand("thread", 4, 2.0)}
    return eta(Forecast(stats, 1, NOW, demands).estimate("f", {"f": ahead}, waited))


def test_batch_timeout() -> None:
    """Who is first in a batch waits for others, less what he has waited; a full one starts."""
    assert windowed(0) == pytest.approx(12.0)
    assert windowed(0, waited=1.5) == pytest.approx(10.5)
    assert windowed(0, waited=5.0) == pytest.approx(10.0)
    assert windowed(3) == pytest.approx(10.0)
    assert windowed(4) == pytest.approx(20.0)


def test_batch_timeout_with_others() -> None:
    """Who joins one that waits already waits less, the less the more there are."""
    assert 10.0 < windowed(2) < windowed(1) < 12.0


def test_batch_timeout_behind_a_run() -> None:
    """The window passes while the slot is taken."""
    assert windowed(0, running=[("f", 1.0)]) == pytest.approx(9.0 + 10.0)
    assert windowed(0, running=[("f", 9.5)]) == pytest.approx(2.0 + 10.0)


# Overtaken


def test_overtaken() -> None:
    """Those who will come before one take their time too, and may be more or fewer."""
    known = forecast(1, waiting={"f": 4}, f=history(*[5.0] * 9))
    plain, later = known.estimate("f", {"f": 3}), known.estimate("f", {"f": 3}, 0.0, (2.0, 0.0))
    unsure = known.estimate("f", {"f": 3}, 0.0, (2.0, 4.0))

    assert eta(later) == pytest.approx(eta(plain) + 10.0)
    assert eta(unsure) == pytest.approx(eta(later), rel=0.2)
    assert unsure.eta_high is not None
    assert unsure.eta_high > eta(later) + 5.0


# Unknown


def test_no_history() -> None:
    """Without history there is a position and no time."""
    for durations in ({}, {"f": Durations()}, {"g": history(1.0)}):
        known = forecast(1, waiting={"f": 3}, **durations)

        assert known.estimate("f", {"f": 2}) == Estimate(3, 3, None, None)


def test_never_ended_yet() -> None:
    """When nobody knows when any slot comes free there is no time; one that is known will do."""
    histories = {"f": history(5.0)}
    assert forecast(1, running=[("new", 1.0)], **histories).estimate("f", {}).eta is None

    known = forecast(2, running=[("new", 1.0), ("f", 1.0)], **histories)
    assert eta(known.estimate("f", {"f": 1})) == pytest.approx(4.0 + 5.0 + 5.0)


def test_paused() -> None:
    """Nobody knows when a paused queue goes on."""
    assert forecast(0, f=history(5.0)).estimate("f", {"f": 1}) == Estimate(2, 2, None, None)


def test_held() -> None:
    """Who is not in line has no place, and no time."""
    known = forecast(1, waiting={"f": 3}, f=history(5.0))

    assert known.estimate("f", None) == Estimate(None, 3, None, None)


def test_older_than_a_place() -> None:
    """A queue is never smaller than a place in it, though it was counted a moment ago."""
    assert forecast(waiting={"f": 1}).estimate("f", {"f": 4}).queue_size == 5


# Sane


histories = st.lists(seconds, min_size=1, max_size=9).map(lambda values: history(*values))
constants = seconds.map(lambda value: history(*[value] * 3))


def check_monotone(
    slots: int,
    durations: dict[str, Durations],
    running: list[tuple[str, float]],
    joined: list[str],
    sizes: dict[str, int],
    own: str,
    least: float,
) -> None:
    """Whoever has one more before him is told at least so much of what the others are told."""
    waiting = {function: joined.count(function) for function in set(joined)}
    known = forecast(slots, running=running, waiting=waiting, sizes=sizes, **durations)
    last = 0.0
    for count in range(len(joined) + 1):
        before = joined[:count]
        ahead = {function: before.count(function) for function in set(before)}
        estimate = known.estimate(own, ahead)

        assert eta(estimate) >= last * least - 0.002
        assert estimate.eta_high is not None
        assert estimate.eta_high >= eta(estimate) >= 0.0
        last = max(last, eta(estimate))


@given(
    slots=st.integers(1, 5),
    durations=st.fixed_dictionaries({"f": constants, "g": constants}),
    running=st.lists(st.tuples(st.sampled_from("fg"), st.floats(0, 3000)), max_size=7),
    joined=st.integers(0, 30),
    size=st.integers(1, 9),
)
def test_monotone(
    slots: int,
    durations: dict[str, Durations],
    running: list[tuple[str, float]],
    joined: int,
    size: int,
) -> None:
    """Nobody is told less than his like before him, where they all take the same time."""
    check_monotone(slots, durations, running, ["f"] * joined, {"f": size}, "f", 1.0)


@given(
    slots=st.integers(1, 5),
    durations=st.fixed_dictionaries({"f": histories, "g": histories, "h": histories}),
    running=st.lists(st.tuples(st.sampled_from("fgh"), st.floats(0, 3000)), max_size=7),
    joined=st.lists(st.sampled_from("fgh"), max_size=30),
    sizes=st.dictionaries(st.sampled_from("fgh"), st.integers(1, 9)),
    own=st.sampled_from("fgh"),
)
def test_sane(
    slots: int,
    durations: dict[str, Durations],
    running: list[tuple[str, float]],
    joined: list[str],
    sizes: dict[str, int],
    own: str,
) -> None:
    """However much durations vary, no time is negative or above its bound."""
    check_monotone(slots, durations, running, joined, sizes, own, 0.0)


@pytest.mark.parametrize("slots", [1, 2, 5])
@pytest.mark.parametrize("deviation", [0.1, 0.5, 1.0])
def test_nearly_monotone(slots: int, deviation: float) -> None:
    """Where jobs vary nobody is told much less than his like before him."""
    values = random.Random(1)
    durations = history(*(values.lognormvariate(1.0, deviation) for _ in range(300)))
    running = [("f", values.uniform(0.0, 5.0)) for _ in range(slots)]
    check_monotone(slots, {"f": durations}, running, ["f"] * 60, {}, "f", 0.93)


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize(
    "draw",
    [
        lambda values: values.uniform(1, 3),
        lambda values: values.expovariate(0.5),
        lambda values: values.lognormvariate(0.5, 1.0),
    ],
    ids=["uniform", "exponential", "heavy-tailed"],
)
def test_varying_service_time(slots: int, draw: Callable[[random.Random], float]) -> None:
    """Where runs vary half of them end by the estimate, nine of ten by the bound, about."""
    values = random.Random(1)
    durations = history(*(draw(values) for _ in range(500)))
    within = []
    for ahead in (0, 1, 5, 12, 40):
        known = forecast(slots, waiting={"f": ahead}, f=durations)
        estimate = known.estimate("f", {"f": ahead})
        ends = sorted(
            start_of([0.0] * slots, [draw(values) for _ in range(ahead)]) + draw(values)
            for _ in range(500)
        )
        assert eta(estimate) == pytest.approx(ends[250], rel=0.3)
        assert 0.35 < sum(end <= eta(estimate) for end in ends) / 500 < 0.65
        within.append(sum(end <= (estimate.eta_high or 0.0) for end in ends) / 500)

    assert all(0.82 < share < 0.97 for share in within)


# A running job


def test_time_left() -> None:
    """A running job has left what half of those take that took as long; null without history."""
    assert time_left(None, 3.0) == (None, None)
    assert time_left(Durations(), 3.0) == (None, None)
    assert time_left(history(10.0), 3.0) == pytest.approx((7.0, 7.0))

    durations = history(*[1.0, 10.0, 1.0] * 300)
    assert time_left(durations, 0.5) == pytest.approx((0.5, 9.5))
    assert time_left(durations, 2.0) == pytest.approx((8.0, 8.0))


@given(durations=histories, elapsed=st.floats(0, 1e5))
def test_time_left_is_sane(durations: Durations, elapsed: float) -> None:
    """It is never negative, nor above its bound."""
    left, high = time_left(durations, elapsed)

    assert left is not None
    assert high is not None
    assert 0.0 <= left <= high


# Retry-After


@given(st.none() | st.floats(0, 1e9) | st.just(float("inf")))
def test_retry_after(likely: float | None) -> None:
    """Whole seconds from 1 to 3600: never too early, and at most a quarter late."""
    answer = retry_after(likely)

    assert isinstance(answer, int)
    assert 1 <= answer <= 3600
    wanted = min(3600.0, max(1.0, likely or 1.0))
    assert wanted <= answer <= min(3600.0, wanted * 1.25) + 1


def test_retry_after_is_spread() -> None:
    """Those who are refused together do not come back together."""
    assert len({retry_after(100.0) for _ in range(500)}) > 10
