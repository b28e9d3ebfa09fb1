"""The running jobs of a batch, spoken to as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._encoding import encode
from ._errors import AioqueueError, JobCancelled
from ._job import Emission
from ._outbox import Progress
from ._running import Job, Said

__all__ = ["Batch", "BatchMismatch", "jobs_of"]


class Batch(Job):
    """All jobs of one call to a batch function, spoken to as one.

    Progress and log lines go to each of them.  It is cancelled when all of them are.  ``owner`` and
    ``metadata`` are what its jobs have in common, or None; its id is that of the first.

    Attributes:
        jobs: the jobs, in the order of the lists that the function was given.
        errors: what went wrong with single jobs so far, by id.
    """

    __slots__ = ("errors", "jobs")

    def __init__(self, jobs: Sequence[Job]) -> None:
        first = jobs[0]
        self.jobs = tuple(jobs)
        self.errors: dict[str, BaseException] = {}
        self.id = first.id
        self.attempt = first.attempt
        self.app = first.app
        self._outbox = first._outbox
        self._captures_logs = first._captures_logs
        self._tracks_tqdm = first._tracks_tqdm
        self.owner = _common([job.owner for job in jobs])
        self.slot = first.slot
        self._client = _common([job._client for job in jobs])
        self._priority = _common([job._priority for job in jobs]) or 0.0
        self._metadata = _common([job._metadata for job in jobs])
        self._cancelled = False
        self._goes_on = False
        self._bar = None

    @property
    def directory(self) -> Path:
        """None: each of its jobs has one of its own."""
        raise AioqueueError(
            "a batch has no directory, each of its jobs has: take the jobs as a parameter, "
            "`jobs: list[aioqueue.Job]`, and use `jobs[i].directory`."
        )

    @property
    def cancelled(self) -> bool:
        """Whether all of its jobs were cancelled."""
        return self._cancelled or all(job.cancelled for job in self.jobs)

    def cancel(self, *, goes_on: bool = False) -> None:
        """Cancel all of its jobs."""
        self._cancelled = True
        for job in self.jobs:
            job.cancel()

    def _live(self) -> list[Job]:
        return [job for job in self.jobs if not job.cancelled and job.id not in self.errors]

    def _note(self, progress: Progress) -> None:
        for job in self._live():
            job._note(progress)

    def _offer(self, emission: Emission) -> None:
        for job in self._live():
            job._offer(emission)

    def _outputs_of(self, value: Any) -> Sequence[Said]:
        """The entries of a yielded list, one a job; an exception in it fails that job alone."""
        if not self._live():
            raise JobCancelled("no job of the batch needs the rest")
        entries = self.entries_of(value, "yielded")
        said: list[Said] = []
        for job, entry in zip(self.jobs, entries, strict=True):
            if job.cancelled or job.id in self.errors:
                continue
            try:
                if isinstance(entry, BaseException):
                    raise entry
                said.append(job._output(encode(entry)))
            except BaseException as error:
                self.errors[job.id] = error
        return said

    def entries_of(self, value: Any, verb: str) -> Sequence[Any]:
        """A value of the function's as one entry for each job.

        Raises:
            BatchMismatch: it is no list, or one of another length.
        """
        count = len(self.jobs)
        is_list = hasattr(value, "__len__") and not isinstance(
            value, str | bytes | dict | set | frozenset
        )
        try:
            entries = list(value) if is_list else None
        except TypeError:  # an array without dimensions has a length that can't be asked
            entries = None
        if entries is not None and len(entries) == count:
            return entries
        found = f"a {type(value).__qualname__}" if entries is None else f"{len(entries)}"
        raise BatchMismatch(
            f"a batch function must give back a list with one entry a job, and {verb} {found} "
            f"for {count} job{'s' if count > 1 else ''}"
        )


def jobs_of(job: Job) -> Sequence[Job]:
    """The jobs that a call runs for: those of a batch, or the one."""
    return job.jobs if isinstance(job, Batch) else (job,)


class BatchMismatch(TypeError):
    """A batch function gave back something else than one entry for each job."""


def _common(values: Sequence[Any]) -> Any:
    return values[0] if all(value == values[0] for value in values) else None
