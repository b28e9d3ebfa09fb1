"""The decorated function: a route, something to submit to from code, and still a function."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import typing
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

import attrs
import orjson
from aiohttp import content_disposition_filename, hdrs, parse_content_disposition, web

from ._convert import JSON
from ._errors import ConfigurationError, JobError, JobFailed
from ._executors import Call
from ._job import JSON_TYPE, Content, JobRecord, JobState, Snapshot
from ._parameters import Signature
from ._running import CURRENT, Job
from ._scheduler import Local
from ._settings import FunctionOptions

__all__ = [
    "Door",
    "JobHandle",
    "QueuedFunction",
    "SubmitOptions",
    "mark_as_coroutine_function",
    "queued_of",
]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
K = TypeVar("K", bound=type)

Handler = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]


def mark_as_coroutine_function(kind: K) -> K:
    """Make aiohttp take the instances of a class for coroutine functions.

    Their ``__call__`` is one, but aiohttp looks for a mark.
    """
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(kind)
    else:
        kind._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return kind


@attrs.frozen(slots=True, kw_only=True)
class SubmitOptions:
    """What a submit from code says of its job; unset means that of the job around it."""

    owner: str | None = None
    metadata: Any = None


class Door(Protocol):
    """How a started app takes jobs of one function."""

    def serves(self, app: web.Application) -> bool:
        """Whether this is the door of that app, or of one above it."""

    async def answer(self, request: web.Request, subject: Any) -> web.StreamResponse:
        """Answer a request to the function's route."""

    async def submit(self, payload: bytes, subject: Any, options: SubmitOptions) -> str:
        """Enqueue a job from code, and answer its id."""

    def events(self, job_id: str) -> AsyncIterator[Mapping[str, Any]]:
        """The durable events of a job."""

    async def settled(self, job_id: str) -> Snapshot:
        """The job, once it has ended."""

    async def get(self, job_id: str) -> Snapshot:
        """The job as it stands."""

    async def cancel(self, job_id: str) -> Snapshot:
        """Cancel the job."""


class JobHandle(Generic[R_co]):
    """A submitted job.

    Attributes:
        id: the job's id, good for the HTTP routes too.
    """

    def __init__(self, door: Door, job_id: str, returns: Any) -> None:
        self.id = job_id
        self._door = door
        self._returns = returns

    async def result(self) -> R_co:
        """Wait for the result, given the type that the function's annotation says.

        Raises:
            JobFailed: the job failed or was cancelled.
        """
        snapshot = await self._door.settled(self.id)
        if snapshot.state is not JobState.SUCCEEDED:
            problem = orjson.loads(snapshot.error) if snapshot.error else {}
            if snapshot.state is JobState.CANCELLED:
                detail = f"The job was cancelled ({snapshot.reason})."
                problem = {"code": "job_cancelled", "detail": detail}
            raise JobFailed(problem, snapshot.state.value)
        if snapshot.result is None or not snapshot.result.is_json:
            return typing.cast(R_co, snapshot.result.body if snapshot.result else None)
        value = orjson.loads(snapshot.result.body)
        if self._returns in (Any, None, inspect.Signature.empty):
            return typing.cast(R_co, value)
        return typing.cast(R_co, JSON.structure(value, self._returns))

    def events(self) -> AsyncIterator[Mapping[str, Any]]:
        """Each durable event of the job as it comes, until the terminal one."""
        return self._door.events(self.id)

    async def state(self) -> str:
        """``queued``, ``running``, ``succeeded``, ``failed`` or ``cancelled``."""
        return (await self._door.get(self.id)).state.value

    async def cancel(self) -> str:
        """Cancel the job, and answer the state it is then in."""
        return (await self._door.cancel(self.id)).state.value

    def __repr__(self) -> str:
        return f"<JobHandle {self.id}>"


