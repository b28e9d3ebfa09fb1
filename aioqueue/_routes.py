"""The routes of jobs: see one, follow it, get its result, cancel it; and the counts of all."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import attrs
import orjson
from aiohttp import hdrs, web

from ._answers import Answers, not_found
from ._errors import Problem, Refused
from ._eventlog import Reader, ended
from ._job import EventId, JobState, Snapshot
from ._listeners import Listeners
from ._positions import Estimator
from ._problems import problem_response, refusal_response
from ._registry import Registered
from ._request_hooks import listener_of, owner_of
from ._scheduler import Scheduler
from ._settings import Settings
from ._sse import Streams, cursor_of, cursors_of
from ._stream import STREAM_HEADERS
from ._submit import prefer_of
from ._waiting import wait_for_end
from .engines.base import LISTENING_SECONDS, Engine

__all__ = ["ROUTES", "JobRoutes"]

_CLIENT = Path(__file__).with_name("static").joinpath("client.js").read_bytes()
_CLIENT_TAG = hashlib.sha256(_CLIENT).hexdigest()[:16]
_CLIENT_HEADERS = {
    # It changes with the server it talks to, so a browser asks each time; mostly a 304.
    hdrs.CACHE_CONTROL: "no-cache",
    hdrs.CONTENT_TYPE: "text/javascript; charset=utf-8",
    hdrs.VARY: "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
}

_CANCEL_SECONDS = 0.1
"""How long a DELETE waits for a running function to end, to say so at once if it does."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ROUTES = {
    ("GET", "/jobs/{job_id}"): "job",
    ("DELETE", "/jobs/{job_id}"): "cancel",
    ("GET", "/jobs/{job_id}/events"): "events",
    ("GET", "/jobs/{job_id}/result"): "result",
    ("GET", "/events"): "many_events",
    ("GET", "/status"): "status",
    ("GET", "/client.js"): "client",
}
"""What stands below the prefix, and the method of :class:`JobRoutes` that answers it."""


def _is_id(text: str) -> bool:
    """Whether this could be an id of ours; nothing else gets near a look-up."""
    return len(text) == 22 and text.isascii() and text.replace("-", "").replace("_", "").isalnum()


