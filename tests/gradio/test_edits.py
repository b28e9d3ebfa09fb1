"""What changed between two values: applied to the old one, it makes the new one, types and all."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from gradio_client.utils import apply_diff
from hypothesis import example, given, strategies as st

from aioqueue.gradio._edits import edits

Edit = list[Any]


def apply(value: Any, changes: list[Edit]) -> Any:
    """Make the changes, as the protocol says what they mean."""
    root = [copy.deepcopy(value)]
    for action, path, new in changes:
        *way, last = (0, *path)
        place: Any = root
        for step in way:
            place = place[step]
        match action:
            case "replace":
                assert last in range(len(place)) if isinstance(place, list) else last in place
                place[last] = new
            case "append":
                assert isinstance(place[last], str)
                place[last] += new
            case "add" if isinstance(place, list):
                assert 0 <= last <= len(place)
                place.insert(last, new)
            case "add":
                assert last not in place
                place[last] = new
            case "delete":
                assert new is None
                del place[last]
            case _:
                raise AssertionError(action)
    (value,) = root
    return value


def json_of(value: Any) -> bytes:
    """A value as JSON, where true is not 1 and 1 is not 1.0."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


# Minus nought is nought.
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.floats(-2, 2).map(lambda number: number + 0.0)
    | st.text("ab", max_size=3)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab0", max_size=1), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values, values)
@example(True, 1)
@example(1, 1.0)
@example([1, True], [1.0, 1])
@example({"a": 0}, {"a": False})
@example([], {})
@example("", "a")
@example([1, 2, 3], [])
@example({"a": 1, "b": {"a": None}}, {"b": {"a": 0}, "c": 1})
def test_applied(old: Any, new: Any) -> None:
    """Whatever the two values, the changes lead from one to the other; the old one stays."""
    before = json_of(old)
    changes = edits(old, new)
    assert json_of(old) == before
    assert json_of(apply(old, changes)) == json_of(new)
    assert json_of(apply_diff(old, changes)) == json_of(new)
    assert (changes == []) == (orjson.dumps(old) == orjson.dumps(new))


@given(values)
def test_unchanged(value: Any) -> None:
    """Of what has not changed nothing is said."""
    assert edits(value, copy.deepcopy(value)) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (1, 2, [["replace", [], 2]]),
        ("he", "hel", [["append", [], "l"]]),
        ("hel", "he", [["replace", [], "he"]]),
        ("", "he", [["append", [], "he"]]),
        ("a", None, [["replace", [], None]]),
        (1, True, [["replace", [], True]]),
        ([1], [1.0], [["replace", [], [1.0]]]),
        ({"a": "x"}, {"a": "xy"}, [["replace", [], {"a": "xy"}]]),
    ],
)
def test_examples(old: Any, new: Any, expected: list[Edit]) -> None:
    """A text that grows is told by what is new of it, anything else whole."""
    assert edits(old, new) == expected


@pytest.mark.parametrize("depth", [1, 250, 900])
def test_deep(depth: int) -> None:
    """However deep two values are, they can be told apart."""
    old, same, new = (
        orjson.loads(b"[" * depth + leaf + b"]" * depth) for leaf in (b"1", b"1", b"2")
    )
    assert edits(old, same) == []
    assert edits(old, new) == [["replace", [], new]]