@mark_as_coroutine_function
class QueuedFunction(Generic[P, R]):
    """A function with a queue.  Made by :func:`aioqueue.queued`.

    It is a handler for ``web.post("/path", function)``, ``await function.submit(…)`` enqueues a
    job from code, and ``function.__wrapped__`` is the plain function.
    """

    def __init__(self, function: Callable[..., Any], options: FunctionOptions) -> None:
        functools.update_wrapper(self, function)
        self.__wrapped__ = function
        self.declared = options
        self.name = options.name or function.__qualname__.rpartition("<locals>.")[2]
        self.is_async = inspect.iscoroutinefunction(function)
        self.is_method = next(iter(inspect.signature(function).parameters), "") == "self"
        self.takes_request = _takes_request(function)
        self._doors: dict[web.Application, Door] = {}
        self._signature: Signature | None = None
        self._refuse_what_cannot_work()

    def _refuse_what_cannot_work(self) -> None:
        if inspect.isasyncgenfunction(self.__wrapped__) or inspect.isgeneratorfunction(
            self.__wrapped__
        ):
            raise ConfigurationError(f"{self.name}: generators are not supported yet")
        if self.takes_request and not self.is_async:
            raise ConfigurationError(
                f"{self.name} is a def that takes the request: it could not await its body. "
                "Take the values you need as parameters, or make it async def."
            )

    @property
    def signature(self) -> Signature:
        """The parameters, as clients can fill them; read at start-up, when all names exist."""
        if self._signature is None:
            self._signature = Signature(self.__wrapped__, method=self.is_method)
        return self._signature

    # Being registered with a started app

    def check(self) -> None:
        """Refuse to start with a signature that no request can fill.

        Raises:
            ConfigurationError: it has such parameters, or annotations that can't be found.
        """
        if not self.takes_request:
            _ = self.signature

    def open(self, app: web.Application, door: Door) -> None:
        """Connect to a root application that has started."""
        self._doors[app] = door

    def close(self, app: web.Application) -> None:
        """Disconnect from one that shuts down."""
        self._doors.pop(app, None)

    def _door(self, app: web.Application | None) -> Door:
        """The queue of an app; for a call from code, of the only one, or of the job around it."""
        if app is not None:
            door = self._doors.get(app)
        else:
            job = CURRENT.get(None)
            doors = list(self._doors.values())
            if len(doors) > 1:
                doors = [door for door in doors if job is not None and door.serves(job.app)]
            door = doors[0] if len(doors) == 1 else None
        if door is None:
            raise ConfigurationError(
                f"{self.name} has no queue here: call aioqueue.setup(app) on the root application "
                f"before it starts, and give {self.name} a route or name it in "
                f"setup(app, functions=[{self.name}])."
            )
        return door

    # A handler

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer a request.  aiohttp calls this."""
        return await self.answer(request, None)

    async def answer(self, request: web.Request, subject: Any) -> web.StreamResponse:
        """Answer a request to a function, or to a method of ``subject``."""
        if not isinstance(request, web.BaseRequest):
            raise TypeError(
                f"{self.name} is queued: use `await {self.name}.submit(…)`, or "
                f"`{self.name}.__wrapped__(…)` to call it past its queue."
            )
        return await self._door(request.match_info.apps[0]).answer(request, subject)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method: of a ``web.View``, or of an object whose method is a handler."""
        return self if instance is None else _BoundFunction(self, instance)

    # From code

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Enqueue a job, through the same queue and limits as every request.

        Raises:
            Refused: the queue is full or shutting down.
            TypeError: the arguments do not fit, or have no JSON form.
        """
        return await self._submit(None, SubmitOptions(), args, kwargs)

    async def _submit(
        self, subject: Any, options: SubmitOptions, args: Any, kwargs: Any
    ) -> JobHandle[R]:
        if self.takes_request:
            raise TypeError(f"{self.name} takes the request, so only a request can run it.")
        payload = self.signature.payload_of_call(args, kwargs)
        door = self._door(None)
        job_id = await door.submit(payload, subject, options)
        return JobHandle(door, job_id, self.signature.returns)

    def options(self, *, owner: str | None = None, metadata: Any = None) -> _WithOptions[P, R]:
        """The function with options for ``submit``.

        Args:
            owner: whose job it is; else that of the job around the call, else nobody's.
            metadata: what to keep with the job; anything with a JSON form.
        """
        return _WithOptions(self, SubmitOptions(owner=owner, metadata=metadata))

    # What runs

    def handler(self, subject: Any) -> Handler:
        """The plain handler of a function that takes the request."""
        if not self.is_method:
            return self.__wrapped__
        if (
            isinstance(subject, web.View)
            and len(inspect.signature(self.__wrapped__).parameters) == 1
        ):
            return lambda request: self.__wrapped__(_with_request(subject, request))
        return functools.partial(self.__wrapped__, subject)

    def call(self, record: JobRecord, job: Job, local: Local) -> Call:
        """The function with its arguments, ready to run."""
        function: Callable[..., Any] = self.__wrapped__
        if self.is_method:
            function = functools.partial(function, local.subject)
        if self.takes_request:
            return functools.partial(_run_with_request, self.handler(local.subject), local.request)
        positional, named = self.signature.arguments(record.payload, job)
        return functools.partial(function, *positional, **named)

    def __repr__(self) -> str:
        return f"<QueuedFunction {self.name}>"


class _WithOptions(Generic[P, R]):
    def __init__(self, function: QueuedFunction[P, R], options: SubmitOptions) -> None:
        self._function = function
        self._options = options

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Enqueue a job with these options."""
        return await self._function._submit(None, self._options, args, kwargs)


