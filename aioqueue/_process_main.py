"""What runs in a process for jobs: calls, one after the other, until it is told to go.

The function runs in the main thread, where a signal can interrupt it.  One more thread listens for
what the server asks meanwhile, and one tells the newest progress.  The function's log records go to
the server, and pass there through the loggers and handlers that the application has configured.
"""

from __future__ import annotations

import faulthandler
import importlib
import logging
import os
import pickle
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import cache, partial, reduce
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import attrs

from ._batch import Batch, BatchMismatch, jobs_of
from ._errors import AioqueueError, ConfigurationError, JobCancelled
from ._executors import Ended, run_call
from ._function import queued_of
from ._job import Content
from ._outcomes import explained, found
from ._parameters import Signature
from ._process import Boot, Booted, Done, ProcessCall
from ._responses import content_of
from ._running import Job, output_count
from ._uplink import Interrupts, LogForwarder, Uplink

__all__ = ["process_main", "refuse_what_is_not_found"]

_LARGE = 1 << 20
"""The bytes of a result from which on it travels as a file."""

_POLITE = 1 / 3
"""The part of its ``kill_timeout`` that a cancelled function has to look at its job, before it is
interrupted; the rest is for its ``finally``."""


class _NoApp:
    """Stands for the application, which lives in the server's process."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, key: object) -> Any:
        raise AioqueueError(
            "job.app is in the server's process. Load what the function needs in its module, or in "
            "setup(app, process_initializer=…), or pass it as an argument or metadata."
        )


class _Main:
    """The calls of this process."""

    def __init__(self, calls: Connection, control: Connection) -> None:
        self._calls = calls
        self._control = control
        self._interrupts = Interrupts()
        self._uplink = Uplink(calls, self._interrupts)
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._kill_timeout = 0.0
        self._early: set[tuple[str, str]] = set()  # asked before the call has arrived
        self._ended = threading.Event()
        self._stopping = False
        self._temporary: str | None = None

    def run(self, boot: Boot) -> None:
        """Get ready, and run what comes."""
        self._interrupts.install()
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._uplink.keep_telling, daemon=True).start()
        error = self._boot(boot)
        self._uplink.send(Booted(error))
        if error is None:
            self._serve(boot.max_jobs)
        self._stopping = True

    def _boot(self, boot: Boot) -> str | None:
        """Get ready.  Answers what went wrong, as text."""
        try:
            self._temporary = _place_for_temporary_files(boot.temporary)
            for reference in boot.references:
                plain_function(reference)
            # After the imports: one of them may configure logging, for a script that is run.
            for name, level in boot.log_levels.items():
                logging.getLogger(name).setLevel(level)
            logging.getLogger().handlers[:] = [LogForwarder(self._uplink)]
            initializer = pickle.loads(boot.initializer)
            if initializer is not None:
                initializer()
        except BaseException:
            return traceback.format_exc()
        return None

    def _serve(self, max_jobs: int | None) -> None:
        count = 0
        with suppress(EOFError, OSError):  # the server is gone
            while (call := self._calls.recv()) is not None:
                count += 1
                done = self._run(call)
                goes_on = not self._interrupts.thrown and count != max_jobs
                self._uplink.send(done._replace(goes_on=goes_on))
                if self._interrupts.thrown:
                    if sys.stdout is not None:
                        sys.stdout.flush()
                    os._exit(0)  # at once: what was interrupted may not be able to end well
                if not goes_on:
                    return

    # A call

    def _run(self, call: ProcessCall) -> Done:
        job = _job_of(call, self._uplink)
        jobs = jobs_of(job)
        self._ended.clear()
        with self._lock:
            self._job, self._kill_timeout = job, call.kill_timeout
            for one in jobs:
                if ("drop", one.id) in self._early:
                    one.cancel(goes_on=True)
            if ("cancel", job.id) in self._early:
                job.cancel()
            self._early.clear()
        ended = self._call(call, job)
        ended, errors = _portable(call, job, ended, self._temporary)
        with self._lock:
            self._job = None
        self._ended.set()
        self._uplink.tell_progress()
        return Done(ended, {one.id: output_count(one) for one in jobs}, errors, True)

    def _call(self, call: ProcessCall, job: Job) -> Ended:
        try:
            with self._interrupts.opened():
                return copy_context().run(run_call, partial(_bound, call, job), job)
        except JobCancelled as cancelled:  # interrupted just as it ended
            return Ended(error=cancelled)

    # What the server asks

    def _listen(self) -> None:
        try:
            while True:
                self._heed(*self._control.recv())
        except (EOFError, OSError):
            if not self._stopping:
                _end_with_all()

    def _heed(self, kind: str, job_id: str) -> None:
        with self._lock:
            job = self._job
            if kind == "cancel" and job is not None and job.id == job_id:
                job.cancel()
            elif member := _member(job, job_id):
                member.cancel(goes_on=True)
                return
            else:  # its call is on its way; or it has ended, and the next call forgets this
                self._early.add((kind, job_id))
                return
        if not self._ended.wait(self._kill_timeout * _POLITE):
            with self._lock:
                if self._job is job:
                    self._interrupts.interrupt()


def _member(job: Job | None, job_id: str) -> Job | None:
    """One job of a batch."""
    jobs = () if job is None else jobs_of(job)
    return next((one for one in jobs if one.id == job_id), None)


def process_main(calls: Connection, control: Connection, lifeline: Connection, boot: Boot) -> None:
    """Run calls in this process.

    Args:
        calls: where calls come from, and what they say goes.
        control: where the server asks to end one; it ends when the server does.
        lifeline: where nothing comes; it ends when the server does, too.
        boot: what to do first.
    """
    if sys.stderr is not None:
        faulthandler.enable()
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # so that it can be killed with all it starts
    if hasattr(os, "register_at_fork"):
        _keep_to_itself((calls, control, lifeline))
    _die_with_the_server(lifeline)
    _Main(calls, control).run(boot)


def _keep_to_itself(pipes: Sequence[Connection]) -> None:
    """Let nothing that the function starts have these pipes: it would keep them open.

    The server sees by their end that this process has died.
    """
    for pipe in pipes:
        os.set_inheritable(pipe.fileno(), False)
        os.register_at_fork(after_in_child=pipe.close)


def _die_with_the_server(lifeline: Connection) -> None:
    """Have Linux kill this process, and all it has started, when the other end is closed.

    Code in C that holds the GIL would keep the thread that listens from noticing.
    """
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)


def _end_with_all() -> None:
    """The server has died: end at once, with everything that was started here."""
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


# From a call to a function with its arguments


def _job_of(call: ProcessCall, uplink: Any) -> Job:
    jobs = [
        Job(attempt, _NO_APP, uplink, False, call.tracks_tqdm, call.slot, call.folder)
        for attempt in call.attempts
    ]
    if call.tracks_tqdm:
        _track_bars()
    return Batch(jobs) if call.is_batch else jobs[0]


_NO_APP = _NoApp()


@cache
def _track_bars() -> None:
    from . import _tqdm

    _tqdm.start_tracking()


def _bound(call: ProcessCall, job: Job) -> Any:
    """Call the function."""
    function, signature = _found(call.reference, call.is_batch)
    payloads = [attempt.record.payload for attempt in call.attempts]
    if isinstance(job, Batch):
        positional, named = signature.batch_arguments(payloads, job)
    else:
        positional, named = signature.arguments(payloads[0], job)
    return function(*positional, **named)


def plain_function(reference: str) -> Callable[..., Any]:
    """What a function was before it was queued, from its ``module:qualname`` in any process.

    Raises:
        ImportError, AttributeError: there is nothing of that name.
    """
    module, _, name = reference.partition(":")
    found = reduce(getattr, name.split("."), importlib.import_module(module))
    queued: Any = queued_of(found)
    return found if queued is None else queued.__wrapped__  # type: ignore[return-value]


def refuse_what_is_not_found(name: str, reference: str, plain: Callable[..., Any]) -> None:
    """Refuse to start with a function that a process would not find.

    Raises:
        ConfigurationError: there is something else under its name, or nothing.
    """
    with suppress(ImportError, AttributeError):
        if plain_function(reference) is plain:
            return
    raise ConfigurationError(
        f"{name} has executor='process', and a process would look for it as {reference}, where "
        "it is not: define it at the top level of a module."
    )


@cache
def _found(reference: str, is_batch: bool) -> tuple[Callable[..., Any], Signature]:
    function = plain_function(reference)
    return function, Signature(function, method=False, batch=is_batch)


# From a function's end to what can travel


def _portable(
    call: ProcessCall, job: Job, ended: Ended, temporary: str | None
) -> tuple[Ended, dict[str, BaseException]]:
    """An end that can travel, and the errors of single jobs of a batch."""
    try:
        return _explained_end(call, job, ended, temporary)
    except Exception as error:  # of a value's own methods, or an exception's
        return Ended(error=explained(call.attempts[0].record.function, error)), {}


def _explained_end(
    call: ProcessCall, job: Job, ended: Ended, temporary: str | None
) -> tuple[Ended, dict[str, BaseException]]:
    function = call.attempts[0].record.function
    batch = job if isinstance(job, Batch) else None
    errors = {
        job_id: explained(function, error)
        for job_id, error in (batch.errors.items() if batch else ())
    }
    if ended.error is not None:
        return Ended(error=explained(function, ended.error)), errors
    if ended.streamed:
        return ended, errors
    if batch is None:
        return _portable_value(call, job, ended.value, temporary), errors
    try:
        entries = batch.entries_of(ended.value, "returned")
    except BatchMismatch as error:
        return Ended(error=explained(function, error)), errors
    ends = [
        Ended(error=explained(function, entry))
        if isinstance(entry, BaseException)
        else _portable_value(call, one, entry, temporary)
        for one, entry in zip(batch.jobs, entries, strict=True)
    ]
    return Ended([end.value if end.error is None else end.error for end in ends]), errors


def _portable_value(call: ProcessCall, job: Job, value: Any, temporary: str | None) -> Ended:
    """A value as it is stored, or why it can't be."""
    try:
        return Ended(_lasting(content_of(value), job, temporary))
    except Exception as error:
        return Ended(error=explained(call.attempts[0].record.function, error))


