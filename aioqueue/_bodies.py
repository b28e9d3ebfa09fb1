"""Reading a request's body, whole and under limits, before anything is queued.

While body bytes are unread aiohttp does not see that a client has left, and a body that arrives
slowly must not hold a place in line: so nothing is queued before the last byte is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import orjson
from aiohttp import BodyPartReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import HTTPRequestEntityTooLarge, RequestPayloadError

from ._errors import JobError, Problem, Refused
from ._parameters import Received, Signature

__all__ = ["BodyReader", "is_cross_site"]

T = TypeVar("T")

_FORM = "multipart/form-data"
_JSON = "application/json"


class BodyReader:
    """Reads bodies, and lets all readers go when the server shuts down.

    Args:
        timeout: seconds a body may take.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._reading: set[asyncio.Timeout] = set()
        self._shutting_down = False

    async def receive(
        self, request: web.Request, signature: Signature, max_bytes: int | None
    ) -> Received:
        """What came with a request.

        Raises:
            Refused: the body is too large, too slow, broken, or of a type that is not taken.
        """
        path: Mapping[str, str] = request.match_info
        query = tuple(request.query.items()) if request.query_string else ()
        if not request.can_read_body and hdrs.CONTENT_TYPE not in request.headers:
            return Received(path, query)
        kind = _checked_type(request, signature)
        limit = request.client_max_size if max_bytes is None else max_bytes
        if kind == _FORM and not signature.takes_any_body:
            fields, files = await self._within_deadline(
                request, _read_form(request, limit), limit
            )
            return Received(path, query, None, fields, files)
        body = await self._within_deadline(request, _read(request, limit), limit)
        if signature.takes_any_body:
            return Received(path, query, whole=body)
        return Received(path, query, _checked_json(body))

    async def _within_deadline(
        self, request: web.Request, reading: Coroutine[Any, Any, T], limit: int
    ) -> T:
        """Await a read, and make what can go wrong with it into a refusal."""
        # A body that is here already, as most are, needs no timer: reading it waits for nothing.
        deadline = asyncio.timeout(None if request.content.is_eof() else self._timeout)
        self._reading.add(deadline)
        try:
            async with deadline:
                return await reading
        except TimeoutError:
            raise Refused(self._too_late()) from None
        except HTTPRequestEntityTooLarge:
            raise _too_large(limit) from None
        except ConnectionError:
            raise  # the client has left; nobody reads an answer
        except (RequestPayloadError, HttpProcessingError, ValueError) as error:
            detail = "The body can't be read: it is not what its headers say."
            raise Refused(Problem.of("bad_request", detail)) from error
        finally:
            self._reading.discard(deadline)

    async def clone(self, request: web.Request, max_bytes: int | None) -> web.Request:
        """A copy of a request with its body read, and with no way to the client.

        A handler that runs as a job may outlive its connection, and must not write into the
        answer of whoever uses that next.

        Raises:
            Refused: the body is too large, too slow or broken.
        """
        clone = request.clone() if max_bytes is None else request.clone(client_max_size=max_bytes)
        # Both attributes are aiohttp's own; a test pins what they mean.
        clone._payload_writer = _NoWriter()  # type: ignore[assignment]
        await self._within_deadline(request, clone.read(), clone.client_max_size)
        return clone

    def _too_late(self) -> Problem:
        if self._shutting_down:
            return Problem.of("shutting_down", "The server is shutting down.")
        detail = f"The body did not arrive within {self._timeout:g} s."
        return Problem.of("body_timeout", detail)

    def abort(self) -> None:
        """The server shuts down: aiohttp reads no more, so no body will ever be whole."""
        self._shutting_down = True
        for deadline in self._reading:
            deadline.reschedule(asyncio.get_running_loop().time())


def _checked_type(request: web.Request, signature: Signature) -> str:
    """The media type of the body, if this function takes it.

    JSON can't be sent across sites without the browser asking first.  Whatever can, a form or a
    body of any type, is looked at for where it comes from.
    """
    kind = request.content_type
    declared = hdrs.CONTENT_TYPE in request.headers
    json = declared and (kind == _JSON or (kind.startswith("application/") and "+json" in kind))
    if json and not signature.takes_any_body:
        return _JSON
    if signature.takes_any_body or (declared and kind == _FORM and signature.takes_files):
        if is_cross_site(request):
            detail = "This function takes files from its own site only."
            raise Refused(Problem.of("cross_site", detail))
        return kind
    takes = f"{_JSON} or {_FORM}" if signature.takes_files else _JSON
    detail = f"Send Content-Type: {takes}, not {kind if declared else 'none'}."
    raise Refused(Problem.of("unsupported_media_type", detail))


def is_cross_site(request: web.Request) -> bool:
    """Whether a browser says that another site made it send this.

    ``Sec-Fetch-Site`` (W3C Fetch Metadata) where it is sent, else ``Origin`` against ``Host``.
    Clients that are no browsers send neither.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site.lower() not in ("same-origin", "same-site", "none")
    origin = request.headers.get(hdrs.ORIGIN)
    return origin is not None and origin.partition("://")[2].lower() != request.host.lower()


def _too_large(limit: int) -> Refused:
    return Refused(Problem.of("payload_too_large", f"The body may have {limit} bytes."))


class _NoWriter:
    """Stands where a request has the way to its client."""

    def __getattr__(self, name: str) -> Any:
        raise JobError("This function streams its answer. Ask for it without text/event-stream.")


async def _read(request: web.Request, limit: int) -> bytes:
    """The whole body, at most ``limit`` bytes, counted after decompression."""
    length = request.content_length
    if length is not None and limit and length > limit:
        raise _too_large(limit)
    if limit == request.client_max_size:
        return await request.read()
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if limit and len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


async def _read_form(
    request: web.Request, limit: int
) -> tuple[list[tuple[str, str]], list[tuple[str, bytes]]]:
    """The text fields and the files of a form, at most ``limit`` bytes together."""
    fields: list[tuple[str, str]] = []
    files: list[tuple[str, bytes]] = []
    left = limit
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or part.name is None:
            raise ValueError("a part of the form has no name")
        content = bytearray()
        while chunk := await part.read_chunk():
            content += part.decode(chunk)
            left -= len(chunk)
            if limit and (left < 0 or len(content) > limit):
                raise _too_large(limit)
        kind = part.headers.get(hdrs.CONTENT_TYPE, "text/plain")
        if part.filename is None and kind.startswith("text/plain"):
            fields.append((part.name, content.decode("utf-8")))
        else:
            files.append((part.name, bytes(content)))
    return fields, files


def _checked_json(body: bytes) -> bytes:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        detail = f"The body is not valid JSON: {error}."
        raise Refused(Problem.of("invalid_json", detail)) from None
    return body
