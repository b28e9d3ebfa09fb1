"""The bytes of a job's arguments.

Arguments that all came as JSON are their own payload.  Any other is a length, a JSON head and the
files behind it; no head may be so long that its length would begin with a brace::

    {…}
    4 bytes, big-endian | {"json": {…}, "text": {…}, "files": [[name, file], …]} | file | file …

``json`` holds arguments that came as JSON, in the very bytes the client sent; ``text`` those that
came as text in a path, a query or a form field.  A file is a size, if its bytes stand behind the
head, or what an Upload says of a file on disk.  ``lists`` names those of which there are several.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from ._convert import JSON
from ._errors import Problem, Refused
from ._upload import Upload

__all__ = ["File", "Files", "dump", "pack", "parse", "unpack"]

File = bytes | Upload

Files = Mapping[str, File | Sequence[File]]
"""Arguments that are files, or lists of them."""

_SURELY_SHALLOW = 1000
"""How many brackets can't be nested too deeply, however they stand: orjson reads 1,024 levels."""

_TOO_LONG = ord("{") << 24
"""The first length that would begin with a brace."""


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
            # It may stand deeper in the payload, whose reader has the same limit.
            orjson.loads(b'{"json":{"":%b}}' % body)
    except orjson.JSONDecodeError as error:
        raise Refused(Problem.of("invalid_json", detail.format(error))) from None
    return value


def _each(files: Files) -> Iterator[tuple[str, File]]:
    for name, value in files.items():
        for file in (value,) if isinstance(value, File) else value:
            yield name, file


def pack(body: bytes | None, text: Mapping[str, Any], files: Files) -> bytes:
    """A payload: JSON arguments as they came, text ones, files.

    Raises:
        Refused: 413, the head is so long that the payload would be taken for JSON.
    """
    json = b"{}" if body is None else body.lstrip()
    if not text and not files:
        return json
    head = b'{"json":%b' % json
    if text:
        head += b',"text":%b' % orjson.dumps(text)
    behind: list[bytes] = []
    if files:
        told: list[tuple[str, Any]] = []
        for name, file in _each(files):
            if isinstance(file, Upload):
                told.append((name, [file.name, file.content_type, file.size, str(file.path)]))
            else:
                told.append((name, len(file)))
                behind.append(file)
        head += b',"files":%b' % orjson.dumps(told)
        lists = [name for name, value in files.items() if not isinstance(value, File)]
        if lists:
            head += b',"lists":%b' % orjson.dumps(lists)
    size = len(head) + 1
    if size >= _TOO_LONG:
        detail = f"The arguments may have {_TOO_LONG} bytes beside their files."
        raise Refused(Problem.of("payload_too_large", detail))
    return b"".join((size.to_bytes(4, "big"), head, b"}", *behind))


def unpack(payload: bytes) -> tuple[dict[str, Any], dict[str, Any], Files]:
    """The arguments in a payload: JSON ones, text ones, files."""
    if payload[:1] == b"{":
        return orjson.loads(payload), {}, {}
    start = 4 + int.from_bytes(payload[:4], "big")
    head = orjson.loads(payload[4:start])
    files: dict[str, Any] = {name: [] for name in head.get("lists", ())}
    for name, told in head.get("files", ()):
        file: File
        if isinstance(told, int):
            file = payload[start : start + told]
            start += told
        else:
            called, kind, size, path = told
            file = Upload(called, kind, size, Path(path))
        if name in files:
            files[name].append(file)
        else:
            files[name] = file
    return head["json"], head.get("text", {}), files
