"""The public face: setup(), handlers that are queued as they are, and the middleware."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
from aiohttp import ClientSession, web

import aioqueue
from aioqueue import ConfigurationError
from tests.inside import STREAM, Inside, make_app

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def with_prefix(prefix: str, **settings: Any) -> web.Application:
    """A sub-app with settings of its own, below a root app: a mistake."""
    app, sub_app = web.Application(), web.Application()
    aioqueue.setup(sub_app, **settings)
    app.add_subapp(prefix, sub_app)
    return app


# setup


def test_setup_twice() -> None:
    """An app has one setup."""
    with pytest.raises(ConfigurationError, match="called twice"):
        aioqueue.setup(make_app())


def test_setup_with_wrong_settings() -> None:
    """A setting that does not exist, and one out of range, are errors."""
    for settings, expected in (
        ({"max_sise": 3, "wrong": 1}, "no setting max_sise, wrong"),
        ({"max_size": -3}, "max_size must be"),
    ):
        with pytest.raises(ConfigurationError, match=expected):
            aioqueue.setup(web.Application(), **settings)


def test_setup_with_what_is_not_queued() -> None:
    """``functions`` takes queued functions, and says so."""

    async def function() -> None: ...

    with pytest.raises(ConfigurationError, match=r"is not queued: decorate it with @aioqueue\.q"):
        aioqueue.setup(web.Application(), functions=[function])


async def test_settings_can_be_tuned_until_the_app_starts(
    serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keywords beat the object, app[SETTINGS] beats both, the environment beats all."""
    monkeypatch.setenv("AIOQUEUE_MAX_TASKS", "4")
    app = web.Application()
    settings = aioqueue.Settings(max_threads=1, max_tasks=1, max_streams=1, result_ttl=1)
    aioqueue.setup(app, settings, max_threads=2, max_tasks=2, max_streams=2)
    app[aioqueue.SETTINGS] = attrs.evolve(app[aioqueue.SETTINGS], max_streams=3, max_tasks=3)
    await serve(app)

    used = Inside(app).runtime.settings
    assert (used.result_ttl, used.max_threads, used.max_streams, used.max_tasks) == (1, 2, 3, 4)


@pytest.mark.parametrize("prefix", ["/queue", "/jobs/of/mine"])
async def test_own_routes(serve, http: ClientSession, prefix: str) -> None:
    """The routes of jobs live below ``path``, for GET and HEAD."""
    url = await serve(make_app(path=prefix))
    for method in ("GET", "HEAD"):
        async with http.request(method, f"{url}{prefix}/status") as response:
            assert response.status == 200
    async with http.get(f"{url}{prefix}/jobs/unknown") as response:
        assert response.status == 404


async def test_path_that_is_changed_too_late(serve) -> None:
    """The prefix is part of the routes: changing it after setup() is an error with the fix."""
    app = make_app()
    app[aioqueue.SETTINGS] = attrs.evolve(app[aioqueue.SETTINGS], path="/other")
    with pytest.raises(ConfigurationError, match=r"aioqueue\.setup\(app, path='/other'\)"):
        await serve(app)


@pytest.mark.parametrize("prefix", ["/sub", "/queue"])
async def test_setup_on_a_sub_app(serve, prefix: str) -> None:
    """setup() belongs on the root application, and says so."""
    with pytest.raises(ConfigurationError, match="belongs on the root application"):
        await serve(with_prefix(prefix))


# Whoever guards the app guards its queues


def guard(request: web.Request) -> None:
    """Let nobody in without a password."""
    if request.headers.get("Authorization") != "swordfish":
        raise web.HTTPUnauthorized


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """An app's own authentication."""
    guard(request)
    return await handler(request)


class Guarded(web.View):
    @aioqueue.queued
    async def post(self) -> web.Response:
        return web.Response(text="secret")


@pytest.mark.parametrize("where", ["root", "sub-app"])
@pytest.mark.parametrize(
    "headers", [{}, STREAM, {"Prefer": "wait=10"}, {"Prefer": "respond-async"}], ids=str
)
async def test_authentication_is_never_bypassed(
    serve, http: ClientSession, where: str, headers: dict[str, str]
) -> None:
    """No door leads round the app's middlewares: not for values, requests or Views."""
    ran: list[str] = []

    @aioqueue.queued
    async def values() -> str:
        ran.append("values")
        return "secret"

    @aioqueue.queued
    async def handler(request: web.Request) -> web.Response:
        ran.append("handler")
        return web.Response(text="secret")

    app = web.Application(middlewares=[guarded] if where == "root" else [])
    inner = web.Application(middlewares=[guarded] if where == "sub-app" else [])
    inner.add_routes(
        [web.post("/values", values), web.post("/handler", handler), web.view("/view", Guarded)]
    )
    app.add_subapp("/inner", inner)
    aioqueue.setup(app)
    url = await serve(app)
    for path in ("values", "handler", "view"):
        async with http.post(f"{url}/inner/{path}", json={}, headers=headers) as response:
            assert response.status == 401
            assert "secret" not in await response.text()
    assert not ran

    known = {"Authorization": "swordfish", **headers}
    for path in ("values", "handler", "view"):
        async with http.post(f"{url}/inner/{path}", json={}, headers=known) as response:
            assert response.status in (200, 202)


async def test_own_routes_are_behind_the_middlewares_of_the_root(serve, http) -> None:
    """Status, events, result, cancel and counts are as guarded as the rest of the app."""

    @aioqueue.queued
    async def values() -> str:
        return "secret"

    app = make_app(values)
    app.middlewares.append(guarded)
    url = await serve(app)
    job_id = (await values.submit()).id
    for method, path in (
        ("GET", f"jobs/{job_id}"),
        ("GET", f"jobs/{job_id}/events"),
        ("GET", f"jobs/{job_id}/result"),
        ("DELETE", f"jobs/{job_id}"),
        ("GET", f"events?job={job_id}"),
        ("GET", "status"),
    ):
        async with http.request(method, f"{url}/queue/{path}") as response:
            assert response.status == 401, path


async def test_signals_of_the_app_see_every_answer(serve, http: ClientSession) -> None:
    """on_response_prepare, where apps add their headers, is called for streams too."""

    @aioqueue.queued
    async def values() -> None: ...

    async def add_header(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["App"] = "mine"

    app = make_app(values)
    app.on_response_prepare.append(add_header)
    url = await serve(app)
    for headers in ({}, STREAM, {"Prefer": "wait=1"}):
        async with http.post(f"{url}/values", json={}, headers=headers) as response:
            assert response.headers["App"] == "mine"
