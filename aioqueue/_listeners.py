"""Who is there: the open connections, swept once a second.

aiohttp does not tell a handler that its client has left; it shows when somebody looks.  One sweep
looks at all of them, tells the engine which jobs are listened to, and lets each connection do what
it does about time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence

from aiohttp import web

from ._errors import Problem, Refused
from .engines.base import LISTENING_SECONDS, Engine

__all__ = ["Listener", "Listeners", "Place"]

logger = logging.getLogger("aioqueue")

_SLICE = 128
"""How many connections are looked at in one turn of the loop, which has other things to do."""


class Listener:
    """One open connection that waits for jobs.

    Args:
        request: the connection's request.
        jobs: what it waits for; more may be added.
    """

    __slots__ = ("_protocol", "dropped", "jobs", "look_at", "renew_at", "request")

    def __init__(self, request: web.Request, jobs: Collection[str]) -> None:
        self.request = request
        self._protocol = request.protocol  # the short way to the transport: it is asked often
        self.jobs = jobs
        self.dropped = False
        """Whether the client has left, or was made to."""
        self.renew_at = 0.0
        self.look_at = 0.0
        """When it next has something to do about time, besides being there."""

    @property
    def is_gone(self) -> bool:
        """Whether the socket is closed."""
        transport = self._protocol.transport
        return transport is None or transport.is_closing()

    def drop(self) -> None:
        """Stop waiting."""
        self.dropped = True
        self.wake()

    def wake(self) -> None:
        """The client has left, or everybody must."""
        raise NotImplementedError

    async def tick(self, now: float) -> None:
        """Once a second from ``look_at`` on, while the socket is open."""


class Place:
    """A place among the open connections, taken before there is a job to listen to.

    It is taken from the start, and has to be left: by ``leave``, or at the end of a ``with`` block.
    """

    __slots__ = ("_client", "_listeners", "listener")

    def __init__(self, listeners: Listeners, client: str | None) -> None:
        self._listeners = listeners
        self._client = client
        self.listener: Listener | None = None
        """Who is there; None before and after."""

    @property
    def is_deserted(self) -> bool:
        """Whether its socket is closed, which its listener may not have heard of."""
        return self.listener is not None and self.listener.is_gone

    def leave(self, *exception: object) -> None:
        """Give it back; its listener has stopped listening."""
        self._listeners.leave(self, self._client)

    def __enter__(self) -> Place:
        return self

    __exit__ = leave


class Listeners:
    """All open connections.

    Args:
        engine: what wants to know whether a job is listened to.
        max_open: how many connections may wait.
        max_per_client: how many of one client's, if there is a bound.
    """

    def __init__(self, engine: Engine, max_open: int, max_per_client: int | None = None) -> None:
        self._engine = engine
        self._max_open = max_open
        self._max_per_client = max_per_client
        self._places: dict[Place, None] = {}
        self._of_client: dict[str, dict[Place, None]] = {}
        self._left: list[str] = []  # jobs that somebody stopped listening to since the last tick

    def __len__(self) -> int:
        return len(self._places)

    def place(self, client: str | None = None) -> Place:
        """A place for one more connection, until it is left.

        Args:
            client: whose it is, if they are counted.

        Raises:
            Refused: 503, there are too many; 429, this client has too many.
        """
        if len(self._places) >= self._max_open:
            detail = f"{self._max_open} connections wait already. Please try again in a moment."
            raise Refused(Problem.of("too_many_streams", detail), retry_after=5)
        most = self._max_per_client
        if client is not None and most is not None:
            mine = self._of_client.get(client, ())
            # One that comes back need not wait until the next sweep finds its old connection.
            if sum(not place.is_deserted for place in mine) >= most:
                detail = f"You have {most} streams open already. Please close one of them."
                if most == 1:
                    detail = "You have a stream open already. Please close it."
                raise Refused(Problem.of("quota_exceeded", detail), retry_after=5)
        place = Place(self, client)
        self._places[place] = None
        if client is not None:
            self._of_client.setdefault(client, {})[place] = None
        return place

    def leave(self, place: Place, client: str | None) -> None:
        """A place is free."""
        del self._places[place]
        if place.listener is not None:
            self._left += place.listener.jobs
            place.listener = None
        if client is not None:
            mine = self._of_client[client]
            del mine[place]
            if not mine:
                del self._of_client[client]

    async def tick(self, now: float) -> None:
        """Once a second: drop who has left, and say which jobs are listened to."""
        places = list(self._places)
        for start in range(0, len(places), _SLICE):
            await self._look(places[start : start + _SLICE], now)
            await asyncio.sleep(0)
        await self._engine.attend(self._unheard(), 0.0)

    async def _look(self, places: Sequence[Place], now: float) -> None:
        """Let some of the connections do what they do about time."""
        renew: list[str] = []
        renew_at = now + LISTENING_SECONDS / 2
        for place in places:
            listener = place.listener
            if listener is None:
                continue
            if listener.is_gone:
                listener.drop()
                continue
            if now >= listener.renew_at:
                listener.renew_at = renew_at
                renew += listener.jobs
            if now >= listener.look_at:
                await self._tick_one(listener, now)
        if renew:
            await self._engine.attend(renew, LISTENING_SECONDS)

    async def _tick_one(self, listener: Listener, now: float) -> None:
        try:
            await listener.tick(now)
        except Exception:
            # Else it would stop the clock for everybody behind it, now and at each tick to come.
            logger.exception("a connection failed at a tick, and is dropped")
            listener.drop()

    def _unheard(self) -> list[str]:
        """The jobs that lost a listener since the last tick, and have none left."""
        if not self._left:
            return []
        heard = {
            job_id
            for place in self._places
            if place.listener is not None and not place.listener.dropped
            for job_id in place.listener.jobs
        }
        left = [job_id for job_id in self._left if job_id not in heard]
        self._left.clear()
        return left

    def drop_all(self) -> None:
        """Make everybody stop waiting."""
        for place in list(self._places):
            if place.listener is not None:
                place.listener.drop()
