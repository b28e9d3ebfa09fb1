"""The routes that Gradio's clients know."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import attrs
import orjson
from aiohttp import hdrs, web

from .._answers import content_response
from .._arrivals import Arrivals
from .._bodies import json_limit
from .._errors import Problem, Refused
from .._eventlog import Reader
from .._job import BEGINNING, Snapshot
from .._listeners import Place
from .._parameters import Signature
from .._payload import parse
from .._request_hooks import listener_of, owner_of
from .._submit import Submitter, close_after, new_job_id
from .._upload import Upload
from .._waiting import wait_for_end
from ..engines.base import LISTENING_SECONDS
from ._arguments import named_arguments
from ._catalogue import API_PREFIX, Catalogue, Exposed
from ._login import Login, log_in
from ._messages import JobMessages, encoded, terminal
from ._refusals import json_response, refusal_response
from ._sessions import Sessions
from ._streams import CallStream, SessionStream, Source
from ._submission import Submission
from ._uploads import Uploads

__all__ = ["ROUTES", "GradioRoutes"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ROUTES = {
    ("GET", "/config"): "config",
    ("POST", "/login"): "login",
    ("GET", API_PREFIX + "/info"): "info",
    ("GET", API_PREFIX + "/app_id"): "app_id",
    ("POST", API_PREFIX + "/queue/join"): "join",
    ("GET", API_PREFIX + "/queue/data"): "data",
    ("GET", API_PREFIX + "/queue/status"): "status",
    ("POST", API_PREFIX + "/cancel"): "cancel",
    ("POST", API_PREFIX + "/reset"): "reset",
    ("POST", API_PREFIX + "/upload"): "upload",
    ("GET", API_PREFIX + "/file={path:.+}"): "file",
    ("POST", API_PREFIX + "/call/v2/{name}"): "call_by_name",
    ("GET", API_PREFIX + "/call/v2/{name}/{event_id}"): "events",
    ("POST", API_PREFIX + "/call/{name}"): "call",
    ("GET", API_PREFIX + "/call/{name}/{event_id}"): "events",
    ("POST", API_PREFIX + "/run/{name}"): "run",
}
"""What stands below the path, and the method of :class:`GradioRoutes` that answers it."""

_SUCCESS = b'{"success":true}'

_RESET_SECONDS = 0.15
"""Both clients send a reset after each cancel.  Whoever iterates over outputs in the Python client
waits for ever if the answer is there before the message that ends the job."""

_CANCEL_BYTES = 64 << 10
"""What a cancel may say: it names a job and a session."""

_SHORTEST_NAME = 6
"""Who guesses a session's name that nobody owns gets its results.  Those that clients make up have
eleven characters and more, but for one in a great many."""

_LONGEST_NAME = 256


def _any_json(**named: Any) -> None:
    """What the bodies of all routes fit but that of files."""


def _some_files(files: list[Upload]) -> None:
    """What the bodies of files fit."""


_JSON = Signature(_any_json, method=False)
_FILES = Signature(_some_files, method=False)


def _object(body: bytes | None) -> dict[str, Any]:
    value = parse(body or b"{}")
    if not isinstance(value, dict):
        raise Refused(Problem.of("bad_request", "The body must be a JSON object."))
    return value


def _values(body: Mapping[str, Any]) -> list[Any]:
    values = body.get("data", [])
    if not isinstance(values, list):
        raise Refused(Problem.of("bad_request", "data must be an array of values."))
    return values


def _json_limit(request: web.Request, exposed: Exposed) -> int:
    return json_limit(request, exposed.signature, exposed.registered.max_body_size)


def _largest(request: web.Request, bounds: Iterable[int]) -> int:
    """The largest bound, of which 0 is none; the app's where there is no function."""
    known = list(bounds)
    return 0 if 0 in known else max(known, default=request.client_max_size)


def _unknown(what: str) -> Refused:
    return Refused(Problem.of("not_found", f"There is no {what} here."))


