"""Hooks that are told of ended jobs: each once, whatever happened, and harmless when they fail."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextvars import ContextVar
from typing import Any

import pytest
from aiohttp import ClientSession, web

import aioqueue
from aioqueue import _hooks
from tests.inside import STREAM, Inside, Shop, make_app
from tests.stage import Stage, a_while, until

WHO: ContextVar[str] = ContextVar("who")


class Told:
    """A hook that keeps what it is told."""

    def __init__(self) -> None:
        self.jobs: list[aioqueue.FinishedJob] = []

    def __call__(self, job: aioqueue.FinishedJob) -> None:
        self.jobs.append(job)

    async def first(self) -> aioqueue.FinishedJob:
        """What it was told first."""
        await until(lambda: self.jobs)
        return self.jobs[0]

    async def ends(self) -> list[tuple[str, str | None]]:
        """The states of the jobs, and why they were cancelled, once nothing more comes."""
        await until(lambda: self.jobs)
        await a_while()
        return [(job.state, job.reason) for job in self.jobs]


@pytest.fixture
def told() -> Told:
    """A hook that keeps what it is told."""
    return Told()


# Who is told


async def test_own_hook_first(serve) -> None:
    """A function's own hook is told first, then the app's; both may be ``def`` or not."""
    order: list[str] = []

    async def own(job: aioqueue.FinishedJob) -> None:
        await asyncio.sleep(0)
        order.append(f"own {job.function}")

    def every(job: aioqueue.FinishedJob) -> None:
        order.append(f"every {job.function}")

    @aioqueue.queued(on_finish=own)
    def with_hook() -> None: ...

    @aioqueue.queued
    async def without() -> None: ...

    await serve(make_app(with_hook, without, on_finish=every))
    await (await with_hook.submit()).result()
    await until(lambda: len(order) == 2)
    await (await without.submit()).result()
    await until(lambda: len(order) == 3)

    assert order == ["own with_hook", "every with_hook", "every without"]


async def test_what_it_is_told(serve, told: Told, http: ClientSession) -> None:
    """The job's id, function, owner, metadata, app, result and times."""

    @aioqueue.queued(on_finish=told, metadata=lambda request: {"plan": request.query["plan"]})
    def function(text: str) -> list[str]:
        return [text]

    app = make_app(owner=lambda request: "ada")
    sub_app = web.Application()
    sub_app.router.add_post("/function", function)
    app.add_subapp("/sub", sub_app)
    before = time.time() - 1
    url = f"{await serve(app)}/sub/function?plan=free"
    async with http.post(url, json={"text": "x"}) as response:
        job_id = (await response.json())["id"]
    job = await told.first()

    assert (job.id, job.function, job.owner) == (job_id, "function", "ada")
    assert (job.metadata, job.app) == ({"plan": "free"}, sub_app)
    assert (job.state, job.result, job.error, job.reason) == ("succeeded", ["x"], None, None)
    assert job.started is not None
    assert before < job.created <= job.started <= job.finished <= time.time() + 1
    assert repr(job) == f"<FinishedJob {job_id} function succeeded>"


async def test_result_that_is_no_json(serve, told: Told, http: ClientSession) -> None:
    """Bytes are given as bytes."""

    @aioqueue.queued(on_finish=told)
    async def picture(request: web.Request) -> web.Response:
        return web.Response(body=b"\x89PNG", content_type="image/png")

    url = await serve(make_app(picture))
    async with http.post(f"{url}/picture", headers=STREAM) as response:
        await response.read()

    assert (await told.first()).result == b"\x89PNG"


async def test_outputs_of_a_generator(serve, told: Told) -> None:
    """The result of a generator is the list of what it yielded."""

    @aioqueue.queued(on_finish=told)
    async def letters() -> Any:
        yield "a"
        yield "b"

    await serve(make_app(letters))
    await letters.submit()

    assert (await told.first()).result == ["a", "b"]