@mark_as_coroutine_function
class _BoundFunction:
    """A queued method, bound to its object."""

    def __init__(self, function: QueuedFunction[Any, Any], subject: Any) -> None:
        self.function = function
        self.subject = subject

    async def __call__(self, request: web.Request | None = None) -> web.StreamResponse:
        """Answer a request: a View has it already, another object is given it."""
        if request is None:
            request = self.subject.request
        return await self.function.answer(request, self.subject)


def queued_of(handler: Any) -> QueuedFunction[Any, Any] | None:
    """The queued function that a handler is, or wraps, as decorators do with functools.wraps."""
    while handler is not None:
        if isinstance(handler, QueuedFunction):
            return handler
        if isinstance(handler, _BoundFunction):
            return handler.function
        handler = getattr(handler, "__wrapped__", None)
    return None


def _takes_request(function: Callable[..., Any]) -> bool:
    """Whether it is an aiohttp handler: it takes the request, or is a method with nothing else."""
    parameters = list(inspect.signature(function).parameters.values())
    method = bool(parameters) and parameters[0].name == "self"
    if method:
        parameters = parameters[1:]
    if not parameters:
        return method
    first = parameters[0]
    if first.annotation is first.empty:
        return first.name == "request"
    if isinstance(first.annotation, str):
        return first.annotation.rpartition(".")[2].strip("'\"") == "Request"
    return isinstance(first.annotation, type) and issubclass(first.annotation, web.BaseRequest)


def _with_request(view: web.View, request: web.Request) -> web.View:
    """A view like this one, of another request."""
    return view if view.request is request else type(view)(request)


async def _run_with_request(handler: Handler, request: web.Request) -> Any:
    """Run a handler as a job: what it answers becomes the result."""
    answer: Any = await handler(request)
    if not isinstance(answer, web.StreamResponse):
        return answer
    body = answer.body if isinstance(answer, web.Response) else None
    if answer.prepared or not isinstance(body, bytes | bytearray | None):
        raise JobError("This function streams its answer. Ask for it without text/event-stream.")
    content = bytes(body or b"")
    if answer.status >= 400:
        raise JobError(content.decode(errors="replace"), status=answer.status)
    if answer.content_type == JSON_TYPE:
        # Parsed, and encoded by us: an event is one line, and this text may have more.
        return orjson.loads(content) if content else None
    disposition = parse_content_disposition(answer.headers.get(hdrs.CONTENT_DISPOSITION))
    name = content_disposition_filename(disposition[1])
    return Content(content, answer.headers.get(hdrs.CONTENT_TYPE, answer.content_type), name)
