"""What runs next, and that a slot is free when the work has really ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest
from aiohttp import web

import aioqueue
from aioqueue import QueuedFunction
from tests.inside import make_app, scheduler_of, states
from tests.stage import Stage, a_while, until

Function = QueuedFunction[[int], Any]


def on_the_loop(stage: Stage, name: str, **options: Any) -> Function:
    """An ``async def`` function that plays the part whose number it is given."""

    @aioqueue.queued(name=name, **options)
    async def function(number: int) -> Any:
        return await stage.play(number)

    return function


def in_threads(stage: Stage, name: str, **options: Any) -> Function:
    """The same as a ``def`` function."""

    @aioqueue.queued(name=name, **options)
    def function(number: int) -> Any:
        return stage.play_in_thread(number)

    return function


KINDS = [on_the_loop, in_threads]


# The standing example

Submit = Callable[[Function, int], Awaitable[None]]


async def by_request(stage: Stage, http: Any, url: str) -> Submit:
    """Jobs come as requests."""

    async def submit(function: Function, number: int) -> None:
        async with http.post(f"{url}/{function.name}", json={"number": number}) as response:
            assert response.status == 202

    return submit


async def by_code(stage: Stage, http: Any, url: str) -> Submit:
    """Jobs are submitted from code."""

    async def submit(function: Function, number: int) -> None:
        await function.submit(number)

    return submit


async def by_a_job(stage: Stage, http: Any, url: str) -> Submit:
    """Jobs are submitted by a job."""
    orders: asyncio.Queue[tuple[Function, int]] = asyncio.Queue()
    Conductor.orders = orders
    await conduct.submit()

    async def submit(function: Function, number: int) -> None:
        await orders.put((function, number))
        await until(orders.empty)
        await a_while()

    return submit


class Conductor:
    orders: asyncio.Queue[tuple[Function, int]]


@aioqueue.queued
async def conduct() -> None:
    """Submit what the test asks for."""
    while True:
        function, number = await Conductor.orders.get()
        await function.submit(number)


@pytest.mark.parametrize("door", [by_request, by_code, by_a_job])
@pytest.mark.parametrize("kind", KINDS)
async def test_standing_example(serve, http, stage: Stage, door: Any, kind: Any) -> None:
    """A B A A C B A, limit 1 each: 1, 2, 5 start; when 1 ends 3 does, when 2 ends 6, and so on."""
    a, b, c = (kind(stage, name) for name in "ABC")
    url = await serve(make_app(a, b, c, conduct))
    submit = await door(stage, http, url)
    for number, function in enumerate((a, b, a, a, c, b, a), 1):
        await submit(function, number)

    await stage.has_begun(1, 2, 5)
    stage.end(1)
    await stage.has_begun(1, 2, 5, 3)
    stage.end(2)
    await stage.has_begun(1, 2, 5, 3, 6)
    stage.end(5)
    await stage.has_begun(1, 2, 5, 3, 6)
    stage.end(3)
    await stage.has_begun(1, 2, 5, 3, 6, 4)
    stage.end(4)
    await stage.has_begun(1, 2, 5, 3, 6, 4, 7)
    stage.end(6, 7)
    # 1, 2 and 5 start together, so in threads any of them may be first to say so.
    assert sorted(stage.begun[:3]) == [1, 2, 5]
    assert stage.begun[3:] == [3, 6, 4, 7]


# Limits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("limits", "default", "at_once"),
    [
        (["default", "default", "default"], 1, 1),
        (["default", "default", "default"], 2, 2),
        (["default", 3, "default"], 1, 3),
        ([3, 2, "default"], 1, 2),
        ([None, 2, 3], 1, 2),
        ([None, "default", "default"], 1, 5),
        (["default", "default", "default"], None, 5),
    ],
)
async def test_lowest_limit_of_a_shared_queue(
    serve, stage: Stage, kind: Any, limits: list[Any], default: int | None, at_once: int
) -> None:
    """Numbers beat None, "default" is not set, and the workers bound what nothing else does."""
    functions = [
        kind(stage, name, concurrency_id="shared", concurrency_limit=limit)
        for name, limit in zip("ABC", limits, strict=True)
    ]
    await serve(make_app(*functions, default_concurrency_limit=default, max_threads=5, max_tasks=5))
    for number in range(6):
        await functions[number % 3].submit(number)

    await stage.has_begun(*range(at_once))
    stage.end(*range(6))
    await until(lambda: len(stage.begun) == 6)
    # One line, in the order of arrival; of threads that start together any may be first to say so.
    assert sorted(stage.begun) == list(range(6))
    assert all(abs(place - number) < at_once for place, number in enumerate(stage.begun))


@pytest.mark.parametrize("kind", KINDS)
async def test_workers_bound_all_queues_together(serve, stage: Stage, kind: Any) -> None:
    """However many jobs come in one step, no more start than there are workers."""
    functions = [kind(stage, name, concurrency_limit=None) for name in "ABC"]
    await serve(make_app(*functions, max_threads=4, max_tasks=4))
    for number in range(12):
        await functions[number % 3].submit(number)
    await stage.has_begun(0, 1, 2, 3)
    for number in range(12):
        stage.end(number)
        await a_while()

    await until(lambda: len(stage.begun) == 12)
    assert stage.most == 4


async def test_kinds_have_workers_of_their_own(serve, stage: Stage) -> None:
    """``async def`` takes no thread, and ``def`` no place on the loop."""
    on_loop = on_the_loop(stage, "A", concurrency_limit=None)
    in_thread = in_threads(stage, "B", concurrency_limit=None)
    await serve(make_app(on_loop, in_thread, max_threads=1, max_tasks=2))
    for number in (1, 2, 3):
        await on_loop.submit(number)
        await in_thread.submit(-number)

    await stage.has_begun(1, 2, -1)
    stage.end(1, 2, 3, -1, -2, -3)


@pytest.mark.parametrize("kind", KINDS)
async def test_blocked_queues_take_turns(serve, stage: Stage, kind: Any) -> None:
    """Queues that wait for the same workers get them in turn, one job each."""
    a, b, c = (kind(stage, name, concurrency_limit=None) for name in "ABC")
    await serve(make_app(a, b, c, max_threads=1, max_tasks=1))
    for function, numbers in ((a, [10, 11, 12, 13]), (b, [20, 21, 22]), (c, [30])):
        for number in numbers:
            await function.submit(number)
    for done in range(8):
        await until(lambda done=done: len(stage.begun) == done + 1)
        stage.end(stage.begun[done])

    assert stage.begun == [10, 11, 20, 30, 12, 21, 13, 22]


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_starves(serve, stage: Stage, kind: Any) -> None:
    """A queue that always has work does not keep the workers from another."""
    busy = kind(stage, "busy", concurrency_limit=None)
    other = kind(stage, "other", concurrency_limit=None)
    await serve(make_app(busy, other, max_threads=2, max_tasks=2))
    for number in range(4):
        await busy.submit(number)
    await other.submit(100)
    for done in range(5):
        await until(lambda done=done: len(stage.begun) == done + 2)
        await busy.submit(10 + done)
        stage.end(stage.begun[done])

    assert 100 in stage.begun
    stage.end(*(set(range(15)) - set(stage.begun[:5])))


async def test_limit_of_its_own_leaves_the_workers_to_others(serve, stage: Stage) -> None:
    """A queue at its limit does not hold the free workers."""
    narrow = in_threads(stage, "narrow", concurrency_limit=1)
    wide = in_threads(stage, "wide", concurrency_limit=None)
    await serve(make_app(narrow, wide, max_threads=3))
    for number in (1, 2, 3):
        await narrow.submit(number)
    for number in (11, 12, 13):
        await wide.submit(number)

    await stage.has_begun(1, 11, 12)
    stage.end(1)
    await stage.has_begun(1, 11, 12, 13)  # blocked longer than 2
    stage.end(11)
    await stage.has_begun(1, 11, 12, 13, 2)
    stage.end(2, 3, 12, 13)


# Full


@pytest.mark.parametrize("where", ["app", "function"])
async def test_max_size(serve, stage: Stage, where: str) -> None:
    """As many as can start do not count; one waits too many is refused and leaves nothing."""
    bound = {"max_size": 2}
    function = on_the_loop(
        stage, "A", concurrency_limit=2, **(bound if where == "function" else {})
    )
    other = on_the_loop(stage, "B")
    app = make_app(function, other, **(bound if where == "app" else {}))
    await serve(app)
    handles = [await function.submit(number) for number in range(4)]
    with pytest.raises(aioqueue.Refused) as caught:
        await function.submit(4)

    problem = caught.value.problem
    assert (problem.code, problem.status) == ("queue_full", 503)
    assert problem.extensions["queue_size"] == problem.extensions["max_size"] == 2
    assert caught.value.retry_after >= 1
    assert await states(handles) == ["running"] * 2 + ["queued"] * 2
    assert len(scheduler_of(app)._locals) == 4

    # Whoever can start at once is never too many; who would wait is, if the bound is the app's.
    await other.submit(10)
    if where == "app":
        with pytest.raises(aioqueue.Refused):
            await other.submit(11)
    else:
        await other.submit(11)
    stage.end(0)
    await handles[0].result()
    await function.submit(5)
    stage.end(*range(1, 6), 10, 11)


async def test_max_size_zero(serve, stage: Stage) -> None:
    """Nobody waits; what can't start at once is refused."""
    function = on_the_loop(stage, "A", max_size=0)
    await serve(make_app(function))
    await function.submit(1)
    with pytest.raises(aioqueue.Refused):
        await function.submit(2)
    stage.end(1)
    await until(lambda: not stage.running[1])
    await a_while()

    await function.submit(3)
    await stage.has_begun(1, 3)
    stage.end(3)


