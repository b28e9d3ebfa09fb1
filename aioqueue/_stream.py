"""One open stream of Server-Sent Events: its headers, its pings, and a reader who may be slow.

What is said on it, and in which form, is the business of whoever opens it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine, Mapping
from typing import Any

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp_sse import EventSourceResponse
from multidict import CIMultiDict, istr

from ._admission import Estimate
from ._eventlog import Reader
from ._job import Snapshot
from ._listeners import Listener, Place
from ._positions import Positions, Waiting
from ._settings import Settings

__all__ = ["STREAM_HEADERS", "EventStream", "Stream"]

_PING = b":\n\n"
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

    def prepare(self, request: web.BaseRequest) -> Coroutine[Any, Any, AbstractStreamWriter | None]:
        """Send the headers; on HTTP/1.0, where a body ends with the connection, close it then."""
        if request.version < HttpVersion11:
            self.force_close()
        # Past EventSourceResponse.prepare, which would start a task to ping this one stream.
        return web.StreamResponse.prepare(self, request)

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


class Stream(Listener):
    """One open stream: it says what is new in the logs that it follows, until it is over.

    Args:
        request: whose answer it is.
        reader: what it follows.
        settings: the app's.
        headers: besides those of every stream.
    """

    __slots__ = (
        "_ping_at",
        "_settings",
        "_taken",
        "_taken_at",
        "reader",
        "response",
    )

    ping = _PING
    """What breaks the silence: a comment, which clients pass over."""

    def __init__(
        self, request: web.Request, reader: Reader, settings: Settings, headers: Mapping[str, str]
    ) -> None:
        super().__init__(request, reader.cursors)
        self.reader = reader
        self.response = EventStream(settings.send_timeout, headers)
        self._settings = settings
        # What the kernel had taken, and since when; None until the first tick.
        self._taken: int | None = None
        self._taken_at = 0.0
        self._is_silent_from(asyncio.get_running_loop().time())

    def wake(self) -> None:
        """Look again."""
        self.reader.wake()

    async def tick(self, now: float) -> None:
        """Ping a stream that would be silent too long, drop one that does not read."""
        if self._taken is None:  # not before: a short stream needs none of it
            self._taken = -1
            self.response.settle_in(self.request)
        taken, left = self.response.unsent()
        if left:
            if taken != self._taken:  # slow, but it reads
                self._taken, self._taken_at = taken, now
            elif now - self._taken_at > self._settings.send_timeout:
                self._abort()
            self.look_at = 0.0
            return
        if now >= self._ping_at:
            await self._push(self.ping, now)
            return  # and see at the next tick whether it was taken
        # Thousands of streams wait in silence: nothing is to be done for them until the next ping.
        self.look_at = self._ping_at

    def _is_silent_from(self, now: float) -> None:
        """Nothing is said from now on, until something is."""
        self._ping_at = now + self._settings.ping_interval - 1.0

    async def _push(self, data: bytes, now: float) -> bool:
        try:
            sent = await self.response.push(data)
        except ConnectionError:
            return False
        if sent:
            self._is_silent_from(now)
            self.look_at = 0.0  # what was sent may be left unread
        return sent

    async def tell(self, kind: str, data: bytes) -> bool:
        """Say what is worth nothing later, unless the client is behind."""
        frame = self.frame(kind, data)
        return await self._push(frame, asyncio.get_running_loop().time())

    def tell_positions(
        self, positions: Positions, snapshot: Snapshot, estimate: Estimate
    ) -> Waiting:
        """Say how a waiting job's place changes, which is at this estimate now.

        Answers who waits, for ``close`` to tell him nothing any more.
        """
        record = snapshot.record
        waiting = Waiting(record.id, record.function, record.queue, self, estimate, record.priority)
        positions.follow(waiting, asyncio.get_running_loop().time())
        return waiting

    async def serve(
        self, place: Place | None = None, *, just_begun: bool = False
    ) -> web.StreamResponse:
        """Say what there is, then what comes, until it is over or the client has left.

        Args:
            place: what to leave at the end; None where a ``with`` block around this does.
            just_begun: whether its job began to run in this step.
        """
        # Few names, as thousands of streams wait in here.
        response = self.response
        self.reader.open()
        try:
            await response.prepare(self.request)
            if just_begun:
                # One turn of the loop: a job that is quick has ended by then, and everything it
                # said leaves in one write.
                await asyncio.sleep(0)
            while True:
                dropped = self.dropped
                data = await self.news()
                self.look_at = 0.0
                if self.is_over():
                    await response.write_eof(data)
                    break
                if data:
                    self._is_silent_from(asyncio.get_running_loop().time())
                    await response.write(data)  # waits for a client that does not read
                if dropped:
                    break
                del data  # or it would be most of what a waiting stream takes
                await self.reader.wait()
        except ConnectionError:
            pass  # the client has left; its jobs live on by their own rules
        finally:
            self.reader.close()
            self.close()
            if place is not None:
                place.leave()
        return response

    def _abort(self) -> None:
        """Hang up on a client that does not read."""
        if self.request.transport is not None:
            self.request.transport.abort()

    # What is said, and in which form

    def close(self) -> None:
        """Nobody is told anything any more."""
        raise NotImplementedError

    async def news(self) -> bytes:
        """What is to be said now that was not said yet."""
        raise NotImplementedError

    def is_over(self) -> bool:
        """Whether that was the last of it."""
        return not self.reader.cursors

    def frame(self, kind: str, data: bytes) -> bytes:
        """An event that no log has: a position."""
        raise NotImplementedError
