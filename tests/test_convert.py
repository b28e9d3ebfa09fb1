"""Strict conversion: what each annotation takes, and what it says of everything else."""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict
from uuid import UUID

import attrs
import orjson
import pytest
from aiohttp import web
from cattrs.errors import StructureHandlerNotFoundError
from hypothesis import given, strategies as st

from aioqueue._annotations import describe
from aioqueue._convert import JSON, hooks_for
from aioqueue._mismatches import mismatches


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@attrs.frozen
class Point:
    x: int
    y: int


@attrs.define
class Item:
    name: str
    at: Point | None = None
    tags: list[str] = attrs.field(factory=list)


@dataclass
class Order:
    items: list[Item]
    note: str = ""


@attrs.define
class Node:
    value: int
    below: list[Node] = attrs.field(factory=list)


@attrs.define
class Even:
    """A class with a rule of its own, which says something that is not for strangers."""

    value: int = attrs.field()

    @value.validator
    def _check(self, attribute: Any, value: int) -> None:
        if value % 2:
            raise ValueError("secret")


@attrs.define
class Bad:
    inner: list[object]


@attrs.define
class Own:
    """A class whose field has a converter of its own, for a type that has none here."""

    price: Decimal = attrs.field(converter=Decimal)


class Size(TypedDict):
    width: int
    height: int


class Pair(NamedTuple):
    left: int
    right: int


UserId = NewType("UserId", int)
A_UUID = "01234567-89ab-cdef-0123-456789abcdef"


def from_json(value: Any, annotation: Any) -> Any:
    """A value of a type, from parsed JSON."""
    return hooks_for(annotation)[0](value, annotation)


def from_text(value: Any, annotation: Any) -> Any:
    """A value of a type, from the text of a path or query."""
    return hooks_for(annotation)[1](value, annotation)


def wrong(make: Any, annotation: Any, value: Any) -> list[tuple[str, str]]:
    """What is said of a value that does not fit, as (field, message)."""
    with pytest.raises(Exception) as failure:  # noqa: PT011 cattrs has many, and so has an app
        make(value, annotation)
    return [(one.field, one.message) for one in mismatches("x", annotation, failure.value)]


JSON_TAKES = [
    (int, "5", 5),
    (int, "1.0", 1),
    (int, "-0.0", 0),
    (int, "18446744073709551615", 2**64 - 1),
    (int, "-9223372036854775808", -(2**63)),
    (float, "5", 5.0),
    (float, "1e300", 1e300),
    (bool, "true", True),
    (str, '"5"', "5"),
    (Any, '{"a":[1]}', {"a": [1]}),
    (None, "null", None),
    (UserId, "5", 5),
    (Literal["a", 1], "1", 1),
    (Literal["a", 1], "1.0", 1),
    (Literal[True, None], "null", None),
    (Literal[Color.RED], '"red"', Color.RED),
    (Color, '"blue"', Color.BLUE),
    (Level, "2", Level.HIGH),
    (date, '"2026-11-25"', date(2026, 11, 25)),
    (datetime, '"2026-11-25T01:02:03"', datetime(2026, 11, 25, 1, 2, 3)),
    (time, '"01:02"', time(1, 2)),
    (UUID, f'"{A_UUID}"', UUID(A_UUID)),
    (Optional[int], "null", None),  # noqa: UP045 people write it
    (int | None, "5", 5),
    (int | str, '"5"', "5"),
    (str | int, "5", 5),
    (float | int, "5", 5),
    (int | float, "1.0", 1.0),
    (bool | int, "true", True),
    (str | date, '"2026-11-25"', date(2026, 11, 25)),
    (str | Color, '"red"', Color.RED),
    (Point | dict, '{"x":1,"y":2}', Point(1, 2)),
    (Point | dict, '{"z":1}', {"z": 1}),
    (Point | Item, '{"name":"a"}', Item("a")),
    (list, "[1,null]", [1, None]),
    (list[int], "[1,2.0]", [1, 2]),
    (list[list[str]], '[["a"],[]]', [["a"], []]),
    (list[Annotated[int, "years"]], "[1]", [1]),
    (Sequence[int], "[1]", (1,)),
    (Iterable[int], "[1]", (1,)),
    (set[int], "[1,1]", {1}),
    (AbstractSet[int], "[1]", frozenset({1})),
    (deque[int], "[1]", deque([1])),
    (tuple, "[1]", (1,)),
    (tuple[int, ...], "[1,2]", (1, 2)),
    (tuple[int, str], '[1,"a"]', (1, "a")),
    (dict, '{"a":1}', {"a": 1}),
    (dict[str, int], '{"a":1}', {"a": 1}),
    (dict[int, str], '{"1":"a"}', {1: "a"}),
    (Mapping[Color, int], '{"red":1}', {Color.RED: 1}),
    (Size, '{"width":1,"height":2}', {"width": 1, "height": 2}),
    (Point, '{"x":1,"y":2}', Point(1, 2)),
    (Item, '{"name":"a","at":{"x":1,"y":2},"tags":["b"]}', Item("a", Point(1, 2), ["b"])),
    (Order, '{"items":[{"name":"a"}]}', Order([Item("a")])),
    (Own, '{"price":"1.5"}', Own("1.5")),
    (Node, '{"value":1,"below":[{"value":2}]}', Node(1, [Node(2)])),
    (list[Node], '[{"value":1,"below":[{"value":2}]}]', [Node(1, [Node(2)])]),
]


