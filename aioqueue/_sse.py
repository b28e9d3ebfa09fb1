"""Server-Sent Events (WHATWG HTML, section 9.2): frames, streams, pings, and readers who are slow.

An event is JSON that was encoded once; here it gets its frame and goes out as it is, together
with everything else that is pending, in one write.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Mapping, Sequence

import orjson
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp_sse import EventSourceResponse
from multidict import CIMultiDict, istr

from ._admission import Estimate
from ._eventlog import Reader
from ._job import BEGINNING, EventId, JobState, Snapshot, event_data
from ._listeners import Listener
from ._positions import Estimator, Positions, Waiting
from ._resource import Links, job_resource
from ._settings import Settings
from .engines.base import Engine, EventPage

__all__ = ["EventStream", "Streams", "cursor_of", "cursors_of", "frame"]

PING = b":\n\n"
_SEND_BUFFER = 128 << 10
"""What the kernel may hold for one stream; its own choice would be megabytes."""

STREAM_HEADERS = CIMultiDict(
    {
        hdrs.CONTENT_TYPE: "text/event-stream",
        hdrs.CACHE_CONTROL: "no-store, no-transform",
        hdrs.VARY: "Accept, Prefer",
        istr("X-Accel-Buffering"): "no",
        istr("X-Content-Type-Options"): "nosniff",
    }
)


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


class EventStream(EventSourceResponse):
    """An aiohttp-sse response without a ping task of its own, and with headers of ours.

    The headers travel with the first events, so that a job that has ended by then costs one write.
    """

    _send_headers_immediately = False  # aiohttp's own switch for that; web.Response uses it

    def __init__(self, send_timeout: float, headers: Mapping[str, str]) -> None:
        super().__init__(sep="\n", allow_all_methods=True, send_timeout=send_timeout)
        mine = self.headers
        mine.clear()  # of a Connection above all: aiohttp knows what to say there, and does
        mine.extend(STREAM_HEADERS)
        mine.extend(headers)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the headers; on HTTP/1.0, where a body ends with the connection, close it then."""
        if request.version < HttpVersion11:
            self.force_close()
        # Past EventSourceResponse.prepare, which would start a task to ping this one stream.
        writer = await web.StreamResponse.prepare(self, request)
        # A future in the task's place keeps the rest of the class working.
        self._ping_task = asyncio.get_running_loop().create_future()  # type: ignore[assignment]
        return writer

    def settle_in(self, request: web.BaseRequest) -> None:
        """Set the socket up for a long life: notice a dead peer, and don't hoard for a slow one."""
        if request.transport is None:
            return
        self._set_tcp_user_timeout(request)
        sock = request.transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    async def push(self, data: bytes) -> bool:
        """Write without ever waiting, if the client has taken everything so far."""
        writer, request = self._payload_writer, self._req
        if writer is None or request is None or request.transport is None:
            return False
        if request.transport.is_closing() or request.transport.get_write_buffer_size():
            return False
        await writer.write(data, drain=False)  # type: ignore[call-arg]
        return True

    def unsent(self) -> tuple[int, int]:
        """How many bytes the kernel has taken so far, and how many it has yet to take."""
        writer, request = self._payload_writer, self._req
        if writer is None or request is None or request.transport is None:
            return 0, 0
        left = request.transport.get_write_buffer_size()
        return writer.output_size - left, left


class _Stream(Listener):
    """One open stream: what it sends, and where it is in each job's log."""

    __slots__ = (
        "_ids",
        "_response",
        "_settings",
        "_settled_in",
        "_silent_since",
        "_taken",
        "_taken_at",
        "_waiting",
        "reader",
    )

    def __init__(
        self,
        request: web.Request,
        reader: Reader,
        response: EventStream,
        settings: Settings,
        now: float,
        places: Mapping[str, EventId],
    ) -> None:
        super().__init__(request, tuple(reader.cursors), reader.wake)
        self.reader = reader
        self._response = response
        self._settings = settings
        self._ids: dict[str, str] = {}  # where it is in each log, if there are several
        if len(places) > 1:
            self._ids = {job_id: str(cursor) for job_id, cursor in places.items()}
        self._waiting: list[Waiting] = []
        self._taken, self._taken_at = -1, now
        self._settled_in = False  # at the first tick: a short stream needs none of it
        self._silent_since = now

    async def tick(self, now: float) -> None:
        """Ping a stream that would be silent too long, drop one that does not read."""
        if not self._settled_in:
            self._settled_in = True
            self._response.settle_in(self.request)
        taken, left = self._response.unsent()
        if left:
            if taken != self._taken:  # slow, but it reads
                self._taken, self._taken_at = taken, now
            elif now - self._taken_at > self._settings.send_timeout:
                self.abort()
            self.look_at = 0.0
            return
        if now - self._silent_since + 1.0 >= self._settings.ping_interval:
            await self._push(PING, now)
            return  # and see at the next tick whether it was taken
        # Thousands of streams wait in silence: nothing is to be done for them until the next ping.
        self.look_at = self._silent_since + self._settings.ping_interval - 1.0

    async def _push(self, data: bytes, now: float) -> bool:
        try:
            sent = await self._response.push(data)
        except ConnectionError:
            return False
        if sent:
            self._silent_since = now
            self.look_at = 0.0  # what was sent may be left unread
        return sent

    async def tell(self, kind: str, data: bytes) -> bool:
        """Send an ephemeral event, unless the client is behind."""
        loop = asyncio.get_running_loop()
        return await self._push(frame(kind, data), loop.time())

    def wait_for(self, waiting: Waiting) -> None:
        """Remember whom to tell positions, so that it can stop."""
        self._waiting.append(waiting)

    def close(self) -> None:
        """Stop telling positions."""
        for waiting in self._waiting:
            waiting.tell = None

    def frames(self, job_id: str, page: EventPage) -> bytes:
        """The events of a page, with ids that say where the stream is in all its jobs."""
        lines = []
        for event in page.events:
            event_id = str(event.id)
            if self._ids:
                self._ids[job_id] = event_id
                event_id = ".".join(self._ids.values())
            lines.append(frame(event.type, event.data, event_id))
        if page.progress is not None:
            lines.append(frame("progress", event_data(job_id, "progress", page.progress)))
        return b"".join(lines)

    async def send(self, data: bytes) -> None:
        """Send what there is, and end the response if all its jobs have ended.

        A client that does not read makes this wait, and only this.
        """
        self.look_at = 0.0
        if not self.reader.cursors:
            await self._response.write_eof(data)
        elif data:
            self._silent_since = asyncio.get_running_loop().time()
            await self._response.write(data)

    def abort(self) -> None:
        """Hang up on a client that does not read."""
        if self.request.transport is not None:
            self.request.transport.abort()


