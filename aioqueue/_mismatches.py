"""What is wrong with the arguments of a request: every part of it, each with its path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError

from ._annotations import describe

__all__ = ["Mismatch", "Unexpected", "WrongParts", "mismatches"]

_MOST = 20
"""How many wrong parts of one array or object are looked for.

A megabyte has room for a hundred thousand, and an exception for each would take seconds.
"""


@attrs.frozen(slots=True)
class Mismatch:
    """One thing that is wrong with the arguments."""

    field: str
    expected: str
    message: str

    def document(self) -> dict[str, str]:
        """As a member of the problem document."""
        return attrs.asdict(self)


class Unexpected(ValueError):
    """A value that is not of its type."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected)
        self.expected = expected
        self.message = f"must be {expected}, not {found}"


class WrongParts(ValueError):
    """Parts of a value that are not of their types, each with the step that leads to it."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[tuple[str, Any, Exception]] = []

    def add(self, step: str, part: Any, error: Exception) -> None:
        """Note one, and raise once there are enough of them."""
        self.parts.append((step, part, error))
        if len(self.parts) == _MOST:
            raise self

    def raise_if_any(self) -> None:
        """Raise at the end if there are any."""
        if self.parts:
            raise self


def mismatches(field: str, annotation: Any, error: BaseException) -> Iterator[Mismatch]:
    """What a failed conversion found wrong, each with the path of its field."""
    if isinstance(error, WrongParts):
        for step, part, inner in error.parts:
            yield from mismatches(field + step, part, inner)
    elif isinstance(error, ClassValidationError):
        parts, whole = error.group_exceptions()
        for inner, note in parts:
            if isinstance(inner, KeyError) and inner.args == (note.name,):
                yield Mismatch(f"{field}.{note.name}", "a value", "is missing")
            else:
                yield from mismatches(f"{field}.{note.name}", note.type, inner)
        for inner in whole:
            yield from mismatches(field, annotation, inner)
    elif isinstance(error, ForbiddenExtraKeysError):
        for name in sorted(error.extra_fields):
            yield Mismatch(f"{field}.{name}", "no such field", "is not a field here")
    elif isinstance(error, Unexpected):
        yield Mismatch(field, error.expected, error.message)
    elif isinstance(error, RecursionError):
        yield Mismatch(field, "fewer levels", "is nested too deeply")
    else:
        # An app's own check; what it says is for its log, not for strangers.
        yield Mismatch(field, describe(annotation), "is not valid")
