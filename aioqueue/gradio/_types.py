"""What clients are told of a type: a JSON schema, Python's spelling of it, and a component."""

from __future__ import annotations

import dataclasses
import inspect
import os
import typing
from collections.abc import Iterator
from datetime import date, datetime, time
from enum import Enum
from typing import Annotated, Any, NewType, get_args, get_origin, is_typeddict
from uuid import UUID

import attrs

from .._annotations import (
    is_array,
    is_class,
    is_enum,
    is_literal,
    is_mapping,
    is_row,
    is_union,
    kind_of,
    option_value,
    options_of,
)
from .._upload import Upload

__all__ = ["FILE_META", "component_of", "is_file", "python_type", "schema_of"]

FILE_META = {"_type": "gradio.FileData"}
"""What clients know a file by."""

_ANYTHING = (Any, object, inspect.Parameter.empty)

_PLAIN: dict[Any, tuple[dict[str, Any], str]] = {
    str: ({"type": "string"}, "str"),
    bool: ({"type": "boolean"}, "bool"),
    int: ({"type": "integer"}, "int"),
    float: ({"type": "number"}, "float"),
    date: ({"type": "string", "format": "date"}, "str"),
    datetime: ({"type": "string", "format": "date-time"}, "str"),
    time: ({"type": "string", "format": "time"}, "str"),
    UUID: ({"type": "string", "format": "uuid"}, "str"),
    None: ({"type": "null"}, "None"),
    type(None): ({"type": "null"}, "None"),
}

_FILE = {
    "title": "FileData",
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "url": {"type": ["string", "null"]},
        "orig_name": {"type": ["string", "null"]},
        "size": {"type": ["integer", "null"]},
        "mime_type": {"type": ["string", "null"]},
        "meta": {"type": "object", "properties": {"_type": {"const": FILE_META["_type"]}}},
    },
    "required": ["path", "meta"],
}

_COMPONENTS: dict[Any, str] = {str: "Textbox", bool: "Checkbox", int: "Number", float: "Number"}

_DEEP = 8
"""How far classes within classes are told: one may have itself as a field."""


def is_file(target: Any) -> bool:
    """Whether values of a type travel as files."""
    kind = kind_of(target)
    return kind in (bytes, Upload) or (isinstance(kind, type) and issubclass(kind, os.PathLike))


def _plain(target: Any) -> Any:
    """A type without what is only written around it."""
    while True:
        if get_origin(target) is Annotated:
            target = get_args(target)[0]
        elif isinstance(target, NewType):
            target = target.__supertype__
        else:
            return target


def _choices(target: Any) -> list[Any] | None:
    """The values of a Literal or an Enum."""
    if is_literal(target):
        return [option_value(one) for one in get_args(target)]
    if is_enum(target):
        members: type[Enum] = target
        return [member.value for member in members]
    return None


def _items(target: Any) -> Any:
    return next(iter(get_args(target)), Any)


def _values(target: Any) -> Any:
    return (*get_args(target), Any, Any)[1]


def _fields(kind: Any) -> Iterator[tuple[str, Any, bool]]:
    """The fields of a class: name, type, and whether a value is needed."""
    hints = typing.get_type_hints(kind, include_extras=True)
    if is_typeddict(kind):
        needed = set(kind.__required_keys__)
    elif attrs.has(kind):
        needed = {one.name for one in attrs.fields(kind) if one.default is attrs.NOTHING}
    else:
        missing = dataclasses.MISSING
        needed = {
            one.name
            for one in dataclasses.fields(kind)
            if one.default is missing and one.default_factory is missing
        }
    for name, hint in hints.items():
        yield name, hint, name in needed


def schema_of(target: Any, depth: int = 0) -> dict[str, Any]:
    """A type as a JSON schema (draft 2020-12)."""
    target = _plain(target)
    choices = _choices(target)
    if choices is not None:
        texts = {"type": "string"} if all(isinstance(one, str) for one in choices) else {}
        return {"enum": choices, **texts}
    if is_union(target):
        return {"anyOf": [schema_of(one, depth) for one in get_args(target)]}
    if is_file(target):
        return _FILE
    if is_row(target):
        items = [schema_of(one, depth) for one in get_args(target)]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
    if is_array(target):
        return {"type": "array", "items": schema_of(_items(target), depth)}
    if is_mapping(target):
        return {"type": "object", "additionalProperties": schema_of(_values(target), depth)}
    if is_class(target):
        return _class_schema(kind_of(target), depth)
    return _PLAIN[target][0] if target in _PLAIN else {}


def _class_schema(kind: Any, depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"title": kind.__name__, "type": "object"}
    if depth < _DEEP:
        fields = list(_fields(kind))
        schema["properties"] = {name: schema_of(hint, depth + 1) for name, hint, _ in fields}
        schema["required"] = [name for name, _, needed in fields if needed]
    return schema


def python_type(target: Any, depth: int = 0) -> str:
    """A type as somebody who calls it from Python writes it."""
    target = _plain(target)
    choices = _choices(target)
    if choices is not None:
        return f"Literal[{', '.join(map(repr, choices))}]"
    if is_union(target):
        return " | ".join(dict.fromkeys(python_type(one, depth) for one in get_args(target)))
    if is_file(target):
        return "filepath"
    if is_row(target):
        return f"tuple[{', '.join(python_type(one, depth) for one in get_args(target))}]"
    if is_array(target):
        return f"list[{python_type(_items(target), depth)}]"
    if is_mapping(target):
        return f"dict[str, {python_type(_values(target), depth)}]"
    if is_class(target) and depth < _DEEP:
        fields = (
            f"{name}: {python_type(hint, depth + 1)}" for name, hint, _ in _fields(kind_of(target))
        )
        return f"dict({', '.join(fields)})"
    return _PLAIN[target][1] if target in _PLAIN else "Any"


def component_of(target: Any) -> str:
    """The component of Gradio's that a type would have; ``Api`` is the one without a face."""
    options = [one for one in map(_plain, options_of(_plain(target))) if one is not type(None)]
    if len(options) != 1:
        return "Api"
    (option,) = options
    if _choices(option) is not None:
        return "Radio"
    if is_file(option) or (is_array(option) and is_file(_items(option))):
        return "File"
    return "Api" if option in _ANYTHING else _COMPONENTS.get(option, "Api")