async def test_failed_job(serve, told: Told) -> None:
    """Of a failed job it gets the problem document."""

    @aioqueue.queued(on_finish=told)
    def function() -> None:
        raise aioqueue.JobError("No text in there.", status=422)

    await serve(make_app(function))
    await function.submit()
    job = await told.first()

    assert (job.state, job.result, job.reason) == ("failed", None, None)
    assert job.error is not None
    assert (job.error["detail"], job.error["status"]) == ("No text in there.", 422)


async def test_each_job_of_a_batch(serve, told: Told) -> None:
    """Each job of a batch has its own end."""

    @aioqueue.queued(batch=True, max_batch_size=2, batch_timeout=60, on_finish=told)
    async def function(numbers: list[int]) -> list[Any]:
        return [numbers[0], aioqueue.JobError("not this one")]

    await serve(make_app(function))
    handles = [await function.submit(number) for number in (1, 2)]

    assert await told.ends() == [("succeeded", None), ("failed", None)]
    assert [job.id for job in told.jobs] == [handle.id for handle in handles]


# However it ends, it is told once


@pytest.fixture
async def shop(serve, http: ClientSession, told: Told, stage: Stage) -> Shop:
    """An app whose two functions with one slot each play until the test ends them."""

    @aioqueue.queued(queue_timeout=100, time_limit=60)
    async def work(n: str = "a") -> str:
        return str(await stage.play(n))

    @aioqueue.queued(queue_timeout=100, cancel_timeout=0)
    def slow(n: str = "a") -> str:
        return str(stage.play_in_thread(n))

    return await Shop().sells(work, slow, on_finish=told).open(serve, http)


@pytest.mark.parametrize("name", ["work", "slow"])
async def test_cancelled_while_it_waits(shop: Shop, told: Told, stage: Stage, name: str) -> None:
    """A job that never ran has no start."""
    await shop.submit(name)
    waiting = await shop.submit(name, {"n": "b"})
    async with shop.http.delete(shop.job(waiting)) as response:
        assert response.status == 200

    assert await told.ends() == [("cancelled", "client")]
    assert (told.jobs[0].id, told.jobs[0].started) == (waiting, None)
    stage.end("a")


@pytest.mark.parametrize("name", ["work", "slow"])
async def test_cancelled_while_it_runs(shop: Shop, told: Told, stage: Stage, name: str) -> None:
    """A job is told once, also if its function goes on and returns later."""
    running = await shop.submit(name)
    await stage.has_begun("a")
    await shop.http.delete(shop.job(running))

    assert await told.ends() == [("cancelled", "client")]
    if name == "slow":
        stage.end("a")
    await shop.submit(name, {"n": "b"})
    stage.end("b")
    await until(lambda: len(told.jobs) == 2)
    assert [job.state for job in told.jobs] == ["cancelled", "succeeded"]


async def test_waited_too_long(shop: Shop, told: Told, stage: Stage) -> None:
    """A job whose ``queue_timeout`` is over has failed unrun."""
    await shop.submit("slow")
    waiting = await shop.submit("slow", {"n": "b"})
    await shop.inside.pass_time(101, step=101)

    assert await told.ends() == [("failed", None)]
    assert told.jobs[0].id == waiting
    assert told.jobs[0].error is not None
    assert told.jobs[0].error["code"] == "queue_timeout"
    stage.end("a")


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_ran_too_long(serve, told: Told, stage: Stage, kind: str) -> None:
    """A job whose ``time_limit`` is over has failed; its thread's return is no second end."""

    @aioqueue.queued(time_limit=0.01, on_finish=told, name="f")
    async def on_the_loop() -> None:
        await stage.play("a")

    @aioqueue.queued(time_limit=0.01, on_finish=told, name="f")
    def in_a_thread() -> None:
        stage.play_in_thread("a")

    app = make_app(on_the_loop if kind == "loop" else in_a_thread)
    await serve(app)
    await (on_the_loop if kind == "loop" else in_a_thread).submit()
    (end,) = await told.ends()
    if kind == "thread":
        stage.end("a")
    await until(lambda: not Inside(app).runtime._scheduler._active)
    await a_while()

    assert end == ("failed", None)
    assert len(told.jobs) == 1
    assert told.jobs[0].error is not None
    assert told.jobs[0].error["code"] == "job_timeout"


