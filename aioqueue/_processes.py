"""Where functions run that hold the GIL, or must be stopped: processes that can be killed.

Each process belongs to one thread, which starts it, hands it calls, listens to what it says while
it works, and buries it.  So to everybody else a call in a process is a call in a thread, with one
difference: it can be made to end.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import pickle
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ._batch import jobs_of
from ._errors import ConfigurationError, JobCancelled, Problem
from ._executors import Ended, ThreadExecutor, Work
from ._outcomes import Explained
from ._process import Boot, Main, Process, ProcessCall, ProcessLost
from ._running import CURRENT, Job

__all__ = ["ProcessExecutor", "cpus"]

logger = logging.getLogger("aioqueue")

_PATIENCE = 5.0
_STILL_STARTING = (
    "the app starts when its processes for jobs are ready: they still import its modules, or run "
    "its process_initializer"
)


def cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class ProcessExecutor(ThreadExecutor):
    """Runs ``def`` functions in processes, at most ``max_processes``.

    A call that is cancelled is asked to end; when it has not after its ``kill_timeout``, its
    process is killed.  One that is killed, dies or has had its number of jobs is replaced.

    Args:
        max_processes: how many there may be.
        main: what runs in each.
        references: the functions, as ``module:qualname``; they are imported before the first call.
        initializer: what they call then.
        max_jobs: after how many calls a process ends; None is never.
        folder: makes names of places on disk: each has one for its temporary files.

    Raises:
        ConfigurationError: the initializer can't be sent to a process.
    """

    thread_name = "aioqueue-process-"

    def __init__(
        self,
        max_processes: int,
        main: Main,
        *,
        references: Sequence[str] = (),
        initializer: Callable[[], object] | None = None,
        max_jobs: int | None = None,
        folder: Callable[[str], Path],
    ) -> None:
        super().__init__(max_processes)
        self._main = main
        self._references = references
        self._folder = folder
        self._initializer = _pickled(initializer)
        self._max_jobs = max_jobs
        self._waiting: dict[Job, Work] = {}  # for a process
        self._at_work: dict[Job, tuple[Process, float]] = {}
        self._starting: set[Process] = set()
        self._closing = False
        self._awaited: deque[asyncio.Future[None]] = deque()

    async def open(self, count: int) -> None:
        """Start that many processes, and wait until they are ready.

        Raises:
            ConfigurationError: one of them can't start.
        """
        if getattr(multiprocessing.process.current_process(), "_inheriting", False):
            raise ConfigurationError(
                "this is a process for jobs, which imports the script that was run, and the script "
                'started the app: put run_app(app) under `if __name__ == "__main__":`.'
            )
        self._awaited.extend(self._loop.create_future() for _ in range(min(count, self.capacity)))
        waiting = asyncio.gather(*self._awaited)
        for _ in list(self._awaited):
            self._start_thread()
        reminder = self._loop.call_later(_PATIENCE, logger.warning, _STILL_STARTING)
        try:
            await waiting
        except BaseException:
            await self.close()
            raise
        finally:
            reminder.cancel()

    def start(self, call: Any, work: Work) -> None:
        """Hand the call to a process, as soon as one takes calls."""
        self._waiting[work.job] = work
        self._hand_over(call, work)

    def interrupt(self, job: Job) -> None:
        """Ask the function to end, and kill its process if it does not."""
        job.cancel()  # first: a thread that takes it now notes that it does, then looks at this
        at_work = self._at_work.get(job)
        if at_work is not None:
            process, kill_timeout = at_work
            process.cancel(job)
            self._loop.call_later(kill_timeout, process.kill, job)
        elif (work := self._running.pop(job, None)) is not None:
            work.spawn(work.finish(Ended(error=JobCancelled())))  # it waits for a process to start

    def drop(self, job: Job, member: Job) -> None:
        """Let the function see that one job of its batch is cancelled."""
        super().drop(job, member)
        at_work = self._at_work.get(job)
        if at_work is not None:
            at_work[0].drop(member)

    async def close(self) -> bool:
        """End all processes: those that work have their ``kill_timeout``."""
        self._closing = True
        for job in list(self._running):
            if not job.cancelled:  # else it was interrupted before
                self.interrupt(job)
        for process in list(self._starting):
            process.kill()
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self._threads.clear()
        return True

    # In its threads

    def _work(self) -> None:
        process = self._replaced(None)
        while (item := self._calls.get()) is not None:
            job, call, context = item
            process = self._replaced(process)
            self._finish(job, context.run(self._run, process, call, job))
            del item, job, call, context
            if process is not None:  # else the next call tries again
                process = self._replaced(process)  # before there is somebody who waits for it
        if process is not None:
            process.let_go()

    def _replaced(self, process: Process | None) -> Process | None:
        """A process that takes calls: this one, or else a new one; None if it can't start."""
        if process is not None:
            if process.usable:
                return process
            process.let_go()
        if self._closing:
            return None
        try:
            process = self._started()
        except Exception as error:
            failure = ConfigurationError(f"a process for jobs could not start: {error}")
            if not self._closing:
                logger.error("%s", failure)
            self._tell(self._has_started, failure)
            return None
        self._tell(self._has_started, None)
        return process

    def _started(self) -> Process:
        process = Process(self._main, self._boot())
        self._starting.add(process)  # first: whoever closes notes that he does, then looks here
        try:
            if self._closing:
                process.kill()
            process.wait_until_ready()
        except BaseException:
            process.bury()
            raise
        finally:
            self._starting.discard(process)
        return process

    def _boot(self) -> Boot:
        levels = {
            name: one.level
            for name, one in list(logging.root.manager.loggerDict.items())
            if isinstance(one, logging.Logger) and one.level
        }
        return Boot(
            references=self._references,
            initializer=self._initializer,
            temporary=str(self._folder(secrets.token_hex(4))),
            log_levels={**levels, "": logging.root.level},
            max_jobs=self._max_jobs,
        )

    def _run(self, process: Process | None, call: ProcessCall, job: Job) -> Ended:
        """Run a call, in the job's context."""
        CURRENT.set(job)
        if process is None:
            detail = "The process for this function could not start. The server's log has more."
            return Ended(error=Explained(Problem.of("worker_lost", detail).to_json()))
        self._at_work[job] = process, call.kill_timeout
        self._tell(self._begin, job)
        for member in jobs_of(job):
            if member.cancelled:  # while it waited for the process
                process.drop(member)
        try:
            job.raise_if_cancelled()
            ended = process.run(call, job)
            if job.cancelled and not process.usable:
                process.let_go()  # its place is free when it is
            return ended
        except JobCancelled as cancelled:
            return Ended(error=cancelled)
        except ProcessLost as lost:
            return Ended(error=JobCancelled()) if job.cancelled else _lost(call, str(lost))
        except Exception as error:  # what it said can't be read
            process.bury()
            return Ended(error=error)

    # On the loop

    def _begin(self, job: Job) -> None:
        """A process has the call: its time counts from here, not from when that was started."""
        work = self._waiting.pop(job, None)
        if work is not None:
            work.begin()

    def _over(self, job: Job) -> None:
        """Nothing runs for a job any more."""
        self._waiting.pop(job, None)
        self._at_work.pop(job, None)

    def _has_started(self, error: ConfigurationError | None) -> None:
        """A process is ready, or can't start: for whoever waits for that."""
        future = self._awaited.popleft() if self._awaited else None
        if future is None or future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def _lost(call: ProcessCall, how: str) -> Ended:
    """The end of a call whose process died of it."""
    function = call.attempts[0].record.function
    logger.error("%s: its process ended unexpectedly, %s", function, how)
    detail = f"The process that ran the function ended unexpectedly, {how}."
    return Ended(error=Explained(Problem.of("worker_lost", detail).to_json()))


def _pickled(initializer: Callable[[], object] | None) -> bytes:
    try:
        return pickle.dumps(initializer)
    except Exception as error:
        raise ConfigurationError(
            f"process_initializer can't be sent to a process ({error}): take a function from the "
            "top level of a module."
        ) from None
