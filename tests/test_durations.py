"""The histogram of durations: what it knows of the past, and how soon it forgets."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, strategies as st

from aioqueue import _durations
from aioqueue._durations import Durations

seconds = st.floats(1e-5, 1e6)
shares = st.floats(0, 1)


def history(*values: float) -> Durations:
    """The history of these, the last being the newest."""
    durations = Durations()
    for value in values:
        durations.add(value)
    return durations


def test_no_history() -> None:
    """Without history it is false, and knows of nothing."""
    durations = Durations()

    assert not durations
    assert (durations.mean, durations.variance, durations.quantile(0.5)) == (0.0, 0.0, 0.0)


@given(value=seconds, count=st.integers(1, 100), share=shares)
def test_constant(value: float, count: int, share: float) -> None:
    """A function that always takes the same time is known exactly."""
    durations = history(*[value] * count)

    assert durations
    assert durations.mean == pytest.approx(value)
    assert durations.quantile(share) == pytest.approx(value)
    assert durations.variance == pytest.approx(0.0, abs=1e-6 * value**2)
    assert durations.remaining(value / 4) == pytest.approx(value * 0.75)


@given(st.lists(seconds, min_size=1, max_size=50), shares, shares)
def test_bounds(values: list[float], one: float, other: float) -> None:
    """Mean and quantiles lie among the values; a larger share takes no less."""
    durations = history(*values)
    low, high = min(values) * (1 - 1e-9), max(values) * (1 + 1e-9)

    assert low <= durations.mean <= high
    assert durations.variance >= 0.0
    assert low <= durations.quantile(one) <= high
    assert durations.quantile(min(one, other)) <= durations.quantile(max(one, other))


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.2, 1.0), (0.5, 2.0), (0.7, 2.0), (0.9, 9.0), (1.0, 9.0)]
)
def test_quantile(share: float, expected: float) -> None:
    """So many of the jobs stay under a quantile: here 3 of 10 take 1 s, 5 take 2, 2 take 9."""
    values = [1.0] * 3 + [2.0] * 5 + [9.0] * 2
    durations = history(*random.Random(1).sample(values, 10))

    assert durations.quantile(share) == pytest.approx(expected)


def test_many_values() -> None:
    """Of values that vary the histogram knows mean, deviation and quantiles to a few per cent."""
    values = random.Random(1)
    durations = history(*(values.uniform(1, 3) for _ in range(2000)))

    assert durations.mean == pytest.approx(2.0, rel=0.1)
    assert durations.variance**0.5 == pytest.approx(2 / 12**0.5, rel=0.15)
    assert durations.quantile(0.5) == pytest.approx(2.0, rel=0.1)
    assert durations.quantile(0.9) == pytest.approx(2.8, rel=0.1)


def test_forgets() -> None:
    """A model that got faster is believed soon; after a few hundred the past is gone."""
    durations = history(*[10.0] * 1000)
    means, medians = [], []
    for _ in range(400):
        durations.add(1.0)
        means.append(durations.mean)
        medians.append(durations.quantile(0.5))

    assert means == sorted(means, reverse=True)
    assert means[0] > 9.8
    assert means[100] < 2.0
    assert means[-1] == pytest.approx(1.0, rel=0.05)
    assert medians[9] == pytest.approx(10.0)
    assert medians[60] == pytest.approx(1.0)


def test_one_in_a_while_is_not_the_rule() -> None:
    """One slow job among many hardly moves the median, and not for ever."""
    durations = history(*[1.0] * 200, 100.0)
    assert durations.quantile(0.5) == pytest.approx(1.0)
    assert durations.count > 190
    for _ in range(5000):
        durations.add(1.0)

    assert durations.mean == pytest.approx(1.0, rel=0.01)


def test_a_change_of_a_tenth() -> None:
    """Of jobs that vary, a change by half of what they vary is believed after some hundred."""
    values = random.Random(1)
    durations = history(*(values.gauss(10.0, 2.0) for _ in range(2000)))
    for _ in range(400):
        durations.add(values.gauss(9.0, 2.0))

    assert durations.mean == pytest.approx(9.0, rel=0.03)


def test_what_does_not_change_is_no_surprise() -> None:
    """As long as jobs only vary, hundreds of them count."""
    values = random.Random(1)
    durations = Durations()
    counts = []
    for _ in range(5000):
        durations.add(values.lognormvariate(0.0, 1.0))
        counts.append(durations.count)

    assert sum(counts) / len(counts) > 1000
    assert history(1.0).count == pytest.approx(1.0)
    assert history(*[1.0] * 100).count == pytest.approx(100.0, rel=0.01)
    assert Durations().count == 0.0


def test_fresh_history_counts_at_once() -> None:
    """While there is little history each value is seen by the next question."""
    durations = Durations()
    seen = []
    for value in (1.0, 5.0, 5.0):
        durations.add(value)
        seen.append(durations.quantile(0.5))

    assert seen == pytest.approx([1.0, 5.0, 5.0])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_quantiles_are_never_old(share: float) -> None:
    """A quantile that was asked before is found again once enough has been added to move it."""
    durations, asked_anew = Durations(), Durations()
    for number in range(300):
        value = 1.0 + number * 0.1
        durations.add(value)
        asked_anew.add(value)
        known = durations.quantile(share)
        asked_anew._table = None

        assert known == pytest.approx(asked_anew.quantile(share), rel=0.35)


@given(value=st.floats(-1e3, 1e-5))
def test_no_time_at_all(value: float) -> None:
    """What took no time took the shortest one, never none."""
    durations = history(value)

    assert 0.0 < durations.mean <= 1e-5


# Rescaling


def test_rescaling_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that would grow without end are divided now and then; no answer tells."""
    values = random.Random(1)
    often, never = Durations(), Durations()
    for _ in range(3000):
        value = values.expovariate(0.5) + 1e-3
        monkeypatch.setattr(_durations, "_RESCALE", 1e2)
        often.add(value)
        monkeypatch.setattr(_durations, "_RESCALE", 1e300)
        never.add(value)

    assert often._weight_next <= 1e2 * _durations._GROWTH
    assert often.mean == pytest.approx(never.mean)
    assert often.variance == pytest.approx(never.variance)
    for durations in (often, never):
        durations._table = None
        durations._points.clear()
        durations._means.clear()
    assert often.count == pytest.approx(never.count)
    assert often.asymmetry == pytest.approx(never.asymmetry)
    for share in (0.1, 0.5, 0.9):
        assert often.quantile(share) == pytest.approx(never.quantile(share))
    assert often.remaining(1.0) == pytest.approx(never.remaining(1.0))


