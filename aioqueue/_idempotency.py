"""What makes a request the same as one before it: its ``Idempotency-Key``, and its contents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from ._errors import Problem, Refused
from ._parameters import Received
from ._payload import File
from ._upload import Upload

__all__ = ["fingerprint", "idempotency_key"]

_STRANGERS_KEY = 16
"""The least length of an Idempotency-Key that nobody owns: strangers share its scope."""


def idempotency_key(request: web.Request, owner: str | None) -> str | None:
    """The key in the ``Idempotency-Key`` header (IETF draft): a quoted string or a bare token.

    Raises:
        Refused: 400, it can't be read or is too easy to guess.
    """
    lines = request.headers.getall("Idempotency-Key", ())
    if not lines:
        return None
    key = lines[0].strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    visible = key.isascii() and all("!" <= letter <= "~" for letter in key)
    if len(lines) > 1 or not visible or not 1 <= len(key) <= 255:
        detail = "Send one Idempotency-Key of 1 to 255 visible ASCII characters."
        raise Refused(Problem.of("idempotency_key_invalid", detail))
    if owner is None and len(key) < _STRANGERS_KEY:
        detail = f"An Idempotency-Key needs {_STRANGERS_KEY} characters here, hard to guess."
        raise Refused(Problem.of("idempotency_key_invalid", detail))
    return key


def fingerprint(request: web.Request, received: Received, digests: Mapping[Path, bytes]) -> bytes:
    """What makes two requests the same: query, media type and body.

    Of a form its parts: each retry has another boundary.  Of a file on disk its digest.
    """

    def bytes_of(file: File) -> bytes:
        return digests[file.path] if isinstance(file, Upload) else file

    digest = hashlib.sha256()
    parts = [request.query_string.encode(), request.content_type.encode()]
    parts += [received.json or b"", bytes_of(received.whole or b"")]
    for name, value in received.fields:
        parts += [b"field", name.encode(), value.encode()]
    for name, content in received.files:
        parts += [b"file", name.encode(), bytes_of(content)]
    for name in received.file_names:
        parts += [b"file name", name.encode(errors="backslashreplace")]
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
