"""Where functions run.  A place is taken until the work has really ended.

An executor's capacity is its set of running work, never a number that is counted up and down: a
thread that goes on after its job was cancelled is still in the set.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextvars import Context
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Generic, Protocol, TypeVar

from ._job import frozen
from ._running import CURRENT, Job, outbox_of, outputs_of

__all__ = [
    "THREAD_NAME",
    "Call",
    "Ended",
    "Executor",
    "LoopExecutor",
    "ThreadExecutor",
    "Work",
    "run_call",
]

W = TypeVar("W")

Call = Callable[[], Any]

THREAD_NAME = "aioqueue-thread-"
"""What the names of our threads begin with."""


@frozen
class Ended:
    """How a call ended: what it returned, or what it raised.  From here on it is a value."""

    value: Any = None
    error: BaseException | None = None
    streamed: bool = False
    """Whether it was a generator's: all it yielded has been said, and it has no other value."""


class Work(Protocol):
    """What a call is part of: it has begun before, and goes on to settle what the call has done."""

    job: Job
    """Whom the call runs for, maybe a batch."""
    context: Context
    """Of the call: it runs in a copy."""

    def begin(self) -> None:
        """Called on the loop when the call begins: its time counts from there."""

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> object:
        """Start a task, in a copy of the context."""

    async def finish(self, ended: Ended) -> None:
        """Go on: the call has really ended, and its place is given back."""


class Executor(Protocol):
    """Runs calls, a bounded number at once.

    Where a call gives back a generator, the executor runs that too, and says what it yields.  The
    jobs of a batch run as one.  A job holds its place from ``hold``, in the very step in which it
    is claimed, to its end; or to ``let_go``, if it is not run here.
    """

    capacity: int

    @property
    def free(self) -> int:
        """How many more may start now."""

    def hold(self, job: Job) -> None:
        """Take a place."""

    def let_go(self, job: Job) -> None:
        """Give a place back."""

    def start(self, call: Any, work: Work) -> None:
        """Start the call, at once if it can be; ``work`` goes on when it has really ended.

        Whatever it raises is in its end.
        """

    def interrupt(self, job: Job) -> None:
        """Ask the call of this job to end: the sooner, the better."""

    def drop(self, job: Job, member: Job) -> None:
        """Let the call see that one job of its batch is cancelled, while the others go on."""

    async def close(self) -> bool:
        """Let idle workers go.  Answers whether all work has ended; what has not never goes on."""


class _Places(Generic[W]):
    """The places of an executor, and what runs in each of them."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._running: dict[Job, W | None] = {}

    @property
    def free(self) -> int:
        """How many more may start now."""
        return self.capacity - len(self._running)

    def hold(self, job: Job) -> None:
        """Take a place."""
        self._running[job] = None

    def let_go(self, job: Job) -> None:
        """Give a place back."""
        del self._running[job]

    def drop(self, job: Job, member: Job) -> None:
        """Let the call see that one job of its batch is cancelled, while the others go on."""
        member.cancel(goes_on=True)


class LoopExecutor(_Places[asyncio.Task[Any]]):
    """Runs ``async def`` functions on the event loop, each in a task of its own.

    A gated request only holds a place: it runs in the task of its connection.
    """

    def start(self, call: Call, work: Work) -> None:
        """Await the call, in a task of the work's own."""
        work.begin()
        work.spawn(self._run(call, work))

    async def _run(self, call: Call, work: Work) -> None:
        job = work.job
        task = self._running[job] = asyncio.current_task()
        CURRENT.set(job)
        try:
            job.raise_if_cancelled()  # between its claim and its first step
            value = call()
            if not isinstance(value, AsyncGeneratorType):
                value = await value
            if isinstance(value, AsyncGeneratorType):  # a coroutine's value may be one, too
                ended = await _stream(value, job)
            else:
                ended = Ended(value)
        except BaseException as error:
            # SystemExit too: a function may end its job, never the server.
            ended = Ended(error=error)
        self.let_go(job)
        while task is not None and task.cancelling():
            task.uncancel()  # the cancel was for the function; what follows is ours
        await work.finish(ended)

    def interrupt(self, job: Job) -> None:
        """Throw CancelledError into the function."""
        job.cancel()
        task = self._running.get(job)
        if task is not None:
            task.cancel()

    async def close(self) -> bool:
        """Nothing to let go."""
        return not self._running


