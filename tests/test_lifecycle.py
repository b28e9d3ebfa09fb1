"""How an app starts and ends: alone or twice, in peace or by a signal, with work in its hands."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientSession, web

import aioqueue
from aioqueue._executors import THREAD_NAME
from aioqueue._job import AdmissionLimits, JobRecord
from aioqueue._submit import new_job_id
from tests.inside import Inside, make_app
from tests.processes import ServerProcess
from tests.raw_http import RawResponse, connection, raw_http
from tests.sse_client import EventParser, read_events
from tests.stage import Stage, a_while, until

# Seconds beyond the drain that an end may take on a busy machine; aiohttp's own patience is 60.
A_LITTLE = 5.0

RUNNERS = ["aiohttp", "aioqueue"]  # web.run_app on asyncio, aioqueue.run_app on uvloop


@pytest.fixture
def start(
    server_process: Callable[..., Awaitable[ServerProcess]],
) -> Callable[..., Awaitable[ServerProcess]]:
    """Start the server of these tests."""

    async def start(runner: str, drain: float) -> ServerProcess:
        env = {"AIOQUEUE_DRAIN_TIMEOUT": str(drain), "AIOQUEUE_ON_DISCONNECT": "keep"}
        return await server_process("tests.servers.lifecycle", runner, env=env)

    return start


class Streamed:
    """A stream as it is on the wire."""

    def __init__(self, response: RawResponse) -> None:
        self._response = response
        self._parser = EventParser()
        self.events: list[Any] = []
        assert response.header("Transfer-Encoding") == ["chunked"]

    async def chunk(self) -> bytes:
        """The next chunk; empty is the terminator."""
        length = int(await self._response.reader.readline(), 16)
        data = await self._response.reader.readexactly(length + 2)
        self.events += [event.data for event in self._parser.feed(data[:-2])]
        return data[:-2]

    async def state(self) -> str:
        """The state that the stream opens with."""
        while not self.events:
            await self.chunk()
        return str(self.events[0]["state"])

    async def to_the_end(self) -> Any:
        """The last event of a stream that is properly ended."""
        while await self.chunk():
            pass
        assert await self._response.rest() == b""
        return self.events[-1]


@asynccontextmanager
async def stream(url: str) -> AsyncIterator[Streamed]:
    """Start a job with a stream."""
    accept = "text/event-stream"
    async with raw_http(url, "POST", body="{}", version="1.1", Accept=accept) as response:
        assert response.status == 200
        yield Streamed(response)


async def end(process: Any) -> tuple[int, float]:
    """Wait for the end of a process; its exit code, and when it was."""
    code = await asyncio.to_thread(process.wait, 30)
    return code, time.monotonic()


@asynccontextmanager
async def idle(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that was used, and is kept alive."""
    async with connection(url) as (reader, writer):
        writer.write(b"HEAD /queue/status HTTP/1.1\r\nHost: here\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        yield reader, writer


@asynccontextmanager
async def draining(process: Any, url: str) -> AsyncIterator[Streamed]:
    """A stream whose job runs for ever, of a server that has begun to drain."""
    async with stream(f"{url}/forever") as running, stream(f"{url}/forever") as waiting:
        assert await running.state() == "running"
        assert await waiting.state() == "queued"
        process.send_signal(signal.SIGTERM)
        assert (await waiting.to_the_end())["type"] == "cancelled"
        yield running


# By a signal


@pytest.mark.one_loop
@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("name", ["forever", "until_the_end"])
async def test_end_with_streams(start, runner: str, name: str) -> None:
    """All streams are properly ended within the drain: with the result, or cancelled."""
    drain = 1.0 if name == "forever" else 20.0
    process, url = await start(runner, drain)
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(stream(f"{url}/{name}")) for _ in range(4)]
        assert [await one.state() for one in streams] == ["running"] + ["queued"] * 3
        kept = [await stack.enter_async_context(idle(url)) for _ in range(5)]
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        last = await asyncio.gather(*(one.to_the_end() for one in streams))
        for reader, _ in kept:
            assert await reader.read() == b""
        code, ended = await end(process)

    cancelled = {"type": "cancelled", "reason": "shutdown"}
    if name == "forever":
        assert last[0] == {**cancelled, "job": last[0]["job"]}
        assert ended - began >= drain
    else:
        assert last[0] == {"type": "succeeded", "job": last[0]["job"], "result": "in time"}
    assert last[1:] == [{**cancelled, "job": event["job"]} for event in last[1:]]
    assert code == 0
    assert ended - began < drain + A_LITTLE