async def test_no_worker_free_counts_as_waiting(serve, stage: Stage) -> None:
    """A free slot is no use without a worker: such a job waits, and counts."""
    a, b = in_threads(stage, "A"), in_threads(stage, "B", max_size=0)
    await serve(make_app(a, b, max_threads=1))
    await a.submit(1)
    with pytest.raises(aioqueue.Refused):
        await b.submit(2)
    stage.end(1)


# A slot is free when the work has really ended


async def test_cancelled_thread_keeps_its_slot(serve, stage: Stage) -> None:
    """After cancel_timeout the job is cancelled for its client; the slot stays taken."""
    function = in_threads(stage, "A", cancel_timeout=0)
    app = make_app(function)
    await serve(app)
    first, second = await function.submit(1), await function.submit(2)
    await stage.has_begun(1)
    assert await first.cancel() == "running"
    with pytest.raises(aioqueue.JobFailed) as caught:
        await first.result()

    assert caught.value.state == "cancelled"
    assert caught.value.problem["detail"] == "The job was cancelled (client)."
    third = await function.submit(3)  # whoever comes now asks for the slot
    await a_while()
    assert stage.begun == [1]
    assert await states([second, third]) == ["queued", "queued"]

    stage.end(1, value="late")
    await stage.has_begun(1, 2)
    assert await first.state() == "cancelled"
    stage.end(2, 3, value="in time")
    assert await third.result() == await second.result() == "in time"
    assert not scheduler_of(app)._active


