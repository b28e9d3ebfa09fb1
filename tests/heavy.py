"""What runs in processes in the tests.  Each process imports this, so it has little to import."""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import io
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aioqueue
from aioqueue import current_job
from tests.plays import Play

# The matrix

PLAY = Play()


def stage(directory: str) -> None:
    """Have the functions play where a test sees them.  For ``process_initializer``."""
    global PLAY
    PLAY = Play.on_disk(Path(directory))


def plain(text: str) -> Any:
    """A plain function."""
    try:
        PLAY.begin(text)
        PLAY.hold(text)
        return PLAY.value(text)
    finally:
        PLAY.cleaned.set()


def generator(text: str) -> Iterator[Any]:
    """A generator."""
    try:
        PLAY.begin(text)
        yield PLAY.value(text)
        PLAY.hold(text)
        PLAY.end(text)
        yield "end"
    finally:
        PLAY.cleaned.set()


def batch(text: list[str]) -> list[Any]:
    """A plain function for many jobs."""
    try:
        PLAY.begin(text[0])
        PLAY.hold(text[0])
        return [PLAY.value(one) for one in text]
    finally:
        PLAY.cleaned.set()


def batch_generator(text: list[str]) -> Iterator[list[Any]]:
    """A generator for many jobs."""
    try:
        PLAY.begin(text[0])
        yield [PLAY.value(one) for one in text]
        PLAY.hold(text[0])
        PLAY.end(text[0])
        yield ["end" for _ in text]
    finally:
        PLAY.cleaned.set()


# What ends at once

LOADED: list[int] = []
"""One entry for each time that an initializer was called in this process."""


def load() -> None:
    """An initializer."""
    LOADED.append(os.getpid())


def fail_to_load() -> None:
    """An initializer that raises."""
    raise RuntimeError("no such model")


def leave_at_once() -> None:
    """An initializer after which there is no process any more."""
    os._exit(7)


def load_when(path: str) -> None:
    """An initializer that waits for a file."""
    Path(f"{path}.asked").touch()
    while not Path(path).exists():
        time.sleep(0.002)


def fail_if(path: str) -> None:
    """An initializer that raises if there is a file."""
    if Path(path).exists():
        raise RuntimeError("it is broken")


def load_and_take_leave() -> None:
    """An initializer of something that has to be closed."""
    load()
    atexit.register(print, "goodbye")


def who() -> list[int]:
    """Which process this is, and how often its initializer was called."""
    return [os.getpid(), len(LOADED)]


def echo(text: str) -> str:
    """What it was given."""
    return text


def double(text: str) -> str:
    """What it was given, much of it."""
    return text * 10


def describe() -> dict[str, Any]:
    """The job it runs for."""
    job = current_job()
    return {
        "id": job.id,
        "owner": job.owner,
        "metadata": job.metadata,
        "slot": job.slot,
        "attempt": job.attempt,
    }


def ask_for_the_app(job: aioqueue.Job = aioqueue.JOB) -> str:
    """What is said to whoever looks for the application here."""
    try:
        return str(job.app["model"])
    except aioqueue.AioqueueError as error:
        return str(error)


def say(text: str) -> str:
    """Print something, and say something to logging."""
    print(f"printed {text}")
    logging.getLogger("tests.heavy").warning("logged %s", text)
    return text


def say_later(text: str) -> None:
    """Leave a thread behind that logs when the next job has begun."""
    threading.Thread(target=lambda: (LATER.wait(), say(text))).start()


LATER = threading.Event()


def let_it_be_said(job: aioqueue.Job = aioqueue.JOB) -> None:
    """The next job."""
    LATER.set()
    while threading.active_count() > BACKGROUND:
        time.sleep(0.001)


BACKGROUND = 3
"""The threads of a process that runs a function: its own, and two of aioqueue's."""


def bars(kind: str) -> None:
    """A bar of tqdm's."""
    import tqdm

    make: Any = aioqueue.tqdm if kind == "ours" else tqdm.tqdm
    for _ in make(range(4), desc="pages", mininterval=0, miniters=1, file=io.StringIO()):
        pass


def count(to: int, width: int = 1) -> Iterator[str]:
    """A generator that never waits."""
    for number in range(to):
        yield str(number).rjust(width)


def fork_and_terminate() -> int | None:
    """How a forked process ends that is told to."""
    context = multiprocessing.get_context("fork")
    begun = context.Event()
    process = context.Process(target=sleep_after, args=(begun,))
    process.start()
    begun.wait(5)  # Python forgets signals that come during a fork
    process.terminate()
    process.join(5)
    process.kill()
    return process.exitcode


