"""Jobs that wait for jobs: an error instead of a deadlock, and never an error without one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

import aioqueue
from aioqueue import QueuedFunction
from aioqueue.web import _RUNTIME
from tests.inside import make_app
from tests.stage import Stage, a_while, until

FOR_EVER = "this job would wait for ever"


def nobody_waits(app: web.Application) -> bool:
    """Whether all notes of who waits for whom are gone."""
    (runtime,) = app[_RUNTIME]
    return not runtime._waits._waits


def family(name: str, **options: Any) -> QueuedFunction[[int], Any]:
    """A function that submits a child of its own kind, ``depth`` times over, and waits for it."""

    @aioqueue.queued(name=name, **options)
    async def function(depth: int) -> int:
        if not depth:
            return 0
        child = await function.submit(depth - 1)
        return 1 + int(await child.result())

    return function


async def failure(of: aioqueue.JobHandle[Any], caplog: pytest.LogCaptureFixture) -> str:
    """Wait for a job that fails, and answer what the log has about it."""
    with pytest.raises(aioqueue.JobFailed):
        await of.result()
    return caplog.text


@pytest.mark.parametrize(("limit", "depth"), [(1, 1), (2, 2), (3, 3)])
async def test_own_full_queue(serve, caplog, limit: int, depth: int) -> None:
    """A job that waits for one behind it in its own full queue gets an error."""
    function = family("A", concurrency_limit=limit)
    app = make_app(function)
    await serve(app)
    text = await failure(await function.submit(depth), caplog)

    assert FOR_EVER in text
    assert "concurrency_id" in text
    assert nobody_waits(app)
    assert await (await function.submit(limit - 1)).result() == limit - 1


async def test_no_circle_through_two_queues(serve) -> None:
    """A waits for B, B for A: the job that would complete the circle gets the error."""

    @aioqueue.queued
    async def a(depth: int) -> Any:
        return await (await b.submit()).result() if depth else "done"

    @aioqueue.queued
    async def b() -> Any:
        try:
            return await (await a.submit(0)).result()
        except aioqueue.AioqueueError as error:
            return str(error)

    await serve(make_app(a, b))

    assert FOR_EVER in await (await a.submit(1)).result()


async def test_events_wait_too(serve, caplog) -> None:
    """Following the events of a job in one's own full queue is waiting for it."""

    @aioqueue.queued
    async def function(depth: int) -> None:
        if depth:
            async for _ in (await function.submit(depth - 1)).events():
                pass

    await serve(make_app(function))

    assert FOR_EVER in await failure(await function.submit(1), caplog)


async def test_no_worker_is_left(serve, caplog) -> None:
    """Without a limit the workers are the limit: all of them waiting is a circle too."""
    function = family("A", concurrency_limit=None)
    await serve(make_app(function, max_tasks=3))

    assert FOR_EVER in await failure(await function.submit(3), caplog)
    assert await (await function.submit(2)).result() == 2


async def test_request_functions_wait_too(serve, http) -> None:
    """A handler behind a gate that waits for a job of its own queue gets the error."""

    @aioqueue.queued(concurrency_id="one")
    async def handler(request: web.Request) -> str:
        try:
            return await (await inner.submit()).result()
        except aioqueue.AioqueueError as error:
            return str(error)

    @aioqueue.queued(concurrency_id="one")
    async def inner() -> str:
        return "done"

    url = await serve(make_app(handler, inner))
    async with http.post(f"{url}/{handler.name}") as response:
        assert FOR_EVER in await response.json()


async def test_threads_wait_too(serve, caplog) -> None:
    """A ``def`` that waits by way of the loop is seen like any other."""
    loop = asyncio.get_running_loop()

    @aioqueue.queued
    def function(depth: int) -> str:
        async def child() -> str:
            return await (await function.submit(0)).result()

        return asyncio.run_coroutine_threadsafe(child(), loop).result(10) if depth else "done"

    await serve(make_app(function))

    assert FOR_EVER in await failure(await function.submit(1), caplog)


# No false alarms


async def test_several_at_once(serve) -> None:
    """One of two slots waits for three jobs together: they run in the other, one by one."""

    @aioqueue.queued(concurrency_limit=2)
    async def function(depth: int) -> list[Any]:
        children = [await function.submit(0) for _ in range(3 * depth)]
        return list(await asyncio.gather(*(child.result() for child in children)))

    app = make_app(function)
    await serve(app)

    assert await (await function.submit(1)).result() == [[], [], []]
    assert nobody_waits(app)


