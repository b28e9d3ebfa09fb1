"""Refusals, in the forms that the clients understand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import hdrs, web

from .._errors import Problem, Refused

__all__ = ["json_response", "refusal_response", "wrong_argument"]

_NO_FORM = "a file (multipart/form-data)"
"""What is said to those who send forms, which these clients don't do by themselves."""


def wrong_argument(field: str, message: str, expected: str = "") -> Refused:
    """The refusal of one argument."""
    error = {"field": field, "expected": expected, "message": message}
    return Refused(Problem.of("invalid_arguments", f"{field} {message}.".lstrip(), errors=[error]))


def json_response(body: bytes, status: int = 200) -> web.Response:
    """An answer that nobody may store."""
    response = web.Response(status=status, body=body, content_type="application/json")
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def refusal_response(refused: Refused) -> web.Response:
    """The answer to a request that was not accepted.

    With a 422 the Python client wants a list of objects, and shows their messages; else a text,
    which the JavaScript client shows.
    """
    problem = refused.problem
    detail: Any = problem.detail
    if problem.status == 422:
        detail = [_invalid(one) for one in problem.extensions.get("errors", ())] or [
            _invalid({"field": "", "message": detail})
        ]
    response = json_response(orjson.dumps({"detail": detail}), problem.status)
    if refused.retry_after is not None:
        response.headers[hdrs.RETRY_AFTER] = str(refused.retry_after)
    return response


def _invalid(error: Mapping[str, str]) -> dict[str, Any]:
    return {
        "__type__": "validate",
        "is_valid": False,
        "message": error["message"].replace(_NO_FORM, "a file, as handle_file gives"),
        "parameter_name": error["field"],
    }
