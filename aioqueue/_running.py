"""The running job, as the function inside it sees it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import orjson

from ._encoding import encode
from ._errors import AioqueueError, JobCancelled, encodable
from ._job import Attempt, Emission
from ._outbox import Outbox, Progress

__all__ = [
    "CURRENT",
    "JOB",
    "Job",
    "Said",
    "capture",
    "current_job",
    "directory_of",
    "let_go_of_bar",
    "outbox_of",
    "output_count",
    "outputs_of",
    "set_output_count",
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
        "_folder",
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
        folder: Callable[[str], Path] | None = None,
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
        self._folder = folder
        self._cancelled = False
        self._goes_on = False  # whether, if it is cancelled, others of its batch are not
        self._outputs = 0
        self._bar: Any = None

    @property
    def metadata(self) -> Any:
        """What the ``metadata`` hook returned, or None."""
        return None if self._metadata is None else orjson.loads(self._metadata)

    @property
    def directory(self) -> Path:
        """A directory of the job's own, for whatever the function writes.

        It is made when it is first asked for.  With the job's end it goes, unless the job's result
        is a file in it: then that file stays until the result is forgotten.

        Raises:
            AioqueueError: there is no such place here.
            OSError: it can't be made.
        """
        if self._folder is None:
            raise AioqueueError(f"job {self.id} has no directory: nothing keeps files here")
        path = self._folder(self.id)
        path.mkdir(0o700, exist_ok=True)
        return path

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


def directory_of(job: Job) -> str | None:
    """Where a job's directory may be made, if it can have one."""
    return None if job._folder is None else str(job._folder(job.id))


def set_output_count(job: Job, count: int) -> None:
    """Count the outputs that a job has said in another process."""
    job._outputs = count


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
