"""What is wrong with a value of a setting, if anything, and what would be right."""

from __future__ import annotations

import os
import string
import sys
from collections.abc import Callable
from typing import Any

import attrs

from ._errors import ConfigurationError

__all__ = [
    "boolean",
    "callable_or_none",
    "concurrency_limit",
    "directory",
    "executor",
    "is_priority",
    "name",
    "number",
    "on_disconnect",
    "path",
    "priority",
    "slots",
]


def _fail(owner: object, name: str, value: object, wanted: str) -> ConfigurationError:
    where: str = owner.given_to  # type: ignore[attr-defined]
    return ConfigurationError(f"{where}({name}={value!r}): {name} must be {wanted}")


def number(
    kind: type, *, least: float = 0, above: float | None = None, none: bool = False
) -> Callable[[Any, Any, Any], None]:
    """A validator for one number, with a message that says what would be right."""
    wanted = "a whole number" if kind is int else "a number of seconds"
    wanted += f" of at least {least:g}" if above is None else f" above {above:g}"
    wanted += ", or None" if none else ""

    def validate(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is None and none:
            return
        right = isinstance(value, int) or (kind is float and isinstance(value, float))
        if not right or isinstance(value, bool) or not _within(value, least, above):
            raise _fail(owner, attribute.name, value, wanted)

    return validate


def _within(value: Any, least: float, above: float | None) -> bool:
    # NaN compares false with everything, so it fails both; infinity is no number of anything.
    return bool(least <= value < float("inf") and (above is None or value > above))


def callable_or_none(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not callable(value):
        takes = _TAKES.get(attribute.name, "the request")
        raise _fail(owner, attribute.name, value, f"a callable that takes {takes}, or None")


_TAKES = {"on_finish": "the ended job", "process_initializer": "nothing"}


def is_priority(value: object) -> bool:
    """Whether a line can be ordered by it: a number, and not NaN or infinite."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def priority(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None or callable(value):
        return
    if not is_priority(value) or isinstance(value, bool):
        wanted = "a number, a callable that takes the request and returns one, or None"
        raise _fail(owner, attribute.name, value, wanted)


def slots(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    names: Any = value if isinstance(value, list | tuple) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise _fail(owner, attribute.name, value, "a list of names, or None")
    if len(set(names)) < len(names):
        raise _fail(owner, attribute.name, value, "a list of names that differ, or None")


def boolean(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise _fail(owner, attribute.name, value, "True or False")


def executor(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in ("thread", "process", None):
        raise _fail(owner, attribute.name, value, '"thread", "process", or None')


def on_disconnect(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value in ("keep", "cancel"):
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not _within(value, 0, None):
        wanted = '"keep", "cancel", or a number of seconds of at least 0'
        raise _fail(owner, attribute.name, value, wanted)


_PATH_LETTERS = set(string.ascii_letters + string.digits + "/-._~")


def path(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    empty_allowed = attribute.name == "public_path"
    if value == "" and empty_allowed:
        return
    wanted = 'a path such as "/queue", without a "/" at its end' + ', or ""' * empty_allowed
    if not isinstance(value, str) or not value.startswith("/") or value.endswith("/"):
        raise _fail(owner, attribute.name, value, wanted)
    # It goes into headers as it is, and into routes, where braces mean something.
    plain = set(value) <= _PATH_LETTERS and "//" not in value
    if not plain:
        raise _fail(owner, attribute.name, value, f"{wanted}, of letters, digits and -._~")


def directory(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not (isinstance(value, str | os.PathLike) and str(value)):
        raise _fail(owner, attribute.name, value, "the path of a directory, or None")


def concurrency_limit(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None or value == "default":
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _fail(
            owner,
            attribute.name,
            value,
            'a whole number of at least 1, None (as many as there are workers) or "default"',
        )


def name(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not (isinstance(value, str) and value and value.isprintable()):
        raise _fail(owner, attribute.name, value, "a printable name, or None")
