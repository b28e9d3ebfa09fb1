"""What a function returns or yields, as JSON."""

from __future__ import annotations

from typing import Any

import attrs
import orjson

__all__ = ["NoJsonForm", "compact", "encode"]


class NoJsonForm(TypeError):
    """A value that can't be sent; the text says of what type it is."""


def compact(json: bytes) -> bytes:
    """A copy of what orjson made, to be kept: its own keeps its buffer, a kibibyte at least."""
    return bytes(memoryview(json))


def encode(value: Any) -> bytes:
    """The JSON of a value on one line; attrs classes and dataclasses as objects.

    Raises:
        NoJsonForm: it has none.
    """
    try:
        return compact(orjson.dumps(value, default=_jsonable))
    except TypeError:
        pass
    # Slower, so only when needed: keys that are no strings, as the standard json has it.
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    try:
        return compact(orjson.dumps(value, default=_jsonable, option=options))
    except TypeError as error:
        raise NoJsonForm(str(error)) from error


def _jsonable(value: Any) -> Any:
    """What orjson does not know, if we do."""
    if attrs.has(type(value)):
        return attrs.asdict(value, recurse=False)
    raise TypeError(f"type is not JSON serializable: {type(value).__qualname__}")
