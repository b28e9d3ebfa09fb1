"""A request to a queued function: checked, read, enqueued, answered.

The order matters, and is the order of the methods below: whatever can be refused is refused before
the body is read, the body is whole before anything is queued, and a stream has its place before
there is a job.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
from collections.abc import Coroutine, Sequence
from contextvars import copy_context
from typing import Any

import attrs
from aiohttp import hdrs, web

from ._active import Local
from ._admission import retry_after
from ._answers import Answers
from ._arrivals import Arrivals
from ._bodies import BodyReader
from ._errors import Problem, Refused
from ._eventlog import Reader
from ._idempotency import fingerprint, idempotency_key
from ._job import BEGINNING, JSON_TYPE, JobRecord, Snapshot
from ._listeners import Listeners, Place
from ._negotiation import Mode, Preferences, choose_mode, preferences
from ._positions import Estimator
from ._problems import refusal_response
from ._registry import Registered
from ._request_hooks import Standing, listener_of, standing_of
from ._resource import Links
from ._scheduler import Scheduler
from ._settings import Settings
from ._spool import Spool
from ._sse import Streams, cursor_of, cursors_of
from ._waiting import wait_for_end
from .engines.base import LISTENING_SECONDS, Dedup, Engine, Enqueued

__all__ = ["Submitter", "close_after", "new_job_id", "prefer_of"]

logger = logging.getLogger("aioqueue")

_ids: list[str] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.clear)  # or two processes would hand out the same

Answering = Coroutine[Any, Any, web.StreamResponse]
"""What answers a request, once it is awaited."""


async def close_after(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Answer a request whose body is not read to its end, and close the connection.

    aiohttp would linger on the rest for ten seconds, also while it shuts down.
    """
    if request.content.is_eof():
        return response
    response.force_close()
    try:
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        return response
    # Not the transport alone: on Python 3.12 aiohttp would linger before it heard of that.
    request.protocol.force_close()
    return response


def prefer_of(request: web.Request) -> Preferences:
    """What the request's ``Prefer`` lines say."""
    return preferences(tuple(request.headers.getall("Prefer", ())))


