"""A gate before an ordinary handler: it runs in its turn, in its own task, and answers by itself.

The client notices nothing but order.  The body is not touched, the response is the handler's, and
what runs is a place in the queue, held from the handler's first line to its last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context

import attrs
from aiohttp import web

from ._active import Active, Local
from ._errors import Problem, Refused
from ._executors import Ended
from ._job import JobRecord
from ._listeners import Listener, Listeners, Place
from ._problems import refusal_response
from ._registry import Registered
from ._request_hooks import listener_of, standing_of
from ._running import CURRENT
from ._scheduler import Scheduler
from ._submit import Submitter, close_after, new_job_id

__all__ = ["Gate"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Waiter(Listener):
    """Who waits for a turn."""

    __slots__ = ("_gate",)

    def __init__(self, request: web.Request, gate: asyncio.Future[Active | None]) -> None:
        super().__init__(request, ())
        self._gate = gate

    def wake(self) -> None:
        """Go without it."""
        if not self._gate.done():
            self._gate.set_result(None)


@attrs.frozen(slots=True, kw_only=True)
class Gate:
    """Lets requests through in their turn."""

    scheduler: Scheduler
    listeners: Listeners
    submitter: Submitter

    async def answer(
        self, function: Registered, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Run the handler when it is this request's turn, or refuse it."""
        around = CURRENT.get(None)
        if around is not None and self.scheduler.queue_of(around.id) == function.queue:
            return await handler(request)  # it has come through a gate of this queue already
        try:
            active = await self._turn(function, request)
        except Refused as refused:
            return await close_after(request, refusal_response(refused, request))
        if active is None:
            # Nobody reads this: the client has left.  The status is for the access log.
            return web.Response(status=499, reason="Client Closed Request")
        token = CURRENT.set(active.job)
        ended = Ended()
        try:
            return await self._within(function.time_limit, request, handler)
        except asyncio.CancelledError as error:
            ended = Ended(error=error)
            raise
        finally:
            CURRENT.reset(token)
            await self.scheduler.finish_gated(active, ended)

    async def _within(
        self, limit: float | None, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Run the handler; what runs longer than it may gets a 504, or is cut off if it streams."""
        try:
            async with asyncio.timeout(limit) as clock:
                return await handler(request)
        except TimeoutError:
            if not clock.expired():
                raise
        detail = f"The server did not answer within {limit:g} s."
        response = refusal_response(Refused(Problem.of("job_timeout", detail)), request)
        if not request.writer.output_size:
            return await close_after(request, response)
        if request.transport is not None:
            request.transport.abort()
        return response

    async def _turn(self, function: Registered, request: web.Request) -> Active | None:
        """Wait for the turn.  None if the client has left before it.

        Raises:
            Refused: there is no room, or the server shuts down.
        """
        standing = await standing_of(self.submitter.settings, function, request)
        gate: asyncio.Future[Active | None] = asyncio.get_running_loop().create_future()
        local = Local(copy_context(), request.app, gate=gate)
        record = JobRecord(
            id=new_job_id(),
            function=function.name,
            queue=function.queue,
            node=self.scheduler.node,
            owner=standing.owner,
            client=standing.client,
            priority=standing.priority,
            metadata=standing.metadata,
            queue_timeout=function.queue_timeout,
            retained=False,
        )
        with self.listeners.place(await listener_of(self.submitter.settings, request)) as place:
            await self.submitter.enqueue(function, record, local, None)
            return await self._granted(place, request, record.id, gate)

    async def _granted(
        self, place: Place, request: web.Request, job_id: str, gate: asyncio.Future[Active | None]
    ) -> Active | None:
        listener = place.listener = _Waiter(request, gate)
        try:
            active = await gate
        except asyncio.CancelledError:
            # aiohttp cancels handlers of clients that left, where the app asked for it.
            if gate.done() and not gate.cancelled() and (late := gate.result()) is not None:
                await self.scheduler.finish_gated(late, Ended(error=asyncio.CancelledError()))
            else:
                await self.scheduler.cancel(job_id, "disconnect")
            raise
        if active is None:
            if not listener.dropped:
                raise Refused(self.scheduler.why_not_run(), 5)
            await self.scheduler.cancel(job_id, "disconnect")
        elif listener.is_gone:
            await self.scheduler.finish_gated(active, Ended(error=asyncio.CancelledError()))
            return None
        return active
