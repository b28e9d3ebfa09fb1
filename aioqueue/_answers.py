"""What a job looks like as an HTTP response."""

from __future__ import annotations

import math
import os
import re
from urllib.parse import quote

import orjson
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from ._errors import Problem
from ._job import JSON_TYPE, Content, JobState, Snapshot
from ._positions import Estimator
from ._problems import problem_response, stored_problem_response
from ._resource import Links, job_resource
from ._spool import in_thread

__all__ = ["Answers", "content_response", "not_found"]

_INLINE = ("image/", "audio/", "video/")
_NOT_INLINE = ("image/svg+xml",)
_POLL_SECONDS = 30

_NEVER_STORED = {hdrs.CACHE_CONTROL: "no-store", "X-Content-Type-Options": "nosniff"}

_ONE_RANGE = re.compile(r"bytes=(?:[0-9]+-[0-9]*|-[0-9]+)")

_CONDITIONS = (
    hdrs.RANGE,
    hdrs.IF_RANGE,
    hdrs.IF_MATCH,
    hdrs.IF_NONE_MATCH,
    hdrs.IF_MODIFIED_SINCE,
    hdrs.IF_UNMODIFIED_SINCE,
)


def not_found(request: web.Request) -> web.Response:
    """The answer for an unknown job, and byte for byte the same for somebody else's."""
    detail = "There is no such job, or it has ended and is no longer kept."
    return problem_response(Problem.of("not_found", detail), instance=request.rel_url.raw_path)


class Answers:
    """Renders jobs.

    Args:
        estimator: what knows positions and times.
        links: where jobs are.
        max_event_bytes: how large a result may be to stand in the job.
    """

    def __init__(self, estimator: Estimator, links: Links, max_event_bytes: int = 1 << 20) -> None:
        self._estimator = estimator
        self._links = links
        self._max_event_bytes = max_event_bytes

    async def job(self, snapshot: Snapshot, status: int = 200) -> web.Response:
        """The job itself, with hints for whoever polls while it has not ended."""
        estimate = await self._estimator.estimate(snapshot)
        body = job_resource(snapshot, estimate, self._links, max_event_bytes=self._max_event_bytes)
        headers = {hdrs.CONTENT_TYPE: JSON_TYPE, **_NEVER_STORED}
        response = web.Response(status=status, body=body, headers=headers)
        if not snapshot.state.terminal:
            seconds = math.ceil(estimate.eta or 1.0)
            response.headers[hdrs.RETRY_AFTER] = str(max(1, min(_POLL_SECONDS, seconds)))
        return response

    async def accepted(self, snapshot: Snapshot) -> web.Response:
        """202 (RFC 9110 section 15.3.3): how the job stands, and where to look next."""
        response = await self.job(snapshot, 202)
        job_id = snapshot.record.id
        response.headers[hdrs.LOCATION] = self._links.job(job_id)
        events = self._links.events(job_id)
        response.headers[hdrs.LINK] = f'<{events}>; rel="monitor"; type="text/event-stream"'
        return response

    async def result(self, snapshot: Snapshot) -> web.StreamResponse:
        """The bare result of an ended job, or the problem it ended with."""
        response: web.StreamResponse
        if snapshot.state is JobState.SUCCEEDED:
            response = await content_response(snapshot.result or Content(b"null"))
        elif snapshot.state is JobState.FAILED and snapshot.error is not None:
            status = orjson.loads(snapshot.error)["status"]
            response = stored_problem_response(snapshot.error, status)
        else:
            response = problem_response(_cancelled(snapshot))
        response.headers[hdrs.CONTENT_LOCATION] = self._links.result(snapshot.record.id)
        return response


def _cancelled(snapshot: Snapshot) -> Problem:
    if snapshot.reason == "shutdown":
        return Problem.of("lost_on_shutdown", "The server shut down before the job ended.")
    reason = snapshot.reason or "by the function itself"
    return Problem.of("job_cancelled", f"The job was cancelled ({reason}).")


class _File(web.FileResponse):
    """A file as it is, and nothing else.

    aiohttp would send one beside it that ends in ``.gz`` in its place, parts of it to a POST, where
    a range means nothing (RFC 9110 section 14.2), and parts of another than ``If-Range`` names.
    """

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Begin to send it."""
        headers = CIMultiDict(request.headers)
        unwanted = _CONDITIONS if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD) else ()
        for name in (hdrs.ACCEPT_ENCODING, *unwanted):
            headers.popall(name, None)
        if hdrs.RANGE in headers and not await self._sends_part(request):
            del headers[hdrs.RANGE]
        # aiohttp's own attribute; it clones no request whose body was read.
        body, request._read_bytes = request._read_bytes, None
        clone = request.clone(headers=headers)
        clone._read_bytes = request._read_bytes = body
        return await super().prepare(clone)

    async def _sends_part(self, request: web.BaseRequest) -> bool:
        """Whether the range is one that is known here, and of this file (RFC 9110 13.1.5, 14.2)."""
        if not _ONE_RANGE.fullmatch(request.headers[hdrs.RANGE]):
            return False
        condition = request.headers.get(hdrs.IF_RANGE)
        if condition is None or request.if_range is not None:
            return True  # aiohttp looks at dates
        try:
            info = await in_thread(os.stat, self._path)
        except OSError:
            return False
        return condition == f'"{info.st_mtime_ns:x}-{info.st_size:x}"'  # aiohttp's ETag


async def content_response(content: Content) -> web.StreamResponse:
    """A result's bytes.  What a browser could run comes as a download, in a sandbox."""
    response: web.StreamResponse
    headers = {**_NEVER_STORED, hdrs.CONTENT_TYPE: content.content_type}
    if content.path is None:
        response = web.Response(body=content.body, headers=headers)
    elif await in_thread(os.path.isfile, content.path):
        response = _File(content.path, headers=headers)
        # A client may keep it, for a range or a second look, if it asks each time.
        response.headers[hdrs.CACHE_CONTROL] = "private, no-cache"
    else:
        detail = "The file that was the result is no longer there."
        return problem_response(Problem.of("not_found", detail))
    if content.is_value:
        return response
    response.headers["Content-Security-Policy"] = "sandbox"
    kind = content.content_type.partition(";")[0].strip().lower()
    inline = kind == "text/plain" or (kind.startswith(_INLINE) and kind not in _NOT_INLINE)
    if not inline or content.name:
        disposition = "inline" if inline else "attachment"
        response.headers[hdrs.CONTENT_DISPOSITION] = disposition + _filename(content.name)
    return response


def _filename(name: str | None) -> str:
    """The parameters that name a file (RFC 6266): in plain letters, and exactly."""
    if not name:
        return ""
    plain = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "._- ") else "_"
        for letter in name
    )
    exact = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
    return f'; filename="{plain}"{exact}'
