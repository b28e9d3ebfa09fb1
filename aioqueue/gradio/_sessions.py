"""Sessions: the jobs of one client object, under a name that it invents.

Nobody vouches for such a name, so a session belongs to an owner too: the same name of somebody else
is another session.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Protocol

from ._catalogue import Exposed

__all__ = ["Session", "Sessions"]

_CLOSE_SECONDS = 0.25
"""How long a close is on its way to a client, which takes a job for covered by a stream until it
has read that.  A busy client is late: forty threads of Python pass its lock around that long."""

_LOOKS = 100
"""How many sessions one tick looks at; a tenth of them, if that is more: else they could come
faster than they go."""


class SessionListener(Protocol):
    """A stream that tells of a session's jobs."""

    def join(self, job_id: str, exposed: Exposed) -> None:
        """Tell of one more job."""

    def cancel(self, job_id: str) -> None:
        """Tell that a job is cancelled."""


class Session:
    """The jobs of a session that were not told to their ends yet."""

    __slots__ = ("_closed_at", "cancelled", "jobs", "streams")

    def __init__(self) -> None:
        self.jobs: dict[str, Exposed] = {}
        self.cancelled: list[str] = []
        """Those of them that are cancelled, which no stream has told yet."""
        self.streams: set[SessionListener] = set()
        self._closed_at = float("-inf")

    def join(self, job_id: str, exposed: Exposed) -> None:
        """One more job."""
        self.jobs[job_id] = exposed
        for stream in self.streams:
            stream.join(job_id, exposed)

    def cancel(self, job_id: str) -> None:
        """A job is cancelled: tell it at once, whenever the function notices."""
        if job_id in self.cancelled:
            return
        self.cancelled.append(job_id)
        for stream in self.streams:
            stream.cancel(job_id)

    def told(self, job_id: str) -> None:
        """A job has been told to its end."""
        self.jobs.pop(job_id, None)
        if job_id in self.cancelled:
            self.cancelled.remove(job_id)

    def close(self, stream: SessionListener, now: float) -> None:
        """A stream says that it closes: what joins from now on is not told there."""
        self.streams.discard(stream)
        self._closed_at = now

    def pause(self, now: float) -> float:
        """Seconds until a client that joins now has heard of the last close."""
        return max(0.0, self._closed_at + _CLOSE_SECONDS - now)


class Sessions:
    """All sessions.

    Args:
        find: answers what there is of a job, None if it is no longer kept.
    """

    def __init__(self, find: Callable[[str], Awaitable[object | None]]) -> None:
        self._find = find
        self._sessions: dict[tuple[str | None, str], Session] = {}

    def find(self, owner: str | None, name: str) -> Session | None:
        """An owner's session, if there is one of this name."""
        return self._sessions.get((owner, name))

    def open(self, owner: str | None, name: str) -> Session:
        """An owner's session of this name."""
        return self._sessions.setdefault((owner, name), Session())

    async def tick(self, now: float) -> None:
        """Forget those without jobs or streams, and the jobs that nobody has asked for in time."""
        looks = max(_LOOKS, len(self._sessions) // 10)
        for key in list(islice(self._sessions, looks)):
            session = self._sessions[key]
            if not session.streams:
                await self._forget(session)
            del self._sessions[key]
            if session.jobs or session.streams or session.pause(now):
                self._sessions[key] = session  # behind the others: they are next

    async def _forget(self, session: Session) -> None:
        """Jobs are forgotten about in the order in which they came, so the first says enough."""
        for job_id in list(session.jobs):
            if await self._find(job_id) is not None:
                break
            session.told(job_id)