@pytest.mark.parametrize("running", [True, False])
async def test_client_left(shop: Shop, told: Told, stage: Stage, running: bool) -> None:
    """A job that nobody waits for any more is cancelled, and told."""
    if not running:
        await shop.submit("work")
    response, job_id = await shop.stream("work", {"n": "b"})
    await shop.leave(response)
    await shop.inside.pass_time(32)

    assert await told.ends() == [("cancelled", "disconnect")]
    assert told.jobs[0].id == job_id


async def test_shutdown(shop: Shop, told: Told, stage: Stage) -> None:
    """What waits and what runs when the server goes is told, before it is gone."""
    ids = [await shop.submit(name, {"n": name + n}) for name in ("work", "slow") for n in "ab"]
    await stage.has_begun("worka", "slowa")
    await shop.app.shutdown()
    stage.end("slowa")
    await shop.app.cleanup()

    assert [(job.state, job.reason) for job in told.jobs] == [("cancelled", "shutdown")] * 4
    assert sorted(job.id for job in told.jobs) == sorted(ids)


async def test_gated_requests_are_no_jobs(serve, told: Told, http: ClientSession) -> None:
    """A request function that answers by itself is not told, nor a request to a middleware."""

    @aioqueue.queued
    async def handler(request: web.Request) -> str:
        return "done"

    async def plain(request: web.Request) -> web.Response:
        return web.Response()

    app = make_app(handler, on_finish=told)
    app.router.add_post("/plain", plain)
    app.middlewares.append(aioqueue.middleware())
    url = await serve(app)
    for path in ("handler", "plain"):
        async with http.post(f"{url}/{path}") as response:
            assert response.status == 200
    await a_while()
    assert not told.jobs

    async with http.post(f"{url}/handler", headers=STREAM) as response:
        await response.read()
    assert await told.ends() == [("succeeded", None)]


# What goes wrong in a hook


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, TimeoutError]
)
@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_hook_that_fails(
    serve, told: Told, caplog: pytest.LogCaptureFixture, error: type[BaseException], kind: str
) -> None:
    """Whatever a hook raises is in the log; the job, the next hook and the server go on."""

    def fail(job: aioqueue.FinishedJob) -> None:
        raise error("swordfish")

    async def fail_later(job: aioqueue.FinishedJob) -> None:
        await asyncio.sleep(0)
        raise error("swordfish")

    @aioqueue.queued(on_finish=fail if kind == "def" else fail_later)
    def function() -> str:
        return "done"

    await serve(make_app(function, on_finish=told))
    for _ in range(2):
        assert await (await function.submit()).result() == "done"
    await until(lambda: len(told.jobs) == 2)

    records = [record for record in caplog.records if record.name == "aioqueue"]
    assert [record.levelno for record in records] == [logging.ERROR] * 2
    assert all("the on_finish hook <function" in record.getMessage() for record in records)
    assert all(record.exc_info and record.exc_info[0] is error for record in records)


