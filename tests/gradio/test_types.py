"""What clients are told of types: a schema, Python's words for it, and a component."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import date, datetime, time
from enum import Enum, IntEnum
from pathlib import Path, PurePath
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NewType,
    NotRequired,
    Required,
    TypedDict,
)
from uuid import UUID

import attrs
import orjson
import pytest

from aioqueue import Upload
from aioqueue.gradio._types import component_of, is_file, is_path, python_type, schema_of

if TYPE_CHECKING:
    from nowhere import Missing


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


Name = NewType("Name", str)


@attrs.frozen
class Item:
    name: str
    count: int = 1
    tags: list[str] = attrs.field(factory=list)
    kind: ClassVar[str] = "item"
    total: float = attrs.field(init=False, default=0.0)


@dataclass
class Point:
    x: float
    y: float = 0
    marks: list[int] = field(default_factory=list)
    kind: ClassVar[str] = "point"
    scale: InitVar[float] = 1.0
    length: float = field(init=False, default=0.0)


class Options(TypedDict, total=False):
    size: Required[int]
    note: str


class Settings(TypedDict):
    size: int
    note: NotRequired[str]


@attrs.define
class Node:
    value: int
    left: Node | None = None
    right: Node | None = None


@dataclass
class Paragraph:
    blocks: list[Block]
    parent: Quote | None = None


@dataclass
class Quote:
    blocks: list[Block]
    after: Paragraph | None = None


@dataclass
class Table:
    cells: list[list[Block]]


@dataclass
class Listing:
    entries: dict[str, Block]


Block = Paragraph | Quote | Table | Listing


@attrs.define
class Elsewhere:
    here: int
    there: Missing


class There(TypedDict):
    here: int
    there: Missing


NULL = {"type": "null"}
TEXT = {"type": "string"}
INTEGER = {"type": "integer"}

PLAIN: list[tuple[Any, Any, str, str]] = [
    (str, TEXT, "str", "Textbox"),
    (bool, {"type": "boolean"}, "bool", "Checkbox"),
    (int, INTEGER, "int", "Number"),
    (float, {"type": "number"}, "float", "Number"),
    (date, {"type": "string", "format": "date"}, "str", "Api"),
    (datetime, {"type": "string", "format": "date-time"}, "str", "Api"),
    (time, {"type": "string", "format": "time"}, "str", "Api"),
    (UUID, {"type": "string", "format": "uuid"}, "str", "Api"),
    (type(None), NULL, "None", "Api"),
    (Any, {}, "Any", "Api"),
    (object, {}, "Any", "Api"),
]

WRAPPED: list[tuple[Any, Any, str, str]] = [
    (Name, TEXT, "str", "Textbox"),
    (Annotated[int, "a mark"], INTEGER, "int", "Number"),
    (NewType("Deep", Annotated[Name, "a mark"]), TEXT, "str", "Textbox"),  # type: ignore[valid-newtype]
    (str | None, {"anyOf": [TEXT, NULL]}, "str | None", "Textbox"),
    (Annotated[int, 1] | None, {"anyOf": [INTEGER, NULL]}, "int | None", "Number"),
    (int | str, {"anyOf": [INTEGER, TEXT]}, "int | str", "Api"),
    (
        date | datetime,
        {
            "anyOf": [
                {"type": "string", "format": "date"},
                {"type": "string", "format": "date-time"},
            ]
        },
        "str",
        "Api",
    ),
]

CHOICES: list[tuple[Any, Any, str, str]] = [
    (Literal["a", "b"], {"enum": ["a", "b"], "type": "string"}, "Literal['a', 'b']", "Radio"),
    (Literal["a", 1, None], {"enum": ["a", 1, None]}, "Literal['a', 1, None]", "Radio"),
    (Colour, {"enum": ["red", "green"], "type": "string"}, "Literal['red', 'green']", "Radio"),
    (Level, {"enum": [1, 2]}, "Literal[1, 2]", "Radio"),
    (Literal[Colour.RED], {"enum": ["red"], "type": "string"}, "Literal['red']", "Radio"),
    (
        Colour | None,
        {"anyOf": [{"enum": ["red", "green"], "type": "string"}, NULL]},
        "Literal['red', 'green'] | None",
        "Radio",
    ),
]

MANY: list[tuple[Any, Any, str, str]] = [
    (list[int], {"type": "array", "items": INTEGER}, "list[int]", "Api"),
    (list, {"type": "array", "items": {}}, "list[Any]", "Api"),
    (set[str], {"type": "array", "items": TEXT}, "list[str]", "Api"),
    (Sequence[int], {"type": "array", "items": INTEGER}, "list[int]", "Api"),
    (tuple[int, ...], {"type": "array", "items": INTEGER}, "list[int]", "Api"),
    (
        tuple[int, str],
        {"type": "array", "prefixItems": [INTEGER, TEXT], "minItems": 2, "items": False},
        "tuple[int, str]",
        "Api",
    ),
    (dict, {"type": "object", "additionalProperties": {}}, "dict[str, Any]", "Api"),
    (
        Mapping[str, list[int]],
        {"type": "object", "additionalProperties": {"type": "array", "items": INTEGER}},
        "dict[str, list[int]]",
        "Api",
    ),
]

CLASSES: list[tuple[Any, Any, str, str]] = [
    (
        Item,
        {
            "title": "Item",
            "type": "object",
            "properties": {
                "name": TEXT,
                "count": INTEGER,
                "tags": {"type": "array", "items": TEXT},
            },
            "required": ["name"],
        },
        "dict(name: str, count: int, tags: list[str])",
        "Api",
    ),
    (
        Point,
        {
            "title": "Point",
            "type": "object",
            "properties": {
                "x": {"type": "number"},
                "y": {"type": "number"},
                "marks": {"type": "array", "items": INTEGER},
            },
            "required": ["x"],
        },
        "dict(x: float, y: float, marks: list[int])",
        "Api",
    ),
    *(
        (
            kind,
            {
                "title": kind.__name__,
                "type": "object",
                "properties": {"size": INTEGER, "note": TEXT},
                "required": ["size"],
            },
            "dict(size: int, note: str)",
            "Api",
        )
        for kind in (Options, Settings)
    ),
    *(
        (
            kind,
            {
                "title": kind.__name__,
                "type": "object",
                "properties": {"here": {}, "there": {}},
                "required": ["here", "there"],
            },
            "dict(here: Any, there: Any)",
            "Api",
        )
        for kind in (Elsewhere, There)
    ),
]


@pytest.mark.parametrize(
    ("target", "schema", "words", "component"), [*PLAIN, *WRAPPED, *CHOICES, *MANY, *CLASSES]
)
def test_type(target: Any, schema: Any, words: str, component: str) -> None:
    """Each kind of annotation has its schema, its words and its component."""
    assert schema_of(target) == schema
    assert python_type(target) == words
    assert component_of(target) == component


@pytest.mark.parametrize(
    "target", [bytes, Upload, Upload | None, list[Upload], list[bytes]], ids=str
)
def test_files(target: Any) -> None:
    """Whatever travels as a file is one for clients, also where it may be missing or several."""
    assert component_of(target) == "File"
    assert "filepath" in python_type(target)
    assert b'"gradio.FileData"' in orjson.dumps(schema_of(target))


def test_what_is_a_file() -> None:
    """A file is bytes or an upload; text is none, and a path is text that a client chooses."""
    assert [is_file(kind) for kind in (bytes, Upload, Path)] == [True, True, False]
    assert [is_path(kind) for kind in (Path, PurePath, str)] == [True, True, False]
    assert (schema_of(Path), python_type(Path)) == ({"type": "string"}, "str")
    assert component_of(Path) == "Textbox"
    assert [is_file(kind) for kind in (str, list[bytes], bytearray, Any, None)] == [False] * 5
    assert schema_of(bytes)["required"] == ["path", "meta"]
    assert python_type(list[Upload]) == "list[filepath]"
    assert python_type(bytes | None) == "filepath | None"


def test_a_class_within_itself() -> None:
    """A class that has itself as a field is told once."""
    inner = {"anyOf": [{"title": "Node", "type": "object"}, NULL]}
    assert schema_of(Node) == {
        "title": "Node",
        "type": "object",
        "properties": {"value": INTEGER, "left": inner, "right": inner},
        "required": ["value"],
    }
    assert python_type(Node) == "dict(value: int, left: dict | None, right: dict | None)"


def test_classes_within_each_other() -> None:
    """Classes that have each other as fields come to an end, and to no book."""
    assert len(orjson.dumps(schema_of(list[Block]))) < 50_000
    assert len(python_type(list[Block])) < 5_000


def test_deep_classes() -> None:
    """Classes in classes are told to some depth; below it only that they are objects."""
    kind: Any = int
    for number in range(9):
        kind = attrs.make_class(f"Level{number}", {"inner": attrs.field(type=kind)})
    words = python_type(kind)
    assert words == "dict(inner: dict(inner: dict(inner: dict(inner: dict))))"
    schema = schema_of(kind)
    for _ in range(4):
        schema = schema["properties"]["inner"]
    assert schema == {"title": "Level4", "type": "object"}
