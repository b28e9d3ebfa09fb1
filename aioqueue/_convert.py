"""Strict conversion of what clients send, by annotations, with errors that name the field.

cattrs does the work; its defaults are kinder than an API should be (``"1"`` for an int, ``1`` for
a str), so the plain types, arrays and objects have hooks of their own.  There are two converters:
JSON already has types and must have the right ones; the text of a path or query is parsed.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from functools import cache, partial
from typing import Any, get_args, is_typeddict
from uuid import UUID

from cattrs import Converter
from cattrs.errors import StructureHandlerNotFoundError
from cattrs.preconf.orjson import OrjsonConverter, configure_converter

from ._annotations import (
    ARRAYS,
    describe,
    is_array,
    is_class,
    is_enum,
    is_literal,
    is_mapping,
    is_row,
    is_somebodys_own,
    is_union,
    kind_of,
    kind_of_value,
    option_value,
    quoted,
    shape_of,
)
from ._mismatches import Unexpected, WrongParts
from ._upload import Upload

__all__ = ["JSON", "TEXT", "Hook", "hooks_for"]

Hook = Callable[[Any, Any], Any]

_INTEGERS = range(-(2**63), 2**64)
"""What an int in text may be: in JSON orjson reads, and writes, no others."""


# Plain types in JSON


def _int(value: Any, _: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        # JSON has one kind of number: 1.0 is 1.  But a whole number of more than 64 bits is a
        # float by now, and no longer the number that was sent.
        if abs(value) < 2**63:
            return int(value)
        raise Unexpected("a whole number of 64 bits", quoted(value))
    raise Unexpected(
        "a whole number", quoted(value) if type(value) is float else kind_of_value(value)
    )


def _float(value: Any, _: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise Unexpected("a number", kind_of_value(value))


def _bool(value: Any, _: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise Unexpected("true or false", kind_of_value(value))


def _str(value: Any, _: Any) -> str:
    if isinstance(value, str):
        return value
    raise Unexpected("a string", kind_of_value(value))


def _bytes(value: Any, _: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    raise Unexpected("a file (multipart/form-data)", kind_of_value(value))


def _upload(value: Any, _: Any) -> Upload:
    if isinstance(value, Upload):
        return value
    raise Unexpected("a file (multipart/form-data)", kind_of_value(value))


def _null(value: Any, _: Any) -> None:
    if value is not None:
        raise Unexpected("null", kind_of_value(value))


# Plain types in text


def _text(parse: Callable[[str], Any], expected: str) -> Hook:
    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, str):
            raise Unexpected(expected, kind_of_value(value))
        try:
            return parse(value)
        except (ValueError, KeyError):
            raise Unexpected(expected, quoted(value)) from None

    return hook


def _checked(text: str) -> str:
    """A number's text.  Python would also take ``1_000``, spaces, and the digits of any script."""
    if len(text) > 40 or not text.isascii() or "_" in text or text != text.strip():
        raise ValueError
    return text


def _parse_int(text: str) -> int:
    number = int(_checked(text))
    if number not in _INTEGERS:
        raise ValueError
    return number


def _parse_float(text: str) -> float:
    number = float(_checked(text))
    if not number - number == 0.0:  # NaN and infinity are no JSON, nor arguments
        raise ValueError
    return number


_WORDS = {"true": True, "1": True, "false": False, "0": False}

_FROM_TEXT: dict[Any, Hook] = {
    date: _text(date.fromisoformat, "a date (ISO 8601)"),
    datetime: _text(datetime.fromisoformat, "a date and time (ISO 8601)"),
    time: _text(time.fromisoformat, "a time (ISO 8601)"),
    UUID: _text(UUID, "a UUID"),
}
"""What is text in JSON too."""


# One of several values


def _json_key(value: Any) -> Any:
    """What tells values apart as JSON does: true is not 1, but 1.0 is."""
    return isinstance(value, bool), value


def _text_key(value: Any) -> Any:
    return value if isinstance(value, str) else quoted(value)


def _choice(target: Any, key: Callable[[Any], Any]) -> Hook:
    """A value of a Literal or an Enum."""
    options = get_args(target) if is_literal(target) else tuple(target)
    choices = {key(option_value(option)): option for option in reversed(options)}
    expected = describe(target)

    def hook(value: Any, _: Any) -> Any:
        try:
            return choices[key(value)]
        except (KeyError, TypeError):
            raise Unexpected(expected, quoted(value)) from None

    return hook


# Arrays, objects and unions.  cattrs' own hooks take whatever has items for an array, a string
# among them, and find every wrong part there is.


def _array(target: Any, converter: Converter) -> Hook:
    make = ARRAYS[kind_of(target)]
    part = next(iter(get_args(target)), Any)
    inner = converter.get_structure_hook(part, False)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            raise Unexpected("an array", kind_of_value(value))
        made, wrong = [], WrongParts()
        for index, item in enumerate(value):
            try:
                made.append(inner(item, part))
            except Exception as error:
                wrong.add(f"[{index}]", part, error)
        wrong.raise_if_any()
        return made if make is list else make(made)

    return hook


