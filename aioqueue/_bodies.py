"""Reading a request's body, whole and under limits, before anything is queued.

While body bytes are unread aiohttp does not see that a client has left, and a body that arrives
slowly must not hold a place in line: so nothing is queued before the last byte is here.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import attrs
from aiohttp import (
    BodyPartReader,
    content_disposition_filename,
    hdrs,
    parse_content_disposition,
    web,
)
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import HTTPRequestEntityTooLarge, RequestPayloadError

from ._arrivals import Arrivals
from ._errors import JobError, Problem, Refused
from ._parameters import Received, Signature
from ._payload import File
from ._upload import Upload

__all__ = ["BodyReader", "is_cross_site", "json_limit"]

T = TypeVar("T")

_FORM = "multipart/form-data"
_JSON = "application/json"
_TEXT = "text/plain"

_UNREADABLE = (RequestPayloadError, HttpProcessingError, ValueError, LookupError, RuntimeError)
"""What aiohttp raises of a broken body; the last two of an encoding that it does not know."""

_MOST_PARTS = 1000
"""How many parts a form may have: each costs a fraction of a millisecond, however small it is."""

_FIRST_CHUNK, _CHUNK = 8 << 10, 64 << 10
"""How many bytes of a part are read at once.

aiohttp reads so many and puts back what belongs to the next part: a thousand small ones would pay.
"""


def json_limit(request: web.Request, signature: Signature, max_bytes: int | None) -> int:
    """How many bytes of JSON a function takes; 0 is no bound.

    Where files go to disk ``max_body_size`` is for them, and JSON, which is held in memory and
    parsed on the loop, has what the app takes of any body.
    """
    most = request.client_max_size
    limit = most if max_bytes is None else max_bytes
    if not most or 0 < limit <= most:
        return limit
    on_disk = any(one.is_on_disk for one in signature.parameters)
    # No parameter has that name, so it is **kwargs that would take it.
    return most if on_disk or signature.goes_to_disk("") else limit


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
        self,
        request: web.Request,
        signature: Signature,
        max_bytes: int | None,
        arrivals: Arrivals,
    ) -> Received:
        """What came with a request; files that the function wants on disk are there.

        Raises:
            Refused: the body is too large, too slow, broken, or of a type that is not taken, or
                there is no room for its files.
        """
        path: Mapping[str, str] = request.match_info
        query = tuple(request.query.items()) if "?" in request.raw_path else ()
        limit = request.client_max_size if max_bytes is None else max_bytes
        if request.method == hdrs.METH_GET:
            # A body means nothing here, but while it is unread nobody sees the client leave.
            if request.can_read_body:
                await self._within_deadline(request, _read(request, limit), limit)
            return Received(path, query)
        if hdrs.CONTENT_TYPE not in request.headers and not await _has_body(request):
            _check_site(request)
            return Received(path, query)
        kind = _checked_type(request, signature)
        if kind == _FORM and not signature.takes_any_body:
            reading = _read_form(request, limit, signature, arrivals)
            form = await self._within_deadline(request, reading, limit)
            return attrs.evolve(form, path=path, query=query)
        if signature.body_goes_to_disk:
            saving = _save(request, limit, arrivals)
            whole = await self._within_deadline(request, saving, limit)
            return Received(path, query, whole=whole)
        if not signature.takes_any_body:
            limit = json_limit(request, signature, max_bytes)
        body = _body_that_is_here(request, limit)
        if body is None:
            body = await self._within_deadline(request, _read(request, limit), limit)
        if signature.takes_any_body:
            return Received(path, query, whole=body)
        return Received(path, query, body)

    async def form(self, request: web.Request) -> Mapping[str, Any]:
        """The fields of a form as an HTML page sends it; of another body none.

        Raises:
            Refused: the body is too large, too slow or broken.
        """
        return await self._within_deadline(request, request.post(), request.client_max_size)

    async def _within_deadline(
        self, request: web.Request, reading: Coroutine[Any, Any, T], limit: int
    ) -> T:
        """Await a read, and make what can go wrong with it into a refusal."""
        try:
            # A body that is here already, as most are, needs no timer: it is not waited for.
            return await (reading if request.content.is_eof() else self._in_time(reading))
        except TimeoutError:
            raise Refused(self._too_late()) from None
        except HTTPRequestEntityTooLarge:
            raise _too_large(limit) from None
        except ConnectionError:
            # Nobody reads this: the client has left.  It is for the access log, where aiohttp
            # would write a traceback.
            detail = "The client left before its body was whole."
            raise Refused(Problem.of("bad_request", detail)) from None
        except _UNREADABLE as error:
            detail = "The body can't be read: it is not what its headers say."
            raise Refused(Problem.of("bad_request", detail)) from error

    async def _in_time(self, reading: Coroutine[Any, Any, T]) -> T:
        """Await a read, but no longer than a body may take."""
        deadline = asyncio.timeout(0.0 if self._shutting_down else self._timeout)
        self._reading.add(deadline)
        try:
            async with deadline:
                return await reading
        finally:
            self._reading.discard(deadline)

    async def clone(self, request: web.Request, max_bytes: int | None) -> web.Request:
        """A copy of a request with its body read, and with no way to the client.

        A handler that runs as a job may outlive its connection, and must not write into the
        answer of whoever uses that next.

        Raises:
            Refused: the body is too large, too slow or broken.
        """
        # Both attributes are aiohttp's own; a test pins what they mean.  It clones no request whose
        # body was read, as an app's middleware may have done.
        body, request._read_bytes = request._read_bytes, None
        clone = request.clone() if max_bytes is None else request.clone(client_max_size=max_bytes)
        clone._read_bytes = request._read_bytes = body
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
            if not deadline.expired():
                deadline.reschedule(asyncio.get_running_loop().time())


def _checked_type(request: web.Request, signature: Signature) -> str:
    """The media type of the body, if this function takes it.

    JSON can't be sent across sites without the browser asking first.  Whatever can, a form, a
    body of any type or none at all, is looked at for where it comes from.
    """
    kind = request.content_type
    declared = hdrs.CONTENT_TYPE in request.headers
    json = declared and (kind == _JSON or kind.endswith("+json"))
    if json and not signature.takes_any_body:
        return _JSON
    if signature.takes_any_body or (declared and kind == _FORM and signature.takes_files):
        _check_site(request)
        return kind
    takes = f"{_JSON} or {_FORM}" if signature.takes_files else _JSON
    detail = f"Send Content-Type: {takes}, not {kind if declared else 'none'}."
    raise Refused(Problem.of("unsupported_media_type", detail))


def _check_site(request: web.Request) -> None:
    if is_cross_site(request):
        detail = "This function takes such a request from its own site only."
        raise Refused(Problem.of("cross_site", detail))


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


async def _has_body(request: web.Request) -> bool:
    # At its end there is nothing to wait for, and a body that a middleware has read is kept.
    return request.can_read_body or bool(await request.read())


def _body_that_is_here(request: web.Request, limit: int) -> bytes | None:
    """The whole body if it has come with its head, as most do: then it need not be waited for."""
    content = request.content
    if not content.is_eof() or content.exception() is not None:
        return None
    # aiohttp's own attribute, which a test pins: who reads the body again gets the same.
    body = request._read_bytes
    if body is None:
        body = request._read_bytes = content.read_nowait()
    if limit and len(body) > limit:
        raise _too_large(limit)
    return body


def _check_length(request: web.Request, limit: int) -> None:
    length = request.content_length
    if length is not None and limit and length > limit:
        raise _too_large(limit)


async def _read(request: web.Request, limit: int) -> bytes:
    """The whole body, at most ``limit`` bytes, counted after decompression."""
    _check_length(request, limit)
    if limit == request.client_max_size:
        return await request.read()
    body = bytearray() if request.can_read_body else bytearray(await request.read())
    async for chunk in request.content.iter_any():
        body += chunk
        if limit and len(body) > limit:
            break
    if limit and len(body) > limit:
        raise _too_large(limit)
    return bytes(body)


async def _save(request: web.Request, limit: int, arrivals: Arrivals) -> Upload:
    """The whole body as a file on disk, at most ``limit`` bytes."""
    _check_length(request, limit)
    left = _Left(limit)
    disposition = parse_content_disposition(request.headers.get(hdrs.CONTENT_DISPOSITION))
    name = content_disposition_filename(disposition[1])
    with arrivals.open(name, request.headers.get(hdrs.CONTENT_TYPE)) as arrival:
        if not request.can_read_body:  # a middleware has read it, or there is none
            body = await request.read()
            left.spend(len(body))
            await arrival.write(body)
        async for chunk in request.content.iter_any():
            left.spend(len(chunk))
            await arrival.write(chunk)
        return await arrival.end()


class _Left:
    """How many bytes a body may still have."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit or sys.maxsize

    def spend(self, count: int) -> None:
        """Count what has come.

        Raises:
            Refused: it is too much.
        """
        self._left -= count
        if self._left < 0:
            raise _too_large(self._limit)