@pytest.mark.parametrize(("annotation", "text", "expected"), JSON_TAKES, ids=str)
def test_json_that_fits(annotation: Any, text: str, expected: object) -> None:
    """JSON of the right type becomes a value of that type, and no other."""
    made = from_json(orjson.loads(text), annotation)

    assert made == expected
    assert type(made) is type(expected)


JSON_REFUSES = [
    (int, '"5"', "must be a whole number, not a string"),
    (int, "true", "must be a whole number, not true"),
    (int, "1.5", "must be a whole number, not 1.5"),
    (int, "null", "must be a whole number, not null"),
    (int, "18446744073709551617", "must be a whole number of 64 bits, not 1.8446744073709552e+19"),
    (int, "-9223372036854775809", "must be a whole number of 64 bits, not -9.223372036854776e+18"),
    (int, "1e300", "must be a whole number of 64 bits, not 1e+300"),
    (float, '"1.5"', "must be a number, not a string"),
    (float, "false", "must be a number, not false"),
    (bool, "1", "must be true or false, not a number"),
    (bool, '"true"', "must be true or false, not a string"),
    (str, "1", "must be a string, not a number"),
    (str, "[]", "must be a string, not an array"),
    (None, "0", "must be null, not a number"),
    (UserId, '"5"', "must be a whole number, not a string"),
    (bytes, '"YWJj"', "must be a file (multipart/form-data), not a string"),
    (Literal["a", "b"], '"c"', 'must be one of "a", "b", not "c"'),
    (Literal[1], "true", "must be one of 1, not true"),
    (Literal[1], '"1"', 'must be one of 1, not "1"'),
    (Literal[True], "1", "must be one of true, not 1"),
    (Literal["a"], '["a"]', 'must be one of "a", not an array'),
    (Color, '"RED"', 'must be one of "red", "blue", not "RED"'),
    (Color, '{"value":"red"}', 'must be one of "red", "blue", not an object'),
    (Level, "true", "must be one of 1, 2, not true"),
    (Level, '"1"', 'must be one of 1, 2, not "1"'),
    (date, "0", "must be a date (ISO 8601), not a number"),
    (date, '"soon"', 'must be a date (ISO 8601), not "soon"'),
    (UUID, '"1"', 'must be a UUID, not "1"'),
    (UUID, f'"{"f" * 50}"', f'must be a UUID, not "{"f" * 40}…"'),
    (int | None, '"5"', "must be a whole number, not a string"),
    (int | str, "null", "must be a whole number or a string, not null"),
    (int | str, "true", "must be a whole number or a string, not true"),
    (int | float, '"5"', "must be a whole number or a number, not a string"),
    (list | set, "1", "must be an array, not a number"),
    (Point | Item, '{"z":1}', "must be an object, not this one"),
    (list, '"ab"', "must be an array, not a string"),
    (list[str], '"ab"', "must be an array, not a string"),
    (list[str], '{"a":"b"}', "must be an array, not an object"),
    (Sequence[str], '"ab"', "must be an array, not a string"),
    (Iterable[str], '"ab"', "must be an array, not a string"),
    (set[str], '"ab"', "must be an array, not a string"),
    (tuple[int, str], "[1]", "must be an array of 2, not an array of 1"),
    (tuple[int, str], "{}", "must be an array of 2, not an object"),
    (dict, "[]", "must be an object, not an array"),
    (dict, '""', "must be an object, not a string"),
    (dict, '[["a",1]]', "must be an object, not an array"),
    (Mapping[str, int], "[]", "must be an object, not an array"),
    (Size, "[]", "must be an object, not an array"),
    (Point, "[1,2]", "must be an object, not an array"),
    (Item, '"name"', "must be an object, not a string"),
    (Order, "null", "must be an object, not null"),
    (Even, "1", "must be an object, not a number"),
]


