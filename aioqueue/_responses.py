"""What a function gave back as a result, also where that is a response of aiohttp's."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import content_disposition_filename, hdrs, parse_content_disposition, web

from . import _outcomes
from ._errors import JobError, encodable
from ._job import JSON_TYPE, Content

__all__ = ["content_of"]


def content_of(value: Any) -> Content:
    """A value as a result; of a response its JSON, its bytes or its file.

    It needs no app, so a process for jobs may call it too.

    Raises:
        JobError: the response says that something went wrong, or has no body to take.
        NoJsonForm: the value has no JSON form.
    """
    if not isinstance(value, web.StreamResponse):
        return _outcomes.content_of(value)
    if value.prepared or not isinstance(value, web.Response | web.FileResponse):
        raise _streams()
    if isinstance(value, web.FileResponse):
        # The path is aiohttp's own attribute; a test pins what it means.
        declared = value.headers.get(hdrs.CONTENT_TYPE)
        return _outcomes.file_content(value._path, declared, _name(value))
    return _content(value)


def _content(response: web.Response) -> Content:
    body = response.body
    if not isinstance(body, bytes | bytearray | None):
        raise _streams()
    content = bytes(body or b"")
    if response.status >= 400:
        raise JobError(content.decode(errors="replace"), status=response.status)
    if response.content_type == JSON_TYPE:
        # Parsed, and encoded by us: an event is one line, and this text may have more.
        return _outcomes.content_of(orjson.loads(content) if content else None)
    kind = response.headers.get(hdrs.CONTENT_TYPE, response.content_type)
    return Content(content, _outcomes.media_type(kind), _name(response))


def _name(response: web.StreamResponse) -> str | None:
    disposition = parse_content_disposition(response.headers.get(hdrs.CONTENT_DISPOSITION))
    name = content_disposition_filename(disposition[1])
    return name and encodable(name)


def _streams() -> JobError:
    return JobError("This function streams its answer. Ask for it without text/event-stream.")
