"""One process for jobs: its pipes, what travels in them, and how it ends.

It is spawned, never forked: a fork of a process with threads may inherit a lock that nobody will
ever release.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from ._batch import Batch, jobs_of
from ._executors import Ended
from ._job import Attempt, Emission
from ._outbox import Progress
from ._removal import remove
from ._running import CURRENT, Job, outbox_of, set_output_count

__all__ = [
    "Boot",
    "Booted",
    "Done",
    "Logged",
    "Main",
    "Noted",
    "Process",
    "ProcessCall",
    "ProcessLost",
    "Said",
]

logger = logging.getLogger("aioqueue")

_SPAWN = multiprocessing.get_context("spawn")

_STOP_SECONDS = 1.0
"""How long an idle process has to leave by itself, with its atexit functions."""

_STARTING = threading.Lock()
"""Starting a process looks after all others of this one, so one thread at a time does it."""


# What travels


@attrs.frozen(slots=True, kw_only=True)
class ProcessCall:
    """A call, as a process gets it.

    Attributes:
        reference: where the function is, as ``module:qualname``.
        attempts: the jobs it runs for.
        directories: the directory of each of them.
        is_batch: whether it takes their arguments as lists.
        tracks_tqdm: whether any bar of tqdm's in it is its progress.
        slot: the name of its slot, if it has one.
        kill_timeout: seconds it has to end when it is cancelled.
    """

    reference: str
    attempts: Sequence[Attempt]
    directories: Sequence[str | None]
    is_batch: bool
    tracks_tqdm: bool
    slot: str | None
    kill_timeout: float

    def folder(self, job_id: str) -> Path:
        """Where a job's directory may be made.

        Raises:
            OSError: nowhere.
        """
        for attempt, directory in zip(self.attempts, self.directories, strict=True):
            if attempt.record.id == job_id and directory is not None:
                return Path(directory)
        raise FileNotFoundError("there is no place for files here")


@attrs.frozen(slots=True, kw_only=True)
class Boot:
    """What a process does before its first call.

    Attributes:
        references: the functions it will run, to be imported.
        initializer: what to call, pickled.
        temporary: where temporary files go, since a killed process can't remove them itself.
        log_levels: the levels of the server's loggers; the root's name is "".
        max_jobs: after how many calls it ends; None is never.
    """

    references: Sequence[str]
    initializer: bytes
    temporary: str
    log_levels: Mapping[str, int]
    max_jobs: int | None


class Booted(NamedTuple):
    """A process is ready, or says why it is not."""

    error: str | None


class Said(NamedTuple):
    """What a job said: an entry of its log."""

    job_id: str
    emission: Emission


class Noted(NamedTuple):
    """How far a job is."""

    job_id: str
    progress: Progress


class Logged(NamedTuple):
    """A record for the server's log."""

    record: logging.LogRecord
    job_id: str | None
    """The job around it, if it was logged by one."""


class Done(NamedTuple):
    """A call has ended.  Everything in it can travel: no exception but ours, no value but bytes."""

    ended: Ended
    counts: Mapping[str, int]
    """How many outputs each job has said."""
    errors: Mapping[str, BaseException]
    """What went wrong with single jobs of a batch."""
    goes_on: bool
    """Whether the process takes another call."""


Main = Callable[[Connection, Connection, Connection, Boot], None]
"""What runs in a process: it gets calls by the first pipe, is asked to end one by the second, and
ends itself when the third does."""


class ProcessLost(Exception):
    """A process is gone; the text says how."""


def _log(record: logging.LogRecord) -> None:
    its_logger = logging.getLogger(record.name)
    if its_logger.isEnabledFor(record.levelno):
        its_logger.handle(record)


