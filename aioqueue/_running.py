"""The running job, as the function inside it sees it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import orjson

from ._errors import AioqueueError, JobCancelled
from ._job import Attempt

__all__ = ["CURRENT", "JOB", "Job", "current_job"]


class Job:
    """The job a function runs for.

    Get it as a parameter annotated :class:`aioqueue.Job`, or anywhere below the function from
    :func:`aioqueue.current_job`.

    Attributes:
        id: the job's id.
        attempt: which run of the job this is, from 1.
        owner: whose job it is, as the ``owner`` hook said; None is nobody's.
        metadata: what the ``metadata`` hook returned for the request.
        app: the aiohttp (sub-)application whose function this is.
    """

    __slots__ = ("_cancelled", "_metadata", "app", "attempt", "id", "owner")

    def __init__(self, attempt: Attempt, app: Any) -> None:
        record = attempt.record
        self.id = record.id
        self.attempt = attempt.number
        self.owner = record.owner
        self.app = app
        self._metadata = record.metadata
        self._cancelled = False

    @property
    def metadata(self) -> Any:
        """What the ``metadata`` hook returned, or None."""
        return None if self._metadata is None else orjson.loads(self._metadata)

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled.  A ``def`` function in a loop looks at it now and then."""
        return self._cancelled

    def raise_if_cancelled(self) -> None:
        """Raise JobCancelled if the job was cancelled: the polite way out of a ``def`` function."""
        if self._cancelled:
            raise JobCancelled(f"job {self.id} was cancelled")

    def cancel(self) -> None:
        """Let the function see that it is cancelled.  Called by the scheduler."""
        self._cancelled = True

    def __repr__(self) -> str:
        return f"<Job {self.id} attempt={self.attempt} cancelled={self._cancelled}>"


JOB: Any = object()
"""The default of a job parameter, so that callers may leave it out::

    def ocr(image: bytes, job: aioqueue.Job = aioqueue.JOB) -> str: ...
"""

CURRENT: ContextVar[Job] = ContextVar("aioqueue_job")


def current_job() -> Job:
    """The job that the calling code runs for, in a task or a thread.

    Raises:
        AioqueueError: no job is running here.
    """
    job = CURRENT.get(None)
    if job is None:
        raise AioqueueError(
            "current_job() was called outside a queued function. Threads that the function "
            "starts by itself need contextvars.copy_context().run(…)."
        )
    return job