@attrs.frozen(slots=True, kw_only=True)
class Submitter:
    """Answers requests to queued functions."""

    engine: Engine
    scheduler: Scheduler
    listeners: Listeners
    estimator: Estimator
    streams: Streams
    bodies: BodyReader
    answers: Answers
    spool: Spool
    settings: Settings
    links: Links
    queues: Sequence[str]

    async def answer(
        self, function: Registered, request: web.Request, subject: Any
    ) -> web.StreamResponse:
        """Answer a request: 202, the result, or a stream."""
        if request.method == hdrs.METH_GET and "Last-Event-ID" in request.headers:
            # An EventSource that comes back would run the job again; 204 tells it to stop.
            return web.Response(status=204)
        if request.method == hdrs.METH_HEAD:
            # aiohttp routes HEAD with GET.  Looking must not start anything.
            return web.Response(content_type=JSON_TYPE, headers={hdrs.VARY: "Accept, Prefer"})
        try:
            return await (await self._begin(function, request, subject))
        except Refused as refused:
            response = refusal_response(refused, request)
            response.headers[hdrs.VARY] = "Accept, Prefer"
            return await close_after(request, response)

    async def _begin(self, function: Registered, request: web.Request, subject: Any) -> Answering:
        """Read and enqueue.  What answers is handed back: it may wait long, this is over then.

        Raises:
            Refused: there is no job.
        """
        keyed = "Idempotency-Key" in request.headers
        arrivals = Arrivals(self.spool, new_job_id(), fingerprints=keyed)
        try:
            if not request.content.is_eof():
                await self.refuse_early(function, request)
            received = await self._receive(function, request, subject, arrivals)
            return await self._take(function, request, *received)
        finally:
            if arrivals.any:
                self.scheduler.clear(arrivals.job_id)

    @staticmethod
    def wants_stream(request: web.Request) -> bool:
        """Whether the request asks for Server-Sent Events."""
        return _mode(request, prefer_of(request)) is Mode.STREAM

    async def _take(
        self,
        function: Registered,
        request: web.Request,
        record: JobRecord,
        local: Local,
        dedup: Dedup | None,
    ) -> Answering:
        """Enqueue the job; what answers in the mode that was asked for."""
        prefer = prefer_of(request)
        mode = _mode(request, prefer)
        if mode is Mode.ACCEPTED:
            record = attrs.evolve(record, grace=None)
            enqueued = await self.enqueue(function, record, local, dedup)
            if enqueued.outcome == "duplicate":
                await self.engine.attend([enqueued.job_id], None)
            return self._accepted(enqueued, prefer)
        place = self.listeners.place(await listener_of(self.settings, request))
        try:
            enqueued = await self.enqueue(function, record, local, dedup)
            if enqueued.outcome == "duplicate":  # by the next tick its grace may be over
                await self.engine.attend([enqueued.job_id], LISTENING_SECONDS)
        except BaseException:
            place.leave()
            raise
        if mode is Mode.STREAM:
            return self._stream(place, request, enqueued)
        return self._wait(place, request, enqueued, prefer)

    # Before anything is queued

    async def refuse_early(self, function: Registered, request: web.Request) -> None:
        """Refuse before the body is read what would be refused after it.

        A body that is here already costs nothing to read, so there the atomic check decides.

        Raises:
            Refused: 503.
        """
        if not self.scheduler.accepting:
            raise Refused(Problem.of("shutting_down", "The server is shutting down."), 5)
        if "Idempotency-Key" in request.headers:
            return
        stats = await self.engine.stats(function.queue)
        waiting, limits = stats.waiting.get(function.name, 0), function.limits
        limit = stats.concurrency_limit
        has_slot = limit is None or len(stats.running) < limit
        if not stats.queue_size or (has_slot and self.scheduler.can_start(function.name)):
            return  # it may start at once: all that wait may be held beside the line
        if limits.function_max_size is not None and waiting >= limits.function_max_size:
            full = Enqueued("queue_full", "", waiting, limits.function_max_size)
            raise await self._full(function, full)
        if limits.max_size is not None:
            sizes = [(await self.engine.stats(queue)).queue_size for queue in self.queues]
            if sum(sizes) >= limits.max_size:
                full = Enqueued("queue_full", "", sum(sizes), limits.max_size)
                raise await self._full(function, full)

    async def _receive(
        self, function: Registered, request: web.Request, subject: Any, arrivals: Arrivals
    ) -> tuple[JobRecord, Local, Dedup | None]:
        """Read and check the request, and make the record of its job."""
        plain = function.function
        assert plain is not None
        standing = await standing_of(self.settings, function, request)
        owner = standing.owner
        key = idempotency_key(request, owner)
        payload, clone, dedup = b"", None, None
        if plain.takes_request:
            clone = await self.bodies.clone(request, function.max_body_size)
        else:
            limit = function.max_body_size
            received = await self.bodies.receive(request, plain.signature, limit, arrivals)
            payload = plain.signature.payload_of(received)
            if key is not None:
                scope = f"{owner!r} {request.method} {request.path}"
                digests = arrivals.digests
                dedup = Dedup(scope, key, fingerprint(request, received, digests))
        is_bound = plain.takes_request or plain.is_method or arrivals.any
        record = self.record(function, arrivals.job_id, payload, standing, is_bound)
        return record, Local(copy_context(), request.app, subject, clone), dedup

    def record(
        self,
        function: Registered,
        job_id: str,
        payload: bytes,
        standing: Standing,
        is_bound: bool,
        *,
        attached: bool = True,
    ) -> JobRecord:
        """What is stored of a job, whichever door it came through.

        Args:
            function: its function.
            job_id: its id.
            payload: its arguments.
            standing: whose it is, and how urgent.
            is_bound: whether only this process can run it.
            attached: whether it is cancelled when nobody listens to it any more.
        """
        # In the order of the fields: by their names it takes more than twice the time.
        return JobRecord(
            job_id,
            function.name,
            function.queue,
            payload,
            self.scheduler.node if is_bound else None,
            standing.owner,
            standing.client,
            standing.priority,
            standing.metadata,
            function.grace if attached else None,
            function.queue_timeout,
        )

    # Queued

    async def enqueue(
        self, function: Registered, record: JobRecord, local: Local, dedup: Dedup | None
    ) -> Enqueued:
        """Enqueue a job, or find the one that has its key.

        Raises:
            Refused: there is no room, or the key was used for something else.
        """
        if not self.scheduler.accepting:
            raise Refused(Problem.of("shutting_down", "The server is shutting down."), 5)
        limits, wait, eta = function.limits, None, None
        if function.max_wait is not None:
            wait, eta = await self.estimator.wait(record)
            if wait is not None and wait > function.max_wait:
                limits = attrs.evolve(limits, too_long=True)
        enqueued = await self.scheduler.submit(record, limits, local, dedup)
        if enqueued.outcome in ("accepted", "duplicate"):
            return enqueued
        if enqueued.outcome == "conflict":
            detail = "This Idempotency-Key belongs to a request with other contents."
            raise Refused(Problem.of("idempotency_key_reused", detail))
        if enqueued.outcome == "wait_too_long" and wait is not None:
            raise _too_long(enqueued, wait, function.max_wait or 0.0, eta)
        raise await self._full(function, enqueued)

    async def _full(self, function: Registered, enqueued: Enqueued) -> Refused:
        """The refusal of a job there is no room for, with the time until there is some."""
        estimate = await self.estimator.joining(function.name, function.queue)
        size, bound, eta = enqueued.queue_size, enqueued.max_size, estimate.eta
        seconds = retry_after(await self.estimator.next_start(function.name, function.queue))
        detail = f"The queue is full ({size} waiting). Please try again in about {seconds} s."
        if enqueued.outcome == "quota_exceeded":
            detail = f"You have {size} jobs waiting already. Please wait for one of them."
            if size == 1:
                detail = "You have 1 job waiting already. Please wait for it."
        problem = Problem.of(enqueued.outcome, detail, queue_size=size, max_size=bound, eta=eta)
        return Refused(problem, seconds)

    async def _snapshot(self, job_id: str) -> Snapshot:
        snapshot = await self.engine.get(job_id)
        if snapshot is None:
            # Bounds so tight that a job is forgotten the moment it ends.
            raise Refused(Problem.of("not_found", "The job has ended and is no longer kept."))
        return snapshot

    # Answered

    async def _accepted(self, enqueued: Enqueued, prefer: Preferences) -> web.StreamResponse:
        response = await self.answers.accepted(await self._snapshot(enqueued.job_id))
        if prefer.respond_async:
            response.headers["Preference-Applied"] = "respond-async"
        return _decorated(response, enqueued)

    def _stream(self, place: Place, request: web.Request, enqueued: Enqueued) -> Answering:
        headers: dict[str, str] = {hdrs.LOCATION: self.links.job(enqueued.job_id)}
        cursors = {enqueued.job_id: BEGINNING}
        if enqueued.outcome == "duplicate":  # a client that came back, maybe from a place
            headers["Idempotency-Replayed"] = "true"
            cursors = cursors_of(cursor_of(request), [enqueued.job_id])
        reader = Reader(self.engine, cursors)
        stream = place.listener = self.streams.open(request, reader, headers)
        return stream.serve(place, just_begun=self.scheduler.runs(enqueued.job_id))

    async def _wait(
        self, place: Place, request: web.Request, enqueued: Enqueued, prefer: Preferences
    ) -> web.StreamResponse:
        response: web.StreamResponse
        seconds = min(prefer.wait or 0, int(self.settings.prefer_wait_max))
        with place:
            ended = await wait_for_end(self.engine, place, request, enqueued.job_id, seconds)
            if ended:
                snapshot = await self._snapshot(enqueued.job_id)
                response = await self.answers.result(snapshot)
            else:
                if not (place.listener and place.listener.dropped):
                    await self.engine.attend([enqueued.job_id], None)
                response = await self.answers.accepted(await self._snapshot(enqueued.job_id))
        response.headers["Preference-Applied"] = f"wait={seconds}"
        return _decorated(response, enqueued)


