"""From what a function did to how its jobs ended: said once, as a value."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import Any

import attrs

from ._encoding import NoJsonForm, encode
from ._errors import JobCancelled, JobError, Problem
from ._executors import Ended
from ._job import Content, JobState, Outcome
from ._running import Batch, BatchMismatch, Job

__all__ = ["content_of", "outcomes_of", "timed_out", "unexplained"]

logger = logging.getLogger("aioqueue")


def outcomes_of(job: Job, function: str, ended: Ended, max_result_bytes: int) -> Sequence[Outcome]:
    """How the job ended, or each job of a batch.

    A generator's value is made from what it has said, so its ``ended`` has that already.
    """
    if not isinstance(job, Batch):
        return (_outcome(job.id, function, ended, max_result_bytes),)
    if ended.error is None:
        try:
            ends = _ends_of(job, ended)
        except BatchMismatch as error:
            ended = Ended(error=error)
    if ended.error is not None:
        # Once for all of them: one error id, one traceback in the log.
        whole = _failure("", function, ended.error)
        return [
            _failure(one.id, function, job.errors[one.id])
            if one.id in job.errors
            else attrs.evolve(whole, job_id=one.id)
            for one in job.jobs
        ]
    return [
        _outcome(one.id, function, end, max_result_bytes)
        for one, end in zip(job.jobs, ends, strict=True)
    ]


def _ends_of(batch: Batch, ended: Ended) -> Sequence[Ended]:
    """The ends of the jobs of a batch, whose function did not raise."""
    entries = ended.value if ended.streamed else batch.entries_of(ended.value, "returned")
    return [
        Ended(entry) if error is None else Ended(error=error)
        for job, entry in zip(batch.jobs, entries, strict=True)
        for error in (batch.errors.get(job.id, _error(entry)),)
    ]


def _error(entry: Any) -> BaseException | None:
    return entry if isinstance(entry, BaseException) else None


def _outcome(job_id: str, function: str, ended: Ended, max_result_bytes: int) -> Outcome:
    """The outcome of one job: its value encoded, or its exception explained."""
    if ended.error is not None:
        return _failure(job_id, function, ended.error)
    try:
        content = content_of(ended.value)
    except NoJsonForm as error:
        return _failure(job_id, function, error)
    if len(content.body) > max_result_bytes:
        detail = f"The result has {len(content.body)} bytes; {max_result_bytes} are allowed."
        return _failed(job_id, Problem.of("result_too_large", detail))
    return Outcome(job_id, JobState.SUCCEEDED, content)


def _failure(job_id: str, function: str, error: BaseException) -> Outcome:
    if isinstance(error, asyncio.CancelledError | JobCancelled):
        return Outcome(job_id, JobState.CANCELLED)
    return _failed(job_id, _explain(function, error))


def _failed(job_id: str, problem: Problem) -> Outcome:
    return Outcome(job_id, JobState.FAILED, error=problem.to_json())


def timed_out(job_id: str, seconds: float) -> Outcome:
    """How a job ends whose function ran longer than it may."""
    detail = f"The function did not end within {seconds:g} s."
    return _failed(job_id, Problem.of("job_timeout", detail))


def content_of(value: Any) -> Content:
    """A result as it is stored.

    Raises:
        NoJsonForm: it has no JSON form.
    """
    return value if isinstance(value, Content) else Content(encode(value))


def _explain(function: str, error: Any) -> Problem:
    """What the client may know of an exception.

    A :class:`JobError` and aiohttp's errors, which are responses, were written for the client;
    what a function gave back is the business of whoever calls it.  Of any other exception the
    client gets an id, and the server's log the traceback under the same id.
    """
    if isinstance(error, JobError):
        return Problem.of("job_failed", str(error.detail), status=error.status)
    if _is_response(error) and error.status >= 400:
        return Problem.of("job_failed", error.text or error.reason, status=error.status)
    if isinstance(error, NoJsonForm):
        detail = f"{function} gave back something that has no JSON form: {error}."
        logger.error("%s", detail, exc_info=error)
        return Problem.of("result_not_serializable", detail)
    if isinstance(error, BatchMismatch):
        logger.error("%s: %s", function, error)
        return Problem.of("job_failed", f"{function}: {error}.")
    return _private(function, error)


def _private(function: str, error: BaseException) -> Problem:
    """An exception that is nobody's business but the server's."""
    error_id = secrets.token_hex(4)
    logger.error("%s failed (error id %s)", function, error_id, exc_info=error)
    detail = f"The function failed. The server's log has the reason under error id {error_id}."
    return Problem.of("job_failed", detail, error_id=error_id)


def unexplained(job_id: str, function: str, error: BaseException) -> Outcome:
    """How a job ends of whose end nothing can be made."""
    return _failed(job_id, _private(function, error))


def _is_response(error: Any) -> bool:
    """Whether this is one of aiohttp's exceptions for handlers.

    By name: this layer does not import aiohttp, and a text and a status alone would not do.  The
    error of some other API's client has them too, and they are nobody's business.
    """
    return any(kind.__module__ == "aiohttp.web_exceptions" for kind in type(error).__mro__)
