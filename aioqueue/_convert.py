"""Strict conversion of what clients send, by annotations, with errors that name the field.

cattrs does the work; its defaults are kinder than an API should be (``"1"`` for an int, ``1`` for
a str), so the plain types have hooks of their own.  There are two converters: JSON already has
types and must have the right ones; the text of a path or query is parsed.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from datetime import date, datetime
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.errors import (
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
)
from cattrs.preconf.orjson import make_converter

__all__ = ["ARRAYS", "JSON", "TEXT", "Mismatch", "describe", "is_union", "kind_of", "mismatches"]


ARRAYS = (list, set, frozenset, tuple)


@attrs.frozen(slots=True)
class Mismatch:
    """One thing that is wrong with the arguments."""

    field: str
    expected: str
    message: str

    def document(self) -> dict[str, str]:
        """As a member of the problem document."""
        return attrs.asdict(self)


class _Unexpected(ValueError):
    """A value that is not of its type."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected)
        self.expected = expected
        self.message = f"must be {expected}, not {found}"


def _kind(value: object) -> str:
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
    }
    return names.get(type(value), type(value).__name__)


def _int(value: Any, _: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)  # JSON has one kind of number: 1.0 is 1
    raise _Unexpected("a whole number", _kind(value))


def _float(value: Any, _: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise _Unexpected("a number", _kind(value))


def _bool(value: Any, _: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _Unexpected("true or false", _kind(value))


def _str(value: Any, _: Any) -> str:
    if isinstance(value, str):
        return value
    raise _Unexpected("a string", _kind(value))


def _bytes(value: Any, _: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    raise _Unexpected("a file (multipart/form-data)", _kind(value))


def is_union(target: Any) -> bool:
    """Whether a type is one of several."""
    origin: Any = get_origin(target)
    return origin is Union or origin is types.UnionType


def kind_of(target: Any) -> Any:
    """The plain class of a type: list for list[int]."""
    return get_origin(target) or target


def _union(options: tuple[Any, ...], converter: Converter) -> Callable[[Any, Any], Any]:
    """One of several types: the very type of the value if it is among them, else what fits."""
    plain = [option for option in options if option is not type(None)]
    # Any text is a str, so that is tried last.
    plain.sort(key=lambda option: option is str)

    def hook(value: Any, target: Any) -> Any:
        if value is None and len(plain) < len(options):
            return None
        if len(plain) == 1:
            return converter.structure(value, plain[0])
        exact = [option for option in plain if option is type(value)]
        for option in exact or plain:
            try:
                return converter.structure(value, option)
            except Exception:  # whatever it is, it only says that this option does not fit
                continue
        raise _Unexpected(describe(target), _kind(value))

    return hook


def _strict(converter: Converter, hooks: dict[type, Callable[[Any, Any], Any]]) -> Converter:
    """Give a converter our hooks for plain types, unions and arrays."""
    for kind, hook in hooks.items():
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_factory(
        is_union,
        lambda target: _union(get_args(target), converter),
    )
    # cattrs takes any iterable for an array, a string among them.  Its own hooks are found in a
    # copy, where ours does not stand before them.
    lenient = converter.copy()

    def arrays(target: Any) -> Callable[[Any, Any], Any]:
        inner = lenient.get_structure_hook(target)

        def hook(value: Any, kind: Any) -> Any:
            if not isinstance(value, list):
                raise _Unexpected("an array", _kind(value))
            return inner(value, kind)

        return hook

    converter.register_structure_hook_factory(lambda target: kind_of(target) in ARRAYS, arrays)
    return converter


def _text(parse: Callable[[str], Any], expected: str) -> Callable[[Any, Any], Any]:
    def hook(value: Any, _: Any) -> Any:
        try:
            return parse(value)
        except (ValueError, KeyError):
            raise _Unexpected(expected, value) from None

    return hook


def _parse_int(text: str) -> int:
    if len(text) > 40 or not text.isascii():
        raise ValueError
    return int(text)


def _parse_float(text: str) -> float:
    number = float(text)
    if not number - number == 0.0:  # NaN and infinity are no JSON, nor arguments
        raise ValueError
    return number


_WORDS = {"true": True, "1": True, "false": False, "0": False}


def _literal(target: Any) -> Callable[[Any, Any], Any]:
    words = {str(option): option for option in get_args(target)}
    return _text(words.__getitem__, describe(target))


def _make(hooks: dict[type, Callable[[Any, Any], Any]]) -> Converter:
    return _strict(make_converter(detailed_validation=True, forbid_extra_keys=True), hooks)


JSON: Converter = _make({int: _int, float: _float, bool: _bool, str: _str, bytes: _bytes})
"""Structures parsed JSON."""

TEXT: Converter = _make(
    {
        int: _text(_parse_int, "a whole number"),
        float: _text(_parse_float, "a number"),
        bool: _text(lambda text: _WORDS[text.lower()], "true or false"),
        str: _str,
        bytes: _bytes,
    }
)
"""Structures the text of a path or query."""
TEXT.register_structure_hook_factory(lambda target: kind_of(target) is Literal, _literal)


def describe(annotation: Any) -> str:
    """A type, in words that somebody understands who does not know Python."""
    if annotation is None or annotation is type(None):
        return "null"
    if is_union(annotation):
        return " or ".join(describe(option) for option in get_args(annotation))
    kind = kind_of(annotation)
    if kind is Literal:
        return "one of " + ", ".join(map(_quoted, get_args(annotation)))
    if not isinstance(kind, type):
        return str(annotation)
    if issubclass(kind, Enum):
        return "one of " + ", ".join(_quoted(member.value) for member in kind)
    if kind is dict or attrs.has(kind) or is_dataclass(kind):
        return "an object"
    return _NAMES.get(kind, kind.__name__)


_NAMES: dict[type, str] = {
    bool: "true or false",
    bytes: "a file (multipart/form-data)",
    date: "a date (ISO 8601)",
    datetime: "a date and time (ISO 8601)",
    float: "a number",
    int: "a whole number",
    list: "an array",
    set: "an array",
    str: "a string",
    tuple: "an array",
}


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def mismatches(field: str, annotation: Any, error: BaseException) -> Iterator[Mismatch]:
    """What a failed conversion found wrong, each with the path of its field."""
    if isinstance(error, ClassValidationError | IterableValidationError):
        for inner, note in error.group_exceptions()[0]:
            name = getattr(note, "name", None)
            step = f".{name}" if name is not None else f"[{getattr(note, 'index', '?')}]"
            yield from mismatches(field + step, getattr(note, "type", annotation), inner)
        for inner in error.group_exceptions()[1]:
            yield from mismatches(field, annotation, inner)
    elif isinstance(error, ForbiddenExtraKeysError):
        for name in sorted(error.extra_fields):
            yield Mismatch(f"{field}.{name}", "no such field", "is not a field here")
    elif isinstance(error, _Unexpected):
        yield Mismatch(field, error.expected, error.message)
    elif isinstance(error, KeyError):
        yield Mismatch(field, "a value", "is missing")
    else:
        expected = describe(annotation)
        yield Mismatch(field, expected, f"must be {expected}")