def _lasting(content: Content, job: Job, place: str | None) -> Content:
    """A result that outlives this process, and is no load for the server's memory.

    What is large becomes a file of the job's, as does a temporary file, which would be removed.
    """
    temporary = None if place is None else Path(os.path.realpath(place))
    if content.path is None:
        if len(content.body) <= _LARGE or not temporary:
            return content
        path = _new_path(job)
        path.write_bytes(content.body)
        return attrs.evolve(content, body=b"", path=str(path), file_size=len(content.body))
    file = found(content)
    if temporary and Path(file.path or "").is_relative_to(temporary):
        path = _new_path(job)
        shutil.move(file.path or "", path)
        return attrs.evolve(file, path=str(path))
    # Not the file behind it: the server looks whether a link may lead there.
    return attrs.evolve(content, path=str(Path(content.path).absolute()))


def _new_path(job: Job) -> Path:
    """A file that the function can't have made: it may name its own as a client asks."""
    return job.directory / f".result-{secrets.token_hex(8)}"


def _place_for_temporary_files(path: str) -> str | None:
    """Put them where the server removes them, whatever becomes of this process.

    They stay as long as it does: libraries keep places of theirs there from one call to the next.
    """
    try:
        Path(path).mkdir(0o700)
    except OSError:  # no room, maybe: the function will say so if it needs some
        return None
    tempfile.tempdir = os.environ["TMPDIR"] = path
    return path
