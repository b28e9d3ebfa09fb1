"""From what a function did to how its jobs ended: said once, as a value."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs

from ._batch import Batch, BatchMismatch
from ._encoding import NoJsonForm, encode
from ._errors import JobCancelled, JobError, Problem, encodable
from ._executors import Ended
from ._job import Content, JobState, Outcome
from ._running import Job
from ._upload import ANY_BYTES, content_type_of

__all__ = [
    "ContentOf",
    "Explained",
    "NoFile",
    "content_of",
    "explained",
    "failed",
    "file_content",
    "found",
    "media_type",
    "outcomes_of",
    "refused",
    "timed_out",
    "unexplained",
]

logger = logging.getLogger("aioqueue")

_TOKEN = r"[\w!#$%&'*+.^`|~-]+"
_QUOTED = r'"[^"\\,\x00-\x1f\x7f-\U0010ffff]*"'
_PARAMETER = rf"[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|{_QUOTED})"
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?:{_PARAMETER})*", re.ASCII)
"""One media type (RFC 9110 section 8.3.1), without what readers of it may not agree on."""

ContentOf = Callable[[Any], Content]
"""What makes a function's value a result."""


class NoFile(Exception):
    """A path that a function gave back leads to nothing that can be sent."""


def outcomes_of(
    job: Job, function: str, ended: Ended, max_result_bytes: int, content_of: ContentOf
) -> Sequence[Outcome]:
    """How the job ended, or each job of a batch.

    A generator's value is made from what it has said, so its ``ended`` has that already.
    """
    if not isinstance(job, Batch):
        return (_outcome(job.id, function, ended, max_result_bytes, content_of),)
    if ended.error is None:
        try:
            ends = _ends_of(job, ended)
        except BatchMismatch as error:
            ended = Ended(error=error)
    if ended.error is not None:
        # Once for all of them: one error id, one traceback in the log.
        whole = failed("", function, ended.error)
        return [
            failed(one.id, function, job.errors[one.id])
            if one.id in job.errors
            else attrs.evolve(whole, job_id=one.id)
            for one in job.jobs
        ]
    return [
        _outcome(one.id, function, end, max_result_bytes, content_of)
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


def _outcome(
    job_id: str, function: str, ended: Ended, max_result_bytes: int, content_of: ContentOf
) -> Outcome:
    """The outcome of one job: its value encoded, or its exception explained."""
    if ended.error is not None:
        return failed(job_id, function, ended.error)
    try:
        content = content_of(ended.value)
    except (NoJsonForm, JobError) as error:
        return failed(job_id, function, error)
    if not content.is_file and content.size > max_result_bytes:
        detail = f"The result has {content.size} bytes; {max_result_bytes} are allowed."
        return _failed(job_id, Problem.of("result_too_large", detail))
    return Outcome(job_id, JobState.SUCCEEDED, content)


class Explained(Exception):
    """A failure that was explained where it happened, which may be another process.

    Attributes:
        problem: the problem document, as JSON.
    """

    def __init__(self, problem: bytes) -> None:
        super().__init__(problem)
        self.problem = problem


def explained(function: str, error: BaseException) -> BaseException:
    """An error as one that means the same in any process: explained, or that of a cancel."""
    if isinstance(error, Explained):
        return error
    if isinstance(error, asyncio.CancelledError | JobCancelled):
        return JobCancelled(str(error))
    return Explained(_explain(function, error).to_json())


def failed(job_id: str, function: str, error: BaseException) -> Outcome:
    """How a job ends by this exception of its function's, or about what it gave back."""
    known = explained(function, error)
    if isinstance(known, Explained):
        return Outcome(job_id, JobState.FAILED, error=known.problem)
    return Outcome(job_id, JobState.CANCELLED)


def _failed(job_id: str, problem: Problem) -> Outcome:
    return Outcome(job_id, JobState.FAILED, error=problem.to_json())


def timed_out(job_id: str, seconds: float) -> Outcome:
    """How a job ends whose function ran longer than it may."""
    detail = f"The function did not end within {seconds:g} s."
    return _failed(job_id, Problem.of("job_timeout", detail))


def refused(job_id: str, problem: Problem) -> Outcome:
    """How a job ends whose result there is no room for."""
    return _failed(job_id, problem)


def content_of(value: Any) -> Content:
    """A result as it is stored: bytes as they are, files not looked at yet, all else as JSON.

    Raises:
        NoJsonForm: it has no JSON form.
    """
    if isinstance(value, Content):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return Content(bytes(value), ANY_BYTES)
    if isinstance(value, os.PathLike):
        return file_content(value)
    return Content(encode(value))


def file_content(
    path: os.PathLike[Any], content_type: str | None = None, name: str | None = None
) -> Content:
    """A file as a result, with what it is and is called if its own name does not say so.

    It is still to be ``found``: this runs on the loop, and the disk may be slow.
    """
    given = os.fsdecode(path)
    own = encodable(name or os.path.basename(given))
    kind = media_type(content_type) if content_type else content_type_of(os.path.basename(given))
    return Content(content_type=kind, name=own, path=given, is_file=True)


def media_type(declared: str) -> str:
    """What a header says of some bytes: it may be a client's, so only what can't be misread."""
    return declared if _MEDIA_TYPE.fullmatch(declared) else ANY_BYTES


def found(content: Content, within: Path | None = None) -> Content:
    """A result whose file is there, with its size.  It looks at the disk.

    Args:
        content: what a function's path became.
        within: a directory out of which no link may lead: clients may have put links there.

    Raises:
        NoFile: it is no regular file that can be read.
    """
    given = Path(content.path or "")
    try:
        given = given.absolute()
        real = os.path.realpath(given)  # a link in a job's directory goes with it
        info = os.stat(real)
    except (OSError, ValueError):
        raise NoFile(given) from None
    if not stat.S_ISREG(info.st_mode) or not os.access(real, os.R_OK):
        raise NoFile(given)
    if within and given.is_relative_to(within) and not Path(real).is_relative_to(within):
        raise NoFile(f"{given}, which leads to {real}")
    return attrs.evolve(content, path=real, file_size=info.st_size)


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
    if isinstance(error, NoFile):
        logger.error("%s gave back a file that can't be read: %s", function, encodable(str(error)))
        detail = f"{function} gave back a file that is not there, or can't be read."
        return Problem.of("job_failed", detail)
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
