"""What running functions say, on its way from their threads and tasks to the logs of their jobs.

One call to the loop carries however much was said meanwhile, in its order.  Of progress only the
newest counts, so saying it costs the function a note and the loop ten looks a second.  Nobody who
reads a log is waited for: a thread waits only when the loop itself is behind.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import attrs
import orjson

from ._encoding import compact
from ._errors import ClaimLost, encodable
from ._job import Emission

__all__ = ["PROGRESS_SECONDS", "Emit", "Outbox", "OutboxBounds", "Progress"]

logger = logging.getLogger("aioqueue")

Emit = Callable[[str, Sequence[Emission]], Awaitable[None]]
"""Appends what a job says to its log."""

PROGRESS_SECONDS = 0.1
"""How often progress is news."""


class Progress(NamedTuple):
    """How far a function says it is: a share of the whole, or steps, maybe of a known total."""

    share: float | None
    step: float | None = None
    total: float | None = None
    message: str | None = None

    def emission(self) -> Emission:
        """As the event that tells it."""
        share = self.share
        if share is None and self.step is not None and self.total:
            share = self.step / self.total
        fields = {
            "progress": None if share is None else round(min(1.0, max(0.0, share)), 6),
            "step": self.step,
            "total": self.total,
            "message": None if self.message is None else encodable(self.message),
        }
        return Emission("progress", compact(orjson.dumps(fields)), durable=False)


@attrs.frozen(slots=True)
class OutboxBounds:
    """How much may be on its way: as much as a log keeps."""

    max_events: int = 10_000
    max_bytes: int = 1 << 20


class Outbox:
    """What the jobs of one claim have said, and the log does not hold yet.

    Args:
        emit: what takes it.
        bounds: how much may be here.
    """

    __slots__ = (
        "_bounds",
        "_bytes",
        "_calling",
        "_closed",
        "_dropped",
        "_due",
        "_emit",
        "_lock",
        "_loop",
        "_noted",
        "_progress",
        "_room",
        "_said",
        "_sender",
        "_sent_at",
        "_thread",
        "_timer",
        "_turn",
    )

    def __init__(self, emit: Emit, bounds: OutboxBounds) -> None:
        self._emit = emit
        self._bounds = bounds
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._room: threading.Condition | None = None  # there from when a thread first waits
        self._said: list[tuple[str, Emission]] = []
        self._bytes = 0
        self._dropped: dict[str, int] = {}
        self._calling = False  # whether a call to the loop is under way
        self._closed = False
        self._progress: dict[str, Progress] = {}
        self._noted = False  # whether the loop knows that there is progress
        self._due = False  # whether it is time for its news
        self._sent_at = -PROGRESS_SECONDS
        self._timer: asyncio.TimerHandle | None = None
        self._turn: asyncio.Lock | None = None
        self._sender: asyncio.Task[None] | None = None

    # From any thread

    @property
    def _full(self) -> bool:
        return len(self._said) >= self._bounds.max_events or self._bytes >= self._bounds.max_bytes

    def wait_for_room(self) -> None:
        """In a thread, wait while the loop is behind.  The loop itself can't wait for itself."""
        if not self._full or threading.get_ident() == self._thread:
            return
        with self._lock:
            if self._room is None:
                self._room = threading.Condition(self._lock)
            while self._full and not self._closed:
                self._room.wait()

    def put(self, job_id: str, emission: Emission) -> None:
        """Say something."""
        with self._lock:
            if self._closed:
                return
            self._said.append((job_id, emission))
            self._bytes += len(emission.fields)
            if self._calling:
                return
            self._calling = True
        self._call(self._send_soon)

    def offer(self, job_id: str, emission: Emission) -> None:
        """Say something if there is room for it; else only count it."""
        if self._full:
            with self._lock:
                self._dropped[job_id] = self._dropped.get(job_id, 0) + 1
        else:
            self.put(job_id, emission)

    def note(self, job_id: str, progress: Progress) -> None:
        """Say how far a job is: the newest note counts."""
        # The note first, then the look at the flag; whoever takes notes does it the other way
        # round.  So the last one is never left lying.
        self._progress[job_id] = progress
        if not self._noted and not self._closed:
            self._noted = True
            self._call(self._send_progress_soon)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            if threading.get_ident() == self._thread:
                self._loop.call_soon(callback)
            else:
                self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            self.discard()  # the loop is closed: nobody listens any more

    # On the loop

    def _send_progress_soon(self) -> None:
        left = self._sent_at + PROGRESS_SECONDS - self._loop.time()
        if left > 0 and not self._closed:
            self._timer = self._loop.call_later(left, self._send_progress)
        else:
            self._send_progress()

    def _send_progress(self) -> None:
        self._due = True
        self._send_soon()

    def _send_soon(self) -> None:
        if self._sender is None and not self._closed:
            self._sender = self._loop.create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            await self.flush()
        finally:
            self._sender = None

    def _take(self) -> dict[str, list[Emission]]:
        """Everything there is, by job, each job's in order."""
        with self._lock:
            said, self._said = self._said, []
            dropped, self._dropped = self._dropped, {}
            self._bytes = 0
            self._calling = False
            if self._room is not None:
                self._room.notify_all()
        taken: dict[str, list[Emission]] = {}
        for job_id, emission in said:
            taken.setdefault(job_id, []).append(emission)
        for job_id, count in dropped.items():
            fields = {"level": "warning", "message": f"{count} lines were dropped here."}
            taken.setdefault(job_id, []).append(Emission("log", orjson.dumps(fields)))
        if self._due:  # else the loop will come back for it
            self._due = self._noted = False
            for job_id in list(self._progress):
                taken.setdefault(job_id, []).append(self._progress.pop(job_id).emission())
                self._sent_at = self._loop.time()
        return taken

    async def flush(self) -> None:
        """Hand everything over that was said so far; progress only when it is time for it."""
        if self._turn is None:
            self._turn = asyncio.Lock()
        async with self._turn:  # what was said first is handed over first
            while not self._closed and (taken := self._take()):
                for job_id, emissions in taken.items():
                    await self._hand_over(job_id, emissions)

    async def _hand_over(self, job_id: str, emissions: Sequence[Emission]) -> None:
        try:
            await self._emit(job_id, emissions)
        except ClaimLost:
            logger.debug("a job has ended before it said its last")
        except Exception:
            logger.exception("what a job said could not be stored")

    @property
    def is_silent(self) -> bool:
        """Whether nothing is on its way."""
        return not (self._said or self._dropped or self._progress or self._sender)

    async def close(self) -> None:
        """Hand over the rest, and take nothing more."""
        self._due = True
        if not self.is_silent:
            await self.flush()
        self.discard()

    def discard(self) -> None:
        """Take nothing more, and let go whoever waits for room."""
        with self._lock:
            self._closed = True
            self._said, self._bytes = [], 0
            self._progress.clear()
            if self._room is not None:
                self._room.notify_all()
        if self._timer is not None and threading.get_ident() == self._thread:
            self._timer.cancel()
