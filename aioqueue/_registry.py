"""Which functions an app has, and what their options come to with the app's settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import attrs
from aiohttp import hdrs, web

from ._active import Local
from ._batch import Batch
from ._errors import ConfigurationError
from ._executors import Call
from ._function import Handler, QueuedFunction, is_queued, queued_of, subject_of
from ._job import AdmissionLimits, Attempt, Demand, Order, QueuePolicy
from ._options import FunctionOptions
from ._parameters import Signature
from ._process import ProcessCall
from ._running import Job, directory_of
from ._settings import ClientKey, OnDisconnect, OnFinish, Priority, Settings

__all__ = [
    "Registered",
    "by_name",
    "discover",
    "guarded",
    "policies",
    "queued_handlers",
    "register",
    "slot_names",
    "sub_apps",
    "subjects",
    "workers",
]


class Function(Protocol):
    """What a started app needs of a queued function.

    Not the class itself, which is a descriptor: type checkers would bind it to whatever has it.
    """

    __wrapped__: Callable[..., Any]
    is_method: bool
    takes_request: bool
    yields: bool

    @property
    def signature(self) -> Signature:
        """The parameters, as clients can fill them."""

    def handler(self, subject: Any) -> Handler:
        """The plain handler of a function that takes the request."""

    @property
    def reference(self) -> str:
        """Where a process finds it, as ``module:qualname``."""

    def call(self, attempts: Sequence[Attempt], job: Job, locals: Sequence[Local]) -> Call:
        """The function with its arguments, ready to run."""


@attrs.frozen(slots=True, kw_only=True, eq=False)
class Registered:
    """A function of a started app: its options and the app's settings, made into one."""

    name: str
    queue: str
    demand: Demand
    options: FunctionOptions
    is_batch: bool
    """Whether it takes the arguments of many jobs at once, as lists."""
    capture_logs: bool
    """Whether its log records go to its clients."""
    track_tqdm: bool
    """Whether any bar of tqdm's in it is its progress."""
    limits: AdmissionLimits
    client_key: ClientKey | None
    priority: Priority | None
    max_running_per_client: int | None
    max_wait: float | None
    grace: float | None
    queue_timeout: float | None
    cancel_timeout: float
    kill_timeout: float
    time_limit: float | None
    on_finish: Sequence[OnFinish]
    """What is told its ended jobs: its own hook, and the app's."""
    max_body_size: int | None
    app: web.Application | None
    """The (sub-)application of its first route; None if it has no route."""
    function: Function | None
    """None for a middleware's gate, whose work is whatever handler comes next."""

    def call(
        self, attempts: Sequence[Attempt], job: Job, locals: Sequence[Local]
    ) -> Call | ProcessCall:
        """The function with its arguments, ready to run where it runs."""
        assert self.function is not None
        if self.demand.capacity == "process":
            return self._process_call(self.function, attempts, job)
        return self.function.call(attempts, job, locals)

    def _process_call(
        self, function: Function, attempts: Sequence[Attempt], job: Job
    ) -> ProcessCall:
        jobs = job.jobs if isinstance(job, Batch) else (job,)
        return ProcessCall(
            reference=function.reference,
            attempts=attempts,
            directories=[directory_of(one) for one in jobs],
            is_batch=self.is_batch,
            tracks_tqdm=self.track_tqdm,
            slot=job.slot,
            kill_timeout=self.kill_timeout,
        )


def register(
    name: str,
    options: FunctionOptions,
    settings: Settings,
    app: web.Application | None,
    function: QueuedFunction[Any, Any] | None,
) -> Registered:
    """Put the options of a function and the settings of its app together.

    Raises:
        ConfigurationError: they do not go together.
    """
    one = Registered(
        name=name,
        queue=options.concurrency_id or name,
        demand=_demand(options, function),
        options=options,
        is_batch=options.batch,
        capture_logs=options.capture_logs,
        track_tqdm=options.track_tqdm,
        limits=AdmissionLimits(
            max_size=settings.max_size,
            function_max_size=options.max_size,
            max_queued_bytes=settings.max_queued_bytes,
            max_queued_per_client=_either(
                options.max_queued_per_client, settings.max_queued_per_client
            ),
        ),
        client_key=_either(options.client_key, settings.client_key),
        priority=_either(options.priority, settings.priority),
        max_running_per_client=_either(
            options.max_running_per_client, settings.max_running_per_client
        ),
        max_wait=_either(options.max_wait, settings.max_wait),
        grace=_grace(_either(options.on_disconnect, settings.on_disconnect)),
        queue_timeout=_either(options.queue_timeout, settings.queue_timeout),
        cancel_timeout=_either(options.cancel_timeout, settings.cancel_timeout),
        kill_timeout=_either(options.kill_timeout, settings.kill_timeout),
        time_limit=_either(options.time_limit, settings.time_limit),
        on_finish=[hook for hook in (options.on_finish, settings.on_finish) if hook is not None],
        max_body_size=_either(options.max_body_size, settings.max_body_size),
        app=app,
        function=function,
    )
    _refuse_what_does_not_go_together(one, settings)
    return one