def sleep_after(begun: Any) -> None:
    """What runs in a forked process."""
    begun.set()
    time.sleep(1000)


class Strange(Exception):
    """An exception that can't be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("it stays")


def end_by(how: str) -> None:
    """End in a way that is not returning."""
    ways: dict[str, Callable[[], Any]] = {
        "exit": lambda: os._exit(3),
        "zero": lambda: os._exit(0),
        "SIGSEGV": lambda: ctypes.string_at(0),
        "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "SystemExit": lambda: sys.exit(3),
    }
    if how == "SIGSEGV":
        faulthandler.disable()  # no stack trace of what is wanted
    if how in ways:
        ways[how]()
    raise {"Strange": Strange("private"), "KeyboardInterrupt": KeyboardInterrupt()}[how]


def close_the_pipe() -> None:
    """Close everything that this process has open."""
    os.closerange(3, 1000)
    time.sleep(100)


# What does not end by itself


def announce(where: str, *pids: int) -> None:
    """Tell a test that it runs now, and in which processes."""
    Path(f"{where}.new").write_text(" ".join(map(str, (os.getpid(), *pids))))
    os.replace(f"{where}.new", where)


def polite(where: str) -> None:
    """Look at the job."""
    announce(where)
    while True:
        current_job().raise_if_cancelled()
        time.sleep(0.001)


def give_what_there_is(where: str) -> str:
    """Look at the job, and end well."""
    announce(where)
    while not current_job().cancelled:
        time.sleep(0.001)
    return "what I have"


def spin(where: str) -> None:
    """Pure Python that looks at nothing."""
    try:
        announce(where)
        while True:
            pass
    finally:
        Path(f"{where}.cleaned").touch()


class SlowOutput(io.StringIO):
    def flush(self) -> None:
        """Keep a process that leaves."""
        time.sleep(0.5)


def linger(where: str) -> None:
    """Pure Python in a process that takes its time to leave."""
    sys.stdout = SlowOutput()
    spin(where)


def sleep(where: str) -> None:
    """Sleep."""
    try:
        announce(where)
        time.sleep(1000)
    finally:
        Path(f"{where}.cleaned").touch()


def spin_and_yield(where: str) -> Iterator[str]:
    """A generator that says one thing, and then no more."""
    try:
        yield "first"
        announce(where)
        while True:
            pass
    finally:
        Path(f"{where}.cleaned").touch()


def stubborn(where: str) -> None:
    """Swallow whatever is thrown."""
    announce(where)
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


def native(where: str) -> None:
    """Code in C that holds the GIL for hours."""
    announce(where)
    sum(range(10**12))


def stopped(where: str) -> None:
    """A process that the system does not let run."""
    announce(where)
    os.kill(os.getpid(), signal.SIGSTOP)


def with_children(where: str) -> None:
    """Start processes of one's own, and spin."""
    program = subprocess.Popen(["sleep", "1000"])
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(1000,))
    process.start()
    announce(where, program.pid, process.pid or 0)
    while True:
        pass


def with_files(where: str) -> None:
    """Leave temporary files, and sleep."""
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(b"x" * 1000)
    directory = current_job().directory
    (directory / "half").write_text("done")
    Path(f"{where}.files").write_text(f"{file.name}\n{directory}")
    announce(where)
    sum(range(10**12))


def batch_spin(where: list[str]) -> list[Any]:
    """Many jobs of pure Python that look at nothing."""
    for one in where:
        announce(one)
    while True:
        pass


def batch_native(where: list[str]) -> list[Any]:
    """Many jobs in code in C that holds the GIL for hours."""
    announce(where[0])
    return [sum(range(10**12))]


def batch_look(where: list[str], jobs: list[aioqueue.Job] = aioqueue.JOB) -> list[Any]:
    """Go on until one of the jobs is cancelled, and say which."""
    for one in where:
        announce(one)
    while not any(job.cancelled for job in jobs):
        time.sleep(0.001)
    return [job.cancelled for job in jobs]


def burn(seconds: float) -> float:
    """Be busy for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        current_job().progress(1 - (end - time.monotonic()) / seconds)
    return seconds


HOGS = (spin, sleep, spin_and_yield, stubborn, native, stopped, with_children)
"""What does not look at its job."""