async def test_cancelled_coroutine_that_goes_on_keeps_its_slot(serve, stage: Stage) -> None:
    """A coroutine that swallows its CancelledError is treated like a thread."""

    @aioqueue.queued(cancel_timeout=0)
    async def stubborn(number: int) -> str:
        try:
            await stage.play(number)
        except asyncio.CancelledError:
            await stage.play(-number)
        return "late"

    await serve(make_app(stubborn))
    first, second = await stubborn.submit(1), await stubborn.submit(2)
    await stage.has_begun(1)
    await first.cancel()
    with pytest.raises(aioqueue.JobFailed):
        await first.result()
    third = await stubborn.submit(3)
    await stage.has_begun(1, -1)
    assert await states([second, third]) == ["queued", "queued"]

    stage.end(-1, 2, 3)
    assert await third.result() == await second.result() == "late"
    assert await first.state() == "cancelled"


@pytest.mark.parametrize("kind", KINDS)
async def test_value_within_cancel_timeout_succeeds(serve, stage: Stage, kind: Any) -> None:
    """Work that ends in time with a value has succeeded, cancelled or not."""

    @aioqueue.queued(cancel_timeout=60)
    async def finishing(number: int) -> str:
        try:
            await stage.play(number)
        except asyncio.CancelledError:
            return "done all the same"
        return "?"

    @aioqueue.queued(cancel_timeout=60)
    def looking(number: int, job: aioqueue.Job = aioqueue.JOB) -> str:
        stage.begun.append(number)
        while not job.cancelled:
            pass
        return "done all the same"

    function = looking if kind is in_threads else finishing
    app = make_app(function)
    await serve(app)
    handle = await function.submit(1)
    await stage.has_begun(1)
    active = scheduler_of(app)._active[handle.id]
    assert await handle.cancel() == "running"

    assert await handle.result() == "done all the same"
    assert await handle.state() == "succeeded"
    assert all(timer.cancelled() for timer in active._timers)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [asyncio.CancelledError, aioqueue.JobCancelled])
