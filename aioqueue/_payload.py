"""The bytes of a job's arguments.

A payload is a length, a JSON head and the files behind it::

    4 bytes, big-endian | {"json": {…}, "text": {…}, "files": [[name, size], …]} | file | file …

``json`` holds arguments that came as JSON, in the very bytes the client sent; ``text`` those that
came as text in a path, a query or a form field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from ._convert import JSON
from ._errors import Problem, Refused

__all__ = ["dump", "pack", "parse", "unpack"]

_SURELY_SHALLOW = 1000
"""How many brackets can't be nested too deeply, however they stand: orjson reads 1,024 levels."""


def dump(arguments: Mapping[str, Any]) -> bytes:
    """The JSON of arguments from code.

    Raises:
        TypeError, ValueError, RecursionError: there is none.
    """
    plain = {name: JSON.unstructure(value) for name, value in arguments.items()}
    raw = orjson.dumps(plain)
    if b"null" in raw:  # orjson writes NaN and infinity so, which would come back as None
        json.dumps(plain, allow_nan=False, default=str)
    return raw


def parse(body: bytes) -> Any:
    """A body's JSON; refused with a 400 if it is none, or nested too deeply."""
    detail = "The body is not valid JSON: {}."
    try:
        value = orjson.loads(body)
        if body.count(b"[") + body.count(b"{") > _SURELY_SHALLOW:
            detail = "The body is nested too deeply."
            # It will stand deeper in the payload, whose reader has the same limit.
            orjson.loads(b'{"json":{"":%b}}' % body)
    except orjson.JSONDecodeError as error:
        raise Refused(Problem.of("invalid_json", detail.format(error))) from None
    return value


def pack(body: bytes | None, text: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """A payload: JSON arguments as they came, text ones, files."""
    head = b'{"json":%b' % (body or b"{}")
    if text:
        head += b',"text":%b' % orjson.dumps(text)
    if files:
        sizes = [[name, len(content)] for name, content in files.items()]
        head += b',"files":%b' % orjson.dumps(sizes)
    return b"".join((len(head + b"}").to_bytes(4, "big"), head, b"}", *files.values()))


def unpack(payload: bytes) -> tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]:
    """The arguments in a payload: JSON ones, text ones, files."""
    start = 4 + int.from_bytes(payload[:4], "big")
    head = orjson.loads(payload[4:start])
    files: dict[str, bytes] = {}
    for name, size in head.get("files", ()):
        files[name] = payload[start : start + size]
        start += size
    return head["json"], head.get("text", {}), files