async def test_others_make_room(serve) -> None:
    """A full queue is no deadlock while somebody in it works."""
    stage = Stage()
    function = family("A", concurrency_limit=2)

    @aioqueue.queued(concurrency_id="A")
    async def works() -> None:
        await stage.play("work")

    await serve(make_app(function, works))
    await works.submit()
    outer = await function.submit(1)
    await a_while()
    assert await outer.state() == "running"
    stage.end("work")

    assert await outer.result() == 1


async def test_waiting_for_a_worker(serve) -> None:
    """A queue in which nobody runs, for want of a worker, is not full of those who wait."""
    stage = Stage()

    @aioqueue.queued
    def busy() -> None:
        stage.play_in_thread("busy")

    @aioqueue.queued
    def inner() -> str:
        return "done"

    @aioqueue.queued
    async def outer() -> str:
        return await (await inner.submit()).result()

    await serve(make_app(busy, inner, outer, max_threads=1))
    await busy.submit()
    handle = await outer.submit()
    await a_while()
    assert await handle.state() == "running"
    stage.end("busy")

    assert await handle.result() == "done"


async def test_long_chain(serve) -> None:
    """However long the chain of those who wait, somebody at work at its end will make room."""
    stage = Stage()

    def link(number: int) -> QueuedFunction[[bool], Any]:
        @aioqueue.queued(name=f"link {number}")
        async def function(waits: bool) -> Any:
            if waits:
                return await (await links[number + 1].submit(False)).result()
            return await stage.play(number) if number == 4 else "done"

        return function

    links = [link(number) for number in range(5)]
    await serve(make_app(functions=links))
    handles = [await links[4].submit(False)]
    for number in (3, 2, 1, 0):  # each waits for one behind the last, which waits itself
        handles.append(await links[number].submit(True))
        await a_while()
    assert [await handle.state() for handle in handles] == ["running"] * 5
    stage.end(4, value="done")

    assert [await handle.result() for handle in handles] == ["done"] * 5


async def test_everybody_waits_for_a_worker(serve) -> None:
    """Many may wait for jobs of another queue, which have a worker, however full it is."""

    @aioqueue.queued(concurrency_limit=None)
    async def outer(number: int) -> Any:
        return await (await inner.submit(number)).result()

    @aioqueue.queued(concurrency_limit=1)
    async def inner(number: int) -> int:
        await asyncio.sleep(0)
        return number

    app = make_app(outer, inner)
    await serve(app)
    handles = [await outer.submit(number) for number in range(100)]

    assert [await handle.result() for handle in handles] == list(range(100))
    assert nobody_waits(app)


async def test_waiting_outside_a_job(serve) -> None:
    """Whoever holds no slot may wait for a full queue."""
    stage = Stage()

    @aioqueue.queued
    async def function(number: int) -> int:
        await stage.play(number)
        return number

    app = make_app(function)
    await serve(app)
    handles = [await function.submit(number) for number in (1, 2)]
    results = [asyncio.create_task(handle.result()) for handle in handles]
    await a_while()
    stage.end(1, 2)

    assert await asyncio.gather(*results) == [1, 2]


async def test_a_task_that_outlives_its_job(serve) -> None:
    """A task that a job left behind holds no slot, and may wait like anybody else."""
    left: list[asyncio.Task[Any]] = []

    @aioqueue.queued
    async def function(depth: int) -> str:
        if depth:
            child = await function.submit(0)
            left.append(asyncio.create_task(wait_for(child)))
        return "done"

    async def wait_for(child: aioqueue.JobHandle[str]) -> str:
        await until(lambda: ended)
        return await child.result()

    ended: list[str] = []
    await serve(make_app(function))
    ended.append(await (await function.submit(1)).result())

    assert await left[0] == "done"


async def test_a_wait_that_was_given_up(serve) -> None:
    """A wait that timed out is forgotten."""

    @aioqueue.queued(concurrency_limit=2)
    async def function(depth: int) -> Any:
        if not depth:
            return await stage.play(depth)
        child = await function.submit(depth - 1)
        try:
            async with asyncio.timeout(0):
                return await child.result()
        except TimeoutError:
            return await stage.play(depth)

    stage = Stage()
    app = make_app(function)
    await serve(app)
    outer = await function.submit(1)
    await stage.has_begun(0, 1)
    assert nobody_waits(app)
    stage.end(0, 1, value="done")

    assert await outer.result() == "done"
