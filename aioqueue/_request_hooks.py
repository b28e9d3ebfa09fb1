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
from ._registry import Registered
from ._settings import Settings

__all__ = ["metadata_of", "owner_of", "owner_text", "standing_of"]

logger = logging.getLogger("aioqueue")


async def _ask(hook: Callable[[Any], Any], request: web.Request) -> Any:
    """What a hook of the app says of a request.

    Raises:
        Refused: the hook failed; its traceback is in the log.
    """
    try:
        answer = hook(request)
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
    """Whose request it is, as the app's hook says.

    Raises:
        Refused: the hook failed.
    """
    hook = settings.owner
    return None if hook is None else owner_text(await _ask(hook, request))


async def metadata_of(
    settings: Settings, function: Registered, request: web.Request
) -> bytes | None:
    """What the app wants to keep with the request's job, as JSON.

    Raises:
        Refused: the hook failed, or what it says has no JSON form.
    """
    hook = function.options.metadata or settings.metadata
    if hook is None:
        return None
    value = await _ask(hook, request)
    try:
        return None if value is None else compact(orjson.dumps(value))
    except TypeError as error:
        logger.error("the metadata hook %r returned no JSON: %s", hook, error)
        raise Refused(Problem.of("internal_error", "The server made a mistake.")) from None


async def standing_of(function: Registered, request: web.Request) -> tuple[str | None, float]:
    """Whose turn the request's job takes, and its priority, as the app's hooks say.

    Raises:
        Refused: a hook failed.
    """
    hook, priority = function.client_key, function.priority
    client = None if hook is None else owner_text(await _ask(hook, request))
    if callable(priority):
        priority = await _ask(priority, request)
        if not is_priority(priority):
            logger.error("the priority hook returned %r, which is no number", priority)
            raise Refused(Problem.of("internal_error", "The server made a mistake."))
    return client, float(priority or 0.0)
