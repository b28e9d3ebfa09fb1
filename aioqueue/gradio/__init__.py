"""Gradio's own clients, unmodified, for the functions of an aioqueue app.

``gradio_client`` (Python), ``@gradio/client`` (JavaScript) and the documented HTTP calls talk to
queued functions as if they were those of a Gradio app::

    import aioqueue
    import aioqueue.gradio

    aioqueue.setup(app)
    aioqueue.gradio.setup(app)

What they submit waits in the same queues, under the same limits, as what comes through any other
door.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from functools import partial
from types import MappingProxyType

from aiohttp import hdrs, web

from .._errors import ConfigurationError
from .._registry import guarded, subjects
from ..web import SETTINGS, OwnRoute, runtime_of
from ._arguments import FileSources
from ._catalogue import ApiNames, Catalogue
from ._fetch import AllowURL, Fetcher
from ._login import Login
from ._routes import ROUTES, GradioRoutes
from ._sessions import Sessions
from ._streams import Source
from ._submission import Submission
from ._uploads import Uploads

__all__ = ["setup"]

_ROUTES: web.AppKey[list[GradioRoutes]] = web.AppKey("aioqueue_gradio", list)

logger = logging.getLogger("aioqueue")

_NO_NAMES: ApiNames = MappingProxyType({})


def setup(
    app: web.Application,
    *,
    api_names: ApiNames = _NO_NAMES,
    path: str = "",
    login: Login | None = None,
    allow_url: AllowURL | None = None,
) -> None:
    """Let Gradio's clients call the app's queued functions.  Call it after ``aioqueue.setup``.

    Every queued function is there under its own name, but for those that take the request, since
    such a client has no request to make; and but for those in a sub-application, or wrapped by a
    decorator, unless you name them: these clients pass by what stands before their routes.

    Args:
        app: the root application.
        api_names: for names of functions the names that clients call them by; False hides one.
            Functions without a route are there, too.
        path: where clients find it, if not at the root: they pass ``http://host/path``.
        login: for clients that are given ``auth``: called with the request, a name and a password,
            it returns the response that logs them in (with a cookie of yours), or None.  Who may do
            what is the business of ``owner`` in ``aioqueue.setup``.
        allow_url: called with the URL that a client names instead of a file; whether the server may
            get it from there.  Without it none.

    Raises:
        ConfigurationError: ``aioqueue.setup(app)`` was not called, ``path`` is none, or a hook no
            function; and when the app starts, if ``api_names`` can't be what is meant, or the app
            has one of the routes already.

    Example::

        aioqueue.gradio.setup(app, api_names={"transcribe": "predict", "reindex": False})
    """
    if SETTINGS not in app:
        raise ConfigurationError("call aioqueue.setup(app) before aioqueue.gradio.setup(app)")
    if _ROUTES in app:
        raise ConfigurationError("aioqueue.gradio.setup(app) was called twice for the same app")
    if path and (not path.startswith("/") or path.endswith("/")):
        raise ConfigurationError(
            f"aioqueue.gradio.setup(path={path!r}): write it as '/gradio', with a slash before it "
            "and none behind"
        )
    for name, hook in {"login": login, "allow_url": allow_url}.items():
        if hook is not None and not callable(hook):
            raise ConfigurationError(
                f"aioqueue.gradio.setup({name}={hook!r}): it must be a function; see its docs"
            )
    app[_ROUTES] = []
    for (method, below), name in ROUTES.items():
        app.router.add_route(method, path + below, OwnRoute(partial(_answer, name)))
    app.cleanup_ctx.append(
        partial(_live, api_names=api_names, path=path, login=login, allow_url=allow_url)
    )


async def _answer(name: str, request: web.Request) -> web.StreamResponse:
    (routes,) = request.config_dict[_ROUTES]
    return await routes.answer(name, request)


async def _live(
    app: web.Application,
    *,
    api_names: ApiNames,
    path: str,
    login: Login | None,
    allow_url: AllowURL | None,
) -> AsyncIterator[None]:
    """From the start of the app, and of its queues, to its end."""
    _refuse_taken_routes(app, path)
    if login is not None and app[SETTINGS].owner is None:
        logger.warning(
            "aioqueue.gradio.setup(login=…) lets people log in, but nothing asks for it: give "
            "aioqueue.setup an owner= that raises web.HTTPUnauthorized for strangers."
        )
    runtime = runtime_of(app)
    submitter, engine = runtime.submitter, runtime.submitter.engine
    catalogue = Catalogue(runtime.functions, subjects(app), guarded(app), api_names)
    settings = submitter.settings
    uploads = Uploads(submitter.spool, settings.result_ttl, settings.max_spool_bytes // 2)
    fetcher = Fetcher(allow_url)
    sources = FileSources(uploads, fetcher, submitter.spool, engine)
    sessions = Sessions(engine.get)
    routes = GradioRoutes(
        submitter=submitter,
        catalogue=catalogue,
        sessions=sessions,
        submission=Submission(submitter, sources),
        source=Source(engine, submitter.estimator, submitter.streams.positions, settings),
        path=path,
        uploads=uploads,
        login_hook=login,
    )
    runtime.ticks += [uploads.tick, sessions.tick]
    app[_ROUTES].append(routes)
    yield
    app[_ROUTES].clear()
    await fetcher.close()


def _refuse_taken_routes(app: web.Application, path: str) -> None:
    """The first of two routes hides the other, and nobody would be told."""
    for method, below in ROUTES:
        for route in app.router.routes():
            resource = route.resource
            if resource is None or resource.canonical != path + below.replace(":.+", ""):
                continue
            if route.method in (method, hdrs.METH_ANY) and not isinstance(route.handler, OwnRoute):
                raise ConfigurationError(
                    f"the app has a route {method} {path + below} already, which Gradio's clients "
                    "use: give them a path of their own, aioqueue.gradio.setup(app, path='/gradio')"
                )