def _mode(request: web.Request, prefer: Preferences) -> Mode:
    return choose_mode(",".join(request.headers.getall(hdrs.ACCEPT, ())), prefer)


def _decorated(response: web.StreamResponse, enqueued: Enqueued) -> web.StreamResponse:
    response.headers[hdrs.VARY] = "Accept, Prefer"
    if enqueued.outcome == "duplicate":
        response.headers["Idempotency-Replayed"] = "true"
    return response


def new_job_id() -> str:
    """An id that can't be guessed: whoever has it may see the job, where no owner is set.

    132 random bits each, asked of the system for many at a time.
    """
    if not _ids:
        text = secrets.token_urlsafe(64 * 22 * 6 // 8)
        _ids.extend(text[start : start + 22] for start in range(0, len(text), 22))
    return _ids.pop()


def _too_long(enqueued: Enqueued, wait: float, most: float, eta: float | None) -> Refused:
    """The refusal of a job that would wait longer than ``max_wait``, with the prediction."""
    seconds = retry_after(wait - most)
    detail = (
        f"The wait would be about {math.ceil(wait)} s, and {most:g} s are the most. Please try "
        f"again in about {seconds} s."
    )
    size, bound = enqueued.queue_size, enqueued.max_size
    problem = Problem.of("wait_too_long", detail, queue_size=size, max_size=bound, eta=eta)
    return Refused(problem, seconds)
