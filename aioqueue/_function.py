"""The decorated function: a route, something to submit to from code, and still a function."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from aiohttp import web

from ._active import Local
from ._batch import Batch
from ._errors import ConfigurationError
from ._executors import Call
from ._handle import Door, JobHandle, SubmitOptions
from ._job import Attempt
from ._options import FunctionOptions
from ._parameters import Signature
from ._running import CURRENT, Job

__all__ = [
    "Handler",
    "QueuedFunction",
    "is_queued",
    "mark_as_coroutine_function",
    "queued_of",
    "subject_of",
]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
K = TypeVar("K", bound=type)
S = TypeVar("S")

Handler = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]

_ABSENT: Any = None
"""Where a request is expected and there is none."""


def mark_as_coroutine_function(kind: K) -> K:
    """Make aiohttp take the instances of a class for coroutine functions.

    Their ``__call__`` is one, but aiohttp looks for a mark.
    """
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(kind)
    else:
        kind._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return kind


class _Submittable(Generic[P, R]):
    """What jobs are submitted to from code: a function, or a method and its object."""

    def _target(self) -> tuple[QueuedFunction[..., R], Any]:
        raise NotImplementedError

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Enqueue a job, through the same queue and limits as every request.

        Raises:
            Refused: the queue is full or shutting down.
            TypeError: the arguments do not fit, or have no JSON form.
        """
        function, subject = self._target()
        return await function._submit(subject, SubmitOptions(), args, kwargs)

    def options(
        self,
        *,
        owner: str | None = None,
        client: str | None = None,
        priority: float | None = None,
        metadata: Any = None,
    ) -> _WithOptions[P, R]:
        """The function with options for ``submit``.

        What is left out is that of the job around the call, if there is one.

        Args:
            owner: whose job it is; else nobody's.
            client: whose turn it takes in a queue with a ``client_key``; else a client of its own.
            priority: in a queue with priorities; else that of the function.
            metadata: what to keep with the job; anything with a JSON form.
        """
        function, subject = self._target()
        return _WithOptions(function, SubmitOptions(owner, client, priority, metadata), subject)