@pytest.mark.one_loop
@pytest.mark.parametrize("runner", RUNNERS)
async def test_end_with_clients_that_wait(start, http: ClientSession, runner: str) -> None:
    """A client that waits gets the result of what ends in time, else a 503 that says why."""
    process, url = await start(runner, 1.0)
    waiting = [
        asyncio.create_task(http.post(f"{url}/{name}", json={}, headers={"Prefer": "wait=60"}))
        for name in ("until_the_end", "forever", "forever", "blocked")
    ]
    await running(http, url, {"until_the_end": 1, "forever": 2, "blocked": 1})
    process.send_signal(signal.SIGTERM)
    answers = [await answer for answer in waiting]
    code, _ = await end(process)

    assert [answer.status for answer in answers] == [200, 503, 503, 503]
    assert await answers[0].json() == "in time"
    for answer in answers[1:]:
        assert (await answer.json())["code"] == "lost_on_shutdown"
    assert code == 0


async def running(http: ClientSession, url: str, expected: dict[str, int]) -> None:
    """Wait until so many jobs of these functions are running or queued."""
    found: dict[str, int] = {}
    while found != expected:
        async with http.get(f"{url}/queue/status") as response:
            functions = (await response.json())["functions"]
        counts = {name: one["running"] + one["queued"] for name, one in functions.items()}
        found = {name: count for name, count in counts.items() if count}


@pytest.mark.one_loop
@pytest.mark.parametrize("runner", RUNNERS)
async def test_end_with_a_blocked_thread(start, http: ClientSession, runner: str) -> None:
    """A ``def`` that holds its thread for a minute does not hold up the exit."""
    process, url = await start(runner, 0.5)
    async with http.post(f"{url}/blocked", json={}) as response:
        assert response.status == 202
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, ended = await end(process)

    assert code == 0
    assert 0.5 <= ended - began < 0.5 + A_LITTLE


