"""Where functions run: a place is taken until the work has really ended, whatever it raises."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

import orjson
import pytest

from aioqueue._encoding import NoJsonForm
from aioqueue._errors import JobCancelled
from aioqueue._executors import (
    THREAD_NAME,
    Ended,
    Executor,
    LoopExecutor,
    ThreadExecutor,
)
from aioqueue._running import CURRENT, Job, current_job
from tests.stage import Stage, Work, a_while, new_job, until

WHO: ContextVar[str] = ContextVar("who")


def start(
    executor: Executor,
    call: Callable[[], Any],
    job: Job | None = None,
    context: Context | None = None,
) -> Work:
    """Hold a place and run a call, as the scheduler does; await it for its end."""
    work = Work(job or new_job(), context)
    executor.hold(work.job)
    executor.start(call, work)
    return work


def our_threads() -> list[threading.Thread]:
    """The threads of all thread executors."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


@pytest.fixture
async def threads() -> AsyncIterator[Callable[[int], ThreadExecutor]]:
    """Makes thread executors, which are closed when the test is over."""
    made: list[ThreadExecutor] = []

    def make(max_threads: int = 40) -> ThreadExecutor:
        made.append(ThreadExecutor(max_threads))
        return made[-1]

    yield make
    for executor in made:
        await executor.close()


# A place


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_capacity_is_the_set_of_what_runs(threads, kind: str) -> None:
    """A place is taken from the hold to the end of the work, and by nothing else."""
    stage = Stage()
    executor: Executor = LoopExecutor(3) if kind == "loop" else threads(3)
    play = stage.play if kind == "loop" else stage.play_in_thread
    assert (executor.capacity, executor.free) == (3, 3)

    tasks = [start(executor, lambda name=name: play(name)) for name in "ab"]
    assert executor.free == 1  # in the same step, before anything has run
    await stage.has_begun("a", "b")
    assert executor.free == 1

    stage.end("a", value=1)
    assert await tasks[0] == Ended(1)
    assert executor.free == 2
    stage.fail("b", ValueError("no"))
    assert repr((await tasks[1]).error) == "ValueError('no')"
    assert executor.free == 3


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_hold_and_let_go(threads, kind: str) -> None:
    """Work that runs elsewhere can hold a place, and gives it back."""
    executor: Executor = LoopExecutor(1) if kind == "loop" else threads(1)
    job = new_job()
    executor.hold(job)
    assert executor.free == 0
    executor.interrupt(job)
    executor.let_go(job)

    assert executor.free == 1
    assert job.cancelled


@pytest.mark.parametrize("kind", ["loop", "thread"])
@pytest.mark.parametrize(
    "error",
    [ValueError, SystemExit, KeyboardInterrupt, StopIteration, GeneratorExit, JobCancelled],
)
async def test_exceptions_become_values(threads, kind: str, error: type[BaseException]) -> None:
    """Whatever a function raises is a value from there on; nothing reaches the loop."""
    executor: Executor = LoopExecutor(1) if kind == "loop" else threads(1)

    def raise_it() -> None:
        raise error("no")

    async def raise_it_on_the_loop() -> None:
        raise_it()

    ended = await start(executor, raise_it_on_the_loop if kind == "loop" else raise_it)

    # Python itself does not let a StopIteration out of a coroutine.
    as_seen = RuntimeError if (kind, error) == ("loop", StopIteration) else error
    assert type(ended.error) is as_seen
    assert executor.free == 1


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_cancelled_error_becomes_a_value(threads, kind: str) -> None:
    """A CancelledError that a function raises itself ends it, not the task around it."""
    executor: Executor = LoopExecutor(1) if kind == "loop" else threads(1)

    def raise_it() -> None:
        raise asyncio.CancelledError

    async def raise_it_on_the_loop() -> None:
        raise_it()

    ended = await start(executor, raise_it_on_the_loop if kind == "loop" else raise_it)

    assert isinstance(ended.error, asyncio.CancelledError)


# Interrupting


async def test_interrupt_on_the_loop() -> None:
    """A coroutine gets a CancelledError, and what it makes of it is how it ended."""
    executor, stage = LoopExecutor(2), Stage()

    async def late_value() -> str:
        try:
            await stage.play("stubborn")
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # its task is not cancelled any more
        return "late"

    jobs = [new_job(), new_job()]
    plain = start(executor, lambda: stage.play("plain"), jobs[0])
    stubborn = start(executor, late_value, jobs[1])
    await stage.has_begun("plain", "stubborn")
    for job in jobs:
        executor.interrupt(job)

    assert isinstance((await plain).error, asyncio.CancelledError)
    assert await stubborn == Ended("late")
    assert all(job.cancelled for job in jobs)


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_interrupt_before_the_first_step(threads, kind: str) -> None:
    """A job that is cancelled between its claim and its first step never runs."""
    executor: Executor = LoopExecutor(1) if kind == "loop" else threads(1)
    job, ran = new_job(), []
    if kind == "thread":
        job.cancel()  # a thread may take the call in the very step that hands it over
    task = start(executor, lambda: ran.append(1), job)
    executor.interrupt(job)

    assert isinstance((await task).error, JobCancelled)
    assert not ran
    assert executor.free == 1