class ThreadExecutor(_Places[Work]):
    """Runs ``def`` functions in daemon threads of our own, at most ``max_threads``.

    Not the loop's default executor: name look-ups live there, and the interpreter waits for its
    threads at exit.  Threads start when they are first needed and stay for the next call.  What
    they return travels back in one call to the loop for however many have ended meanwhile.
    """

    thread_name = THREAD_NAME

    def __init__(self, max_threads: int) -> None:
        super().__init__(max_threads)
        self._calls: queue.SimpleQueue[tuple[Job, Any, Context] | None] = queue.SimpleQueue()
        self._ended: deque[tuple[Job, Ended]] = deque()
        self._returning = False  # whether a call to the loop is under way
        self._threads: list[threading.Thread] = []
        self._loop = asyncio.get_running_loop()

    def start(self, call: Any, work: Work) -> None:
        """Hand the call to a thread, in this very step: the loop may have much to do before a task.

        Nothing waits for it: the work has a task again when the thread has returned.
        """
        work.begin()
        self._hand_over(call, work)

    def _hand_over(self, call: Any, work: Work) -> None:
        self._running[work.job] = work
        if len(self._threads) < len(self._running):
            self._start_thread()
        self._calls.put((work.job, call, work.context.copy()))

    def _start_thread(self) -> None:
        number = len(self._threads) + 1
        name = f"{self.thread_name}{number}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _work(self) -> None:
        """What a thread does: calls, one after the other, until it is told to go."""
        while (item := self._calls.get()) is not None:
            job, call, context = item
            self._finish(job, context.run(run_call, call, job))
            del item, job, call, context  # keep nothing alive while idle

    def _finish(self, job: Job, ended: Ended) -> None:
        """In a thread: send an end to the loop."""
        self._ended.append((job, ended))
        if not self._returning:
            self._returning = True
            self._tell(self._deliver)

    def _tell(self, callback: Callable[..., None], *args: Any) -> None:
        """In a thread: have the loop call something."""
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed: nobody waits for anything any more
            self._calls.put(None)

    def _deliver(self) -> None:
        """On the loop: hand over everything that has ended."""
        # Before the hand-over, so that a thread that ends just after it calls again.
        self._returning = False
        while self._ended:
            job, ended = self._ended.popleft()
            work = self._running.pop(job, None)
            self._over(job)
            if work is not None:
                work.spawn(work.finish(ended))

    def _over(self, job: Job) -> None:
        """On the loop: nothing runs for a job any more."""

    def interrupt(self, job: Job) -> None:
        """Let the function see ``job.cancelled``; a thread can't be made to stop."""
        job.cancel()

    async def close(self) -> bool:
        """Let idle threads go.  Answers whether all work has ended; what has not never goes on."""
        for _ in self._threads:
            self._calls.put(None)
        if self._running:
            self._running.clear()
            return False  # a busy thread finds its None later, if the process lives that long
        for thread in self._threads:
            thread.join()
        return True


async def _stream(values: AsyncGenerator[Any, Any], job: Job) -> Ended:
    """Say what a generator yields, the moment it does; its ``finally`` runs in this task."""
    outbox = outbox_of(job)
    try:
        async for value in values:
            for said in outputs_of(job, value):
                outbox.put(*said)
            await outbox.flush()
            await asyncio.sleep(0)  # a generator that never waits would stop everybody else
    finally:
        await values.aclose()
    return Ended(streamed=True)


def run_call(call: Call, job: Job) -> Ended:
    """Run a call in this thread, to its end."""
    CURRENT.set(job)
    try:
        job.raise_if_cancelled()  # between its claim and this thread
        value = call()
        return _stream_in_thread(value, job) if isinstance(value, GeneratorType) else Ended(value)
    except BaseException as error:
        return Ended(error=error)


def _stream_in_thread(values: Generator[Any, Any, Any], job: Job) -> Ended:
    """Say what a generator yields; it runs in this thread from its first line to its last."""
    outbox = outbox_of(job)
    try:
        for value in values:
            said = outputs_of(job, value)
            outbox.wait_for_room()
            for one in said:
                outbox.put(*one)
    finally:
        values.close()
    return Ended(streamed=True)