@pytest.mark.parametrize("asked", [True, False])
async def test_cancelled_error_out_of_a_function(
    serve, stage: Stage, kind: Any, error: type[BaseException], asked: bool
) -> None:
    """CancelledError and JobCancelled make a job cancelled, whoever asked for it."""

    def raise_when_cancelled(job: aioqueue.Job) -> None:
        stage.begun.append(1)
        while asked and not job.cancelled:
            pass
        raise error("enough")

    @aioqueue.queued(cancel_timeout=60)
    def in_a_thread(job: aioqueue.Job = aioqueue.JOB) -> None:
        raise_when_cancelled(job)

    @aioqueue.queued(cancel_timeout=60)
    async def on_loop(job: aioqueue.Job = aioqueue.JOB) -> None:
        stage.begun.append(1)
        with contextlib.suppress(asyncio.CancelledError):
            await until(lambda: not asked)
        raise error("enough")

    function = in_a_thread if kind is in_threads else on_loop
    await serve(make_app(function))
    handle = await function.submit()
    await until(lambda: stage.begun)
    if asked:
        await handle.cancel()
    with pytest.raises(aioqueue.JobFailed) as caught:
        await handle.result()

    assert caught.value.state == "cancelled"
    assert [event["type"] async for event in handle.events()] == ["started", "cancelled"]
    assert caught.value.problem["code"] == "job_cancelled"


async def test_cancel_while_waiting(serve, stage: Stage) -> None:
    """A job that waits is removed and never runs; those behind it move up."""
    function = on_the_loop(stage, "A")
    app = make_app(function)
    await serve(app)
    handles = [await function.submit(number) for number in (1, 2, 3)]
    assert await handles[1].cancel() == "cancelled"
    assert await handles[1].cancel() == "cancelled"
    assert set(scheduler_of(app)._locals) == {handles[0].id, handles[2].id}
    stage.end(1)
    await stage.has_begun(1, 3)
    stage.end(3)

    assert await handles[2].result() is None
    assert not scheduler_of(app)._locals
    assert await handles[2].cancel() == "succeeded"


async def test_cancel_before_the_first_step(serve, stage: Stage) -> None:
    """A job that is cancelled in the step it is claimed in does not run."""
    function = on_the_loop(stage, "A", cancel_timeout=60)
    await serve(make_app(function))
    handle = await function.submit(1)
    assert await handle.cancel() == "running"
    with pytest.raises(aioqueue.JobFailed):
        await handle.result()

    assert not stage.begun


async def test_cancel_twice_interrupts_once(serve, stage: Stage) -> None:
    """A second cancel does not disturb a function that cleans up after the first."""
    cleaned_up = asyncio.Event()

    @aioqueue.queued(cancel_timeout=60)
    async def tidy() -> None:
        try:
            await stage.play("work")
        finally:
            await stage.play("clean up")
            cleaned_up.set()

    await serve(make_app(tidy))
    handle = await tidy.submit()
    await stage.has_begun("work")
    await handle.cancel()
    await stage.has_begun("work", "clean up")
    await handle.cancel()
    await a_while()
    stage.end("clean up")
    with pytest.raises(aioqueue.JobFailed):
        await handle.result()

    assert cleaned_up.is_set()


# Whatever happens


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
async def test_a_failure_frees_its_slot(
    serve, stage: Stage, kind: Any, error: type[BaseException]
) -> None:
    """Whatever a function raises ends its job, and the next one starts."""
    function = kind(stage, "A")
    app = make_app(function)
    await serve(app)
    first, second = await function.submit(1), await function.submit(2)
    await stage.has_begun(1)
    stage.fail(1, error("no"))
    with pytest.raises(aioqueue.JobFailed) as caught:
        await first.result()

    assert (caught.value.state, caught.value.problem["code"]) == ("failed", "job_failed")
    await stage.has_begun(1, 2)
    stage.end(2)
    assert await second.result() is None
    assert not scheduler_of(app)._active