@pytest.mark.parametrize(("annotation", "text", "message"), JSON_REFUSES, ids=str)
def test_json_that_does_not_fit(annotation: Any, text: str, message: str) -> None:
    """JSON of another type is refused, in words about what should be there and what is."""
    assert wrong(from_json, annotation, orjson.loads(text)) == [("x", message)]


NESTED = [
    (list[int], '[1,"a",2,true]', {"x[1]": "not a string", "x[3]": "not true"}),
    (list[Annotated[int, "years"]], '["1"]', {"x[0]": "not a string"}),
    (list[list[str]], '["ab",[1]]', {"x[0]": "not a string", "x[1][0]": "not a number"}),
    (tuple[int, str], '["a",1]', {"x[0]": "not a string", "x[1]": "not a number"}),
    (dict[str, int], '{"a":"b"}', {"x.a": "not a string"}),
    (dict[int, int], '{"a":1}', {"x.a": 'not "a"'}),
    (list[Item] | None, '[{"name":1}]', {"x[0].name": "not a number"}),
    (str | list[int], '["a"]', {"x[0]": "not a string"}),
    (Item | str, '{"name":1}', {"x.name": "not a number"}),
    (Size, '{"width":"a"}', {"x.width": "not a string", "x.height": "is missing"}),
    (Point, '{"x":1.5,"z":0}', {"x.x": "1.5", "x.y": "is missing", "x.z": "not a field here"}),
    (
        Order,
        '{"items":[{"name":"a"},{"at":{"x":1,"y":"b"},"tags":"c"}],"z":0}',
        {
            "x.items[1].name": "is missing",
            "x.items[1].at.y": "not a string",
            "x.items[1].tags": "must be an array, not a string",
            "x.z": "is not a field here",
        },
    ),
    (Node, '{"value":1,"below":[{"value":"a"}]}', {"x.below[0].value": "not a string"}),
]


@pytest.mark.parametrize(("annotation", "text", "expected"), NESTED, ids=str)
def test_where_it_does_not_fit(annotation: Any, text: str, expected: dict[str, str]) -> None:
    """Whatever is wrong inside is said, each with the way to it, and nothing else is."""
    said = dict(wrong(from_json, annotation, orjson.loads(text)))

    assert said.keys() == expected.keys()
    assert all(said[field].endswith(message) for field, message in expected.items())


def test_a_rule_of_the_app_keeps_its_words() -> None:
    """An app's own check refuses a value; what it says is not for strangers."""
    assert wrong(from_json, list[Even], [{"value": 2}, {"value": 3}]) == [("x[1]", "is not valid")]


TEXT_TAKES = [
    (int, "5", 5),
    (int, "-5", -5),
    (float, "1.5e3", 1500.0),
    (bool, "true", True),
    (bool, "True", True),
    (bool, "1", True),
    (bool, "false", False),
    (bool, "0", False),
    (str, "5", "5"),
    (Any, "5", "5"),
    (int | None, "5", 5),
    (int | str, "5", 5),
    (str | int, "5", 5),
    (int | str, "a", "a"),
    (int | float, "1.5", 1.5),
    (Literal["a", 1, True, None], "1", 1),
    (Literal["a", 1, True, None], "true", True),
    (Literal["a", 1, True, None], "null", None),
    (Color, "red", Color.RED),
    (Level, "2", Level.HIGH),
    (date, "2026-11-25", date(2026, 11, 25)),
    (UUID, A_UUID, UUID(A_UUID)),
    (UserId, "5", 5),
    (list[int], ["1", "2"], [1, 2]),
    (list[int] | None, ["1"], [1]),
    (set[Color], ["red"], {Color.RED}),
    (tuple[bool, ...], ["1", "false"], (True, False)),
]


@pytest.mark.parametrize(("annotation", "text", "expected"), TEXT_TAKES, ids=str)
def test_text_that_fits(annotation: Any, text: Any, expected: object) -> None:
    """The text of a path or query is parsed into the type it stands for."""
    made = from_text(text, annotation)

    assert made == expected
    assert type(made) is type(expected)