class Process:
    """A process and its pipes.  All but ``cancel``, ``drop`` and ``kill`` is for its thread."""

    def __init__(self, main: Main, boot: Boot) -> None:
        self._owner = os.getpid()
        self._temporary = boot.temporary
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._ready = False
        self._gone = False
        self._calls, calls = _SPAWN.Pipe()
        control, self._control = _SPAWN.Pipe(duplex=False)
        if sys.platform != "win32":
            os.set_blocking(self._control.fileno(), False)  # it may not listen, the loop can't wait
        lifeline, self._lifeline = _SPAWN.Pipe(duplex=False)
        # Not a daemon, for those may have no processes of their own.  At exit multiprocessing
        # would wait for it, so it must be gone before.
        self._process: BaseProcess = _SPAWN.Process(
            target=main, args=(calls, control, lifeline, boot), name="aioqueue"
        )
        with _STARTING:
            self._process.start()
        atexit.register(self.kill)
        for theirs in (calls, control, lifeline):
            theirs.close()

    def wait_until_ready(self) -> None:
        """Wait until it takes calls.

        Raises:
            ProcessLost: it could not start.
        """
        try:
            while not isinstance(message := self._calls.recv(), Booted):
                self._heed(message, {})
        except (EOFError, OSError):
            self._has_ended(_STOP_SECONDS)  # its own end says more than that it was killed
            raise ProcessLost(
                f"it ended as it started, {self.bury()}; what it has written above says why"
            ) from None
        if message.error is not None:
            self.bury()
            raise ProcessLost(message.error)
        self._ready = True

    @property
    def usable(self) -> bool:
        """Whether it takes calls: it may have died since the last one."""
        # Not by is_alive(): that takes note of its end, and its number may be another's then.
        return self._ready and not self._has_ended(0)

    def run(self, call: ProcessCall, job: Job) -> Ended:
        """Run a call to its end, or to that of the process.

        Raises:
            ProcessLost: the process died of it.
        """
        jobs = {one.id: one for one in jobs_of(job)}
        with self._lock:
            self._job = job
        try:
            self._calls.send(call)
            while not isinstance(message := self._calls.recv(), Done):
                self._heed(message, jobs)
        except (EOFError, OSError):
            raise ProcessLost(self.bury()) from None
        self._ready = message.goes_on
        if message.goes_on:
            with self._lock:
                self._job = None  # else it may still have to be killed
        for job_id, count in message.counts.items():
            set_output_count(jobs[job_id], count)
        if isinstance(job, Batch):
            job.errors.update(message.errors)
        return message.ended

    def _heed(self, message: Any, jobs: Mapping[str, Job]) -> None:
        """Do what it asks for.  It may speak late, of a job that is over."""
        if isinstance(message, Logged):
            context = copy_context()
            if message.job_id not in jobs:  # of a thread that no job has, or one that is over
                context.run(CURRENT.set, None)
            context.run(_log, message.record)
        elif (job := jobs.get(message.job_id)) is None:
            return
        elif isinstance(message, Noted):
            outbox_of(job).note(job.id, message.progress)
        else:
            outbox_of(job).wait_for_room()
            outbox_of(job).put(job.id, message.emission)

    # From the loop

    def cancel(self, job: Job) -> None:
        """Ask it to end a job: the function's next look at it raises, and then any next step."""
        self._tell(("cancel", job.id))

    def drop(self, member: Job) -> None:
        """Say that one job of a batch is cancelled while the others go on."""
        self._tell(("drop", member.id))

    def _tell(self, message: tuple[str, str]) -> None:
        with self._lock, suppress(OSError):  # it is gone, or hears nothing and will be killed
            if not self._gone:
                self._control.send(message)

    def kill(self, job: Job | None = None) -> None:
        """Kill it with all it has started; with ``job``, only if it still runs that."""
        with self._lock:
            if self._gone or (job is not None and self._job is not job):
                return
            # At exit this is called in forks of the server, too; and whoever else takes note of
            # its end (a handler of SIGCHLD) sets its number free.
            if os.getpid() != self._owner or not self._has_its_number():
                return
            self._process.kill()
            if hasattr(os, "killpg"):
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid or 0, signal.SIGKILL)

    def _has_its_number(self) -> bool:
        if not hasattr(os, "waitid"):
            return True
        try:
            os.waitid(os.P_PID, self._process.pid or 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    # Its end

    def let_go(self) -> None:
        """Let it go, if it does not go already, and wait until nothing of it is left."""
        if self._gone:
            return
        with suppress(OSError):
            self._calls.send(None)
        self._has_ended(_STOP_SECONDS)
        self.bury()

    def _has_ended(self, timeout: float) -> bool:
        return bool(multiprocessing.connection.wait([self._process.sentinel], timeout))

    def bury(self) -> str:
        """See to it that nothing of it is left.  Answers how it ended."""
        self._ready = False
        if self._gone:
            return "before"
        self.kill()  # also what it has started, and one that only closed its pipe
        with self._lock:
            self._gone = True
        self._process.join()
        with _STARTING:  # else another thread may have seen its end, and not said so yet
            code = self._process.exitcode or 0
        atexit.unregister(self.kill)
        with suppress(ValueError):  # somebody else has taken note of its end
            self._process.close()
        if os.path.lexists(self._temporary):
            remove(Path(self._temporary))
        for ours in (self._calls, self._control, self._lifeline):
            ours.close()
        if code >= 0:
            return f"with exit code {code}"
        with suppress(ValueError):
            return f"by {signal.Signals(-code).name}"
        return f"by signal {-code}"