async def test_job_that_cannot_begin_frees_its_slot(
    serve, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job whose thread can't start fails, and the next one gets the slot and the place."""
    function = in_threads(stage, "A")
    await serve(make_app(function, max_threads=1))

    def no_more(thread: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", no_more)
        first = await function.submit(1)
        with pytest.raises(aioqueue.JobFailed):
            await first.result()

    second = await function.submit(2)
    await stage.has_begun(2)
    stage.end(2)
    assert await second.result() is None


async def test_arguments_that_no_longer_fit_free_their_slot(serve, stage: Stage) -> None:
    """A job whose stored arguments can't be read any more fails like any other."""
    function = on_the_loop(stage, "A")
    await serve(make_app(function))
    function.signature.arguments = None
    first = await function.submit(1)
    with pytest.raises(aioqueue.JobFailed):
        await first.result()
    del function.signature.arguments
    second = await function.submit(2)
    await stage.has_begun(2)
    stage.end(2)

    assert await second.result() is None


WHO: ContextVar[str] = ContextVar("who")


@pytest.mark.parametrize("kind", KINDS)
async def test_context_of_the_submitter(serve, kind: Any) -> None:
    """Each job sees the contextvars of whoever submitted it, and changes only its own."""

    @aioqueue.queued
    def in_a_thread() -> str:
        return swap()

    @aioqueue.queued
    async def on_loop() -> str:
        return swap()

    def swap() -> str:
        seen = WHO.get("nobody")
        WHO.set("a job")
        return seen

    function = in_a_thread if kind is in_threads else on_loop
    await serve(make_app(function))
    WHO.set("ada")
    handles = [await function.submit() for _ in range(2)]
    WHO.set("bob")
    handles.append(await function.submit())

    assert [await handle.result() for handle in handles] == ["ada", "ada", "bob"]
    assert WHO.get() == "bob"


async def test_nothing_is_kept_of_an_ended_job(serve, stage: Stage) -> None:
    """Contexts, requests and arguments go with their job, however it ended."""
    function = on_the_loop(stage, "A", cancel_timeout=60)
    app = make_app(function)
    await serve(app)
    handles = [await function.submit(number) for number in range(4)]
    stage.end(0)
    stage.fail(1, ValueError("no"))
    await stage.has_begun(0, 1, 2)
    for handle in handles[2:]:
        await handle.cancel()
    await until(lambda: not scheduler_of(app)._active)

    scheduler = scheduler_of(app)
    await until(lambda: not scheduler._tasks)
    assert await states(handles) == ["succeeded", "failed", "cancelled", "cancelled"]
    assert not scheduler._locals
    assert not any(scheduler._blocked.values())
    assert {executor.free for executor in scheduler._executors.values()} == {40, 1000}


async def test_a_hint_that_fails_does_not_end_the_hints(
    serve, stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while a hint is followed is in the log, and the next hint is followed."""
    function = on_the_loop(stage, "A", cancel_timeout=60)
    app = make_app(function)
    await serve(app)
    scheduler, handle = scheduler_of(app), await function.submit(1)
    await stage.has_begun(1)
    real, calls = scheduler._interrupt, []

    def interrupt(job_id: str) -> None:
        calls.append(job_id)
        if len(calls) == 1:
            raise ValueError("out of order")
        real(job_id)

    monkeypatch.setattr(scheduler, "_interrupt", interrupt)
    monkeypatch.setattr("aioqueue._scheduler._PAUSE", 0)
    await scheduler._engine.cancel(handle.id, "client")
    await until(lambda: calls)
    await a_while()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    scheduler._engine._cancelled[handle.id] = None
    scheduler._engine._wake()

    with pytest.raises(aioqueue.JobFailed):
        await handle.result()


async def test_an_end_that_nothing_can_be_made_of(serve) -> None:
    """An exception that can't even be read fails its job, and its slot is free for the next."""

    @aioqueue.queued
    async def function(text: str) -> str:
        if text == "bad":
            raise web.HTTPBadRequest(body=b"\xff\xfe")
        return text

    await serve(make_app(function))
    with pytest.raises(aioqueue.JobFailed, match="error id"):
        await (await function.submit("bad")).result()

    assert await (await function.submit("good")).result() == "good"
