"""What the client asked for: ``Accept`` (RFC 9110 section 12.5.1) and ``Prefer`` (RFC 7240).

Both are wishes.  Nothing here is ever an error: what can't be read is not there.  Clients of one
kind send the same few headers, so what they mean is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

__all__ = ["Mode", "Preferences", "choose_mode", "preferences", "split"]


class Mode(StrEnum):
    """How a submit is answered."""

    ACCEPTED = "202"
    WAIT = "wait"
    STREAM = "stream"


class Preferences(NamedTuple):
    """The preferences that mean something here."""

    respond_async: bool = False
    wait: int | None = None


def split(text: str, separator: str) -> Iterator[str]:
    """Split at a separator that stands outside quotes; the parts are stripped."""
    start, quoted, escaped = 0, False, False
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            yield text[start:index].strip()
            start = index + 1
    yield text[start:].strip()


def _unquote(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text[1:-1].replace("\\", "")
    return text


@lru_cache(maxsize=256)
def preferences(headers: tuple[str, ...]) -> Preferences:
    """Read all ``Prefer`` header lines; the first instance of a preference counts."""
    found: dict[str, str] = {}
    for preference in split(",".join(headers), ","):
        name, _, value = next(split(preference, ";")).partition("=")
        found.setdefault(name.strip().lower(), _unquote(value.strip()))
    return Preferences("respond-async" in found, _seconds(found.get("wait", "")))


def _seconds(text: str) -> int | None:
    """Whole seconds; more than anybody waits is as good as the exact number."""
    if not text.isascii() or not text.isdigit():
        return None
    digits = text.lstrip("0")
    return int(digits or 0) if len(digits) <= 9 else 10**9


def _quality(parameters: Sequence[str]) -> float:
    """The weight of a media range: 1 unless it says otherwise, in a form that can be read."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            whole, _, rest = value.strip().partition(".")
            if whole not in ("0", "1") or (rest and not (rest.isascii() and rest.isdigit())):
                return 1.0
            return min(1.0, float(f"{whole}.{rest[:3] or 0}"))
    return 1.0


def _accepted(header: str) -> dict[str, float]:
    """The media ranges and their weights; empty where there is none that can be read."""
    ranges: dict[str, float] = {}
    for part in split(header, ","):
        media, *parameters = split(part, ";")
        kind, slash, subtype = media.lower().partition("/")
        if slash and kind and subtype:
            ranges[f"{kind.strip()}/{subtype.strip()}"] = _quality(parameters)
    return ranges


@lru_cache(maxsize=256)
def choose_mode(accept: str, prefer: Preferences) -> Mode:
    """How to answer.

    A stream only if ``text/event-stream`` is named, and at least as welcome as JSON: every client
    that does not care sends ``*/*``.  On an exact tie a preference for an answer decides.
    """
    ranges = _accepted(accept)
    stream = ranges.get("text/event-stream", 0.0)
    json = ranges.get("application/json", ranges.get("application/*", ranges.get("*/*", 0.0)))
    wants_answer = prefer.respond_async or prefer.wait is not None
    if stream > 0.0 and (stream > json or (stream == json and not wants_answer)):
        return Mode.STREAM
    return Mode.ACCEPTED if prefer.wait is None else Mode.WAIT
