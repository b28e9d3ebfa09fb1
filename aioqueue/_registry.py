"""Which functions an app has, and what their options come to with the app's settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import attrs
from aiohttp import hdrs, web

from ._active import Local
from ._errors import ConfigurationError
from ._executors import Call
from ._function import Handler, QueuedFunction, queued_of
from ._job import AdmissionLimits, Demand, JobRecord, QueuePolicy
from ._parameters import Signature
from ._running import Job
from ._settings import FunctionOptions, OnDisconnect, OnFinish, Settings

__all__ = [
    "Registered",
    "by_name",
    "discover",
    "policies",
    "queued_handlers",
    "register",
    "sub_apps",
    "workers",
]


class Function(Protocol):
    """What a started app needs of a queued function.

    Not the class itself, which is a descriptor: type checkers would bind it to whatever has it.
    """

    __wrapped__: Callable[..., Any]
    is_method: bool
    takes_request: bool

    @property
    def signature(self) -> Signature:
        """The parameters, as clients can fill them."""

    def handler(self, subject: Any) -> Handler:
        """The plain handler of a function that takes the request."""

    def call(self, records: Sequence[JobRecord], job: Job, locals: Sequence[Local]) -> Call:
        """The function with its arguments, ready to run."""


@attrs.frozen(slots=True, kw_only=True, eq=False)
class Registered:
    """A function of a started app: its options and the app's settings, made into one."""

    name: str
    queue: str
    demand: Demand
    options: FunctionOptions
    limits: AdmissionLimits
    grace: float | None
    queue_timeout: float | None
    cancel_timeout: float
    time_limit: float | None
    on_finish: Sequence[OnFinish]
    """What is told its ended jobs: its own hook, and the app's."""
    max_body_size: int | None
    app: web.Application | None
    """The (sub-)application of its first route; None if it has no route."""
    function: Function | None
    """None for a middleware's gate, whose work is whatever handler comes next."""

    @property
    def is_batch(self) -> bool:
        """Whether it takes the arguments of many jobs at once, as lists."""
        return self.options.batch

    @property
    def capture_logs(self) -> bool:
        """Whether its log records go to its clients."""
        return self.options.capture_logs

    @property
    def track_tqdm(self) -> bool:
        """Whether any bar of tqdm's in it is its progress."""
        return self.options.track_tqdm

    def call(self, records: Sequence[JobRecord], job: Job, locals: Sequence[Local]) -> Call:
        """The function with its arguments, ready to run."""
        assert self.function is not None
        return self.function.call(records, job, locals)


def register(
    name: str,
    options: FunctionOptions,
    settings: Settings,
    app: web.Application | None,
    function: QueuedFunction[Any, Any] | None,
) -> Registered:
    """Put the options of a function and the settings of its app together."""
    return Registered(
        name=name,
        queue=options.concurrency_id or name,
        demand=_demand(options, function),
        options=options,
        limits=AdmissionLimits(
            max_size=settings.max_size,
            function_max_size=options.max_size,
            max_queued_bytes=settings.max_queued_bytes,
        ),
        grace=_grace(_either(options.on_disconnect, settings.on_disconnect)),
        queue_timeout=_either(options.queue_timeout, settings.queue_timeout),
        cancel_timeout=_either(options.cancel_timeout, settings.cancel_timeout),
        time_limit=_either(options.time_limit, settings.time_limit),
        on_finish=[hook for hook in (options.on_finish, settings.on_finish) if hook is not None],
        max_body_size=_either(options.max_body_size, settings.max_body_size),
        app=app,
        function=function,
    )


def _demand(options: FunctionOptions, function: QueuedFunction[Any, Any] | None) -> Demand:
    executor = "loop" if function is None or function.is_async else "thread"
    if not options.batch:
        return Demand(executor)
    return Demand(executor, options.max_batch_size, options.batch_timeout)


def _either(own: Any, default: Any) -> Any:
    return default if own is None else own


def _grace(on_disconnect: OnDisconnect) -> float | None:
    if on_disconnect == "keep":
        return None
    return 0.0 if on_disconnect == "cancel" else float(on_disconnect)


def by_name(registered: Iterable[Registered]) -> dict[str, Registered]:
    """The functions by their names, which must differ.

    Raises:
        ConfigurationError: two have the same name.
    """
    names: dict[str, Registered] = {}
    for one in registered:
        other = names.setdefault(one.name, one)
        if other is not one:
            raise ConfigurationError(
                f"two queued functions are named {one.name!r}: {_where(other)} and {_where(one)}. "
                "Give one of them another name=…."
            )
    return names


def _where(registered: Registered) -> str:
    if registered.function is None:
        return "an aioqueue.middleware"
    plain = registered.function.__wrapped__
    return f"{plain.__module__}.{plain.__qualname__}"


def policies(registered: Iterable[Registered], default_limit: int | None) -> dict[str, QueuePolicy]:
    """The queues of these functions.  In a shared one the lowest limit that was set wins."""
    limits: dict[str, list[int | None]] = {}
    for one in registered:
        limit = one.options.concurrency_limit
        limits.setdefault(one.queue, []).extend([] if limit == "default" else [limit])
    return {
        queue: QueuePolicy(concurrency_limit=_lowest(those, default_limit))
        for queue, those in limits.items()
    }


def _lowest(limits: list[int | None], default: int | None) -> int | None:
    if not limits:
        return default
    return min((limit for limit in limits if limit is not None), default=None)


def workers(registered: Iterable[Registered], capacities: Mapping[str, int]) -> dict[str, int]:
    """For each queue, how many claims this process can run at once."""
    executors: dict[str, set[str]] = {}
    for one in registered:
        executors.setdefault(one.queue, set()).add(one.demand.capacity)
    return {
        queue: sum(capacities[executor] for executor in those) for queue, those in executors.items()
    }


def sub_apps(app: web.Application) -> Iterator[web.Application]:
    """Every application below this one."""
    for resource in app.router.resources():
        sub_app = resource.get_info().get("app")
        if sub_app is not None:
            yield sub_app
            yield from sub_apps(sub_app)


def discover(root: web.Application) -> Iterator[tuple[Any, web.Application]]:
    """The middlewares and the queued functions of an app and those below, some maybe twice.

    Each comes with the application that has it.
    """
    for app in (root, *sub_apps(root)):
        for middleware in app.middlewares:
            yield middleware, app
        for resource in app.router.resources():
            if "app" not in resource.get_info():
                for route in resource:
                    for function in queued_handlers(route.handler):
                        yield function, app


def queued_handlers(handler: Any) -> Iterator[QueuedFunction[Any, Any]]:
    """The queued functions in a route's handler: itself, what it wraps, or a View's methods."""
    if isinstance(handler, type) and issubclass(handler, web.View):
        for method in hdrs.METH_ALL:
            function = queued_of(getattr(handler, method.lower(), None))
            if function is not None:
                yield function
        return
    function = queued_of(handler)
    if function is not None:
        yield function
