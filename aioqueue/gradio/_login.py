"""Logging in: the clients post a name and a password, and the app says who that is."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from .._bodies import BodyReader, is_cross_site
from .._errors import Problem, Refused
from .._request_hooks import ask
from ._refusals import json_response

__all__ = ["Login", "log_in"]

logger = logging.getLogger("aioqueue")

Answer = web.StreamResponse | None

Login = Callable[[web.Request, str, str], Answer | Awaitable[Answer]]
"""Given a name and a password, the answer that logs somebody in, or None."""


async def log_in(request: web.Request, login: Login, bodies: BodyReader) -> web.StreamResponse:
    """Answer what a client posts that was given ``auth``: a form, in either of its encodings.

    Raises:
        Refused: 403, another site asks; 500, the app's function failed, or gave back no answer; or
            the body can't be read.
    """
    if is_cross_site(request):
        raise Refused(Problem.of("cross_site", "Only this site may log somebody in."))
    form = await bodies.form(request)
    name, password = form.get("username"), form.get("password")
    response = None
    if isinstance(name, str) and isinstance(password, str):
        response = await ask(lambda request: login(request, name, password), request)
    if response is None:
        return json_response(b'{"detail":"Incorrect credentials."}', 401)
    if not isinstance(response, web.StreamResponse):
        logger.error(
            "login must return a response, or None if the password is wrong: it returned %r",
            response,
        )
        raise Refused(Problem.of("internal_error", "The server made a mistake."))
    return response