TEXT_REFUSES = [
    (int, "1_000", 'must be a whole number, not "1_000"'),
    (int, " 5", 'must be a whole number, not " 5"'),
    (int, "٣", 'must be a whole number, not "٣"'),
    (int, "1.0", 'must be a whole number, not "1.0"'),
    (int, "", 'must be a whole number, not ""'),
    (int, "18446744073709551616", 'must be a whole number, not "18446744073709551616"'),
    (int, "0" * 40 + "5", f'must be a whole number, not "{"0" * 40}…"'),
    (int, "9" * 5000, f'must be a whole number, not "{"9" * 40}…"'),
    (float, "nan", 'must be a number, not "nan"'),
    (float, "-inf", 'must be a number, not "-inf"'),
    (float, "1e400", 'must be a number, not "1e400"'),
    (float, "1_0", 'must be a number, not "1_0"'),
    (float, "٣", 'must be a number, not "٣"'),
    (bool, "yes", 'must be true or false, not "yes"'),
    (int | None, "null", 'must be a whole number, not "null"'),
    (int | bool, "x", "must be a whole number or true or false, not a string"),
    (Literal["a", 1], "b", 'must be one of "a", 1, not "b"'),
    (Level, "HIGH", 'must be one of 1, 2, not "HIGH"'),
    (bytes, "abc", "must be a file (multipart/form-data), not a string"),
    (Point, '{"x":1}', "must be an object, not a string"),
    (dict, "{}", "must be an object, not a string"),
    (list[int], "1", "must be an array, not a string"),
    (int, ["1"], "must be a whole number, not an array"),
]


@pytest.mark.parametrize(
    ("annotation", "text", "message"), TEXT_REFUSES, ids=lambda it: str(it)[:40]
)
def test_text_that_does_not_fit(annotation: Any, text: Any, message: str) -> None:
    """Text that stands for nothing of the type is refused, and shown, but never at length."""
    assert wrong(from_text, annotation, text) == [("x", message)]


def test_the_first_that_fits() -> None:
    """A union is tried in its own order, whatever an equal one elsewhere in the app says."""
    assert (int | float) == (float | int)
    assert (bool | int) == (int | bool)

    assert type(from_text("1", int | float)) is int
    assert type(from_text("1", float | int)) is float
    assert type(from_text("1", list[bool | int] | bool | int)) is bool
    assert type(from_text("1", list[bool | int] | int | bool)) is int
    assert from_text(["1"], list[bool | int]) == [True]
    assert from_json({"x": 1, "y": 2}, dict | Point) == {"x": 1, "y": 2}
    assert from_json([{"x": 1, "y": 2}], list[Point | dict]) == [Point(1, 2)]
    assert from_json([{"x": 1, "y": 2}], list[dict | Point]) == [{"x": 1, "y": 2}]


def test_files_are_bytes() -> None:
    """A file is for `bytes` or for anything; nothing else takes one for text."""
    assert from_json(b"a", bytes) == from_json(b"a", Any) == b"a"
    assert from_json(b"a", bytes | None) == from_json(b"a", str | bytes) == b"a"
    assert wrong(from_json, str, b"a") == [("x", "must be a string, not a file")]


class Word(str):
    """A str of its own; making a plain one of it would be a lie."""


UNMAKEABLE = [
    *[Pair, object, list[object], Order | complex, type, Word, Literal["a"] | Word, Bad],
    *[web.Request, OrderedDict[str, int], list[Word], dict[str, Word]],
]


@pytest.mark.parametrize("annotation", UNMAKEABLE, ids=str)
def test_types_that_nothing_makes(annotation: Any) -> None:
    """A type that no JSON becomes is found before the first request, not by each of them."""
    with pytest.raises(StructureHandlerNotFoundError, match="can't be made from JSON"):
        hooks_for(annotation)


def test_types_that_can_be_made() -> None:
    """A type that JSON or text becomes is never refused at the start."""
    for annotation, _, _ in JSON_TAKES + TEXT_TAKES:
        hooks_for(annotation)


def test_description_of_what_is_rare() -> None:
    """Whatever stands in an annotation has words."""
    assert describe(Point | Item | None) == "an object or null"
    assert describe(UserId) == "a whole number"
    assert describe(Annotated[int, "years"]) == "a whole number"
    assert describe(complex) == "complex"
    assert describe(Literal[None, True]) == "one of null, true"
    assert describe(Literal[Color.RED]) == 'one of "red"'


# Any types, any JSON