@attrs.frozen(slots=True, kw_only=True)
class GradioRoutes:
    """The handlers."""

    submitter: Submitter
    catalogue: Catalogue
    sessions: Sessions
    submission: Submission
    source: Source
    path: str
    uploads: Uploads
    login_hook: Login | None = None
    server_id: int = attrs.field(factory=lambda: secrets.randbits(31))
    """Another one after each start, by which clients tell that the server is new."""

    # What there is

    async def config(self, request: web.Request) -> web.StreamResponse:
        """How to talk, and what there is to call."""
        await self._owner(request)
        return json_response(self.catalogue.config(self.server_id, self.largest(request) or None))

    async def info(self, request: web.Request) -> web.StreamResponse:
        """Parameters, types, defaults and docs."""
        await self._owner(request)
        return json_response(self.catalogue.info)

    async def app_id(self, request: web.Request) -> web.StreamResponse:
        """A number that is another one after a restart."""
        return json_response(orjson.dumps({"app_id": self.server_id}))

    async def status(self, request: web.Request) -> web.StreamResponse:
        """How many wait, in all queues."""
        owner = await self._owner(request)
        if not self.submitter.settings.public_status and owner is None:
            raise _unknown("status")
        sizes = [(await self.source.engine.stats(one)).queue_size for one in self.submitter.queues]
        told = {
            "msg": "estimation",
            "event_id": None,
            "rank": None,
            "queue_size": sum(sizes),
            "rank_eta": None,
        }
        return json_response(orjson.dumps(told))

    # Sessions

    async def join(self, request: web.Request) -> web.StreamResponse:
        """Submit a job, whose messages are told on the session's stream."""
        owner = await self._owner(request)
        body = await self._body(request, self._largest_json(request))
        name = self._session_name(body.get("session_hash"), owner)
        index = body.get("fn_index")
        functions = self.catalogue.by_index
        if type(index) is not int or not 0 <= index < len(functions):
            raise _unknown(f"function with fn_index {index!r}")
        exposed = functions[index]
        named = named_arguments(exposed, _values(body))
        job_id = await self.submission.submit(request, exposed, named, attached=True)
        session = self.sessions.open(owner, name)
        session.join(job_id, exposed)
        pause = session.pause(asyncio.get_running_loop().time())
        if pause:
            await asyncio.sleep(pause)
        return json_response(orjson.dumps({"event_id": job_id}))

    def _session_name(self, name: object, owner: str | None) -> str:
        shortest = 1 if owner is not None else _SHORTEST_NAME
        if isinstance(name, str) and shortest <= len(name) <= _LONGEST_NAME:
            return name
        detail = f"session_hash must be a text of {shortest} to {_LONGEST_NAME} characters"
        raise Refused(Problem.of("bad_request", f"{detail}, hard to guess."))

    async def data(self, request: web.Request) -> web.StreamResponse:
        """The session's stream."""
        owner = await self._owner(request)
        session = self.sessions.find(owner, request.query.get("session_hash", ""))
        if session is None or not (session.jobs or session.streams):
            told = {
                "msg": "unexpected_error",
                "event_id": None,
                "message": "There is no such session, or all its jobs have been told.",
                "session_not_found": True,
                "success": False,
            }
            return _events(b"data: %b\n\n" % orjson.dumps(told))
        with await self._place(request) as place:
            # Not at the next tick: by then a job's grace may be over.
            await self.source.engine.attend(list(session.jobs), LISTENING_SECONDS)
            stream = SessionStream(request, session, self.source, self.files_url(request))
            place.listener = stream
            return await stream.serve()

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Cancel a job, which is told at once, and stops as soon as it can."""
        owner = await self._owner(request)
        body = await self._body(request, _CANCEL_BYTES)
        job_id, name = body.get("event_id"), body.get("session_hash")
        snapshot = await self._find(job_id, owner)
        if snapshot is not None:
            session = self.sessions.find(owner, name) if isinstance(name, str) else None
            if session is not None and snapshot.id in session.jobs:
                session.cancel(snapshot.id)
            await self.submitter.scheduler.cancel(snapshot.id, "client")
        return json_response(_SUCCESS)

    async def reset(self, request: web.Request) -> web.StreamResponse:
        """What clients send after a cancel; there is nothing left to do, nor to read."""
        await asyncio.sleep(_RESET_SECONDS)
        return await close_after(request, json_response(_SUCCESS))

    # Plain HTTP

    async def call(self, request: web.Request) -> web.StreamResponse:
        """Submit a job with values in the order of the parameters."""
        await self._owner(request)
        exposed = self._named(request)
        body = await self._body(request, _json_limit(request, exposed))
        named = named_arguments(exposed, _values(body))
        return await self._called(request, exposed, named)

    async def call_by_name(self, request: web.Request) -> web.StreamResponse:
        """Submit a job with values by the names of the parameters."""
        await self._owner(request)
        exposed = self._named(request)
        named = await self._body(request, _json_limit(request, exposed))
        return await self._called(request, exposed, named)

    async def _called(
        self, request: web.Request, exposed: Exposed, named: Mapping[str, Any]
    ) -> web.Response:
        job_id = await self.submission.submit(request, exposed, named, attached=False)
        return json_response(orjson.dumps({"event_id": job_id}))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """The outputs of a job, and its end."""
        owner = await self._owner(request)
        exposed = self._named(request)
        snapshot = await self._find(request.match_info["event_id"], owner)
        if snapshot is None or snapshot.record.function != exposed.registered.name:
            return _events(b'event: error\ndata: "404: Not Found"\n\n')
        with await self._place(request) as place:
            files = self.files_url(request)
            stream = CallStream(request, snapshot.id, exposed, self.source, files)
            place.listener = stream
            return await stream.serve()

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Submit a job, and answer with its outputs once it has ended."""
        await self._owner(request)
        exposed = self._named(request)
        body = await self._body(request, _json_limit(request, exposed))
        named = named_arguments(exposed, _values(body))
        engine = self.source.engine
        with await self._place(request) as place:
            job_id = await self.submission.submit(request, exposed, named, attached=True)
            ended = False
            while not ended and not (place.listener and place.listener.dropped):
                ended = await wait_for_end(engine, place, request, job_id, LISTENING_SECONDS)
        messages = JobMessages(exposed, job_id, engine, self.files_url(request))
        with Reader(engine, {job_id: BEGINNING}) as reader:
            for _, page in await reader.read():
                async for message in messages.of(page):
                    if terminal(message) and message["success"]:
                        return json_response(encoded({"data": message["output"]["data"]}))
                    if terminal(message):
                        return json_response(encoded(message["output"]), 500)
        detail = "The job has not ended, or is no longer kept."
        return json_response(orjson.dumps({"error": detail}), 500)

    # Files

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """Keep files for jobs that name them later."""
        owner = await self._owner(request)
        spool, bodies, lot_id = self.submitter.spool, self.submitter.bodies, new_job_id()
        arrivals = Arrivals(spool, lot_id)
        paths: list[str] = []
        try:
            self.uploads.check(request.content_length or 0)
            received = await bodies.receive(request, _FILES, self.largest(request), arrivals)
            files = [file for _, file in received.files if isinstance(file, Upload)]
            if not files:
                raise Refused(Problem.of("bad_request", "There is no file in a field files."))
            now = asyncio.get_running_loop().time()
            paths = self.uploads.add(lot_id, owner, files, now)
        except Refused as refused:
            # Clients show the text of this answer, whatever it is.
            response = web.Response(status=refused.problem.status, text=refused.problem.detail)
            return await close_after(request, response)
        finally:
            if not paths:
                await spool.remove(lot_id)
        return json_response(orjson.dumps(paths))

    async def file(self, request: web.Request) -> web.StreamResponse:
        """The file that is a job's result."""
        owner = await self._owner(request)
        result = await self.submission.sources.result(request.match_info["path"], owner)
        if result is None:
            raise _unknown("such file")
        return await content_response(result)

    def files_url(self, request: web.Request) -> str:
        """What the URL of a result that is a file begins with, as the client can reach it."""
        headers = request.headers
        scheme = headers.get("X-Forwarded-Proto", request.scheme).partition(",")[0].strip()
        host = headers.get("X-Forwarded-Host", request.host).partition(",")[0].strip()
        path = self.submitter.settings.public_path + self.path + API_PREFIX
        return f"{scheme}://{host}{path}/file="

    def largest(self, request: web.Request) -> int:
        """How many bytes an upload may have: as many as any function takes; 0 is no bound."""
        bounds = [one.registered.max_body_size for one in self.catalogue.by_index]
        known = (request.client_max_size if bound is None else bound for bound in bounds)
        return _largest(request, known)

    def _largest_json(self, request: web.Request) -> int:
        return _largest(request, (_json_limit(request, one) for one in self.catalogue.by_index))

    # Who asks

    async def login(self, request: web.Request) -> web.StreamResponse:
        """Let the app say who somebody is, who sends a name and a password."""
        if self.login_hook is None:
            raise _unknown("login")
        return await log_in(request, self.login_hook, self.submitter.bodies)

    # What comes with a request

    async def _owner(self, request: web.Request) -> str | None:
        return await owner_of(self.submitter.settings, request)

    async def _place(self, request: web.Request) -> Place:
        client = await listener_of(self.submitter.settings, request)
        return self.submitter.listeners.place(client)

    async def _body(self, request: web.Request, limit: int) -> dict[str, Any]:
        arrivals = Arrivals(self.submitter.spool, "")  # of which there are none
        received = await self.submitter.bodies.receive(request, _JSON, limit, arrivals)
        return _object(received.json)

    def _named(self, request: web.Request) -> Exposed:
        name = request.match_info["name"]
        exposed = self.catalogue.by_name.get(name)
        if exposed is None:
            raise _unknown(f"function named {name!r}")
        return exposed

    async def _find(self, job_id: object, owner: str | None) -> Snapshot | None:
        """A job that belongs to whoever asks."""
        if not isinstance(job_id, str):
            return None
        snapshot = await self.source.engine.get(job_id)
        return snapshot if snapshot is not None and snapshot.is_for(owner) else None

    async def answer(self, name: str, request: web.Request) -> web.StreamResponse:
        """Answer a request to one of ``ROUTES``, with refusals made into answers."""
        handler: Handler = getattr(self, name)
        try:
            return await handler(request)
        except Refused as refused:
            return await close_after(request, refusal_response(refused))
        except web.HTTPUnauthorized:
            detail = {"error": "Not authenticated", "auth_message": None}
            response = json_response(orjson.dumps({"detail": detail}), 401)
            return await close_after(request, response)


def _events(body: bytes) -> web.Response:
    """A stream that has said all it has to say."""
    response = web.Response(body=body, content_type="text/event-stream")
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    return response
