"""The running job, as the function inside it sees it."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import orjson

from ._encoding import encode
from ._errors import AioqueueError, JobCancelled, encodable
from ._job import Attempt, Emission
from ._outbox import Outbox, Progress

__all__ = [
    "CURRENT",
    "JOB",
    "Batch",
    "BatchMismatch",
    "Job",
    "Said",
    "capture",
    "current_job",
    "let_go_of_bar",
    "outbox_of",
    "output_count",
    "outputs_of",
    "show_bar",
    "standing_of",
    "tracks_tqdm",
]

Said = tuple[str, Emission]
"""What is said, and by which job."""


class Job:
    """The job a function runs for.

    Get it as a parameter annotated :class:`aioqueue.Job`, or anywhere below the function from
    :func:`aioqueue.current_job`.  Everything here may be called from any thread.

    Attributes:
        id: the job's id.
        attempt: which run of the job this is, from 1.
        owner: whose job it is, as the ``owner`` hook said; None is nobody's.
        app: the aiohttp (sub-)application whose function this is.
        slot: the name of the slot it runs in, if its queue's ``slots`` have names.
    """

    __slots__ = (
        "_bar",
        "_cancelled",
        "_captures_logs",
        "_client",
        "_goes_on",
        "_metadata",
        "_outbox",
        "_outputs",
        "_priority",
        "_tracks_tqdm",
        "app",
        "attempt",
        "id",
        "owner",
        "slot",
    )

    def __init__(
        self,
        attempt: Attempt,
        app: Any,
        outbox: Outbox,
        captures_logs: bool = False,
        tracks_tqdm: bool = False,
        slot: str | None = None,
    ) -> None:
        record = attempt.record
        self.id = record.id
        self.attempt = attempt.number
        self.owner = record.owner
        self.app = app
        self._outbox = outbox
        self._captures_logs = captures_logs
        self._tracks_tqdm = tracks_tqdm
        self.slot = slot
        self._client = record.client
        self._priority = record.priority
        self._metadata = record.metadata
        self._cancelled = False
        self._goes_on = False  # whether, if it is cancelled, others of its batch are not
        self._outputs = 0
        self._bar: Any = None

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
        if self.cancelled:
            raise JobCancelled(f"job {self.id} was cancelled")

    def progress(
        self, value: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Say how far the function is.

        Clients get the newest news ten times a second at most, so call it as often as you like:
        it costs about a microsecond.

        Args:
            value: the share that is done, 0 to 1; with ``total``, the steps that are.
            total: how many steps there are.
            message: a few words on what is being done.

        Raises:
            JobCancelled: the job was cancelled, with all others of its batch.
            TypeError: ``value`` or ``total`` is no number.

        Example::

            job.progress(0.4)
            job.progress(4, 10, "denoise")
        """
        if self.cancelled:
            if self._goes_on:
                return  # nobody wants to know, but an exception would end the others too
            self.raise_if_cancelled()
        text = None if message is None else str(message)
        if total is None:
            self._note(Progress(_plain(value), message=text))
        else:
            self._note(Progress(None, _plain(value), _plain(total), text))

    def _note(self, progress: Progress) -> None:
        self._outbox.note(self.id, progress)

    def log(self, message: object, level: str = "info") -> None:
        """Say something to whoever follows the job: a ``log`` event.

        Args:
            message: the text.
            level: how important it is: ``debug``, ``info``, ``warning``, ``error``, or a word of
                your own.
        """
        self._outbox.wait_for_room()
        self._offer_log(str(message), str(level))

    def _offer_log(self, message: str, level: str) -> None:
        fields = orjson.dumps({"level": level, "message": encodable(message)})
        self._offer(Emission("log", fields))

    def _offer(self, emission: Emission) -> None:
        self._outbox.offer(self.id, emission)

    def _outputs_of(self, value: Any) -> Sequence[Said]:
        self.raise_if_cancelled()
        return (self._output(encode(value)),)

    def _output(self, data: bytes) -> Said:
        fields = b'{"index":%d,"data":%b}' % (self._outputs, data)
        self._outputs += 1
        return self.id, Emission("output", fields)

    def cancel(self, *, goes_on: bool = False) -> None:
        """Let the function see that it is cancelled, while it may go on for other jobs."""
        self._goes_on = goes_on  # first: a thread that sees the one looks at the other
        self._cancelled = True

    def __repr__(self) -> str:
        return f"<Job {self.id} attempt={self.attempt} cancelled={self.cancelled}>"


def _plain(number: Any) -> float:
    """A number as JSON has it: it may be one of numpy's or torch's, or a very long one."""
    if type(number) is int and -(1 << 63) <= number < 1 << 64:
        return number
    return float(number)


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


class BatchMismatch(TypeError):
    """A batch function gave back something else than one entry for each job."""


def _common(values: Sequence[Any]) -> Any:
    return values[0] if all(value == values[0] for value in values) else None


JOB: Any = object()
"""The default of a job parameter, so that callers may leave it out::

    def ocr(image: bytes, job: aioqueue.Job = aioqueue.JOB) -> str: ...
"""

CURRENT: ContextVar[Job | None] = ContextVar("aioqueue_job")


def outbox_of(job: Job) -> Outbox:
    """Where what a job says goes."""
    return job._outbox


def outputs_of(job: Job, value: Any) -> Sequence[Said]:
    """What a value that a job's function yields says, by job.

    Raises:
        JobCancelled: the job was cancelled.
        NoJsonForm: the value can't be sent.
        BatchMismatch: it is not one entry for each job of a batch.
    """
    return job._outputs_of(value)


def standing_of(job: Job) -> tuple[str | None, float]:
    """Whose turn a job took, and its priority: what a job that it submits inherits."""
    return job._client, job._priority


def output_count(job: Job) -> int:
    """How many outputs a job has said in this attempt."""
    return job._outputs


def tracks_tqdm(job: Job) -> bool:
    """Whether any bar of tqdm's in a job is its progress."""
    return job._tracks_tqdm


def show_bar(job: Job, bar: Any, step: float, total: float | None, message: str) -> None:
    """Take a bar's news as the job's progress, if it is the outermost bar."""
    if job._bar is None or job._bar() is None:
        job._bar = weakref.ref(bar)  # one that is dropped unclosed must not stay the outermost
    if job._bar() is bar:
        whole = None if total is None else _plain(total)
        job._note(Progress(None, _plain(step), whole, message.removesuffix(": ") or None))


def let_go_of_bar(job: Job, bar: Any) -> None:
    """A bar is closed: the next one may be the job's progress."""
    if job._bar is not None and job._bar() is bar:
        job._bar = None


def capture(job: Job, message: str, level: str) -> None:
    """Say what a job's function has logged, if it is to be said; never wait for room."""
    if job._captures_logs:
        job._offer_log(message, level)


def current_job() -> Job:
    """The job that the calling code runs for, in a task or a thread.

    In a batch function it speaks for all jobs of the batch.

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