atoms = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5)
numbers = st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    atoms | numbers,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
point = st.fixed_dictionaries({"x": st.integers(-9, 9), "y": st.integers(-9, 9)})
plain: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1) | st.integers(-9, 9).map(float),
    float: numbers | st.integers(-9, 9),
    bool: st.booleans(),
    str: st.text(max_size=5),
    None: st.none(),
    Any: anything,
    Color: st.sampled_from(["red", "blue"]),
    Level: st.sampled_from([1, 2, 2.0]),
    Literal["a", 1, None]: st.sampled_from(["a", 1, 1.0, None]),
    Point: point,
}

Typed = tuple[Any, st.SearchStrategy[Any]]


def _larger(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    short = {"max_size": 3}
    return st.one_of(
        inner.map(lambda one: (list[one[0]], st.lists(one[1], **short))),
        inner.map(lambda one: (tuple[one[0], ...], st.lists(one[1], **short))),
        inner.map(lambda one: (dict[str, one[0]], st.dictionaries(st.text(), one[1], **short))),
        inner.map(lambda one: (Optional[one[0]], st.none() | one[1])),  # noqa: UP045 None | None
        st.tuples(inner, inner).map(
            lambda two: (tuple[two[0][0], two[1][0]], st.tuples(two[0][1], two[1][1]).map(list))
        ),
    )


typed = st.recursive(st.sampled_from(list(plain.items())), _larger, max_leaves=4)


def as_json(value: Any) -> Any:
    """What becomes of a value on its way out."""
    return orjson.loads(orjson.dumps(JSON.unstructure(value)))


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON, where true is not 1, but 1.0 is."""
    if isinstance(one, list | tuple):
        return (
            isinstance(other, list)
            and [*map(len, (one, other))] == [len(one)] * 2
            and all(map(same, one, other))
        )
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(same(value, other[key]) for key, value in one.items())
        )
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return float(one) == float(other)
    return bool(type(one) is type(other) and one == other)


@given(st.data(), typed)
def test_what_fits_comes_through(data: st.DataObject, one: Typed) -> None:
    """JSON that fits its type, whatever that is, becomes a value that says the same."""
    annotation, values = one
    value = orjson.loads(orjson.dumps(data.draw(values)))

    assert same(as_json(from_json(value, annotation)), value)


@given(typed, anything)
def test_nothing_is_bent_to_fit(one: Typed, value: Any) -> None:
    """Any JSON for any type: what is made says what was sent, or the answer says what is wrong."""
    annotation = one[0]
    try:
        made = from_json(value, annotation)
    except Exception as error:
        found = list(mismatches("x", annotation, error))

        assert found
        assert all(mismatch.field[0] == "x" for mismatch in found)
        assert orjson.loads(orjson.dumps([mismatch.document() for mismatch in found]))
    else:
        assert same(as_json(made), value)


@given(
    st.sampled_from([int, float, bool, str, Color, Level, date, UUID, Literal["a", 1]]), st.text()
)
def test_any_text_is_read_or_refused(annotation: Any, text: str) -> None:
    """Any text for any type is a value of that type, or one mistake with words."""
    try:
        made = from_text(text, annotation)
    except ValueError as error:
        (found,) = mismatches("x", annotation, error)

        assert found.field == "x"
        assert found.message.startswith(f"must be {describe(annotation)}, not ")
    else:
        assert made in ("a", 1) if annotation == Literal["a", 1] else type(made) is annotation


# Much of it


@attrs.define
class Counted:
    """Counts how many of it were made."""

    value: Any = attrs.field()
    made = 0

    @value.validator
    def _count(self, attribute: Any, value: Any) -> None:
        Counted.made += 1
        raise ValueError


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (list[Counted], [{"value": 1}] * 1000),
        (tuple[Counted, ...], [{"value": 1}] * 1000),
        (dict[str, Counted], {str(key): {"value": 1} for key in range(1000)}),
        (list[list[Counted]], [[{"value": 1}] * 1000]),
    ],
    ids=str,
)
def test_a_thousand_mistakes_are_not_looked_for(annotation: Any, value: Any) -> None:
    """After twenty wrong parts of an array or object nobody looks at the rest."""
    Counted.made = 0
    found = wrong(from_json, annotation, value)

    assert (len(found), Counted.made) == (20, 20)


def test_deeper_than_python_goes() -> None:
    """Data that nests deeper than Python's stack is refused, not a crash."""
    deep: dict[str, Any] = {"value": 1}
    for _ in range(1000):
        deep = {"value": 1, "below": [deep]}

    ((field, message),) = wrong(from_json, Node, deep)
    assert field.startswith("x.below[0].below[0]")
    assert message == "is nested too deeply"
