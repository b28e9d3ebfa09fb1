"""Setting Gradio's door up: once, after the queues, where the app wants it."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from aiohttp import web

import aioqueue
import aioqueue.gradio
from aioqueue import ConfigurationError
from tests.gradio.visitor import Visitor, gradio_shop
from tests.inside import Shop, make_app

pytestmark = pytest.mark.one_loop


@aioqueue.queued
def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


def test_before_the_queues() -> None:
    """Without queues there is nothing to call."""
    with pytest.raises(ConfigurationError, match=r"call aioqueue\.setup\(app\) before"):
        aioqueue.gradio.setup(web.Application())


def test_twice() -> None:
    """One door is enough."""
    app = make_app(add)
    aioqueue.gradio.setup(app)
    with pytest.raises(ConfigurationError, match="twice"):
        aioqueue.gradio.setup(app, path="/other")


@pytest.mark.parametrize("path", ["gradio", "/gradio/", "/", "gradio/"])
def test_wrong_path(path: str) -> None:
    """A path is told as it should be written."""
    app = make_app(add)
    with pytest.raises(ConfigurationError, match="write it as '/gradio'"):
        aioqueue.gradio.setup(app, path=path)
    aioqueue.gradio.setup(app, path="/gradio")


@pytest.mark.parametrize("names", [{"ad": "plus"}, {"add": "x", "times": "x"}])
async def test_wrong_names(serve, names: Any) -> None:
    """An app whose names are wrong does not start, and leaves nothing behind."""
    times = aioqueue.queued(name="times")(lambda: None)
    app = make_app(add, times)
    aioqueue.gradio.setup(app, api_names=names)
    with pytest.raises(ConfigurationError):
        await serve(app)


async def test_names(serve, http) -> None:
    """Functions are called by the names that clients know."""
    shop = await gradio_shop(add, api_names={"add": "/predict"}).open(serve, http)
    visitor = Visitor(shop)
    assert await visitor.call("predict", 1) == [("complete", [3])]
    assert (await visitor.post("/call/add", {"data": [1]})).status == 404


class Painter:
    """Has a queued method."""

    def __init__(self, name: str) -> None:
        self.name = name

    @aioqueue.queued
    async def paint(self, colour: str) -> str:
        """Paint."""
        return f"{self.name} {colour}"


async def test_methods(serve, http) -> None:
    """A method is called on its object, which is that of its routes."""
    shop = Shop()
    app = web.Application()
    painter = Painter("red")
    for path in ("/a", "/b"):
        app.router.add_post(path, painter.paint)
    aioqueue.setup(app)
    aioqueue.gradio.setup(app)
    shop.app = app
    visitor = Visitor(await shop.open(serve, http))
    assert await visitor.call("Painter_paint", "wall") == [("complete", ["red wall"])]


async def test_methods_of_several_objects(serve, http) -> None:
    """Of several objects nobody can say which is meant, so their method is left out."""
    app = web.Application()
    app.router.add_post("/a", Painter("red").paint)
    app.router.add_post("/b", Painter("blue").paint)
    aioqueue.setup(app)
    aioqueue.gradio.setup(app)
    async with http.get(f"{await serve(app)}/config") as response:
        assert (await response.json())["dependencies"] == []


async def test_functions_without_a_route(serve, http) -> None:
    """A function that is only named in setup is there, and runs with the app."""
    apps = []

    @aioqueue.queued
    async def function(job: aioqueue.Job = aioqueue.JOB) -> str:
        apps.append(job.app)
        return "done"

    shop = Shop()
    shop.app = web.Application()
    aioqueue.setup(shop.app, functions=[function])
    aioqueue.gradio.setup(shop.app)
    visitor = Visitor(await shop.open(serve, http))
    assert await visitor.call("function") == [("complete", ["done"])]
    assert apps == [shop.app]


async def test_sub_app(serve, http) -> None:
    """A function of a sub-app is there if it is named, and its jobs have that app around them."""
    apps = []

    @aioqueue.queued
    async def function(job: aioqueue.Job = aioqueue.JOB) -> None:
        apps.append(job.app)

    shop, below = Shop(), web.Application()
    below.router.add_post("/function", function)
    shop.app = web.Application()
    shop.app.add_subapp("/below", below)
    aioqueue.setup(shop.app)
    aioqueue.gradio.setup(shop.app, api_names={"function": "function"})
    visitor = Visitor(await shop.open(serve, http))
    assert await visitor.call("function") == [("complete", [])]
    assert apps == [below]


async def test_what_stands_before(serve, http) -> None:
    """No door leads past a sub-app's middlewares or a decorator, unless the app says so."""

    def decorated(handler: Any) -> Any:
        @functools.wraps(handler)
        async def wrapper(request: web.Request) -> web.StreamResponse:
            raise web.HTTPForbidden

        return wrapper

    @aioqueue.queued
    def wrapped() -> None: ...

    @aioqueue.queued
    def inner() -> None: ...

    shop, below = Shop(), web.Application()
    below.router.add_post("/inner", inner)
    shop.app = make_app(add)
    shop.app.router.add_post("/wrapped", decorated(wrapped))
    shop.app.add_subapp("/below", below)
    aioqueue.gradio.setup(shop.app)
    visitor = Visitor(await shop.open(serve, http))
    async with visitor.shop.http.get(shop.url + "/config") as response:
        config = await response.json()
    assert [one["api_name"] for one in config["dependencies"]] == ["add"]
    for name in ("inner", "wrapped"):
        assert (await visitor.post(f"/call/{name}", {"data": []})).status == 404


@pytest.mark.parametrize("hook", [("me", "secret"), ["example.com"], True])
def test_hooks_that_are_none(hook: Any) -> None:
    """What can't be called is refused at once, and not at the first user."""
    for name in ("login", "allow_url"):
        with pytest.raises(ConfigurationError, match="must be a function"):
            aioqueue.gradio.setup(make_app(add), **{name: hook})


async def test_login_alone(serve, caplog: pytest.LogCaptureFixture) -> None:
    """A login that nothing asks for protects nothing, which the log says."""

    async def login(request: web.Request, name: str, password: str) -> None: ...

    for owner in (None, lambda request: None):
        caplog.clear()
        app = make_app(add, owner=owner)
        aioqueue.gradio.setup(app, login=login)
        await serve(app)
        assert len(caplog.records) == (owner is None)


async def test_after_the_end() -> None:
    """An app that has ended answers no client any more."""
    app = make_app(add)
    aioqueue.gradio.setup(app)
    runner = web.AppRunner(app)
    await runner.setup()
    assert len(app[aioqueue.gradio._ROUTES]) == 1
    await runner.cleanup()
    assert app[aioqueue.gradio._ROUTES] == []