def _row(target: Any, converter: Converter) -> Hook:
    """A tuple with a type for each place."""
    parts = get_args(target)
    hooks = [converter.get_structure_hook(part, False) for part in parts]
    expected = describe(target)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(parts):
            found = f"an array of {len(value)}" if isinstance(value, list) else kind_of_value(value)
            raise Unexpected(expected, found)
        made, wrong = [], WrongParts()
        for index, (item, part, inner) in enumerate(zip(value, parts, hooks, strict=True)):
            try:
                made.append(inner(item, part))
            except Exception as error:
                wrong.add(f"[{index}]", part, error)
        wrong.raise_if_any()
        return tuple(made)

    return hook


def _mapping(target: Any, converter: Converter, names: Converter) -> Hook:
    key, part = get_args(target) or (Any, Any)
    name, inner = names.get_structure_hook(key, False), converter.get_structure_hook(part, False)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise Unexpected("an object", kind_of_value(value))
        made, wrong = {}, WrongParts()
        for text, item in value.items():
            try:
                made[name(text, key)] = inner(item, part)
            except Exception as error:
                wrong.add(f".{text}", part, error)
        wrong.raise_if_any()
        return made

    return hook


def _class(target: Any, converter: Converter) -> Hook:
    if is_typeddict(kind_of(target)):
        inner = converter.gen_structure_typeddict(target)
    else:
        inner = converter.gen_structure_attrs_fromdict(target)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise Unexpected("an object", kind_of_value(value))
        return inner(value, target)

    return hook


def _union(target: Any, converter: Converter) -> Hook:
    """One of several types: the first that fits, text last, since any text is a str."""
    options = get_args(target)
    plain = sorted((one for one in options if one is not type(None)), key=lambda one: one is str)
    hooks = [(option, converter.get_structure_hook(option, False)) for option in plain]

    def hook(value: Any, _: Any) -> Any:
        if value is None and len(plain) < len(options):
            return None
        likely = [pair for pair in hooks if shape_of(pair[0]) is type(value)] or hooks
        if len(likely) == 1:  # what it finds wrong is what is wrong
            option, inner = likely[0]
            return inner(value, option)
        for option, inner in likely:
            try:
                return inner(value, option)
            except Exception:  # whatever it is, it only says that this option does not fit
                continue
        raise Unexpected(describe(target), kind_of_value(value) if likely is hooks else "this one")

    return hook


# The two converters


def _no_hook(target: Any) -> Hook:
    raise StructureHandlerNotFoundError(f"{describe(target)} can't be made from JSON", target)


class _Converter(OrjsonConverter):
    """A strict converter.

    Args:
        hooks: what makes the plain types.
        key: tells the values of an Enum or a Literal apart.
        names: what makes the names of an object's fields, which are text.
    """

    def __init__(
        self,
        hooks: Mapping[Any, Hook],
        key: Callable[[Any], Any],
        names: Converter | None = None,
    ) -> None:
        super().__init__(
            detailed_validation=True,
            forbid_extra_keys=True,
            structure_fallback_factory=_no_hook,
            unstruct_collection_overrides={abc.Set: list},
        )
        configure_converter(self)
        self._choice = cache(partial(_choice, key=key))
        for kind, hook in {**_FROM_TEXT, **hooks}.items():
            self.register_structure_hook(kind, hook)
        factory = self.register_structure_hook_factory
        factory(lambda target: target in (None, type(None)), lambda target: _null)
        factory(is_literal, self._choice)
        factory(is_union, partial(_union, converter=self))
        factory(is_array, partial(_array, converter=self))
        factory(is_row, partial(_row, converter=self))
        factory(is_mapping, partial(_mapping, converter=self, names=names or self))
        factory(is_class, partial(_class, converter=self))

    def get_structure_hook(self, target: Any, cache_result: bool = True) -> Hook:
        """The hook for a type.

        cattrs looks for the classes that a class is made of first, where an IntEnum is any int.
        """
        if is_enum(target):
            return self._choice(target)
        if is_somebodys_own(target):
            return _no_hook(target)
        return super().get_structure_hook(target, cache_result)

    def structure(self, value: Any, target: Any) -> Any:
        """A value of a type."""
        return self.get_structure_hook(target)(value, target)


TEXT: Converter = _Converter(
    {
        int: _text(_parse_int, "a whole number"),
        float: _text(_parse_float, "a number"),
        bool: _text(lambda text: _WORDS[text.lower()], "true or false"),
        str: _str,
        bytes: _bytes,
        Upload: _upload,
    },
    _text_key,
)
"""Structures the text of a path or query, and the names in JSON objects, which are text too."""

JSON: Converter = _Converter(
    {int: _int, float: _float, bool: _bool, str: _str, bytes: _bytes, Upload: _upload},
    _json_key,
    TEXT,
)
"""Structures parsed JSON."""


def hooks_for(annotation: Any) -> tuple[Hook, Hook]:
    """What makes values of this type: from JSON, and from text.

    They are this annotation's own: cattrs would keep them for all that are equal, as ``int | str``
    and ``str | int`` are, and what is tried first differs.

    Raises:
        StructureHandlerNotFoundError: values of this type can't be made.
        NameError: a name in it can't be found.
    """
    return JSON.get_structure_hook(annotation, False), TEXT.get_structure_hook(annotation, False)
