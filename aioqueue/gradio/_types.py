"""What clients are told of a type: a JSON schema, Python's spelling of it, and a component."""

from __future__ import annotations

import dataclasses
import inspect
import os
import typing
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from enum import Enum
from typing import (
    Annotated,
    Any,
    NewType,
    NotRequired,
    Required,
    get_args,
    get_origin,
    is_typeddict,
)
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

__all__ = [
    "FILE_META",
    "component_of",
    "is_file",
    "is_path",
    "python_type",
    "schema_of",
    "takes_null",
]

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

_DEEP = 4
"""How far classes within classes are told: a few that have each other as fields have no end, and
no size that anybody reads.  Within itself a class is not told again at all."""


def is_file(target: Any) -> bool:
    """Whether values of a type travel as files."""
    return kind_of(target) in (bytes, Upload)


def is_path(target: Any) -> bool:
    """Whether it is a path: as a result that stands for a file, as an argument it is a text."""
    kind = kind_of(_plain(target))
    return isinstance(kind, type) and issubclass(kind, os.PathLike)


def _plain(target: Any) -> Any:
    """A type without what is only written around it."""
    while True:
        if get_origin(target) in (Annotated, Required, NotRequired):
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
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception:  # a result's class may name what is there for a type checker only
        hints = {}
    if is_typeddict(kind):
        keys = kind.__required_keys__ | kind.__optional_keys__
        needed = {name: _is_needed(kind, name, hints.get(name)) for name in hints or sorted(keys)}
    elif attrs.has(kind):
        needed = {one.name: one.default is attrs.NOTHING for one in attrs.fields(kind) if one.init}
    else:
        missing = dataclasses.MISSING
        needed = {
            one.name: one.default is missing and one.default_factory is missing
            for one in dataclasses.fields(kind)
            if one.init
        }
    for name, is_needed in needed.items():
        yield name, hints.get(name, Any), is_needed


def _is_needed(kind: Any, name: str, hint: Any) -> bool:
    """Whether a key must be there; where annotations are texts, the class does not know."""
    if get_origin(hint) in (Required, NotRequired):
        return get_origin(hint) is Required
    return name in kind.__required_keys__


def schema_of(target: Any, within: Sequence[Any] = ()) -> dict[str, Any]:
    """A type as a JSON schema (draft 2020-12)."""
    target = str if is_path(target) else _plain(target)
    choices = _choices(target)
    if choices is not None:
        texts = {"type": "string"} if all(isinstance(one, str) for one in choices) else {}
        return {"enum": choices, **texts}
    if is_union(target):
        return {"anyOf": [schema_of(one, within) for one in get_args(target)]}
    if is_file(target):
        return _FILE
    if is_row(target):
        items = [schema_of(one, within) for one in get_args(target)]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
    if is_array(target):
        return {"type": "array", "items": schema_of(_items(target), within)}
    if is_mapping(target):
        return {"type": "object", "additionalProperties": schema_of(_values(target), within)}
    if is_class(target):
        return _class_schema(kind_of(target), within)
    return _PLAIN[target][0] if target in _PLAIN else {}


def _is_told(kind: Any, within: Sequence[Any]) -> bool:
    """Whether the fields of a class are told, which stands within those classes."""
    return kind not in within and len(within) < _DEEP


def _class_schema(kind: Any, within: Sequence[Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {"title": kind.__name__, "type": "object"}
    if _is_told(kind, within):
        fields, within = list(_fields(kind)), (*within, kind)
        schema["properties"] = {name: schema_of(hint, within) for name, hint, _ in fields}
        schema["required"] = [name for name, _, needed in fields if needed]
    return schema


def python_type(target: Any, within: Sequence[Any] = ()) -> str:
    """A type as somebody who calls it from Python writes it."""
    target = str if is_path(target) else _plain(target)
    choices = _choices(target)
    if choices is not None:
        return f"Literal[{', '.join(map(repr, choices))}]"
    if is_union(target):
        return " | ".join(dict.fromkeys(python_type(one, within) for one in get_args(target)))
    if is_file(target):
        return "filepath"
    if is_row(target):
        return f"tuple[{', '.join(python_type(one, within) for one in get_args(target))}]"
    if is_array(target):
        return f"list[{python_type(_items(target), within)}]"
    if is_mapping(target):
        return f"dict[str, {python_type(_values(target), within)}]"
    if is_class(target):
        return _class_type(kind_of(target), within)
    return _PLAIN[target][1] if target in _PLAIN else "Any"


def _class_type(kind: Any, within: Sequence[Any]) -> str:
    if not _is_told(kind, within):
        return "dict"
    within = (*within, kind)
    fields = (f"{name}: {python_type(hint, within)}" for name, hint, _ in _fields(kind))
    return f"dict({', '.join(fields)})"


def takes_null(target: Any) -> bool:
    """Whether null is a value of a type."""
    options = map(_plain, options_of(_plain(target)))
    return any(one is None or one is type(None) or one in _ANYTHING for one in options)


def component_of(target: Any) -> str:
    """The component of Gradio's that a type would have; ``Api`` is the one without a face."""
    options = [one for one in map(_plain, options_of(_plain(target))) if one is not type(None)]
    if len(options) != 1:
        return "Api"
    option = str if is_path(options[0]) else options[0]
    if _choices(option) is not None:
        return "Radio"
    if is_file(option) or (is_array(option) and is_file(_items(option))):
        return "File"
    return "Api" if option in _ANYTHING else _COMPONENTS.get(option, "Api")
