"""What the functions of the matrix do, step by step, in whatever process they run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import aioqueue
from aioqueue import current_job


class Event(Protocol):
    """As much of an event as a play needs."""

    def set(self) -> None: ...
    def is_set(self) -> bool: ...
    def wait(self, timeout: float) -> Any: ...


class FileEvent:
    """An event that other processes see: a file that is there or not."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def set(self) -> None:
        """Set it."""
        self._path.touch()

    def is_set(self) -> bool:
        """Whether somebody has set it."""
        return self._path.exists()

    def wait(self, timeout: float) -> None:
        """Wait a while."""
        time.sleep(timeout)


class Play:
    """What the function of a test does: what it is sent says which steps."""

    def __init__(self, event: Callable[[str], Event] = lambda _: threading.Event()) -> None:
        self.held = event("held")
        self.go = event("go")
        self.cleaned = event("cleaned")
        """Set when the function's ``finally`` has run."""

    @classmethod
    def on_disk(cls, directory: Path) -> Play:
        """One that is seen from other processes."""
        return cls(lambda name: FileEvent(directory / name))

    def begin(self, text: str) -> None:
        """What comes before anything is put out."""
        job = current_job()
        if text == "progress":
            job.progress(1, 4, "a quarter")
        if text == "log":
            job.log("a line", level="warning")
        if text == "raise":
            raise aioqueue.JobError("no", status=418)
        if text == "exit":
            raise SystemExit(3)

    def value(self, text: str) -> Any:
        """What is put out, or returned."""
        return object() if text == "object" else text.upper()

    def holds(self, text: str) -> bool:
        """Whether the function stays until it is stopped, or until the test lets it go."""
        if text not in ("hold", "progress", "log"):
            return False
        self.held.set()
        return not self.go.is_set()

    def hold(self, text: str) -> None:
        """Stay, in a thread: until then, or until the job is cancelled."""
        while self.holds(text):
            current_job().raise_if_cancelled()
            self.go.wait(0.001)

    def end(self, text: str) -> None:
        """What comes after the first output."""
        if text == "raise late":
            raise aioqueue.JobError("late", status=418)