@attrs.frozen(slots=True, kw_only=True)
class JobRoutes:
    """The handlers of jobs."""

    engine: Engine
    scheduler: Scheduler
    listeners: Listeners
    estimator: Estimator
    streams: Streams
    answers: Answers
    settings: Settings
    functions: Mapping[str, Registered]

    async def _owned(self, request: web.Request, job_ids: Sequence[str]) -> dict[str, Snapshot]:
        """Those of these jobs that exist and belong to whoever asks.

        The owner hook runs first, so that one that fails answers the same for any id.
        """
        owner = await owner_of(self.settings, request)
        owned: dict[str, Snapshot] = {}
        for job_id in job_ids:
            snapshot = await self.engine.get(job_id) if _is_id(job_id) else None
            if snapshot is not None and snapshot.is_for(owner):
                owned[job_id] = snapshot
        return owned

    async def _find(self, request: web.Request) -> Snapshot | None:
        job_id = request.match_info["job_id"]
        return (await self._owned(request, [job_id])).get(job_id)

    async def job(self, request: web.Request) -> web.StreamResponse:
        """``GET <path>/jobs/{id}``: the job; with ``Prefer: wait`` once it has ended."""
        snapshot = await self._find(request)
        if snapshot is None:
            return not_found(request)
        prefer = prefer_of(request)
        applied: str | None = None
        if prefer.wait is not None and not snapshot.state.terminal:
            seconds = min(prefer.wait, int(self.settings.prefer_wait_max))
            with self.listeners.place(await listener_of(self.settings, request)) as place:
                # Not at the next tick: by then the job's grace may be over.
                await self.engine.attend([snapshot.id], LISTENING_SECONDS)
                await wait_for_end(self.engine, place, request, snapshot.id, seconds)
            snapshot = await self.engine.get(snapshot.id)
            if snapshot is None:
                return not_found(request)
            applied = f"wait={seconds}"
        response = await self.answers.job(snapshot)
        response.headers[hdrs.VARY] = "Prefer"
        if applied is not None:
            response.headers["Preference-Applied"] = applied
        return response

    async def result(self, request: web.Request) -> web.StreamResponse:
        """``GET <path>/jobs/{id}/result``: the bare result, 202 until there is one."""
        snapshot = await self._find(request)
        if snapshot is None:
            return not_found(request)
        if not snapshot.state.terminal:
            return await self.answers.accepted(snapshot)
        return await self.answers.result(snapshot)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """``DELETE <path>/jobs/{id}``: cancel the job; as often as you like."""
        snapshot = await self._find(request)
        if snapshot is None:
            return not_found(request)
        snapshot = await self.scheduler.cancel(snapshot.id, "client") or snapshot
        if snapshot.state is JobState.RUNNING:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CANCEL_SECONDS):
                    await ended(self.engine, [snapshot.id])
            snapshot = await self.engine.get(snapshot.id) or snapshot
        return await self.answers.job(snapshot, 200 if snapshot.state.terminal else 202)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """``GET <path>/jobs/{id}/events``: the job's event stream, from Last-Event-ID on."""
        job_id = request.match_info["job_id"]
        return await self._follow(request, [job_id])

    async def many_events(self, request: web.Request) -> web.StreamResponse:
        """``GET <path>/events?job=…&job=…``: several jobs on one stream."""
        jobs = list(dict.fromkeys(request.query.getall("job", ())))
        most = self.settings.max_jobs_per_stream
        if not 1 <= len(jobs) <= most:
            detail = f"Name 1 to {most} jobs: ?job=…&job=…"
            return problem_response(
                Problem.of("bad_request", detail), instance=request.rel_url.raw_path
            )
        return await self._follow(request, jobs)

    async def _follow(self, request: web.Request, jobs: Sequence[str]) -> web.StreamResponse:
        known = await self._owned(request, jobs)
        if not known:
            return not_found(request)
        cursors = cursors_of(cursor_of(request), jobs)
        if all(_has_all(known.get(job_id), cursor) for job_id, cursor in cursors.items()):
            return web.Response(status=204)
        if request.method == hdrs.METH_HEAD:
            return web.Response(headers=STREAM_HEADERS)
        with self.listeners.place(await listener_of(self.settings, request)) as place:
            # Not at the next tick: by then a job's grace may be over.
            await self.engine.attend(list(known), LISTENING_SECONDS)
            reader = Reader(self.engine, {job_id: cursors[job_id] for job_id in known})
            unknown = [job_id for job_id in jobs if job_id not in known]
            stream = place.listener = self.streams.open(request, reader, {}, cursors, unknown)
            return await stream.serve()

    async def status(self, request: web.Request) -> web.StreamResponse:
        """``GET <path>/status``: the counts of every function, without ids or inputs."""
        owner = await owner_of(self.settings, request)
        if not self.settings.public_status and owner is None:
            return not_found(request)
        functions = {}
        for one in self.functions.values():
            stats = await self.engine.stats(one.queue)
            estimate = await self.estimator.joining(one.name, one.queue)
            durations = stats.durations.get(one.name)
            functions[one.name] = {
                "running": sum(claim.function == one.name for claim in stats.running),
                "queued": stats.waiting.get(one.name, 0),
                "concurrency_limit": stats.concurrency_limit,
                "max_size": one.options.max_size,
                "avg_duration": round(durations.mean, 3) if durations else None,
                "eta": estimate.eta,
                "eta_high": estimate.eta_high,
            }
        body = orjson.dumps({"functions": functions, "streams": len(self.listeners)})
        response = web.Response(body=body, content_type="application/json")
        response.headers[hdrs.CACHE_CONTROL] = "no-store"
        return response

    async def client(self, request: web.Request) -> web.StreamResponse:
        """``GET <path>/client.js``: the JavaScript client, an ES module."""
        response = web.Response(headers=_CLIENT_HEADERS)
        response.etag = _CLIENT_TAG
        if any(tag.value == _CLIENT_TAG for tag in request.if_none_match or ()):
            response.set_status(304)
        else:
            response.body = _CLIENT
            response.enable_compression()  # 5 kB instead of 14, for whoever accepts it
        return response

    async def answer(self, name: str, request: web.Request) -> web.StreamResponse:
        """Answer a request to one of ``ROUTES``, with refusals made into answers."""
        handler: Handler = getattr(self, name)
        try:
            return await handler(request)
        except Refused as refused:
            return refusal_response(refused, request)


def _has_all(snapshot: Snapshot | None, cursor: EventId) -> bool:
    """Whether a reader at this place has seen the terminal event; of no job there is none."""
    return snapshot is None or (snapshot.state.terminal and snapshot.last == cursor)
