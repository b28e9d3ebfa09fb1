"""From what a function did to how its job ended: said once, as a value."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any

import attrs
import orjson

from ._errors import JobCancelled, JobError, Problem
from ._executors import Ended
from ._job import Content, JobState, Outcome

__all__ = ["content_of", "outcome_of"]

logger = logging.getLogger("aioqueue")


def outcome_of(job_id: str, function: str, ended: Ended, max_result_bytes: int) -> Outcome:
    """The outcome of a call: its value encoded, or its exception explained."""
    if ended.error is not None:
        if isinstance(ended.error, asyncio.CancelledError | JobCancelled):
            return Outcome(job_id, JobState.CANCELLED)
        return _failed(job_id, _explain(function, ended.error))
    try:
        content = content_of(ended.value)
    except TypeError as error:
        detail = f"{function} returned something that has no JSON form: {error}."
        logger.error("%s", detail, exc_info=error)
        return _failed(job_id, Problem.of("result_not_serializable", detail))
    if len(content.body) > max_result_bytes:
        detail = f"The result has {len(content.body)} bytes; {max_result_bytes} are allowed."
        return _failed(job_id, Problem.of("result_too_large", detail))
    return Outcome(job_id, JobState.SUCCEEDED, content)


def _failed(job_id: str, problem: Problem) -> Outcome:
    return Outcome(job_id, JobState.FAILED, error=problem.to_json())


def content_of(value: Any) -> Content:
    """A result as it is stored: JSON, attrs classes and dataclasses as objects.

    Raises:
        TypeError: it has no JSON form.
    """
    if isinstance(value, Content):
        return value
    try:
        return Content(orjson.dumps(value, default=_jsonable))
    except TypeError:
        # Slower, so only when needed: keys that are no strings, as the standard json has it.
        options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
        return Content(orjson.dumps(value, default=_jsonable, option=options))


def _jsonable(value: Any) -> Any:
    """What orjson does not know, if we do."""
    if attrs.has(type(value)):
        return attrs.asdict(value, recurse=False)
    raise TypeError(f"type is not JSON serializable: {type(value).__qualname__}")


def _explain(function: str, error: Any) -> Problem:
    """What the client may know of an exception.

    A :class:`JobError` and aiohttp's errors, which are responses, were written for the client.
    Of any other exception the client gets an id, and the server's log the traceback under the
    same id.
    """
    if isinstance(error, JobError):
        return Problem.of("job_failed", str(error.detail), status=error.status)
    if _is_response(error) and error.status >= 400:
        return Problem.of("job_failed", error.text or error.reason, status=error.status)
    error_id = secrets.token_hex(4)
    logger.error("%s failed (error id %s)", function, error_id, exc_info=error)
    detail = f"The function failed. The server's log has the reason under error id {error_id}."
    return Problem.of("job_failed", detail, error_id=error_id)


def _is_response(error: Any) -> bool:
    """Whether this is one of aiohttp's exceptions for handlers.

    By name: this layer does not import aiohttp, and a text and a status alone would not do.  The
    error of some other API's client has them too, and they are nobody's business.
    """
    return any(kind.__module__ == "aiohttp.web_exceptions" for kind in type(error).__mro__)
