"""Server-Sent Events (WHATWG HTML, section 9.2): the stream of a job, or of several.

An event is JSON that was encoded once; here it gets its frame and goes out as it is, together
with everything else that is pending, in one write.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import attrs
import orjson
from aiohttp import web

from ._eventlog import Reader
from ._job import BEGINNING, EventId, JobState, event_data
from ._positions import Estimator, Positions, Waiting
from ._resource import Links, job_resource
from ._settings import Settings
from ._stream import Stream
from .engines.base import Engine, EventPage

__all__ = ["Streams", "cursor_of", "cursors_of", "frame"]

_TRUNCATED = {True: b',"truncated":true}', False: b',"truncated":false}'}


def frame(kind: str, data: bytes, event_id: str | None = None) -> bytes:
    """One event on the wire.  ``data`` is one line of orjson's, so nothing can be forged."""
    if event_id is None:
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), kind.encode(), data)


def cursor_of(request: web.Request) -> str:
    """Where the client left off: the header, newer by definition, beats the query."""
    return request.headers.get("Last-Event-ID") or request.query.get("last_event_id", "")


def cursors_of(text: str, jobs: Sequence[str]) -> dict[str, EventId]:
    """The place in each log, from ids joined by dots; whatever can't be read is the beginning."""
    parts = text.split(".", len(jobs)) if text else []
    if len(parts) != len(jobs):
        parts = [""] * len(jobs)
    return {
        job_id: EventId.parse(part) or BEGINNING for job_id, part in zip(jobs, parts, strict=True)
    }


@attrs.frozen(slots=True)
class Streams:
    """Opens event streams.

    Args:
        engine: what keeps the logs.
        estimator: what knows positions.
        positions: what tells them.
        settings: the app's.
        links: where jobs are.
    """

    engine: Engine
    estimator: Estimator
    positions: Positions
    settings: Settings
    links: Links

    def open(
        self,
        request: web.Request,
        reader: Reader,
        headers: Mapping[str, str],
        places: Mapping[str, EventId] | None = None,
        unknown: Sequence[str] = (),
    ) -> JobStream:
        """A stream that has not sent anything yet.

        Args:
            request: whose answer it is.
            reader: what it sends.
            headers: besides those of every stream.
            places: where the client is in all logs it asked for, in its order, if they are
                more than the reader follows.
            unknown: jobs that it asked for, and that there are not.
        """
        return JobStream(self, request, reader, headers, places or reader.cursors, unknown)


class JobStream(Stream):
    """The stream of one job, or of several, and where it is in each one's log."""

    __slots__ = ("_ids", "_streams", "_unknown", "_waiting")

    def __init__(
        self,
        streams: Streams,
        request: web.Request,
        reader: Reader,
        headers: Mapping[str, str],
        places: Mapping[str, EventId],
        unknown: Sequence[str],
    ) -> None:
        super().__init__(request, reader, streams.settings, headers)
        self._streams = streams
        self._waiting: tuple[Waiting, ...] = ()
        self._unknown: Sequence[str] | None = unknown  # None once they are told
        self._ids: dict[str, str] | None = None  # where it is in each log, if there are several
        if len(places) > 1:
            self._ids = {job_id: str(cursor) for job_id, cursor in places.items()}

    async def news(self) -> bytes:
        """What has happened since the last write; at first all of it."""
        if self._unknown is not None:
            return await self._opening(self._unknown)
        parts: list[bytes] = []
        for job_id, page in await self.reader.read():
            if page.truncated:  # the reader fell behind the log: say so before going on
                parts.append(await self._state(job_id, True))
            self._tell(job_id, page, parts)
        self._tell_gone(parts)
        return b"".join(parts)

    async def _opening(self, unknown: Sequence[str]) -> bytes:
        """The first bytes: when to come back, how every job stands, and what was missed."""
        self._unknown = None
        parts = [b"retry: %d\n\n" % (1000 + 2000 * random.random())]
        jobs = list(self.reader.cursors)
        pages = dict(await self.reader.read())
        self._tell_gone(parts, unknown)
        for job_id in jobs:
            page = pages.get(job_id)
            parts.append(await self._state(job_id, page is not None and page.truncated))
        for job_id in jobs:
            if job_id in pages:
                self._tell(job_id, pages[job_id], parts)
        return b"".join(parts)

    async def _state(self, job_id: str, truncated: bool) -> bytes:
        """The ``state`` event of a job; whoever waits is told positions from now on.

        The result of an ended job is left to its terminal event, which always follows.
        """
        snapshot = await self._streams.engine.get(job_id)
        if snapshot is None:
            return b""
        estimate = await self._streams.estimator.estimate(snapshot)
        if snapshot.state is JobState.QUEUED:
            waiting = self.tell_positions(self._streams.positions, snapshot, estimate)
            self._waiting += (waiting,)
        job = job_resource(snapshot, estimate, self._streams.links, with_result=False)
        data = event_data(job_id, "state", job)
        return frame("state", data[:-1] + _TRUNCATED[truncated])

    def _tell(self, job_id: str, page: EventPage, parts: list[bytes]) -> None:
        """Add the events of a page, with ids that say where the stream is in all its jobs."""
        for event in page.events:
            event_id = str(event.id)
            if self._ids is not None:
                self._ids[job_id] = event_id
                event_id = ".".join(self._ids.values())
            parts.append(frame(event.type, event.data, event_id))
        if page.progress is not None:
            parts.append(frame("progress", event_data(job_id, "progress", page.progress)))

    def _tell_gone(self, parts: list[bytes], unknown: Sequence[str] = ()) -> None:
        """Add an event for each job that is not known, or no longer; its name may be any text."""
        for job in (*self.reader.gone, *unknown):
            parts.append(frame("gone", orjson.dumps({"type": "gone", "job": job})))
        self.reader.gone = ()

    def close(self) -> None:
        """Nobody is told anything any more."""
        for waiting in self._waiting:
            waiting.listener = None

    def frame(self, kind: str, data: bytes) -> bytes:
        """An event without an id: it is not sent again."""
        return frame(kind, data)
