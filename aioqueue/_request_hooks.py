"""What the app's hooks say of a request: whose it is, whose turn it takes, and how urgent it is."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from ._checks import is_priority
from ._encoding import compact
from ._errors import Problem, Refused
from ._job import frozen
from ._registry import Registered
from ._settings import Settings

__all__ = ["Standing", "ask", "listener_of", "owner_of", "owner_text", "standing_of"]

logger = logging.getLogger("aioqueue")

_OWNER: web.RequestKey[str | None] = web.RequestKey("aioqueue_owner", str)


@frozen
class Standing:
    """What the app's hooks say of a request."""

    owner: str | None
    client: str | None
    """Whose turn its job takes."""
    priority: float
    metadata: bytes | None
    """What the app wants to keep with the job, as JSON."""


async def ask(hook: Callable[[Any], Any], subject: Any) -> Any:
    """What a hook of the app says of a request, or of what came with one.

    Raises:
        Refused: the hook failed; its traceback is in the log.
    """
    try:
        answer = hook(subject)
        return await answer if inspect.isawaitable(answer) else answer
    except web.HTTPException:
        raise
    except Exception as error:
        logger.exception("the hook %r failed", hook, exc_info=error)
        raise Refused(Problem.of("internal_error", "The server made a mistake.")) from None


def owner_text(owner: object) -> str | None:
    """An owner as it is stored and compared."""
    return None if owner is None else str(owner)


async def owner_of(settings: Settings, request: web.Request) -> str | None:
    """Whose request it is, as the app's hook says, which is asked once.

    Raises:
        Refused: the hook failed.
    """
    if settings.owner is None:
        return None
    if _OWNER not in request:
        request[_OWNER] = owner_text(await ask(settings.owner, request))
    return request[_OWNER]


async def listener_of(settings: Settings, request: web.Request) -> str | None:
    """Whose streams the one of this request counts among; None where they are not counted.

    It is asked for each, though a gate may have asked before: who a request is from may be known
    further in only.

    Raises:
        Refused: the hook failed.
    """
    hook = settings.client_key if settings.max_streams_per_client else None
    return None if hook is None else owner_text(await ask(hook, request))


async def standing_of(settings: Settings, function: Registered, request: web.Request) -> Standing:
    """What the hooks say of a request to a function; one to a middleware's gate is nobody's.

    Raises:
        Refused: a hook failed, or gave back what can't be taken.
    """
    owner = client = metadata = None
    if function.function is not None:
        if settings.owner is not None:
            owner = await owner_of(settings, request)
        hook = function.options.metadata or settings.metadata
        if hook is not None:
            metadata = _json_of(hook, await ask(hook, request))
    if function.client_key is not None:
        client = owner_text(await ask(function.client_key, request))
    priority = function.priority
    if callable(priority):
        priority = await ask(priority, request)
        if not is_priority(priority):
            logger.error("the priority hook returned %r, which is no number", priority)
            raise Refused(Problem.of("internal_error", "The server made a mistake."))
    return Standing(owner, client, float(priority or 0.0), metadata)


def _json_of(hook: object, metadata: Any) -> bytes | None:
    try:
        return None if metadata is None else compact(orjson.dumps(metadata))
    except TypeError as error:
        logger.error("the metadata hook %r returned no JSON: %s", hook, error)
        raise Refused(Problem.of("internal_error", "The server made a mistake.")) from None