def _refuse_what_does_not_go_together(one: Registered, settings: Settings) -> None:
    if settings.max_streams_per_client is not None and settings.client_key is None:
        raise ConfigurationError(
            "max_streams_per_client needs a client_key of the app's, which says whose a stream is: "
            "aioqueue.setup(app, client_key=…)."
        )
    caps = {
        "max_running_per_client": one.max_running_per_client,
        "max_queued_per_client": one.limits.max_queued_per_client,
    }
    for name, cap in caps.items():
        if cap is not None and one.client_key is None:
            raise ConfigurationError(
                f"{one.name}: {name} needs a client_key, which says whose a request is."
            )
    slots, limit = one.options.slots, one.options.concurrency_limit
    if slots is not None and limit not in ("default", len(slots)):
        raise ConfigurationError(
            f"{one.name}: it has {len(slots)} slots and concurrency_limit={limit}: leave out "
            "concurrency_limit, the slots are the limit."
        )


def _demand(options: FunctionOptions, function: QueuedFunction[Any, Any] | None) -> Demand:
    on_loop = function is None or function.is_async
    executor = "loop" if on_loop else options.executor or "thread"
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


def policies(registered: Iterable[Registered], settings: Settings) -> dict[str, QueuePolicy]:
    """The queues of these functions.  In a shared one the lowest limit that was set wins.

    Raises:
        ConfigurationError: a queue would have two orders.
    """
    queues: dict[str, list[Registered]] = {}
    for one in registered:
        queues.setdefault(one.queue, []).append(one)
    return {queue: _policy(queue, those, settings) for queue, those in queues.items()}


def _policy(queue: str, functions: Sequence[Registered], settings: Settings) -> QueuePolicy:
    limits = [
        limit if one.options.slots is None else len(one.options.slots)
        for one in functions
        if (limit := one.options.concurrency_limit) != "default" or one.options.slots is not None
    ]
    return QueuePolicy(
        concurrency_limit=_lowest(limits, settings.default_concurrency_limit),
        order=_order(queue, functions),
        priority_step=settings.priority_step,
        max_running_per_client=_lowest([one.max_running_per_client for one in functions], None),
    )


def _order(queue: str, functions: Sequence[Registered]) -> Order:
    fair = [one.name for one in functions if one.client_key is not None]
    ranked = [one.name for one in functions if one.priority is not None]
    if fair and ranked:
        raise ConfigurationError(
            f"the queue {queue!r} has one order, but {fair[0]} has a client_key and {ranked[0]} a "
            "priority: take one of them. For both, put client_key on the functions whose clients "
            "take turns instead of on the app, and give each kind a concurrency_id of its own."
        )
    return Order.FAIR if fair else Order.PRIORITY if ranked else Order.ARRIVAL


def slot_names(registered: Iterable[Registered]) -> dict[str, Sequence[str]]:
    """For each queue whose slots have names, the names.

    Raises:
        ConfigurationError: its functions name them differently.
    """
    names: dict[str, Sequence[str]] = {}
    for one in registered:
        slots = one.options.slots
        if slots is not None and list(names.setdefault(one.queue, slots)) != list(slots):
            raise ConfigurationError(
                f"{one.name} names the slots of the queue {one.queue!r} otherwise than another "
                "function does: a queue has one set of slots."
            )
    return names


def _lowest(limits: Sequence[Any], default: int | None) -> int | None:
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


def subjects(root: web.Application) -> dict[str, list[Any]]:
    """For each queued method the objects whose it is, going by the routes of an app."""
    found: dict[str, list[Any]] = {}
    for app in (root, *sub_apps(root)):
        for route in app.router.routes():
            function, subject = queued_of(route.handler), subject_of(route.handler)
            if function is not None and subject is not None:
                objects = found.setdefault(function.name, [])
                if subject not in objects:
                    objects.append(subject)
    return found


def guarded(root: web.Application) -> set[str]:
    """The functions that have something before one of their routes.

    That is a sub-application, with its middlewares, or what wraps the handler: who comes through
    another door would pass it by.
    """
    found: set[str] = set()
    for app in (root, *sub_apps(root)):
        for resource in app.router.resources():
            for route in resource if "app" not in resource.get_info() else ():
                function = queued_of(route.handler)
                if function is not None and not (app is root and is_queued(route.handler)):
                    found.add(function.name)
    return found


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
