"""Problem documents as responses (RFC 9457)."""

from __future__ import annotations

from aiohttp import hdrs, web

from ._errors import Problem, Refused

__all__ = ["problem_response", "refusal_response", "stored_problem_response"]

_TYPE = "application/problem+json"


def problem_response(
    problem: Problem, *, instance: str | None = None, retry_after: int | None = None
) -> web.Response:
    """A problem, with ``Retry-After`` where trying again makes sense."""
    return stored_problem_response(problem.to_json(instance), problem.status, retry_after)


def stored_problem_response(
    document: bytes, status: int, retry_after: int | None = None
) -> web.Response:
    """A problem that is JSON already, such as a failed job's."""
    response = web.Response(status=status, body=document, content_type=_TYPE)
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if retry_after is not None:
        response.headers[hdrs.RETRY_AFTER] = str(retry_after)
    return response


def refusal_response(refused: Refused, request: web.Request) -> web.Response:
    """The answer to a request that was not accepted."""
    instance = request.rel_url.raw_path  # a reference, as RFC 9457 wants it: still percent-encoded
    return problem_response(refused.problem, instance=instance, retry_after=refused.retry_after)
