"""Reading the logs of jobs: what is there, then what comes, until the terminal event.

A reader has a cursor in each log and no queue of its own, so it can fall behind without holding
anybody up, and come back without having missed anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

import attrs

from ._job import BEGINNING, Content, EventId
from .engines.base import Engine, EventPage

__all__ = ["Reader", "ended", "follow", "outputs"]


class Reader:
    """Follows one or more jobs.

    Use it as a context manager: it watches the logs inside, and lets go of them at the end.

    Args:
        engine: what keeps the logs.
        cursors: for each job the event to go on after.
    """

    __slots__ = ("_changed", "_engine", "_progress", "_waiter", "_woken", "cursors", "gone")

    def __init__(self, engine: Engine, cursors: Mapping[str, EventId]) -> None:
        self.cursors = dict(cursors)
        """Where the reader is in each log it still follows; ended jobs are taken out."""
        self.gone: Sequence[str] = ()
        """Jobs that the engine did not know, when they were last read."""
        self._engine = engine
        # None between two reads, as nearly always: thousands of readers wait.
        self._changed: dict[str, None] | None = dict.fromkeys(cursors)
        self._progress: dict[str, bytes] | None = None  # of those that have said any
        self._woken = False
        self._waiter: asyncio.Future[None] | None = None

    def open(self) -> Reader:
        """Begin to watch."""
        for job_id in self.cursors:
            self._engine.watch(job_id, self)
        return self

    def close(self, *exception: object) -> None:
        """Let go."""
        for job_id in self.cursors:
            self._engine.unwatch(job_id, self)

    __enter__, __exit__ = open, close

    def follow(self, job_id: str) -> None:
        """Follow one more job, from its beginning."""
        self.cursors[job_id] = BEGINNING
        self._engine.watch(job_id, self)
        self(job_id)

    def leave(self, job_id: str) -> None:
        """Follow a job no longer, though it has not ended."""
        if self.cursors.pop(job_id, None) is not None:
            self._engine.unwatch(job_id, self)
            if self._progress is not None:
                self._progress.pop(job_id, None)

    def __call__(self, job_id: str) -> None:
        """A log has grown: the engine calls this."""
        if self._changed is None:
            self._changed = {}
        self._changed[job_id] = None
        self.wake()

    def wake(self) -> None:
        """Make ``wait`` return, for whatever reason; the next one, if nobody waits now."""
        self._woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def wait(self) -> asyncio.Future[None]:
        """Wait until a log has grown, or somebody has called ``wake``, since the last ``read``.

        A future and no coroutine: thousands of streams wait in one.
        """
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        if self._changed or self._woken:
            waiter.set_result(None)
        return waiter

    def _news(self, job_id: str, page: EventPage) -> EventPage | None:
        """What of a page is new; progress that is known already, or of an ended job, is not."""
        if page.progress is None:
            return page if page.events or page.ended else None
        known = self._progress = {} if self._progress is None else self._progress
        if not page.ended and page.progress != known.get(job_id):
            known[job_id] = page.progress
            return page
        return attrs.evolve(page, progress=None) if page.events or page.ended else None

    async def read(self) -> list[tuple[str, EventPage]]:
        """What is new in the logs, and move the cursors behind it.  Never waits for anything."""
        pages = []
        self._woken = False
        while self._changed:
            changed, self._changed = self._changed, None
            for job_id in changed:  # in the order of what happened
                cursor = self.cursors.get(job_id)
                if cursor is None:
                    continue
                page = await self._engine.events(job_id, cursor)
                if page is None:
                    self.gone = (*self.gone, job_id)
                elif (news := self._news(job_id, page)) is not None:
                    pages.append((job_id, news))
                if page is None or page.ended:
                    self.leave(job_id)
                elif page.events:
                    self.cursors[job_id] = page.events[-1].id
        return pages


async def follow(
    engine: Engine, job_id: str, after: EventId = BEGINNING
) -> AsyncIterator[EventPage]:
    """What is new in a job's log after an event, as it comes, until the terminal one."""
    with Reader(engine, {job_id: after}) as reader:
        while reader.cursors:
            for _, page in await reader.read():
                yield page
            if reader.cursors:
                await reader.wait()


async def outputs(engine: Engine, job_id: str, count: int) -> Content:
    """What a running job has put out, as a list; null if the log does not hold all ``count``."""
    page = await engine.events(job_id, BEGINNING)
    events = [] if page is None else [event for event in page.events if event.type == "output"]
    if len(events) != count:
        return Content(b"null", truncated=True)
    # The events are our own, so what was put out stands behind the first of these marks.
    data = [event.data[event.data.index(b',"data":') + 8 : -1] for event in events]
    return Content(b"[%b]" % b",".join(data))


async def ended(engine: Engine, job_ids: Iterable[str]) -> None:
    """Wait until all these jobs have ended, or are known no more."""
    with Reader(engine, dict.fromkeys(job_ids, BEGINNING)) as reader:
        while reader.cursors:
            await reader.read()
            if reader.cursors:
                await reader.wait()
