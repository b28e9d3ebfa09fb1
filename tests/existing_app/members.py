"""Who may do what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from .models import SESSION, Session, User

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def members_only(handler: Handler) -> Handler:
    """Mark a handler as one that asks for a login."""
    handler.members_only = True  # type: ignore[attr-defined]
    return handler


def current_user(request: web.Request) -> User:
    """Whose session it is; nobody's is refused."""
    session: Session | None = request.get(SESSION)
    if session is None:
        raise web.HTTPUnauthorized
    return session.user