@pytest.mark.one_loop
@pytest.mark.parametrize("runner", RUNNERS)
async def test_end_with_an_upload(start, runner: str) -> None:
    """An upload that is under way is answered with a 503 at once, and not waited for."""
    process, url = await start(runner, 20.0)
    async with connection(url) as (reader, writer):
        head = "POST /size HTTP/1.1\r\nHost: here\r\nContent-Length: 100000000\r\n"
        head += "Content-Type: multipart/form-data; boundary=b\r\nExpect: 100-continue\r\n\r\n"
        writer.write(head.encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n0123')
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        answer = RawResponse(await reader.readuntil(b"\r\n\r\n"), reader)
        problem = json.loads(await answer.rest())
        code, ended = await end(process)

    assert (answer.status, problem["code"]) == (503, "shutting_down")
    assert code == 0
    assert ended - began < A_LITTLE


@pytest.mark.one_loop
@pytest.mark.parametrize("runner", RUNNERS)
async def test_nobody_new_during_the_drain(start, http: ClientSession, runner: str) -> None:
    """Who comes during the drain is turned away, one way or the other, and starts no job."""
    process, url = await start(runner, 1.0)
    async with idle(url) as (reader, writer), draining(process, url) as running:
        with pytest.raises(ClientConnectionError):
            await http.post(f"{url}/forever", json={})
        writer.write(b"POST /until_the_end HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n")
        answer = await reader.read()
        assert not answer or answer.startswith(b"HTTP/1.1 503")
        assert (await running.to_the_end())["type"] == "cancelled"
    code, _ = await end(process)

    assert code == 0


@pytest.mark.one_loop
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal(start, second: signal.Signals) -> None:
    """Under aioqueue.run_app an impatient operator does not interrupt the drain."""
    process, url = await start("aioqueue", 1.0)
    began = time.monotonic()
    async with draining(process, url) as running:
        for _ in range(3):
            process.send_signal(second)
        assert (await running.to_the_end())["reason"] == "shutdown"
    code, ended = await end(process)

    assert code == 0
    assert ended - began >= 1.0


@pytest.mark.one_loop
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("runner", RUNNERS)
async def test_end_of_an_idle_server(start, runner: str, number: signal.Signals) -> None:
    """With nothing to drain there is nothing to wait for."""
    process, _ = await start(runner, 20.0)
    began = time.monotonic()
    process.send_signal(number)
    code, ended = await end(process)

    assert code == 0
    assert ended - began < A_LITTLE


# In this process


async def test_new_jobs_are_refused_during_the_drain(serve, http: ClientSession) -> None:
    """Whatever still reaches the app gets a 503 with a hint when to come back."""
    stage = Stage()

    @aioqueue.queued
    async def values() -> None:
        await stage.play("value")

    @aioqueue.queued
    async def handler(request: web.Request) -> None: ...

    app = make_app(values, handler, drain_timeout=30)
    url = await serve(app)
    runtime = Inside(app).runtime
    handle = await values.submit()
    await stage.has_begun("value")
    draining = asyncio.create_task(runtime.drain())
    await until(lambda: not runtime._scheduler.accepting)
    for name in ("values", "handler"):
        for headers in ({}, {"Accept": "text/event-stream"}, {"Prefer": "wait=1"}):
            async with http.post(f"{url}/{name}", json={}, headers=headers) as response:
                assert response.status == 503
                assert (await response.json())["code"] == "shutting_down"
                assert int(response.headers["Retry-After"]) >= 1
    assert not draining.done()
    stage.end("value")
    await draining

    assert await handle.state() == "succeeded"
    assert stage.begun == ["value"]


async def test_gated_requests_during_the_drain(serve, http: ClientSession) -> None:
    """A handler that runs may end; those that wait for their turn get a 503."""
    stage = Stage()

    @aioqueue.queued
    async def handler(request: web.Request) -> str:
        return str(await stage.play(request.query["n"]))

    app = make_app(handler, drain_timeout=30)
    url = await serve(app)
    inside = Inside(app)
    clients = []
    for number in "12":
        clients.append(asyncio.create_task(http.post(f"{url}/handler?n={number}")))
        await until(lambda: len(inside.listeners) + len(stage.begun) == len(clients))
    draining = asyncio.create_task(inside.runtime.drain())
    refused = await clients[1]
    assert (await refused.json())["code"] == "shutting_down"
    assert not draining.done()
    stage.end("1", value="done")

    assert await (await clients[0]).json() == "done"
    await draining
    assert stage.begun == ["1"]


async def test_streams_of_jobs_elsewhere(serve, http: ClientSession) -> None:
    """A stream of a job that lives on in another process is ended, and its client may come back."""

    @aioqueue.queued
    async def function() -> None: ...

    app = make_app(function)
    url = await serve(app)
    inside, job_id = Inside(app), new_job_id()
    record = JobRecord(id=job_id, function="function", queue="function", node="elsewhere")
    await inside.engine.enqueue(record, limits=AdmissionLimits())
    async with http.get(f"{url}/queue/jobs/{job_id}/events") as response:
        events = read_events(response)
        assert (await anext(events)).data["state"] == "queued"
        await inside.runtime.drain()
        assert not [event async for event in events if event.event == "cancelled"]

    assert await inside.state(job_id) == "queued"


async def test_same_app_twice(http: ClientSession) -> None:
    """An app that has ended can start again in its loop, with queues as good as new."""
    stage = Stage()

    @aioqueue.queued
    async def function(number: int) -> int:
        await stage.play(number)
        return number

    app = make_app(function)
    app.middlewares.append(aioqueue.middleware())
    handles = []
    for number in (1, 2):
        runner = web.AppRunner(app)
        await runner.setup()
        waiting = await function.submit(number)
        handles.append(await function.submit(10 * number))
        await until(lambda number=number: number in stage.begun)
        stage.end(number)
        assert await waiting.result() == number
        await runner.cleanup()

        assert not [task for task in asyncio.all_tasks() if "aioqueue" in task.get_name()]
        with pytest.raises(aioqueue.ConfigurationError, match="no queue here"):
            await function.submit(3)


async def test_two_apps_at_once(serve, http: ClientSession) -> None:
    """Two apps with the same function have two queues, and end one by one."""
    stage = Stage()

    @aioqueue.queued
    async def function(number: int) -> int:
        await stage.play(number)
        return number

    apps = [make_app(function), make_app(function)]
    runner = web.AppRunner(apps[0])
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    urls = [f"http://127.0.0.1:{runner.addresses[0][1]}", await serve(apps[1])]
    for number, url in enumerate(urls):
        async with http.post(f"{url}/function", json={"number": number}) as response:
            assert response.status == 202
    await stage.has_begun(0, 1)
    await runner.cleanup()
    stage.end(1)

    handle = await function.submit(2)
    await stage.has_begun(0, 1, 2)
    stage.end(2)
    assert await handle.result() == 2


def our_threads() -> list[threading.Thread]:
    """The threads that functions run in."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


@pytest.mark.parametrize("drained", [True, False])
async def test_nothing_is_left(drained: bool) -> None:
    """After the end no task and no idle thread is left, even if nobody drained the app."""
    stage, before = Stage(), asyncio.all_tasks()

    @aioqueue.queued(concurrency_limit=None)
    def in_a_thread(number: int) -> None:
        stage.play_in_thread(number)

    @aioqueue.queued(concurrency_limit=2)
    async def on_the_loop(number: int) -> None:
        await stage.play(number)

    app = make_app(in_a_thread, on_the_loop)
    runner = web.AppRunner(app)
    await runner.setup()
    for number in (1, 2, 3):
        await in_a_thread.submit(number)
        await on_the_loop.submit(-number)
    await stage.has_begun(1, 2, 3, -1, -2)
    stage.end(1, 2, 3)
    await until(lambda: not stage.running[1] + stage.running[2] + stage.running[3])
    assert len(our_threads()) == 3
    if drained:
        await runner.cleanup()
    else:
        await app.cleanup()
    await a_while()

    assert asyncio.all_tasks() == before
    assert not our_threads()
    assert not stage.running.total()


async def test_a_blocked_thread_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """An end does not wait for a thread that works on, and leaves no task that would."""
    stage, before = Stage(), asyncio.all_tasks()

    @aioqueue.queued
    def function() -> None:
        stage.play_in_thread("a")

    runner = web.AppRunner(make_app(function))
    await runner.setup()
    handle = await function.submit()
    await stage.has_begun("a")
    await runner.cleanup()

    assert asyncio.all_tasks() == before
    assert stage.running["a"]
    assert not caplog.records
    assert handle.id
    stage.end("a")
    await until(lambda: not our_threads())


async def test_start_that_fails(serve) -> None:
    """If something else in the app fails to start, what we started is ended."""
    before = asyncio.all_tasks()

    async def fail(app: web.Application) -> None:
        raise ValueError("no database")

    app = make_app()
    app.on_startup.append(fail)
    with pytest.raises(ValueError, match="no database"):
        await serve(app)
    await app.cleanup()
    await a_while()

    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("how", ["app", "coroutine"])
@pytest.mark.parametrize("handle_signals", [True, False])
def test_run_app(monkeypatch: pytest.MonkeyPatch, how: str, handle_signals: bool) -> None:
    """It is aiohttp's with its options, on uvloop, and deaf to signals from the drain on."""
    seen: list[Any] = []
    numbers = signal.SIGTERM, signal.SIGINT
    before = [signal.getsignal(number) for number in numbers]

    async def serve(app: Any) -> None:
        app = await app if asyncio.iscoroutine(app) else app
        app.freeze()
        await app.on_shutdown.send(app)

    def run_app(app: Any, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        loop.run_until_complete(serve(app))
        seen.append((options, type(loop).__module__))
        loop.close()
        if handle_signals:
            for number in numbers:
                signal.raise_signal(number)
        else:
            assert [signal.getsignal(number) for number in numbers] == before

    async def make() -> web.Application:
        return made

    made = web.Application()
    monkeypatch.setattr(web, "run_app", run_app)
    options = {"port": 1234, "handle_signals": handle_signals}
    if handle_signals:
        options["backlog"] = 5
    aioqueue.run_app(made if how == "app" else make(), **options)

    assert seen == [({"backlog": 4096, **options}, "uvloop")]
    assert [signal.getsignal(number) for number in numbers] == before


def test_run_app_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread that can't handle signals, and need not, it leaves them alone."""
    ended = threading.Event()

    def run_app(app: Any, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        app.freeze()
        loop.run_until_complete(app.on_shutdown.send(app))
        loop.close()
        ended.set()

    monkeypatch.setattr(web, "run_app", run_app)
    options = {"handle_signals": False}
    thread = threading.Thread(target=aioqueue.run_app, args=[web.Application()], kwargs=options)
    thread.start()
    thread.join()

    assert ended.is_set()


def test_run_app_with_a_thread_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a thread still in a function the process ends at once, past what could crash."""
    exits: list[int] = []
    stage = Stage()
    thread = threading.Thread(target=lambda: stage.play_in_thread(1), name=f"{THREAD_NAME}1")
    monkeypatch.setattr(web, "run_app", lambda app, loop, **options: (app.close(), loop.close()))
    monkeypatch.setattr("os._exit", exits.append)
    aioqueue.run_app(web.Application())
    assert not exits
    thread.start()
    aioqueue.run_app(web.Application())
    stage.end(1)
    thread.join()

    assert exits == [0]
