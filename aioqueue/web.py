"""The public face: ``queued``, ``setup``, ``middleware`` and ``run_app``.

This is where everything is put together, and the only module that names an engine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Literal

import attrs
from aiohttp import hdrs, web

from ._decorator import queued
from ._errors import ConfigurationError
from ._function import Handler, QueuedFunction, mark_as_coroutine_function, queued_of
from ._options import FunctionOptions
from ._registry import Registered, discover, queued_handlers, register
from ._routes import ROUTES
from ._run import run_app
from ._runtime import Door, Runtime
from ._settings import ClientKey, Priority, Settings
from .engines.memory import MemoryEngine

__all__ = ["SETTINGS", "OwnRoute", "middleware", "queued", "run_app", "runtime_of", "setup"]

SETTINGS: web.AppKey[Settings] = web.AppKey("aioqueue_settings", Settings)
"""``app[aioqueue.SETTINGS]``: the app's settings, to be changed until it starts."""

_RUNTIME: web.AppKey[list[Runtime]] = web.AppKey("aioqueue_runtime", list)
_FUNCTIONS: web.AppKey[tuple[Any, ...]] = web.AppKey("aioqueue_functions", tuple)


# middleware


class _Middleware:
    """A gate for whatever it matches.  Made by :func:`middleware`."""

    __middleware_version__ = 1

    def __init__(self, match: Callable[[web.Request], bool], options: FunctionOptions) -> None:
        self._match = match
        self.declared = options
        self._doors: dict[web.Application, Door] = {}

    def open(self, app: web.Application, door: Door) -> None:
        """Connect to a root application that has started."""
        self._doors[app] = door

    def close(self, app: web.Application) -> None:
        """Disconnect from one that shuts down."""
        self._doors.pop(app, None)

    async def __call__(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Let a request through in its turn."""
        door = self._doors.get(request.match_info.apps[0])
        if door is None:
            raise ConfigurationError(
                "aioqueue.middleware has no queue here: call aioqueue.setup(app) on the root "
                "application before it starts."
            )
        if _passes_by(request) or not self._match(request):
            return await handler(request)
        return await door.pass_through(request, handler)


def _passes_by(request: web.Request) -> bool:
    """Whether no gate may stand before this request.

    A WebSocket would hold its slot as long as it is open; HEAD and OPTIONS cost nothing; a route
    that does not exist neither; our own routes must answer while the queue is full; and a queued
    function has a queue already.
    """
    if request.method in (hdrs.METH_HEAD, hdrs.METH_OPTIONS) or _is_websocket(request):
        return True
    match = request.match_info
    if match.http_exception is not None:
        return True
    handler = match.handler
    return isinstance(handler, OwnRoute) or _is_queued(handler, request.method)


def _is_websocket(request: web.Request) -> bool:
    """Whether this is a WebSocket handshake (RFC 6455 section 4.1).

    The only upgrade that aiohttp knows: a client that offers another one, as curl and Java do for
    HTTP/2, is answered like any other.
    """
    upgrade = request.headers.get(hdrs.UPGRADE, "")
    return request.method == hdrs.METH_GET and upgrade.strip().lower() == "websocket"


def _is_queued(handler: Any, method: str) -> bool:
    if isinstance(handler, type) and issubclass(handler, web.View):
        handler = getattr(handler, method.lower(), None)
    return next(queued_handlers(handler), None) is not None


def middleware(
    match: Callable[[web.Request], bool] = lambda request: True,
    *,
    name: str = "middleware",
    concurrency_limit: int | Literal["default"] | None = "default",
    concurrency_id: str | None = None,
    max_size: int | None = None,
    max_wait: float | None = None,
    queue_timeout: float | None = None,
    time_limit: float | None = None,
    client_key: ClientKey | None = None,
    max_running_per_client: int | None = None,
    priority: Priority | None = None,
) -> Any:
    """A middleware that puts one queue in front of handlers nobody touches.

    Requests it matches wait in order and run at most ``concurrency_limit`` at once; beyond
    ``max_size`` waiting they get a 503 with an honest ``Retry-After``.  WebSockets, HEAD, OPTIONS,
    unknown routes and queued functions pass it by.

    Args:
        match: says of a request whether it must queue; all do by default.
        name: what the queue is called in counts.
        concurrency_limit: as in :func:`queued`.
        concurrency_id: as in :func:`queued`.
        max_size: how many may wait.
        max_wait: seconds a request may be expected to wait before it is refused.
        queue_timeout: seconds a request may wait before it gets a 503.
        time_limit: seconds a handler may run before its client gets a 504.
        client_key: as in :func:`queued`.
        max_running_per_client: as in :func:`queued`.
        priority: as in :func:`queued`.

    Raises:
        ConfigurationError: an option is out of its range.

    Example::

        app.middlewares.append(aioqueue.middleware(
            match=lambda request: request.path.startswith("/reports/"),
            concurrency_limit=4, max_size=100,
        ))
        aioqueue.setup(app)
    """
    options = FunctionOptions(
        name=name,
        concurrency_limit=concurrency_limit,
        concurrency_id=concurrency_id,
        max_size=max_size,
        max_wait=max_wait,
        queue_timeout=queue_timeout,
        time_limit=time_limit,
        client_key=client_key,
        max_running_per_client=max_running_per_client,
        priority=priority,
    )
    return _Middleware(match, options)


# setup


def setup(
    app: web.Application,
    settings: Settings | None = None,
    *,
    functions: Sequence[QueuedFunction[..., Any]] = (),
    **changes: Any,
) -> None:
    """Give an application its queues.  Call it once, on the root application.

    Args:
        app: the root application; functions in its sub-apps are found too.
        settings: the settings, or pass them one by one as keywords.
        functions: queued functions without a route, for ``submit`` from code.
        **changes: any field of :class:`Settings`.

    Raises:
        ConfigurationError: a setting is out of its range.

    Example::

        aioqueue.setup(app, max_size=200, max_threads=8)
    """
    if SETTINGS in app:
        raise ConfigurationError("aioqueue.setup(app) was called twice for the same application")
    known = {field.name for field in attrs.fields(Settings)}
    if wrong := sorted(set(changes) - known):
        raise ConfigurationError(f"aioqueue.setup has no setting {', '.join(wrong)}")
    settings = attrs.evolve(settings or Settings(), **changes)
    path = settings.overridden().path
    app[SETTINGS] = settings
    app[_FUNCTIONS] = tuple(_queued(one) for one in functions)
    app[_RUNTIME] = []
    for (method, below), name in ROUTES.items():
        handler = OwnRoute(partial(_answer, name))
        if method == hdrs.METH_GET:
            app.router.add_get(path + below, handler, name=f"aioqueue-{name}")
        else:
            app.router.add_route(method, path + below, handler)
    app.on_shutdown.append(_drain)
    app.cleanup_ctx.append(_live)


def _queued(function: Any) -> QueuedFunction[..., Any]:
    queued = queued_of(function)
    if queued is None:
        raise ConfigurationError(
            f"aioqueue.setup(functions=…): {function!r} is not queued: decorate it with "
            "@aioqueue.queued"
        )
    return queued


@mark_as_coroutine_function
class OwnRoute:
    """The handler of one of our own routes, which a gate lets pass."""

    def __init__(self, answer: Handler) -> None:
        self._answer = answer

    def __call__(self, request: web.Request) -> Coroutine[Any, Any, web.StreamResponse]:
        """Answer a request."""
        return self._answer(request)


async def _answer(name: str, request: web.Request) -> web.StreamResponse:
    (runtime,) = request.config_dict[_RUNTIME]
    return await runtime.routes.answer(name, request)


def runtime_of(app: web.Application) -> Runtime:
    """What runs in a root application that has started, for adapters on top of it."""
    (runtime,) = app[_RUNTIME]
    return runtime


async def _live(app: web.Application) -> AsyncIterator[None]:
    """From start to end, also of an app that fails to start after this."""
    await _start(app)
    yield
    await _stop(app)


async def _start(app: web.Application) -> None:
    """Find the app's functions, and start what runs them."""
    settings = app[SETTINGS].overridden()
    _check_place(app, settings)
    doors: list[tuple[QueuedFunction[..., Any] | _Middleware, Registered]] = []
    for one, where in _find(app).items():
        if isinstance(one, QueuedFunction):
            one.check()
            doors.append((one, register(one.name, one.declared, settings, where, one)))
        else:
            name = one.declared.name or "middleware"
            doors.append((one, register(name, one.declared, settings, where, None)))
    runtime = Runtime(app, settings, MemoryEngine(), [registered for _, registered in doors])
    await runtime.start()
    app[_RUNTIME].append(runtime)
    for one, registered in doors:
        one.open(app, runtime.door(registered))


def _find(
    app: web.Application,
) -> dict[QueuedFunction[..., Any] | _Middleware, web.Application | None]:
    """Everything with a queue, and the (sub-)application it was found in first."""
    found: dict[Any, web.Application | None] = {}
    for one, where in (*((one, None) for one in app[_FUNCTIONS]), *discover(app)):
        if isinstance(one, QueuedFunction | _Middleware) and found.get(one) is None:
            found[one] = where
    return found


def _check_place(app: web.Application, settings: Settings) -> None:
    """The prefix is part of the routes by now, and a sub-app would have put its own before it."""
    resource = app.router.named_resources()["aioqueue-job"]
    if resource.canonical == settings.path + "/jobs/{job_id}":
        return
    if resource.canonical.endswith(settings.path + "/jobs/{job_id}"):
        raise ConfigurationError(
            "aioqueue.setup belongs on the root application; it finds the queued functions of "
            "sub-applications by itself."
        )
    raise ConfigurationError(
        f"path was changed to {settings.path!r} after the routes were made: give it to "
        f"aioqueue.setup(app, path={settings.path!r})."
    )


async def _drain(app: web.Application) -> None:
    for runtime in app[_RUNTIME]:
        await runtime.drain()


async def _stop(app: web.Application) -> None:
    while app[_RUNTIME]:
        runtime = app[_RUNTIME].pop()
        for one in _find(app):
            one.close(app)
        await runtime.stop()