async def test_a_thread_starts_in_the_same_step(threads) -> None:
    """A call is in its thread before the loop has turned: nothing else is waited for."""
    executor, begun = threads(1), threading.Event()
    task = start(executor, begun.set)

    assert begun.wait(10)
    assert await task == Ended()


async def test_interrupt_in_a_thread(threads) -> None:
    """A thread sees that its job is cancelled; what it then does is up to it."""
    executor, begun, job = threads(1), threading.Event(), new_job()

    def work() -> None:
        begun.set()
        while True:
            current_job().raise_if_cancelled()

    task = start(executor, work, job)
    await until(begun.is_set)
    executor.interrupt(job)

    assert isinstance((await task).error, JobCancelled)


# Threads


async def test_threads_are_daemons_of_our_own(threads) -> None:
    """A thread starts when it is needed, is not one of the loop's, and holds up no exit."""
    executor = threads(5)
    before = threading.enumerate()
    ended = await start(executor, threading.current_thread)

    assert our_threads() == [ended.value]
    assert threading.enumerate() == [*before, ended.value]
    assert ended.value.daemon


async def test_threads_are_reused(threads) -> None:
    """One call after the other needs one thread."""
    executor = threads(40)
    idents = {(await start(executor, threading.get_ident)).value for _ in range(50)}

    assert len(idents) == 1
    assert len(our_threads()) == 1


async def test_no_more_threads_than_work(threads) -> None:
    """As many threads as run at once, which the holds keep below the limit."""
    executor, stage = threads(3), Stage()
    tasks = [start(executor, lambda name=name: stage.play_in_thread(name)) for name in "abc"]
    await stage.has_begun("a", "b", "c")
    assert len(our_threads()) == 3
    stage.end("a", "b", "c")
    await asyncio.gather(*tasks)
    await asyncio.gather(*(start(executor, int) for _ in range(3)))

    assert len(our_threads()) == 3


async def test_many_returns_travel_together(threads) -> None:
    """However many threads end while the loop is busy, it is called once for all of them."""
    executor, loop = threads(8), asyncio.get_running_loop()
    arrived = threading.Barrier(9)
    calls: list[Any] = []
    real = loop.call_soon_threadsafe

    def call_soon_threadsafe(callback: Any, *args: Any) -> Any:
        calls.append(callback)
        return real(callback, *args)

    tasks = [start(executor, arrived.wait) for _ in range(8)]
    await asyncio.sleep(0)
    executor._loop = type("Loop", (), {"call_soon_threadsafe": staticmethod(call_soon_threadsafe)})
    arrived.wait(10)
    while len(executor._ended) < 8:
        pass  # the loop is busy: this is it
    await asyncio.gather(*tasks)

    assert len(calls) == 1
    assert executor.free == 8


async def test_every_return_arrives(threads) -> None:
    """No return is forgotten, however the threads and the loop interleave."""
    executor = threads(4)

    async def client(number: int) -> list[Any]:
        return [(await start(executor, lambda: number)).value for _ in range(300)]

    results = await asyncio.gather(*map(client, range(4)))

    assert results == [[number] * 300 for number in range(4)]


async def test_close_joins_idle_threads(threads) -> None:
    """After close() no idle thread is left, and the answer says that all work has ended."""
    executor, stage = threads(3), Stage()
    tasks = [start(executor, lambda name=name: stage.play_in_thread(name)) for name in "abc"]
    await stage.has_begun("a", "b", "c")
    stage.end("a", "b", "c")
    await asyncio.gather(*tasks)

    assert await executor.close()
    assert not our_threads()


async def test_close_leaves_a_busy_thread(threads) -> None:
    """A thread that still works is not waited for, and goes when it returns, heard by nobody."""
    executor, stage = threads(2), Stage()
    busy = start(executor, lambda: stage.play_in_thread("busy"))
    await stage.has_begun("busy")
    await start(executor, int)

    assert not await executor.close()
    stage.end("busy")
    await until(lambda: not our_threads())
    await a_while()
    assert not busy.done()