class Streams:
    """Serves event streams.

    Args:
        engine: what keeps the logs.
        estimator: what knows positions.
        positions: what tells them.
        settings: the app's.
        links: where jobs are.
    """

    def __init__(
        self,
        engine: Engine,
        estimator: Estimator,
        positions: Positions,
        settings: Settings,
        links: Links,
    ) -> None:
        self._engine = engine
        self._estimator = estimator
        self._positions = positions
        self._settings = settings
        self._links = links

    def open(
        self,
        request: web.Request,
        reader: Reader,
        headers: Mapping[str, str],
        places: Mapping[str, EventId] | None = None,
    ) -> _Stream:
        """A stream that has not sent anything yet.

        Args:
            request: whose answer it is.
            reader: what it sends.
            headers: besides those of every stream.
            places: where the client is in all logs it asked for, in its order, if they are
                more than the reader follows.
        """
        response = EventStream(self._settings.send_timeout, headers)
        now = asyncio.get_running_loop().time()
        return _Stream(request, reader, response, self._settings, now, places or reader.cursors)

    async def serve(self, stream: _Stream, unknown: Sequence[str] = ()) -> web.StreamResponse:
        """Send what there is, then what comes, until all jobs have ended or the client left."""
        response, reader = stream._response, stream.reader
        try:
            with reader:
                await response.prepare(stream.request)
                # One turn of the loop: a job that is quick has ended by then, and everything it
                # said leaves in one write.
                await asyncio.sleep(0)
                await stream.send(await self._opening(stream, unknown))
                while reader.cursors and not stream.dropped:
                    await reader.wait()
                    await stream.send(await self._news(stream))
        except ConnectionError:
            pass  # the client has left; the job lives on by its own rules
        finally:
            stream.close()
        return response

    async def _opening(self, stream: _Stream, unknown: Sequence[str]) -> bytes:
        """The first bytes: when to come back, how every job stands, and what was missed."""
        parts = [b"retry: %d\n\n" % random.uniform(1000, 3000)]
        jobs = list(stream.reader.cursors)
        pages = dict(await stream.reader.read())
        stream.reader.gone += unknown
        parts += _gone(stream.reader)
        for job_id in jobs:
            page = pages.get(job_id)
            parts.append(await self._state(stream, job_id, page is not None and page.truncated))
        parts += [stream.frames(job_id, pages[job_id]) for job_id in jobs if job_id in pages]
        return b"".join(parts)

    async def _news(self, stream: _Stream) -> bytes:
        """What has happened since the last write."""
        parts = []
        for job_id, page in await stream.reader.read():
            if page.truncated:  # the reader fell behind the log: say so before going on
                parts.append(await self._state(stream, job_id, True))
            parts.append(stream.frames(job_id, page))
        parts += _gone(stream.reader)
        return b"".join(parts)

    async def _state(self, stream: _Stream, job_id: str, truncated: bool) -> bytes:
        """The ``state`` event of a job; whoever waits is told positions from now on.

        The result of an ended job is left to its terminal event, which always follows.
        """
        snapshot = await self._engine.get(job_id)
        if snapshot is None:
            return b""
        estimate = await self._estimator.estimate(snapshot)
        if snapshot.state is JobState.QUEUED:
            self._follow(stream, snapshot, estimate)
        job = job_resource(snapshot, estimate, self._links, with_result=False)
        data = event_data(job_id, "state", job)
        return frame("state", data[:-1] + b',"truncated":%b}' % _BOOLEANS[truncated])

    def _follow(self, stream: _Stream, snapshot: Snapshot, estimate: Estimate) -> None:
        record = snapshot.record
        waiting = Waiting(
            record.id, record.function, record.queue, stream.tell, estimate, record.priority
        )
        stream.wait_for(waiting)
        self._positions.follow(waiting, asyncio.get_running_loop().time())


_BOOLEANS = {True: b"true", False: b"false"}


def _gone(reader: Reader) -> list[bytes]:
    """An event for each job that is not known, or no longer; the name may be a stranger's text."""
    jobs, reader.gone = reader.gone, []
    return [frame("gone", orjson.dumps({"type": "gone", "job": job})) for job in jobs]