async def test_hook_that_hangs(
    serve, told: Told, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A hook has so many seconds; then it is ended, and the next one told."""
    monkeypatch.setattr(_hooks, "HOOK_SECONDS", 0.01)
    ends: list[str] = []

    async def hang(job: aioqueue.FinishedJob) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("ended")

    @aioqueue.queued(on_finish=hang)
    def function() -> None: ...

    await serve(make_app(function, on_finish=told))
    await function.submit()
    await told.first()

    assert ends == ["ended"]
    (record,) = [record for record in caplog.records if record.name == "aioqueue"]
    assert record.exc_info is not None
    assert record.exc_info[0] is TimeoutError


async def test_hooks_hold_up_nobody(serve) -> None:
    """While a hook takes its time, the job has ended and the next ones run and are told."""
    end, told = asyncio.Event(), []

    async def hook(job: aioqueue.FinishedJob) -> None:
        await end.wait()
        told.append(job.result)

    @aioqueue.queued
    async def function(number: int) -> int:
        return number

    await serve(make_app(function, on_finish=hook))
    for number in range(3):
        assert await (await function.submit(number)).result() == number
    assert not told
    end.set()
    await until(lambda: len(told) == 3)


async def test_shutdown_waits_for_hooks(serve) -> None:
    """The server goes when every hook has been told everything."""
    begun, end, told = asyncio.Event(), asyncio.Event(), []

    async def hook(job: aioqueue.FinishedJob) -> None:
        begun.set()
        await end.wait()
        told.append(job.state)

    @aioqueue.queued(on_finish=hook)
    async def function() -> None: ...

    app = make_app(function)
    await serve(app)
    await function.submit()
    await begun.wait()
    await app.shutdown()
    cleanup = asyncio.create_task(app.cleanup())
    for _ in range(3):
        await asyncio.sleep(0)
    assert not cleanup.done()
    end.set()
    await cleanup

    assert told == ["succeeded"]


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_context_of_the_request(serve, http: ClientSession, kind: str) -> None:
    """A hook sees the context of the request that the job came with, on the loop, and no job."""
    seen: list[Any] = []

    def hook(job: aioqueue.FinishedJob) -> None:
        with pytest.raises(aioqueue.AioqueueError, match="outside a queued function"):
            aioqueue.current_job()
        seen.append((WHO.get(None), threading.current_thread()))

    def in_a_thread() -> None:
        WHO.set("the function")

    async def on_the_loop() -> None:
        WHO.set("the function")

    @web.middleware
    async def remember(request: web.Request, handler: Any) -> Any:
        WHO.set(request.headers["Who"])
        return await handler(request)

    plain: Any = on_the_loop if kind == "loop" else in_a_thread
    app = make_app(aioqueue.queued(name="function")(plain), on_finish=hook)
    app.middlewares.append(remember)
    url = await serve(app)
    for name in ("ada", "bob"):
        async with http.post(f"{url}/function", json={}, headers={"Who": name}) as response:
            assert response.status == 202
    await until(lambda: len(seen) == 2)

    assert seen == [(name, threading.current_thread()) for name in ("ada", "bob")]


async def test_job_that_is_forgotten_at_once(
    serve, told: Told, caplog: pytest.LogCaptureFixture, stage: Stage
) -> None:
    """Where a hook can't be told since nothing was kept, the log says what to raise."""

    @aioqueue.queued(on_finish=told)
    def function() -> None: ...

    app = make_app(function)
    await serve(app)
    engine = Inside(app).engine
    get = engine.get

    async def forget(job_id: str) -> Any:
        snapshot = await get(job_id)
        return None if snapshot is not None and snapshot.state.terminal else snapshot

    engine.get = forget
    await function.submit()
    await until(lambda: "max_results is too small" in caplog.text)

    assert not told.jobs


async def test_a_hook_runs_in_no_job(serve) -> None:
    """The job that submitted the ended one is none of the hook's business."""
    found: list[Any] = []

    def look(job: aioqueue.FinishedJob) -> None:
        try:
            found.append(aioqueue.current_job())
        except aioqueue.AioqueueError:
            found.append(None)

    @aioqueue.queued(on_finish=look)
    async def inner() -> None: ...

    @aioqueue.queued
    async def outer() -> None:
        await (await inner.submit()).result()
        while not found:
            await asyncio.sleep(0)

    await serve(make_app(outer, functions=[inner]))
    await (await outer.submit()).result()

    assert found == [None]
