"""The streams that Gradio's clients read: one of a whole session, and one of a single job.

Their framing is narrower than Server-Sent Events allow: the Python client takes nothing but blocks
that begin with ``data:``, so there is no id, no comment and no ``retry:`` on a session's stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import attrs
import orjson
from aiohttp import web

from .._eventlog import Reader
from .._job import BEGINNING, JobState
from .._positions import Estimator, Positions, Waiting
from .._settings import Settings
from .._stream import Stream
from ..engines.base import Engine
from ._catalogue import Exposed
from ._edits import edits
from ._messages import JobMessages, Message, encoded, estimation, failed, terminal
from ._sessions import Session

__all__ = ["CallStream", "SessionStream", "Source"]

_LINGER_SECONDS = 0.25
"""How long a session's stream stays open with nothing to say: a script that calls one function
after the other needs no new one each time, and one that is over can't exit before it ends."""


@attrs.frozen(slots=True)
class Source:
    """What all streams are made from."""

    engine: Engine
    estimator: Estimator
    positions: Positions
    settings: Settings


def _data(message: Message) -> bytes:
    return b"data: %b\n\n" % encoded(message)


def _event(kind: bytes, data: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind, encoded(data))


def _forgotten(job_id: str) -> Message:
    return failed(job_id, "The job has ended and is no longer kept.")


class SessionStream(Stream):
    """The stream of a session: the messages of all its jobs, also of those that join later.

    Args:
        request: whose answer it is.
        session: whose jobs.
        source: what it reads from.
        files: what the URL of a result that is a file begins with.
    """

    __slots__ = (
        "_cancelled",
        "_closing",
        "_files",
        "_fresh",
        "_jobs",
        "_last",
        "_session",
        "_source",
        "_timer",
        "_waiting",
    )

    ping = _data({"msg": "heartbeat", "event_id": None})

    def __init__(self, request: web.Request, session: Session, source: Source, files: str) -> None:
        reader = Reader(source.engine, dict.fromkeys(session.jobs, BEGINNING))
        super().__init__(request, reader, source.settings, {})
        self._session = session
        self._source = source
        self._files = files
        self._jobs: dict[str, JobMessages] = {}
        self._waiting: dict[str, Waiting] = {}
        self._last: dict[str, list[Any]] = {}  # what a job has put out last
        self._fresh: list[str] = []
        self._cancelled: list[str] = []
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        for job_id, exposed in session.jobs.items():
            self._take_on(job_id, exposed)
        session.streams.add(self)
        self._cancelled += session.cancelled

    def join(self, job_id: str, exposed: Exposed) -> None:
        """Tell of one more job."""
        self._take_on(job_id, exposed)
        self.reader.follow(job_id)

    def _take_on(self, job_id: str, exposed: Exposed) -> None:
        self._jobs[job_id] = JobMessages(exposed, job_id, self._source.engine, self._files)
        self._fresh.append(job_id)

    def cancel(self, job_id: str) -> None:
        """Tell that a job is cancelled, whenever its function notices."""
        self._cancelled.append(job_id)
        self.reader.wake()

    async def news(self) -> bytes:
        """The messages of what has happened since the last write.

        Raises:
            ConnectionError: nobody is there any more, so nothing is told.
        """
        if self.is_gone:
            raise ConnectionError("the client has left")
        messages = [message async for message in self._news()]
        goes_on = bool(self.reader.cursors)
        if goes_on or messages:
            self._stop_timer()
        if not goes_on and (self._closing or self.dropped):
            self._session.close(self, asyncio.get_running_loop().time())
            messages.append({"msg": "close_stream", "event_id": None})
        elif not goes_on and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_LINGER_SECONDS, self._linger_no_longer)
        return b"".join(map(_data, messages))

    def is_over(self) -> bool:
        """Whether it has said that it closes."""
        return self not in self._session.streams

    def _linger_no_longer(self) -> None:
        self._timer = None
        self._closing = True
        self.reader.wake()

    def _stop_timer(self) -> None:
        self._closing = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _news(self) -> AsyncIterator[Message]:
        # First, so that whatever is read is of a job whose place is told before it.
        pages = await self.reader.read()
        while self._fresh:  # also those that join meanwhile: they may be cancelled, too
            yield await self._estimation(self._fresh.pop(0))
        cancelled, self._cancelled = self._cancelled, []
        for job_id in cancelled:
            if job_id in self._jobs:
                yield failed(job_id, "Job cancelled")
                self._told(job_id)
        for job_id, page in pages:
            messages = self._jobs.get(job_id)
            if messages is None:
                continue  # it was told to its end by an earlier page
            async for message in messages.of(page):
                yield self._with_edits(job_id, message)
                if terminal(message):
                    self._told(job_id)
        gone, self.reader.gone = self.reader.gone, ()
        for job_id in gone:
            if job_id in self._jobs:
                yield _forgotten(job_id)
                self._told(job_id)

    async def _estimation(self, job_id: str) -> Message:
        """Where a new job is; whoever waits is told positions from now on.

        One that has begun is told as Gradio tells a newcomer who need not wait.
        """
        snapshot = await self._source.engine.get(job_id)
        if snapshot is None or snapshot.state is not JobState.QUEUED:
            return estimation(job_id, 1, 1, None)
        estimate = await self._source.estimator.estimate(snapshot)
        self._waiting[job_id] = self.tell_positions(self._source.positions, snapshot, estimate)
        return estimation(job_id, estimate.position, estimate.queue_size, estimate.eta)

    def _with_edits(self, job_id: str, message: Message) -> Message:
        """An output as clients expect it: the first as it is, then what has changed."""
        if message["msg"] != "process_generating":
            return message
        values = message["output"]["data"]
        last = self._last.get(job_id)
        self._last[job_id] = values
        if last is None:
            return message
        changed = [edits(old, new) for old, new in zip(last, values, strict=True)]
        return {**message, "output": {**message["output"], "data": changed}}

    def _told(self, job_id: str) -> None:
        """A job has been told to its end."""
        self.reader.leave(job_id)
        self._jobs.pop(job_id, None)
        self._last.pop(job_id, None)
        waiting = self._waiting.pop(job_id, None)
        if waiting is not None:
            waiting.listener = None
        self._session.told(job_id)

    def frame(self, kind: str, data: bytes) -> bytes:
        """A position."""
        told = orjson.loads(data)
        return _data(estimation(told["job"], told["position"], told["queue_size"], told["eta"]))

    def close(self) -> None:
        """It has ended, however."""
        for waiting in self._waiting.values():
            waiting.listener = None
        self._stop_timer()
        self._session.streams.discard(self)


