"""What an annotation stands for, and how to say it to somebody who does not know Python."""

from __future__ import annotations

import types
import typing
from collections import abc, deque
from collections.abc import Callable
from dataclasses import is_dataclass
from datetime import date, datetime, time
from enum import Enum
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin, is_typeddict
from uuid import UUID

import attrs

from ._errors import ConfigurationError
from ._upload import Upload

__all__ = [
    "ARRAYS",
    "describe",
    "hints_of",
    "is_array",
    "is_class",
    "is_enum",
    "is_literal",
    "is_mapping",
    "is_row",
    "is_somebodys_own",
    "is_union",
    "kind_of",
    "kind_of_value",
    "option_value",
    "options_of",
    "quoted",
    "result_type",
    "shape_of",
]

ARRAYS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    set: set,
    frozenset: frozenset,
    tuple: tuple,
    deque: deque,
    abc.Iterable: tuple,
    abc.Collection: tuple,
    abc.Sequence: tuple,
    abc.MutableSequence: list,
    abc.Set: frozenset,
    abc.MutableSet: set,
}
"""The classes that come as JSON arrays, and what each is made by."""

_GENERATORS = (abc.Iterator, abc.Generator, abc.AsyncIterator, abc.AsyncGenerator)
"""What a function is annotated to return that yields."""

_PLAIN = (str, bytes, int, float, bool)

_MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)


# Where types stand


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function, by parameter, with that of what it returns.

    Raises:
        ConfigurationError: one is no type at run time.
    """
    name = function.__qualname__
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"{name}: the annotation {error.name!r} can't be found. Names in annotations must be "
            "importable at run time, not only under TYPE_CHECKING."
        ) from None
    except Exception as error:
        raise ConfigurationError(
            f"{name}: an annotation can't be evaluated ({error}). Annotations must be types at run "
            "time, not only for a type checker."
        ) from None


# What a type is


def is_union(target: Any) -> bool:
    """Whether a type is one of several."""
    origin: Any = get_origin(target)
    return origin is Union or origin is types.UnionType


def kind_of(target: Any) -> Any:
    """The plain class of a type: list for list[int]."""
    return get_origin(target) or target


def is_array(target: Any) -> bool:
    return kind_of(target) in ARRAYS and not is_row(target)


def is_row(target: Any) -> bool:
    """Whether it is a tuple with a type for each place."""
    arguments = get_args(target)
    return kind_of(target) is tuple and bool(arguments) and arguments[-1] is not Ellipsis


def is_mapping(target: Any) -> bool:
    return kind_of(target) in _MAPPINGS


def is_class(target: Any) -> bool:
    """Whether it is a class whose fields have types."""
    kind = kind_of(target)
    if kind is Upload:
        return False  # nobody may fill its fields, least of all its path
    return isinstance(kind, type) and (attrs.has(kind) or is_dataclass(kind) or is_typeddict(kind))


def is_enum(target: Any) -> bool:
    return isinstance(target, type) and issubclass(target, Enum)


def is_literal(target: Any) -> bool:
    return kind_of(target) is Literal


def is_somebodys_own(target: Any) -> bool:
    """Whether it is a class made of a plain one, such as a str that means something."""
    kind = kind_of(target)
    known = kind in _PLAIN or kind in ARRAYS or kind in _MAPPINGS or is_class(kind)
    return isinstance(kind, type) and issubclass(kind, (abc.Iterable, *_PLAIN)) and not known


def options_of(target: Any) -> tuple[Any, ...]:
    """The types that a value may have one of."""
    return get_args(target) if is_union(target) else (target,)


def shape_of(target: Any) -> Any:
    """The class that its values have in JSON; None for a str, since text may stand for anything."""
    if target is str:
        return None
    if kind_of(target) in ARRAYS:
        return list
    if is_mapping(target) or is_class(target):
        return dict
    return target


# What a function gives back


def result_type(annotation: Any, batch: bool) -> Any:
    """The type of one job's result; a generator's is the list of what it yields."""
    yields = kind_of(annotation) in _GENERATORS
    inner = _inner(annotation) if yields else annotation
    if batch:
        inner = _without_errors(_inner(inner))
    return list[inner] if yields else inner  # type: ignore[valid-type]


def _inner(target: Any) -> Any:
    return next(iter(get_args(target)), Any)


def _without_errors(target: Any) -> Any:
    """The ``T`` of ``T | Exception``: an exception fails its job, so it is no result."""
    options = [
        one
        for one in options_of(target)
        if not (isinstance(one, type) and issubclass(one, BaseException))
    ]
    return Union[tuple(options)] if options else Any  # noqa: UP007 it is made at run time


# What a value is


def kind_of_value(value: object) -> str:
    """What a JSON value is, in JSON's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    names: dict[type, str] = {
        str: "a string",
        int: "a number",
        float: "a number",
        list: "an array",
        dict: "an object",
        bytes: "a file",
        Upload: "a file",
    }
    return names.get(type(value), type(value).__name__)


def quoted(value: object) -> str:
    """A value as JSON has it, if it is short."""
    if not isinstance(value, str):
        return str(value) if type(value) in (int, float) else kind_of_value(value)
    return f'"{value}"' if len(value) <= 40 else f'"{value[:40]}…"'


def option_value(option: Any) -> Any:
    """What stands for an option of a Literal or an Enum in JSON."""
    return option.value if isinstance(option, Enum) else option


# In words


def describe(annotation: Any) -> str:
    """A type, in words that somebody understands who does not know Python."""
    if annotation is None or annotation is type(None):
        return "null"
    if is_union(annotation):
        return " or ".join(dict.fromkeys(map(describe, get_args(annotation))))
    if is_literal(annotation):
        return "one of " + ", ".join(quoted(option_value(one)) for one in get_args(annotation))
    if is_enum(annotation):
        return "one of " + ", ".join(quoted(member.value) for member in annotation)
    if is_row(annotation):
        return f"an array of {len(get_args(annotation))}"
    if isinstance(annotation, NewType):
        return describe(annotation.__supertype__)
    if get_origin(annotation) is Annotated:
        return describe(get_args(annotation)[0])
    kind = shape_of(annotation) or str
    return _NAMES.get(kind) or str(getattr(kind, "__name__", annotation))


_NAMES: dict[Any, str] = {
    bool: "true or false",
    bytes: "a file (multipart/form-data)",
    date: "a date (ISO 8601)",
    datetime: "a date and time (ISO 8601)",
    dict: "an object",
    float: "a number",
    int: "a whole number",
    list: "an array",
    str: "a string",
    time: "a time (ISO 8601)",
    Upload: "a file (multipart/form-data)",
    UUID: "a UUID",
}
