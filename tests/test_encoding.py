"""JSON of what functions give back: on one line, and an error that names what has none."""

from __future__ import annotations

import enum
import subprocess
import sys
import tracemalloc
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given, settings, strategies

from aioqueue._encoding import NoJsonForm, encode

SCALARS = (
    strategies.none()
    | strategies.booleans()
    | strategies.integers(-(2**63), 2**64 - 1)
    | strategies.floats(allow_nan=False, allow_infinity=False)
    | strategies.text()
)
VALUES = strategies.recursive(
    SCALARS,
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
)


@settings(max_examples=50)
@given(VALUES)
def test_json_comes_back(value: Any) -> None:
    """Whatever JSON can hold comes back as it was, and takes one line, as an event must."""
    encoded = encode(value)

    assert orjson.loads(encoded) == value
    assert b"\n" not in encoded
    assert b"\r" not in encoded


@settings(max_examples=50)
@given(strategies.dictionaries(strategies.integers(-(2**63), 2**63 - 1), SCALARS))
def test_keys_that_are_no_strings(value: dict[int, Any]) -> None:
    """They become strings, as with the standard library."""
    assert orjson.loads(encode(value)) == {str(key): one for key, one in value.items()}


def test_attrs_classes_and_enums() -> None:
    """An attrs class is an object of all its fields at any depth; an enum member is its value."""

    @attrs.frozen(slots=True)
    class Point:
        x: int
        _y: int

    class Kind(enum.Enum):
        CORNER = "corner"

    value = {1: [Point(1, 2)], "kind": Kind.CORNER, "class": attrs.make_class("Empty", [])()}

    assert encode(value) == b'{"1":[{"x":1,"_y":2}],"kind":"corner","class":{}}'


def test_no_json_form() -> None:
    """The error is a TypeError, and says which type it was that JSON can't hold."""

    class Model:
        pass

    for value in (Model(), [Model()], {1: Model()}):
        with pytest.raises(NoJsonForm, match=r"^Type is not JSON serializable: .*Model$"):
            encode(value)
    assert issubclass(NoJsonForm, TypeError)


def test_what_is_kept_takes_no_more_room_than_it_has_bytes() -> None:
    """Ten thousand small results are a megabyte, not forty."""
    tracemalloc.start()
    try:
        kept = [encode({"number": number}) for number in range(1000)]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(kept) == 1000
    assert size < 1000 * 200


def test_wide_and_deep() -> None:
    """A value that is deep and wide does no harm: one of 4 kB crashed versions of orjson.

    In a process of its own, and more than once, since it was its heap that broke.
    """
    script = """
import orjson
value = "a"
for _ in range(100):
    value = [value] + [1] * 20
for _ in range(50):
    assert orjson.loads(orjson.dumps(value)) == value
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