_KINDS = {"process_generating": b"generating", "process_completed": b"complete"}


class CallStream(Stream):
    """The stream of one job, for those who call with nothing but HTTP.

    Args:
        request: whose answer it is.
        job_id: the job.
        exposed: its function.
        source: what it reads from.
        files: what the URL of a result that is a file begins with.
    """

    __slots__ = ("_messages",)

    ping = b"event: heartbeat\ndata: null\n\n"

    def __init__(
        self, request: web.Request, job_id: str, exposed: Exposed, source: Source, files: str
    ) -> None:
        super().__init__(request, Reader(source.engine, {job_id: BEGINNING}), source.settings, {})
        self._messages = JobMessages(exposed, job_id, source.engine, files)

    async def news(self) -> bytes:
        """Outputs and the end: nothing else is told here."""
        events = []
        for job_id, page in await self.reader.read():
            async for message in self._messages.of(page):
                kind = _KINDS.get(message["msg"])
                if kind is None:
                    continue
                if not message["success"]:
                    kind, data = b"error", message["output"]
                else:
                    data = message["output"]["data"]
                events.append(_event(kind, data))
                if terminal(message):
                    self.reader.leave(job_id)
        gone, self.reader.gone = self.reader.gone, ()
        for job_id in gone:
            events.append(_event(b"error", _forgotten(job_id)["output"]))
        return b"".join(events)

    def close(self) -> None:
        """Nothing is told here but outputs."""