async def _read_form(
    request: web.Request, limit: int, signature: Signature, arrivals: Arrivals
) -> Received:
    """The text fields and the files of a form, at most ``limit`` bytes with their headers."""
    _check_length(request, limit)
    fields: list[tuple[str, str]] = []
    files: list[tuple[str, File]] = []
    file_names: list[str] = []
    left = _Left(limit)
    async for part in await request.multipart():
        if len(fields) + len(files) == _MOST_PARTS:
            detail = f"The form may have {_MOST_PARTS} parts."
            raise Refused(Problem.of("payload_too_large", detail))
        if not isinstance(part, BodyPartReader) or part.name is None:
            raise ValueError("a part of the form has no name")
        part.name.encode()  # bytes that are no UTF-8 came as lone surrogates, and fail here
        left.spend(sum(len(name) + len(value) for name, value in part.headers.items()))
        kind = part.headers.get(hdrs.CONTENT_TYPE, _TEXT).lower()
        if part.filename is None and kind.startswith(_TEXT):
            fields.append((part.name, (await _in_memory(part, left)).decode()))
            continue
        if signature.goes_to_disk(part.name):
            files.append((part.name, await _on_disk(part, left, arrivals)))
        elif signature.may_be_file(part.name):
            files.append((part.name, await _in_memory(part, left)))
        else:
            await _read_part(part, left, _drop)
            files.append((part.name, b""))
        file_names.append(part.filename or "")
    async for chunk in request.content.iter_any():  # what follows the form means nothing
        left.spend(len(chunk))
    return Received(fields=fields, files=files, file_names=file_names)


async def _read_part(
    part: BodyPartReader, left: _Left, write: Callable[[Any], Awaitable[None]]
) -> None:
    size = _FIRST_CHUNK
    while not part.at_eof():
        chunk = await part.read_chunk(size)
        size = _CHUNK
        left.spend(len(chunk))
        await write(part.decode(chunk))


async def _in_memory(part: BodyPartReader, left: _Left) -> bytes:
    content = bytearray()

    async def write(chunk: bytes) -> None:
        content.extend(chunk)

    await _read_part(part, left, write)
    return bytes(content)


async def _on_disk(part: BodyPartReader, left: _Left, arrivals: Arrivals) -> Upload:
    with arrivals.open(part.filename, part.headers.get(hdrs.CONTENT_TYPE)) as arrival:
        await _read_part(part, left, arrival.write)
        return await arrival.end()


async def _drop(chunk: bytes) -> None:
    """What no function takes is counted, and not kept."""