@mark_as_coroutine_function
class QueuedFunction(_Submittable[P, R]):
    """A function with a queue.  Made by :func:`aioqueue.queued`.

    It is a handler for ``web.post("/path", function)``, ``await function.submit(…)`` enqueues a
    job from code, and ``function.__wrapped__`` is the plain function.
    """

    def __init__(self, function: Callable[..., Any], options: FunctionOptions) -> None:
        _refuse_what_is_no_function(function)
        functools.update_wrapper(self, function)
        self.__wrapped__ = function
        self.declared = options
        self.name = options.name or function.__qualname__.rpartition("<locals>.")[2]
        yields_async = inspect.isasyncgenfunction(function)
        self.yields = yields_async or inspect.isgeneratorfunction(function)
        self.is_async = yields_async or inspect.iscoroutinefunction(function)
        parameters = list(inspect.signature(function).parameters)
        self.is_method = parameters[:1] == ["self"]
        self._takes_nothing = parameters == ["self"]
        self.takes_request = self._takes_nothing or _takes_request(function)
        self._doors: dict[web.Application, Door] = {}
        self._refuse_what_cannot_work()

    def _refuse_what_cannot_work(self) -> None:
        if self.declared.batch and (self.is_method or self.takes_request):
            raise ConfigurationError(
                f"{self.name}: batch=True is for functions that take lists of arguments, and "
                "neither the request nor self. Queue a function that calls it."
            )
        self._refuse_wrong_executor()
        if not self._takes_nothing:
            self._refuse_wrong_handlers()

    def _refuse_wrong_executor(self) -> None:
        executor = self.declared.executor
        if executor is not None and self.is_async:
            raise ConfigurationError(
                f"{self.name} is async and runs on the loop: leave out executor={executor!r}, or "
                "make it a def."
            )
        if executor == "process" and (self.is_method or self.takes_request):
            raise ConfigurationError(
                f"{self.name}: executor='process' is for functions that take their arguments, and "
                "neither the request nor self. Queue a function that calls it."
            )

    def _refuse_wrong_handlers(self) -> None:
        if not self.takes_request:
            return
        if not self.is_async:
            raise ConfigurationError(
                f"{self.name} is a def that takes the request: it could not await its body. "
                "Take the values you need as parameters, or make it async def."
            )
        if self.yields:
            raise ConfigurationError(
                f"{self.name} takes the request and yields: a handler answers once. "
                "Take the values you need as parameters, and each value it yields is an event."
            )

    def __set_name__(self, owner: type, name: str) -> None:
        """Called when the class around it is made: only a View brings the request in ``self``."""
        if self._takes_nothing:
            self.takes_request = issubclass(owner, web.View)

    @functools.cached_property
    def signature(self) -> Signature:
        """The parameters, as clients can fill them; read at start-up, when all names exist."""
        return Signature(self.__wrapped__, method=self.is_method, batch=self.declared.batch)

    # Being registered with a started app

    def check(self) -> None:
        """Refuse to start with a signature that no request can fill.

        Raises:
            ConfigurationError: it has such parameters, or annotations that can't be found.
        """
        self._refuse_wrong_handlers()
        if not self.takes_request:
            _ = self.signature

    @property
    def reference(self) -> str:
        """Where a process finds it, as ``module:qualname``."""
        return f"{self.__wrapped__.__module__}:{self.__wrapped__.__qualname__}"

    def open(self, app: web.Application, door: Door) -> None:
        """Connect to a root application that has started."""
        self._doors[app] = door

    def close(self, app: web.Application) -> None:
        """Disconnect from one that shuts down."""
        self._doors.pop(app, None)

    def _door(self) -> Door:
        """For a call from code: the queue of the only app, or of that of the job around it."""
        job = CURRENT.get(None)
        doors = list(self._doors.values())
        if len(doors) > 1:
            doors = [door for door in doors if job is not None and door.serves(job.app)]
            if not doors:
                raise ConfigurationError(
                    f"{self.name} has a queue in several apps here: only a job of one of them "
                    "can submit to it."
                )
        if not doors:
            raise self._no_queue()
        return doors[0]

    def _no_queue(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self.name} has no queue here: call aioqueue.setup(app) on the root application "
            f"before it starts, and give {self.name} a route or name it in "
            f"setup(app, functions=[{self.name}])."
        )

    # A handler

    def __call__(
        self, request: web.Request = _ABSENT, /, *others: Any, **named: Any
    ) -> Coroutine[Any, Any, web.StreamResponse]:
        """Answer a request.  aiohttp calls this, and nobody else."""
        if others or named:
            request = _ABSENT  # somebody calls it as the function that it was
        return self.answer(request, None)

    def answer(self, request: web.Request, subject: Any) -> Coroutine[Any, Any, web.StreamResponse]:
        """Answer a request to a function, or to a method of ``subject``.

        Not a coroutine function, so that a call that forgets its ``await`` is told, too.
        """
        if not isinstance(request, web.BaseRequest):
            raise TypeError(
                f"{self.name} is queued: use `await {self.name}.submit(…)`, or "
                f"`{self.name}.__wrapped__(…)` to call it past its queue."
            )
        door = self._doors.get(request.match_info.apps[0])
        if door is None:
            raise self._no_queue()
        return door.answer(request, subject)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> QueuedFunction[P, R]: ...
    @overload
    def __get__(
        self: QueuedFunction[Concatenate[S, Q], R], instance: S, owner: type | None = None
    ) -> _BoundFunction[Q, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method: of a ``web.View``, or of an object whose method is a handler."""
        return self if instance is None else _BoundFunction(self, instance)

    # From code

    def _target(self) -> tuple[QueuedFunction[..., R], Any]:
        return self, None

    async def _submit(
        self, subject: Any, options: SubmitOptions, args: Any, kwargs: Any
    ) -> JobHandle[R]:
        if self.takes_request:
            raise TypeError(f"{self.name} takes the request, so only a request can run it.")
        if self.is_method and subject is None:  # Class.method.submit(object, …)
            if not args:
                raise TypeError(f"{self.name} is a method: submit it on its object.")
            subject, *args = args
        arguments, door = self.signature.bound(args, kwargs), self._door()
        job_id = await door.submit(arguments, subject, options)
        return JobHandle(door, job_id, self.signature.returns)

    # What runs

    def handler(self, subject: Any) -> Handler:
        """The plain handler of a function that takes the request."""
        if not self.is_method:
            return self.__wrapped__
        if self._takes_nothing:
            return lambda request: self.__wrapped__(_with_request(subject, request))
        return functools.partial(self.__wrapped__, subject)

    def call(self, attempts: Sequence[Attempt], job: Job, locals: Sequence[Local]) -> Call:
        """The function with its arguments, ready to run."""
        if isinstance(job, Batch):
            payloads = [attempt.record.payload for attempt in attempts]
            columns, named_columns = self.signature.batch_arguments(payloads, job)
            return functools.partial(self.__wrapped__, *columns, **named_columns)
        (attempt,), (local,) = attempts, locals
        if self.takes_request:
            return functools.partial(_run_with_request, self.handler(local.subject), local.request)
        positional, named = self.signature.arguments(attempt.record.payload, job)
        if self.is_method:
            positional.insert(0, local.subject)
        return functools.partial(self.__wrapped__, *positional, **named)

    def __repr__(self) -> str:
        return f"<QueuedFunction {self.name}>"


class _WithOptions(Generic[P, R]):
    """A queued function or method with options for ``submit``."""

    def __init__(
        self, function: QueuedFunction[..., R], options: SubmitOptions, subject: Any
    ) -> None:
        self._function = function
        self._options = options
        self._subject = subject

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Enqueue a job with these options."""
        return await self._function._submit(self._subject, self._options, args, kwargs)


@mark_as_coroutine_function
class _BoundFunction(_Submittable[P, R]):
    """A queued method, bound to its object."""

    def __init__(self, function: QueuedFunction[..., R], subject: Any) -> None:
        self.function = function
        self.subject = subject
        self.__wrapped__ = functools.partial(function.__wrapped__, subject)

    def __call__(
        self, request: web.Request = _ABSENT, /, *others: Any, **named: Any
    ) -> Coroutine[Any, Any, web.StreamResponse]:
        """Answer a request: a View has it already, another object is given it."""
        if request is _ABSENT and isinstance(self.subject, web.View):
            request = self.subject.request
        if others or named:
            request = _ABSENT
        return self.function.answer(request, self.subject)

    def _target(self) -> tuple[QueuedFunction[..., R], Any]:
        return self.function, self.subject


def _queued(handler: Any) -> QueuedFunction[Any, Any] | _BoundFunction[Any, Any] | None:
    while handler is not None and not isinstance(handler, QueuedFunction | _BoundFunction):
        handler = getattr(handler, "__wrapped__", None)
    return handler


def queued_of(handler: Any) -> QueuedFunction[Any, Any] | None:
    """The queued function that a handler is, or wraps, as decorators do with functools.wraps."""
    found = _queued(handler)
    return found.function if isinstance(found, _BoundFunction) else found


def is_queued(handler: Any) -> bool:
    """Whether a handler is a queued function or method itself, with nothing around it."""
    return isinstance(handler, QueuedFunction | _BoundFunction)


def subject_of(handler: Any) -> Any:
    """The object whose queued method a handler is, or wraps; None if it is none."""
    found = _queued(handler)
    return found.subject if isinstance(found, _BoundFunction) else None


def _refuse_what_is_no_function(function: Any) -> None:
    if isinstance(function, QueuedFunction):
        raise ConfigurationError(f"{function.name} is queued already")
    if isinstance(function, type):
        raise ConfigurationError(f"{function.__qualname__} is a class: decorate its methods")
    if not hasattr(function, "__qualname__"):
        raise ConfigurationError(f"{function!r} is no function: queue a def that calls it")


def _takes_request(function: Callable[..., Any]) -> bool:
    """Whether it is an aiohttp handler: its first parameter, after ``self``, is the request."""
    parameters = list(inspect.signature(function).parameters.values())
    if parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    if not parameters:
        return False
    first = parameters[0]
    annotation: Any = first.annotation
    if annotation is first.empty:
        return first.name == "request"
    if isinstance(annotation, str):
        try:
            annotation = typing.get_type_hints(function)[first.name]
        except Exception:
            # Imported for type checkers only, defined further down, or no type at all, which
            # Signature refuses with its reason when the app starts.  Here the spelling must do.
            return str(annotation).rpartition(".")[2].strip("'\"") == "Request"
    return isinstance(annotation, type) and issubclass(annotation, web.BaseRequest)


def _with_request(view: web.View, request: web.Request) -> web.View:
    """A view like this one, of another request."""
    return view if view.request is request else type(view)(request)


async def _run_with_request(handler: Handler, request: web.Request) -> Any:
    """Run a handler as a job: what it answers becomes the result."""
    try:
        return await handler(request)
    except web.HTTPException as response:
        return response