def test_long_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """After many thousand values it still answers, with finite weights and few bins."""
    monkeypatch.setattr(_durations, "_RESCALE", 1e10)
    durations = Durations()
    for number in range(90_000):
        durations.add(1.0 if number < 20_000 else 2.0)

    assert durations.mean == pytest.approx(2.0)
    assert len(durations._bins) == 1
    assert durations._weight < 1e15


# Time still to go


def test_remaining() -> None:
    """What is left is the mean of those that took longer, less what is over."""
    durations = history(*random.Random(1).sample([1.0] * 500 + [10.0] * 500, 1000))

    assert durations.remaining(0.0) == pytest.approx(5.5, rel=0.15)
    assert durations.remaining(2.0) == pytest.approx(8.0)
    assert durations.remaining(9.0) == pytest.approx(1.0)


@given(st.lists(seconds, min_size=1, max_size=20), st.floats(0, 1e7))
def test_remaining_is_never_negative(values: list[float], elapsed: float) -> None:
    """A job never ends in the past, however long it has run."""
    most = max(max(values), 0.1 * elapsed)

    assert 0.0 <= history(*values).remaining(elapsed) <= most * (1 + 1e-12)


def test_longer_than_ever() -> None:
    """A job that has outlived all others needs a tenth more of what it has had."""
    durations = history(1.0, 2.0)

    assert durations.remaining(20.0) == pytest.approx(2.0)
    assert durations.quantile(0.5, 20.0) == pytest.approx(22.0)
    assert durations.slices(4, 20.0) == pytest.approx([2.0] * 4)


@given(st.lists(seconds, min_size=1, max_size=20), st.floats(0, 1e7), st.integers(1, 16))
def test_slices(values: list[float], elapsed: float, count: int) -> None:
    """Slices ascend, are never negative, and have the mean of what is left."""
    durations = history(*values)
    slices = durations.slices(count, elapsed)
    mean, variance = durations.moments(elapsed)

    assert len(slices) == count
    assert all(each >= 0.0 for each in slices)
    # What is left of half a million seconds is a difference of two such numbers.
    assert slices == pytest.approx(sorted(slices), abs=1e-6)
    assert sum(slices) / count == pytest.approx(mean, rel=1e-6, abs=1e-6 * (elapsed + 1))
    assert variance >= 0.0


def test_points() -> None:
    """Points are what so many equally likely parts of the runs take, and few are one of them."""
    durations = history(*random.Random(1).sample([1.0] * 80 + [16.0] * 20, 100))

    assert durations.points(16) == pytest.approx([1.0] * 13 + [16.0] * 3)
    assert durations.points(1) == pytest.approx([durations.quantile(0.5)])


def test_between_bins() -> None:
    """Where values are close to each other quantiles are between bins, and known to a per cent."""
    values = random.Random(1)
    durations = history(*(values.uniform(0.9, 1.1) for _ in range(3000)))

    for share in (0.2, 0.3, 0.5, 0.7, 0.8):
        assert durations.quantile(share) == pytest.approx(0.9 + 0.2 * share, rel=0.02)


@given(st.lists(seconds, min_size=1, max_size=50))
def test_asymmetry(values: list[float]) -> None:
    """The middle of many runs is at most as far below their mean as the longest allows."""
    assert 0.0 <= history(*values).asymmetry <= max(values)
    assert history(*[values[0]] * 9).asymmetry == 0.0


def test_asymmetry_of_the_exponential_distribution() -> None:
    """The middle of a sum of exponential runs is a third of one below its mean."""
    values = random.Random(1)
    durations = history(*(values.expovariate(1.0) for _ in range(5000)))

    assert durations.asymmetry == pytest.approx(1 / 3, rel=0.2)


def test_what_is_all_but_forgotten() -> None:
    """A long time ago one took very long: nothing is divided by the nothing that is left of it."""
    durations = Durations()
    durations.add(1000.0)
    for number in range(60_000):
        durations.add(0.01 if number % 2 else 0.02)

    for elapsed in (0.0, 0.015, 1.0, 500.0, 999.0, 2000.0):
        mean, variance = durations.moments(elapsed)
        assert mean >= 0.0
        assert variance >= 0.0
        assert durations.quantile(0.5, elapsed) >= 0.0
        assert len(durations.slices(4, elapsed)) == 4


def test_the_median_follows_what_is_added() -> None:
    """It is the quantile of a half, before and after the picture is drawn again."""
    durations = Durations()
    assert durations.median == 0.0
    for seconds in [1.0] * 20 + [3.0] * 200:
        durations.add(seconds)
        assert durations.median == durations.quantile(0.5)
    assert durations.median == pytest.approx(3.0)
