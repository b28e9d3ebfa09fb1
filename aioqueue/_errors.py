"""What can go wrong, for people and for programs.

A refusal or a failure that a client may see is a :class:`Problem`: a problem document (RFC 9457)
with a ``code`` that never changes its meaning.  Exceptions carry one where there is one to carry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import orjson

from ._encoding import compact

__all__ = [
    "AioqueueError",
    "ClaimLost",
    "ConfigurationError",
    "EngineUnavailable",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "Problem",
    "Refused",
    "encodable",
]

PROBLEM_TYPE = "urn:aioqueue:problem:"
"""What a problem's ``type`` begins with: a name, since no address is promised to last yet."""

_CATALOGUE: dict[str, tuple[int, str]] = {
    "bad_request": (400, "Bad request"),
    "invalid_json": (400, "Invalid JSON"),
    "idempotency_key_invalid": (400, "Invalid Idempotency-Key"),
    "cross_site": (403, "Cross-site request"),
    "not_found": (404, "No such job"),
    "body_timeout": (408, "The request took too long to arrive"),
    "job_cancelled": (409, "The job was cancelled"),
    "payload_too_large": (413, "The request is too large"),
    "unsupported_media_type": (415, "Unsupported media type"),
    "invalid_arguments": (422, "Invalid arguments"),
    "idempotency_key_reused": (422, "The Idempotency-Key was used for another request"),
    "quota_exceeded": (429, "Too many at once"),
    "internal_error": (500, "Internal error"),
    "job_failed": (500, "The job failed"),
    "result_not_serializable": (500, "The result has no JSON form"),
    "result_too_large": (500, "The result is too large"),
    "worker_lost": (500, "The worker was lost"),
    "engine_unavailable": (503, "The queue is unavailable"),
    "lost_on_shutdown": (503, "The server shut down before the job ended"),
    "queue_full": (503, "The queue is full"),
    "queue_timeout": (503, "The job waited too long"),
    "spool_full": (503, "No room for files"),
    "shutting_down": (503, "The server is shutting down"),
    "wait_too_long": (503, "The wait would be too long"),
    "too_many_streams": (503, "Too many streams"),
    "job_timeout": (504, "The job ran too long"),
}


@attrs.frozen(slots=True)
class Problem:
    """A problem document, made with :meth:`of` from the catalogue of codes."""

    code: str
    status: int
    title: str
    detail: str
    extensions: Mapping[str, Any] = attrs.field(factory=dict)

    @classmethod
    def of(cls, code: str, detail: str, *, status: int | None = None, **extensions: Any) -> Problem:
        """The problem with this ``code``; ``extensions`` become members of the document."""
        standard, title = _CATALOGUE[code]
        return cls(code, status or standard, title, detail, extensions)

    def to_json(self, instance: str | None = None) -> bytes:
        """The document, with members in the order RFC 9457 lists them and ``code`` after them."""
        document = {
            "type": PROBLEM_TYPE + self.code.replace("_", "-"),
            "title": self.title,
            "status": self.status,
            "detail": encodable(self.detail),
        }
        if instance is not None:
            document["instance"] = instance
        return compact(orjson.dumps({**document, "code": self.code, **self.extensions}))


def encodable(text: str) -> str:
    """A text without lone surrogates, which file names and header bytes may bring along.

    They have no JSON form.
    """
    return text.encode(errors="replace").decode()


class AioqueueError(Exception):
    """The root of the errors that aioqueue raises."""


class ConfigurationError(AioqueueError, ValueError):
    """A setting or a decorator says something that can't be; raised before the app starts."""


class Refused(AioqueueError):
    """A request or a submit that was not accepted; :attr:`problem` says why."""

    def __init__(self, problem: Problem, retry_after: int | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.retry_after = retry_after
        """Seconds after which trying again makes sense, if it ever does."""


class JobError(Exception):
    """Raise it in a function to fail the job with a text its client may read.

    Args:
        detail: the sentence for the client.  Other exceptions stay private: the client gets an
            error id, the server log the traceback.
        status: the HTTP status that goes with it, 400 to 599; 500 unless you know better.

    Example::

        raise aioqueue.JobError("This picture has no text in it.", status=422)
    """

    def __init__(self, detail: str, *, status: int = 500) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"JobError status must be 400 to 599, not {status!r}")
        super().__init__(detail)
        self.detail = detail
        self.status = status


class JobFailed(AioqueueError):
    """``await handle.result()`` of a job that failed or was cancelled.

    Attributes:
        problem: the problem document, as a dict.
        state: ``"failed"`` or ``"cancelled"``.
    """

    def __init__(self, problem: dict[str, Any], state: str) -> None:
        super().__init__(problem.get("detail", state))
        self.problem = problem
        self.state = state


class JobCancelled(BaseException):
    """Raised inside a function whose job was cancelled.

    It is a BaseException, as asyncio's CancelledError is, so that ``except Exception`` in the
    function can't swallow it.
    """


class ClaimLost(AioqueueError):
    """A worker wrote to a job it no longer holds; what it wrote was not stored."""


class EngineUnavailable(AioqueueError):
    """The engine's store can't be reached.

    Attributes:
        unknown_outcome: whether the verb may have been carried out all the same.
    """

    def __init__(self, message: str, *, unknown_outcome: bool = False) -> None:
        super().__init__(message)
        self.unknown_outcome = unknown_outcome
