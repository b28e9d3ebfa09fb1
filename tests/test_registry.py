"""Which functions an app has, where they were found, and what their options come to."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from aiohttp import web

import aioqueue
from aioqueue import ConfigurationError, QueuedFunction
from aioqueue._options import FunctionOptions
from aioqueue._registry import Registered, discover, policies, register, sub_apps, subjects, workers
from aioqueue._settings import Settings
from aioqueue.web import _RUNTIME


def named(name: str, **options: Any) -> QueuedFunction[[], None]:
    """A queued function of this name."""

    @aioqueue.queued(name=name, **options)
    def function() -> None: ...

    return function


def registered(settings: Settings | None = None, **options: Any) -> Registered:
    """A function with these options, registered with an app of these settings."""
    function = named("f", **options)
    return register("f", function.declared, settings or Settings(), None, function)


def found_in(app: web.Application) -> set[str]:
    """The names of the queued functions that are found."""
    return {one.name for one, _ in discover(app) if isinstance(one, QueuedFunction)}


def functions_of(app: web.Application) -> set[str]:
    """The names of the functions of a started app."""
    (runtime,) = app[_RUNTIME]
    return set(runtime.functions)


async def plain(request: web.Request) -> web.Response:
    """Answer like any other handler."""
    return web.Response()


class View(web.View):
    @aioqueue.queued
    async def get(self) -> None: ...

    @aioqueue.queued
    def post(self, number: int) -> None: ...

    async def put(self) -> web.Response:
        return web.Response()


class Service:
    @aioqueue.queued
    def method(self, number: int) -> None: ...


def decorator(handler: Any) -> Any:
    """What many apps have: a check before a handler."""

    @functools.wraps(handler)
    async def wrapper(request: web.Request) -> Any:
        return await handler(request)

    return wrapper


# Finding


def test_everywhere_a_handler_can_be() -> None:
    """Routes of every kind are looked into, in sub-apps of sub-apps too."""
    app, sub_app, sub_sub_app, domain = (web.Application() for _ in range(4))
    routes = web.RouteTableDef()
    routes.post("/table")(named("in a table"))
    routes.view("/view")(View)
    app.add_routes(routes)
    app.router.add_post("/plain", plain)
    app.router.add_post("/wrapped", decorator(decorator(named("wrapped"))))
    app.router.add_post("/service", Service().method)
    app.router.add_static("/static", ".")
    app.router.add_route("*", "/any", named("any method"))
    app.router.add_get("/twice/{number}", named("twice"))
    sub_app.router.add_post("/", named("in a sub-app"))
    sub_sub_app.router.add_post("/", named("in a sub-sub-app"))
    domain.router.add_post("/", named("in a domain"))
    sub_app.add_subapp("/sub", sub_sub_app)
    app.add_subapp("/sub", sub_app)
    app.add_domain("example.org", domain)

    assert found_in(app) == {
        "in a table",
        "View.get",
        "View.post",
        "wrapped",
        "Service.method",
        "any method",
        "twice",
        "in a sub-app",
        "in a sub-sub-app",
        "in a domain",
    }
    assert list(sub_apps(app)) == [sub_app, sub_sub_app, domain]
    places = {one.name: place for one, place in discover(app)}
    assert places["wrapped"] is places["View.get"] is app
    assert places["in a sub-sub-app"] is sub_sub_app


def test_objects_of_methods() -> None:
    """The objects of queued methods are those of the routes, each once, in all apps."""
    app, sub_app = web.Application(), web.Application()
    one, other = Service(), Service()
    app.router.add_post("/one", one.method)
    app.router.add_post("/again", decorator(one.method))
    app.router.add_view("/view", View)
    app.router.add_post("/function", named("function"))
    app.router.add_post("/plain", plain)
    sub_app.router.add_post("/other", decorator(other.method))
    app.add_subapp("/sub", sub_app)

    assert subjects(sub_app) == {"Service.method": [other]}
    assert subjects(app) == {"Service.method": [one, other]}
    assert subjects(web.Application()) == {}


def test_middlewares_are_found() -> None:
    """Those of sub-apps too; whoever asked picks out what is ours."""
    app, sub_app = web.Application(), web.Application()
    outer, inner = aioqueue.middleware(name="outer"), aioqueue.middleware(name="inner")
    app.middlewares.append(outer)
    sub_app.middlewares.append(inner)
    app.add_subapp("/sub", sub_app)

    assert list(discover(app)) == [(outer, app), (inner, sub_app)]


async def test_one_function_on_many_routes(serve) -> None:
    """Twice in an app, and once more in a sub-app, is still one function with one queue."""
    function = named("f")
    app, sub_app = web.Application(), web.Application()
    app.router.add_post("/1", function)
    app.router.add_post("/2", decorator(function))
    sub_app.router.add_post("/3", function)
    app.add_subapp("/sub", sub_app)
    aioqueue.setup(app, functions=[function])
    await serve(app)

    assert functions_of(app) == {"f"}


# Names


async def test_two_alike(serve) -> None:
    """Two functions of one name fail at start-up, and the error names both."""

    @aioqueue.queued
    def method(number: int) -> None: ...

    @aioqueue.queued(name="Service.method")
    def other(number: int) -> None: ...

    app = web.Application()
    app.router.add_post("/1", Service().method)
    app.router.add_post("/2", method)
    app.router.add_post("/3", other)
    aioqueue.setup(app)
    here = r"tests\.test_registry\."
    names = rf"'Service\.method': {here}Service\.method and {here}test_two_alike\.<locals>\.other\."
    with pytest.raises(ConfigurationError, match=names):
        await serve(app)


async def test_two_middlewares_alike(serve) -> None:
    """The name of a middleware's queue must differ from all others too."""
    app = web.Application()
    app.middlewares.append(aioqueue.middleware(name="f"))
    aioqueue.setup(app, functions=[named("f")])
    with pytest.raises(ConfigurationError, match=r"'f': .*named.*function and an aioqueue\.middle"):
        await serve(app)


