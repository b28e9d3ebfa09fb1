"""Whatever a function is, the same things can happen to its jobs, and end the same way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse

import aioqueue
from aioqueue import QueuedFunction
from tests import heavy
from tests.inside import STREAM, Shop, until
from tests.plays import Play
from tests.quick import start_quickly
from tests.sse_client import ServerSentEvent, read_events

TABLE = Path(__file__).parents[1] / "docs" / "functions.md"


Kind = Callable[..., QueuedFunction[..., Any]]


# The kinds of functions


def on_the_loop(play: Play, **options: Any) -> QueuedFunction[..., Any]:
    """A coroutine function."""

    @aioqueue.queued(name="work", **options)
    async def work(text: str) -> Any:
        try:
            play.begin(text)
            while play.holds(text):
                await asyncio.sleep(0.001)
            return play.value(text)
        finally:
            play.cleaned.set()

    return work


def in_a_thread(play: Play, **options: Any) -> QueuedFunction[..., Any]:
    """A plain function."""

    @aioqueue.queued(name="work", **options)
    def work(text: str) -> Any:
        try:
            play.begin(text)
            play.hold(text)
            return play.value(text)
        finally:
            play.cleaned.set()

    return work


def async_generator(play: Play, **options: Any) -> QueuedFunction[..., Any]:
    """An async generator."""

    @aioqueue.queued(name="work", **options)
    async def work(text: str) -> AsyncIterator[Any]:
        try:
            play.begin(text)
            yield play.value(text)
            while play.holds(text):
                await asyncio.sleep(0.001)
            play.end(text)
            yield "end"
        finally:
            play.cleaned.set()

    return work


def generator(play: Play, **options: Any) -> QueuedFunction[..., Any]:
    """A generator."""

    @aioqueue.queued(name="work", **options)
    def work(text: str) -> Iterator[Any]:
        try:
            play.begin(text)
            yield play.value(text)
            play.hold(text)
            play.end(text)
            yield "end"
        finally:
            play.cleaned.set()

    return work


def batch_on_the_loop(play: Play, **options: Any) -> QueuedFunction[..., Any]:
    """A coroutine function for many jobs."""

    @aioqueue.queued(name="work", batch=True, **options)
    async def work(text: list[str]) -> list[Any]:
        try:
            play.begin(text[0])
            while play.holds(text[0]):
                await asyncio.sleep(0.001)
            return [play.value(one) for one in text]
        finally:
            play.cleaned.set()

    return work


def batch_in_a_thread(play: Play, **options: Any) -> QueuedFunction[..., Any]:
    """A plain function for many jobs."""

    @aioqueue.queued(name="work", batch=True, **options)
    def work(text: list[str]) -> list[Any]:
        try:
            play.begin(text[0])
            play.hold(text[0])
            return [play.value(one) for one in text]
        finally:
            play.cleaned.set()

    return work


def batch_async_generator(play: Play, **options: Any) -> QueuedFunction[..., Any]:
    """An async generator for many jobs."""

    @aioqueue.queued(name="work", batch=True, **options)
    async def work(text: list[str]) -> AsyncIterator[list[Any]]:
        try:
            play.begin(text[0])
            yield [play.value(one) for one in text]
            while play.holds(text[0]):
                await asyncio.sleep(0.001)
            play.end(text[0])
            yield ["end" for _ in text]
        finally:
            play.cleaned.set()

    return work


def batch_generator(play: Play, **options: Any) -> QueuedFunction[..., Any]:
    """A generator for many jobs."""

    @aioqueue.queued(name="work", batch=True, **options)
    def work(text: list[str]) -> Iterator[list[Any]]:
        try:
            play.begin(text[0])
            yield [play.value(one) for one in text]
            play.hold(text[0])
            play.end(text[0])
            yield ["end" for _ in text]
        finally:
            play.cleaned.set()

    return work


def of_a_process(function: Callable[..., Any], **fixed: Any) -> Kind:
    """A function that runs in a process, where the test sees its play on disk."""

    def kind(play: Play, **options: Any) -> QueuedFunction[..., Any]:
        return aioqueue.queued(name="work", executor="process", **fixed, **options)(function)

    return kind


KINDS: dict[str, Kind] = {
    "`async def`": on_the_loop,
    "`def`": in_a_thread,
    "async generator": async_generator,
    "generator": generator,
    "batch `async def`": batch_on_the_loop,
    "batch `def`": batch_in_a_thread,
    "batch async generator": batch_async_generator,
    "batch generator": batch_generator,
    "`def` in a process": of_a_process(heavy.plain),
    "generator in a process": of_a_process(heavy.generator),
    "batch `def` in a process": of_a_process(heavy.batch, batch=True),
    "batch generator in a process": of_a_process(heavy.batch_generator, batch=True),
}
GENERATORS = [kind for kind in KINDS if "generator" in kind]


class Scene:
    """One function of a kind in a served app, and a client of it."""

    def __init__(self, kind: str, serve: Any, http: Any, directory: Path) -> None:
        self.kind, self._serve, self._http = kind, serve, http
        self.in_process = kind.endswith("process")
        self.play = Play.on_disk(directory) if self.in_process else Play()
        # What the processes call before they take jobs, so it is how they get the directory.
        self._settings = {"process_initializer": partial(heavy.stage, str(directory))}

    @property
    def yields(self) -> bool:
        """Whether the function is a generator."""
        return self.kind in GENERATORS

    def result(self, value: Any) -> Any:
        """What the result is of a function whose first value is this."""
        return [value, "end"] if self.yields else value

    async def open(self, **options: Any) -> Shop:
        """Serve it."""
        function = KINDS[self.kind](self.play, **options)
        shop = Shop().sells(function, **self._settings)
        self.shop = await shop.open(self._serve, self._http)
        return self.shop

    async def send(self, text: str) -> ClientResponse:
        """Send a job, and follow it."""
        return await self.shop.post(name="work", body={"text": text}, **STREAM)

    async def events(self, text: str) -> list[ServerSentEvent]:
        """Everything that is told of a job."""
        async with await self.send(text) as response:
            return [event async for event in read_events(response)]

    async def held(self) -> None:
        """Wait until the function holds on."""
        await until(self.play.held.is_set)

    async def gone(self) -> None:
        """Wait until the function has cleaned up, and its slot is free."""
        await until(self.play.cleaned.is_set)
        await until(lambda: not self.shop.inside.runtime._scheduler._active)


@pytest.fixture
async def scene(
    request: pytest.FixtureRequest,
    serve: Any,
    http: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Scene]:
    """A scene of the kind that the test asks for; whatever it still holds is let go."""
    start_quickly(monkeypatch)
    scene = Scene(request.param, serve, http, tmp_path)
    yield scene
    scene.play.go.set()
    async with asyncio.timeout(10):
        await scene.gone()


every_kind = pytest.mark.parametrize("scene", KINDS, indirect=True)
every_generator = pytest.mark.parametrize("scene", GENERATORS, indirect=True)


def names(events: list[ServerSentEvent]) -> list[str]:
    """What the durable events are, and progress; states and positions come as they like."""
    return [one.event for one in events if one.event not in ("state", "position")]


# What a function can do


@every_kind
async def test_result(scene: Scene) -> None:
    """What it returns, or the list of what it yields, is the result, in every form."""
    shop = await scene.open()
    events = await scene.events("a")
    expected = scene.result("A")

    assert events[-1].event == "succeeded"
    assert events[-1].data["result"] == expected
    async with shop.http.get(shop.job(events[-1].data["job"], "/result")) as response:
        assert await response.json() == expected
    handle = await next(iter(shop.inside.runtime.functions.values())).function.submit("b")
    assert await handle.result() == scene.result("B")


@every_generator
async def test_output_stream(scene: Scene) -> None:
    """Each value goes out the moment it is yielded."""
    await scene.open()
    async with await scene.send("hold") as response:
        events = read_events(response)
        seen = [await anext(events), await anext(events), await anext(events)]
        assert [one.event for one in seen] == ["state", "started", "output"]
        assert (seen[-1].data["index"], seen[-1].data["data"]) == (0, "HOLD")
        await scene.held()  # the function is still in the middle
        scene.play.go.set()
        rest = [one async for one in events]

    assert names(rest) == ["output", "succeeded"]
    assert (rest[0].data["index"], rest[0].data["data"]) == (1, "end")


@every_kind
async def test_progress(scene: Scene) -> None:
    """What it says of its progress is told, and is in the job."""
    shop = await scene.open()
    async with await scene.send("progress") as response:
        events = read_events(response)
        event = await anext(events)
        while event.event != "progress":
            event = await anext(events)
        said = {"progress": 0.25, "step": 1, "total": 4, "message": "a quarter"}
        assert event.data == {"type": "progress", "job": event.data["job"], **said}
        async with shop.http.get(shop.job(event.data["job"])) as look:
            assert (await look.json())["progress"] == said
        scene.play.go.set()


@every_kind
async def test_log(scene: Scene) -> None:
    """What it logs is an event that is kept."""
    await scene.open()
    scene.play.go.set()
    events = await scene.events("log")

    (line,) = [one for one in events if one.event == "log"]
    assert (line.data["level"], line.data["message"]) == ("warning", "a line")
    assert line.id == "1-2"


# How it can end


@every_kind
async def test_cancel_while_waiting(scene: Scene) -> None:
    """A job that is cancelled before its turn never runs."""
    shop = await scene.open(max_batch_size=1) if "batch" in scene.kind else await scene.open()
    first = await shop.submit("work", {"text": "hold"})
    await scene.held()
    waiting = await shop.submit("work", {"text": "b"})
    async with shop.http.delete(shop.job(waiting)) as response:
        assert response.status == 200
        assert (await response.json())["state"] == "cancelled"
    scene.play.go.set()

    assert await shop.inside.ended(first) == "succeeded"
    page = await shop.inside.engine.events(waiting, aioqueue._job.BEGINNING)
    assert [event.type for event in page.events] == ["cancelled"]


@every_kind
async def test_cancel_while_running(scene: Scene) -> None:
    """A job that is cancelled in the middle is stopped, cleans up, and says who wanted it."""
    shop = await scene.open()
    async with await scene.send("hold") as response:
        events = read_events(response)
        job_id = (await anext(events)).data["job"]
        await scene.held()
        async with shop.http.delete(shop.job(job_id)) as answer:
            assert answer.status in (200, 202)
        rest = [one async for one in events]

    assert rest[-1].event == "cancelled"
    assert rest[-1].data["reason"] == "client"
    assert names(rest).count("output") == scene.yields
    await scene.gone()


@every_kind
async def test_time_limit(scene: Scene) -> None:
    """A job whose function runs too long fails with a code of its own, and is stopped."""
    await scene.open(time_limit=1.0 if scene.in_process else 0.02)
    events = await scene.events("hold")

    assert events[-1].event == "failed"
    assert events[-1].data["error"]["code"] == "job_timeout"
    assert events[-1].data["error"]["status"] == 504
    assert names(events).count("output") == scene.yields
    await scene.gone()


@every_kind
async def test_queue_timeout(scene: Scene) -> None:
    """A job that waited too long fails unrun, with a code of its own."""
    one = {"max_batch_size": 1} if "batch" in scene.kind else {}
    shop = await scene.open(queue_timeout=5, **one)
    await shop.submit("work", {"text": "hold"})
    await scene.held()
    waiting = await shop.submit("work", {"text": "b"})
    await shop.inside.pass_time(7)

    async with shop.http.get(shop.job(waiting, "/result")) as response:
        assert response.status == 503
        assert (await response.json())["code"] == "queue_timeout"
    page = await shop.inside.engine.events(waiting, aioqueue._job.BEGINNING)
    assert [event.type for event in page.events] == ["failed"]


@every_kind
async def test_exception(scene: Scene) -> None:
    """An exception fails its job; a JobError tells the client why."""
    await scene.open()
    events = await scene.events("raise")

    assert names(events) == ["started", "failed"]
    assert (events[-1].data["error"]["detail"], events[-1].data["error"]["status"]) == ("no", 418)


@every_generator
async def test_exception_after_outputs(scene: Scene) -> None:
    """What was put out before an exception stays put out."""
    await scene.open()
    events = await scene.events("raise late")

    assert names(events) == ["started", "output", "failed"]
    assert events[-1].data["error"]["detail"] == "late"


@every_kind
async def test_unserialisable_result(scene: Scene) -> None:
    """A value without a JSON form fails its job and says so."""
    await scene.open()
    events = await scene.events("object")

    assert names(events) == ["started", "failed"]
    assert events[-1].data["error"]["code"] == "result_not_serializable"


@every_kind
async def test_system_exit(scene: Scene) -> None:
    """A function that calls sys.exit() ends its job, never the server."""
    await scene.open()
    events = await scene.events("exit")

    assert names(events) == ["started", "failed"]
    assert (await scene.events("a"))[-1].event == "succeeded"


@every_kind
async def test_client_gone(scene: Scene) -> None:
    """A job whose client has left is stopped, where its function says so."""
    shop = await scene.open(on_disconnect="cancel")
    response, job_id = await shop.stream("work", {"text": "hold"})
    await scene.held()
    await shop.leave(response)
    await shop.inside.pass_time(2)

    assert await shop.inside.ended(job_id) == "cancelled"
    snapshot = await shop.inside.engine.get(job_id)
    assert snapshot.reason == "disconnect"
    await scene.gone()


@every_kind
async def test_reattached(scene: Scene) -> None:
    """A client that comes back has everything once, whatever happened meanwhile."""
    shop = await scene.open()
    response = await scene.send("hold")
    events = read_events(response)
    job_id = (await anext(events)).data["job"]
    await scene.held()
    seen = [await anext(events) for _ in range(1 + scene.yields)]
    await shop.leave(response)
    scene.play.go.set()
    await shop.inside.ended(job_id)
    headers = {"Last-Event-ID": seen[-1].id, **STREAM}
    async with shop.http.get(shop.job(job_id, "/events"), headers=headers) as again:
        seen += [one async for one in read_events(again) if one.event != "state"]

    output = ["output"] * scene.yields
    assert names(seen) == ["started", *output, *output, "succeeded"]
    assert [one.id for one in seen] == [f"1-{n}" for n in range(1, len(seen) + 1)]


# The table in the documentation


def test_the_table() -> None:
    """Each cell of the documented table is a test here, and there is no other."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in TABLE.read_text().splitlines()
        if line.startswith("| ") and re.search(r"\| (yes|–) \|", line + " |")
    ]
    (header,) = [
        line for line in TABLE.read_text().splitlines() if line.startswith("| what happens")
    ]
    kinds = [cell.strip() for cell in header.strip().strip("|").split("|")][1:]
    documented = {
        (row[0], kind)
        for row in rows
        for kind, cell in zip(kinds, row[1:], strict=True)
        if cell == "yes"
    }
    tested = {
        (name.removeprefix("test_").replace("_", " "), kind)
        for name, test in globals().items()
        for mark in getattr(test, "pytestmark", ())
        if name.startswith("test_") and mark.name == "parametrize"
        for kind in mark.args[1]
    }

    assert kinds == list(KINDS)
    assert documented == tested
