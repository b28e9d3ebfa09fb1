"""The line: a sorted list that knows ranks, against one that is sorted anew each time."""

from __future__ import annotations

import math
import random
from functools import total_ordering
from typing import Any

import pytest
from hypothesis import given, strategies as st

from aioqueue.engines import _line
from aioqueue.engines._line import Line

places = st.tuples(st.integers(0, 20).map(float), st.integers(0, 10**6))


def line_of(entries: list[Any]) -> Line:
    """A line that these entries have joined, one after the other."""
    line = Line()
    for entry in entries:
        line.add(entry)
    return line


def all_of(line: Line) -> list[Any]:
    """Everybody in a line."""
    return line.head(len(line) + 1)


@given(
    block=st.sampled_from([1, 2, 5, 2048]),
    steps=st.lists(st.tuples(st.sampled_from("aaarr"), places, st.integers(0, 10**6)), max_size=80),
)
def test_against_a_sorted_list(block: int, steps: list[tuple[str, Any, int]]) -> None:
    """Whoever joins and leaves: order, first, last, length, heads and ranks are a sorted list's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_line, "_BLOCK", block)
        line, expected = Line(), []
        for step, place, number in steps:
            if step == "a" and place not in expected:
                line.add(place)
                expected.append(place)
                expected.sort()
            elif step == "r" and expected:
                line.remove(expected.pop(number % len(expected)))
            assert len(line) == len(expected)
            assert all_of(line) == expected
            assert line.head(number % 7) == expected[: number % 7]
            if expected:
                assert (line.first(), line.last()) == (expected[0], expected[-1])
            # A place has a rank, whether or not anybody stands there.
            assert line.rank(place) == sum(other < place for other in expected)
            for rank, other in enumerate(expected):
                assert line.rank(other) == rank


def test_empty() -> None:
    """An empty line is false, has no heads, and every place in it is the first."""
    line = Line()

    assert not line
    assert line.head(3) == []
    assert line.rank((1.0, 1)) == 0


def test_what_an_entry_holds_is_not_compared() -> None:
    """An entry may carry anything behind its place, and a rank is asked with the place alone."""
    entries = [(float(number), number, object()) for number in range(5000)]
    line = line_of(random.Random(1).sample(entries, len(entries)))

    assert all_of(line) == entries
    assert all(line.rank(entry[:2]) == entry[1] for entry in entries)
    for entry in entries[::2]:
        line.remove(entry)
    assert all_of(line) == entries[1::2]


def test_joining_at_the_end_keeps_blocks_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that grows at its end consists of full blocks."""
    monkeypatch.setattr(_line, "_BLOCK", 10)
    line = line_of([(float(number), number) for number in range(100)])

    assert [len(block) for block in line._blocks] == [10] * 10


def test_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However entries come, no block outgrows twice its size; what is empty is gone."""
    monkeypatch.setattr(_line, "_BLOCK", 10)
    entries = [(float(number), number) for number in range(1000)]
    line = line_of(random.Random(1).sample(entries, len(entries)))
    assert max(len(block) for block in line._blocks) <= 20
    for entry in random.Random(2).sample(entries, len(entries)):
        line.remove(entry)

    assert (line._blocks, line._lasts) == ([], [])


@total_ordering
class Counted:
    """A number that counts how often it is compared."""

    comparisons = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return isinstance(other, Counted) and self.number == other.number

    def __lt__(self, other: Counted) -> bool:
        return self.number < other.number

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("size", [1_000, 100_000])
def test_cost(size: int) -> None:
    """Joining, leaving and ranks take comparisons in proportion to the logarithm of the length."""
    line = line_of([(Counted(2 * number), number) for number in range(size)])
    numbers = random.Random(1).sample(range(size), 500)

    def cost(act: Any) -> float:
        """The mean number of comparisons."""
        Counted.comparisons = 0
        for number in numbers:
            act(number)
        return Counted.comparisons / len(numbers)

    bound = 1.5 * math.log2(size)
    assert cost(lambda number: line.rank((Counted(2 * number), number))) <= bound
    assert cost(lambda number: line.add((Counted(2 * number + 1), number))) <= bound
    assert cost(lambda number: line.remove((Counted(2 * number), number))) <= bound
    assert cost(lambda number: line.add((Counted(2 * size + number), number))) <= bound
    assert cost(lambda number: line.first()) == 0