async def test_bad_signature_fails_at_start_up(serve) -> None:
    """A function that no request can fill fails before the app serves anybody."""

    @aioqueue.queued
    def function(*numbers: int) -> None: ...

    app = web.Application()
    aioqueue.setup(app, functions=[function])
    with pytest.raises(ConfigurationError, match=r"\*numbers can't be filled from a request"):
        await serve(app)


# Options and settings


@pytest.mark.parametrize(
    ("option", "attribute", "values"),
    [
        ("queue_timeout", "queue_timeout", (1.0, 2.0)),
        ("cancel_timeout", "cancel_timeout", (0.0, 2.0)),
        ("max_body_size", "max_body_size", (1, 2)),
        ("on_disconnect", "grace", (0.0, 2.0)),
    ],
)
def test_option_beats_setting(option: str, attribute: str, values: tuple[Any, Any]) -> None:
    """What a function says of itself counts; what it does not say, the app says."""
    own, setting = values
    settings = Settings(**{option: setting})

    assert getattr(registered(settings), attribute) == setting
    assert getattr(registered(settings, **{option: own}), attribute) == own


@pytest.mark.parametrize(("said", "grace"), [("keep", None), ("cancel", 0.0), (7, 7.0)])
def test_grace(said: Any, grace: float | None) -> None:
    """on_disconnect is seconds of grace: none for "cancel", no end for "keep"."""
    assert registered(on_disconnect=said).grace == grace


def test_limits_of_admission() -> None:
    """The app's bounds and the function's own are both kept."""
    limits = registered(Settings(max_size=9, max_queued_bytes=100), max_size=3).limits

    assert (limits.max_size, limits.function_max_size, limits.max_queued_bytes) == (9, 3, 100)


def test_executor() -> None:
    """``def`` runs in threads; ``async def``, and a middleware's requests, on the loop."""

    @aioqueue.queued
    async def on_the_loop() -> None: ...

    options, settings = FunctionOptions(), Settings()
    assert registered().demand.capacity == "thread"
    assert register("f", options, settings, None, on_the_loop).demand.capacity == "loop"
    assert register("f", options, settings, None, None).demand.capacity == "loop"


@pytest.mark.parametrize(
    ("limits", "default", "expected"),
    [
        (["default"], 1, 1),
        (["default"], None, None),
        ([None], 1, None),
        ([3], 1, 3),
        (["default", "default"], 4, 4),
        (["default", 3], 1, 3),
        (["default", None], 1, None),
        ([None, 3], 1, 3),
        ([5, None, 3, "default"], 1, 3),
    ],
)
def test_lowest_limit_that_was_set(limits: list[Any], default: int | None, expected: Any) -> None:
    """In a shared queue numbers beat None, and "default" is not set."""
    those = [registered(concurrency_id="q", concurrency_limit=limit) for limit in limits]

    found = policies(those, Settings(default_concurrency_limit=default))
    assert {name: policy.concurrency_limit for name, policy in found.items()} == {"q": expected}


def test_workers_of_a_queue() -> None:
    """A queue with functions of two kinds has the workers of both."""

    @aioqueue.queued(concurrency_id="q")
    async def on_the_loop() -> None: ...

    those = [
        registered(concurrency_id="q"),
        registered(),
        register("g", on_the_loop.declared, Settings(), None, on_the_loop),
    ]

    assert workers(those, {"loop": 100, "thread": 8}) == {"q": 108, "f": 8}