async def test_close_on_the_loop() -> None:
    """A loop executor has nothing to let go; it says whether all work has ended."""
    executor, stage = LoopExecutor(1), Stage()
    task = start(executor, lambda: stage.play("a"))
    await stage.has_begun("a")
    assert not await executor.close()
    stage.end("a")
    await task

    assert await executor.close()


@pytest.mark.parametrize("new_loop", ["asyncio", "uvloop"])
def test_thread_that_outlives_the_loop(new_loop: str) -> None:
    """A thread that returns when its loop is closed just ends."""
    stage, threads = Stage(), []

    async def main() -> None:
        executor = ThreadExecutor(2)
        start(executor, lambda: stage.play_in_thread("a"))
        await stage.has_begun("a")
        threads.extend(our_threads())
        assert not await executor.close()

    if new_loop == "uvloop":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    else:
        asyncio.run(main())
    assert all(thread.is_alive() for thread in threads)
    stage.end("a")
    for thread in threads:
        thread.join(10)

    assert not our_threads()


async def test_thread_that_cannot_start(threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no thread, the caller hears it; the next call may have more luck."""
    executor, job = threads(2), new_job()

    def no_more(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with pytest.raises(RuntimeError, match="can't start"):
            await start(executor, int, job)
        executor.let_go(job)

    assert await start(executor, int) == Ended(0)


# Context


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_context_of_the_submitter(threads, kind: str) -> None:
    """A function sees the submitter's contextvars, and its own changes stay with it."""
    executor: Executor = LoopExecutor(1) if kind == "loop" else threads(1)
    WHO.set("submitter")
    context, job = copy_context(), new_job()
    WHO.set("somebody else")

    def look() -> tuple[str, Job]:
        seen = WHO.get()
        WHO.set("function")
        return seen, current_job()

    async def look_on_the_loop() -> tuple[str, Job]:
        return look()

    call = look_on_the_loop if kind == "loop" else look
    assert await start(executor, call, job, context) == Ended(("submitter", job))
    assert WHO.get() == "somebody else"
    assert CURRENT.get(None) is None


async def test_context_does_not_stay_in_a_thread(threads) -> None:
    """The next call in the same thread sees nothing of the one before."""
    executor = threads(1)
    await start(executor, lambda: WHO.set("first"))

    assert (await start(executor, lambda: WHO.get(None))).value is None


async def test_the_context_is_free_while_a_thread_works(threads) -> None:
    """The thread is in a copy: whatever else belongs to the work can run in its context."""
    executor, stage = threads(1), Stage()
    context = copy_context()
    work = start(executor, lambda: stage.play_in_thread("a"), None, context)
    await stage.has_begun("a")

    assert context.run(CURRENT.get, None) is None
    stage.end("a")
    await work


# Generators


def outputs(job: Job) -> list[Any]:
    """What a job's generator has put out so far."""
    said = job._outbox.said  # type: ignore[attr-defined]
    return [orjson.loads(emission.fields)["data"] for _, emission in said]


class Where:
    """The threads or tasks in which a generator's lines run, from its first to its last."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def note(self, thread: bool) -> None:
        """Remember where this runs."""
        self.seen.append(threading.current_thread() if thread else asyncio.current_task())


def playing(
    kind: str, stage: Stage, where: Where, last: Callable[[], Any] = lambda: None
) -> Callable[[], Any]:
    """A generator, on the loop or in a thread, which yields 1, plays "a", and yields ``last``."""

    def in_a_thread() -> Any:
        where.note(True)
        try:
            yield 1
            where.note(True)
            stage.play_in_thread("a")
            yield last()
            where.note(True)
        finally:
            current_job()
            where.note(True)

    async def on_the_loop() -> Any:
        where.note(False)
        try:
            yield 1
            where.note(False)
            await stage.play("a")
            yield last()
            where.note(False)
        finally:
            await asyncio.sleep(0)
            current_job()
            where.note(False)

    return on_the_loop if kind == "loop" else in_a_thread


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_generator(threads, kind: str) -> None:
    """It runs in one thread or task, what it yields is out at once, and it holds its place."""
    executor: Executor = LoopExecutor(1) if kind == "loop" else threads(1)
    stage, where, job = Stage(), Where(), new_job()
    task = start(executor, playing(kind, stage, where, lambda: 2), job)
    await stage.has_begun("a")
    assert outputs(job) == [1]
    assert executor.free == 0
    stage.end("a")

    assert await task == Ended(streamed=True)
    assert outputs(job) == [1, 2]
    assert executor.free == 1
    assert where.seen == [task.task if kind == "loop" else our_threads()[0]] * 4


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_cancelled_generator(threads, kind: str) -> None:
    """A generator that is cancelled is closed where it ran, and puts out nothing more."""
    executor: Executor = LoopExecutor(1) if kind == "loop" else threads(1)
    stage, where, job = Stage(), Where(), new_job()
    task = start(executor, playing(kind, stage, where, lambda: 2), job)
    await stage.has_begun("a")
    executor.interrupt(job)
    if kind == "thread":
        stage.end("a")
    ended = await task

    assert isinstance(ended.error, asyncio.CancelledError if kind == "loop" else JobCancelled)
    assert outputs(job) == [1]
    assert where.seen == [task.task if kind == "loop" else our_threads()[0]] * 3
    assert executor.free == 1


async def test_generator_that_is_cancelled_between_two_values() -> None:
    """Where it is not the generator that waits, it is closed all the same, in its task."""
    executor, job, ends = LoopExecutor(1), new_job(), []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(1_000_000):
                yield number
        except GeneratorExit:
            ends.append(asyncio.current_task())
            raise

    task = start(executor, numbers, job)
    await until(lambda: len(outputs(job)) > 3)
    executor.interrupt(job)

    assert isinstance((await task).error, asyncio.CancelledError)
    assert ends == [task.task]
    assert len(outputs(job)) < 100


@pytest.mark.parametrize("kind", ["loop", "thread"])
@pytest.mark.parametrize("error", [ValueError, SystemExit, JobCancelled])
async def test_generator_that_fails(threads, kind: str, error: type[BaseException]) -> None:
    """What it put out before stays, and what it raised is how it ended."""
    executor: Executor = LoopExecutor(1) if kind == "loop" else threads(1)
    stage, where, job = Stage(), Where(), new_job()

    def fail() -> None:
        raise error("no")

    stage.end("a")
    ended = await start(executor, playing(kind, stage, where, fail), job)

    assert type(ended.error) is error
    assert not ended.streamed
    assert outputs(job) == [1]
    assert len(where.seen) == 3


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_generator_that_yields_what_can_not_be_sent(threads, kind: str) -> None:
    """The generator is closed, and the error says what it was."""
    executor: Executor = LoopExecutor(1) if kind == "loop" else threads(1)
    stage, where, job = Stage(), Where(), new_job()
    stage.end("a")
    ended = await start(executor, playing(kind, stage, where, object), job)

    assert isinstance(ended.error, NoJsonForm)
    assert outputs(job) == [1]
    assert where.seen == [where.seen[0]] * 3


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_generator_that_will_not_close(threads, kind: str) -> None:
    """One that goes on after it was closed fails its job, and gives its place back."""
    executor: Executor = LoopExecutor(1) if kind == "loop" else threads(1)

    def in_a_thread() -> Any:
        try:
            yield object()
        except GeneratorExit:
            yield 1

    async def on_the_loop() -> Any:
        try:
            yield object()
        except GeneratorExit:
            yield 1

    ended = await start(executor, on_the_loop if kind == "loop" else in_a_thread)

    assert isinstance(ended.error, RuntimeError)
    assert executor.free == 1


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_generator_from_a_function(threads, kind: str) -> None:
    """A function that gives back a generator is one; its ``return`` value is nobody's."""
    executor: Executor = LoopExecutor(1) if kind == "loop" else threads(1)
    job = new_job()

    def letters() -> Any:
        yield from "ab"
        return "c"

    async def letters_on_the_loop() -> Any:
        for letter in "ab":
            yield letter

    async def made_on_the_loop() -> Any:
        return letters_on_the_loop()

    ended = await start(executor, made_on_the_loop if kind == "loop" else lambda: letters(), job)

    assert ended == Ended(streamed=True)
    assert outputs(job) == ["a", "b"]


async def test_generator_that_never_waits() -> None:
    """An async generator without an ``await`` lets others run between its values."""
    executor, job, turns = LoopExecutor(1), new_job(), []

    async def numbers() -> AsyncIterator[int]:
        for number in range(50):
            turns.append("generator")
            yield number

    task = start(executor, numbers, job)
    while not task.done():
        turns.append("others")
        await asyncio.sleep(0)

    assert turns.count("others") >= 50


async def test_thread_waits_for_room_before_each_value(threads) -> None:
    """A generator in a thread goes on when the log has taken what it yielded, and not before."""
    executor, job, room = threads(1), new_job(), threading.Semaphore(2)
    job._outbox.wait_for_room = lambda: room.acquire(timeout=20)
    task = start(executor, lambda: (number for number in range(4)), job)
    await until(lambda: len(outputs(job)) == 2)
    await a_while()
    assert outputs(job) == [0, 1]
    room.release(2)

    assert await task == Ended(streamed=True)
    assert outputs(job) == [0, 1, 2, 3]
