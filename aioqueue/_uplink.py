"""From a process for jobs to the server: what functions say there, and how a cancel gets in."""

from __future__ import annotations

import _thread
import copy
import logging
import marshal
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from ._errors import JobCancelled
from ._job import Emission
from ._outbox import PROGRESS_SECONDS, Progress
from ._process import Logged, Noted, Said
from ._running import CURRENT

__all__ = ["Interrupts", "LogForwarder", "Uplink"]


class Interrupts:
    """The exception that a cancel throws into the main thread, and the places it must not hit.

    It is thrown at most once a call, and then the process goes: whatever was interrupted may have
    left things half done.
    """

    def __init__(self) -> None:
        self._open = False  # whether the function runs
        self._masked = False  # whether it is inside something that must be whole
        self._due = False
        self.thrown = False

    def install(self) -> None:
        """Take the signals.  Their own meaning is the server's business, which gets them too."""
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.signal(signal.SIGTERM, _outlive)

    def _on_interrupt(self, *_: Any) -> None:
        if not self._masked:
            self._throw_if_due()

    def _throw_if_due(self) -> None:
        if self._due and self._open and not self.thrown:
            self.thrown = True
            raise JobCancelled("the job was cancelled")

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Where it may be thrown."""
        self._due = False
        self._open = True
        try:
            yield
        finally:
            self._open = False

    @contextmanager
    def masked(self) -> Iterator[None]:
        """Where it waits until the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._masked = True
        try:
            yield
        finally:
            self._masked = False
        self._throw_if_due()

    def interrupt(self) -> None:
        """Throw it, from another thread."""
        self._due = True
        if hasattr(signal, "pthread_kill"):
            # A real signal: it also wakes a function that sleeps or waits for input.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:
            _thread.interrupt_main()


def _outlive(*_: Any) -> None:
    """A service manager stops all of a server's processes at once: the server ends this one.

    What the function has started by a fork inherits this, and is ended by the signal as ever.
    """
    if os.getpid() != _PID:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


_PID = os.getpid()


class Uplink:
    """The way to the server, from any thread; and, for the jobs here, their outbox.

    A full pipe makes whoever says something wait, so there is room for more when it returns.
    """

    def __init__(self, pipe: Connection, interrupts: Interrupts) -> None:
        self._pipe = pipe
        self._interrupts = interrupts
        self._lock = threading.Lock()
        self._mine = threading.local()  # whether this thread is in ``send``
        self._between: deque[Any] = deque()
        self._pid = os.getpid()
        self._progress: dict[str, Progress] = {}
        self._noted = threading.Event()
        self._telling = threading.Lock()

    def send(self, message: Any) -> None:
        """Send a message: all of it, or the server could not read what follows.

        What a finalizer or a signal handler says in the middle of one is sent after it.
        """
        if self.is_forked:
            return
        if getattr(self._mine, "sends", False):
            self._between.append(message)
            return
        self._mine.sends = True
        try:
            with self._interrupts.masked(), self._lock:
                self._pipe.send(message)
                while self._between:
                    self._pipe.send(self._between.popleft())
        finally:
            self._mine.sends = False

    @property
    def is_forked(self) -> bool:
        """Whether this is a process that the function has forked: it has no way to the server."""
        return os.getpid() != self._pid

    def wait_for_room(self) -> None:
        """Nothing to wait for."""

    def put(self, job_id: str, emission: Emission) -> None:
        """Say something."""
        self.send(Said(job_id, emission))

    offer = put

    def note(self, job_id: str, progress: Progress) -> None:
        """Say how far a job is: the newest note counts."""
        self._progress[job_id] = progress  # first: whoever takes notes looks after the flag
        if not self._noted.is_set():
            self._noted.set()

    def tell_progress(self) -> None:
        """Tell what is noted.  One thread at a time, so that the newest is told last."""
        with self._telling:
            for job_id in list(self._progress):
                self.send(Noted(job_id, self._progress.pop(job_id)))

    def keep_telling(self) -> None:
        """Tell it for as long as the process lives, as often as it is news."""
        with suppress(OSError):  # the server is gone
            while self._noted.wait():
                self._noted.clear()
                self.tell_progress()
                time.sleep(PROGRESS_SECONDS)


class LogForwarder(logging.Handler):
    """Sends records to the server, with their texts made here, where their arguments are."""

    def __init__(self, uplink: Uplink) -> None:
        super().__init__()
        self._uplink = uplink

    def emit(self, record: logging.LogRecord) -> None:
        """Send one."""
        if self._uplink.is_forked:
            if sys.stderr is not None:  # it is the server's, too
                sys.stderr.write(self.format(record) + "\n")
            return
        try:
            sent = copy.copy(record)
            sent.msg, sent.args = record.getMessage(), None
            if record.exc_info:
                sent.exc_text = _FORMATTER.formatException(record.exc_info)
                sent.exc_info = None
            for name in vars(sent).keys() - _STANDARD:
                if not _is_plain(getattr(sent, name)):
                    delattr(sent, name)
            job = CURRENT.get(None)
            self._uplink.send(Logged(sent, None if job is None else job.id))
        except Exception:
            self.handleError(record)


_FORMATTER = logging.Formatter()

_STANDARD = vars(logging.makeLogRecord({})).keys()


def _is_plain(value: Any) -> bool:
    """Whether a value is the same in any process; others may not even be readable there."""
    try:
        return type(value) is not memoryview and bool(marshal.dumps(value))
    except ValueError:
        return False
