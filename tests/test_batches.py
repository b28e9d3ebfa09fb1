"""Jobs that share a call: each sends one entry of the lists, and gets one entry back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import attrs
import pytest
from aiohttp import ClientSession, FormData, web

import aioqueue
from aioqueue import JobFailed, JobHandle
from tests.batches import (
    KINDS,
    Function,
    ends,
    engine_of,
    events,
    in_a_thread,
    line_up,
    on_the_loop,
)
from tests.inside import make_app
from tests.stage import Stage, until

WAIT = {"Prefer": "wait=20"}


# Lists in, lists out


Calls = list[list[str]]


def plain(calls: Calls) -> Function:
    """A ``def`` that returns."""

    @aioqueue.queued(name="f", batch=True)
    def function(words: list[str]) -> list[str]:
        calls.append(words)
        return [word.upper() for word in words]

    return function


def coroutine(calls: Calls) -> Function:
    """An ``async def`` that returns."""

    @aioqueue.queued(name="f", batch=True)
    async def function(words: list[str]) -> tuple[str, ...]:
        calls.append(words)
        return tuple(word.upper() for word in words)

    return function


def generator(calls: Calls) -> Function:
    """A ``def`` that yields."""

    @aioqueue.queued(name="f", batch=True)
    def function(words: list[str]) -> Iterator[list[str]]:
        calls.append(words)
        yield words
        yield [word.upper() for word in words]

    return function


def async_generator(calls: Calls) -> Function:
    """An ``async def`` that yields."""

    @aioqueue.queued(name="f", batch=True)
    async def function(words: list[str]) -> AsyncIterator[list[str]]:
        calls.append(words)
        yield words
        yield [word.upper() for word in words]

    return function


@pytest.mark.parametrize("kind", [plain, coroutine])
async def test_lists_in_lists_out(serve, kind: Callable[[Calls], Function]) -> None:
    """One call gets an entry of each job, in their order, and each job gets its entry back."""
    calls: Calls = []
    app = make_app(function := kind(calls))
    await serve(app)

    assert await ends(await line_up(app, function, "a", "b", "c")) == ["A", "B", "C"]
    assert calls == [["a", "b", "c"]]


@pytest.mark.parametrize("kind", [generator, async_generator])
async def test_lists_that_are_yielded(serve, kind: Callable[[Calls], Function]) -> None:
    """Each list that is yielded goes out entry by entry; a job's result is the list of its own."""
    calls: Calls = []
    app = make_app(function := kind(calls))
    await serve(app)
    handles = await line_up(app, function, "a", "b")

    assert await ends(handles) == [["a", "A"], ["b", "B"]]
    assert calls == [["a", "b"]]
    assert await events(handles[1], "index", "data", "result") == [
        ("started",),
        ("output", 0, "b"),
        ("output", 1, "B"),
        ("succeeded", ["b", "B"]),
    ]


async def test_one_job(serve) -> None:
    """A job that nobody waits with is a list of one."""
    calls: Calls = []
    await serve(make_app(function := plain(calls)))

    assert await (await function.submit("a")).result() == "A"
    assert calls == [["a"]]


async def test_a_default_is_the_items(serve) -> None:
    """Who leaves an argument out gets the default in his place of the list."""
    calls = []

    @aioqueue.queued(batch=True)
    async def repeat(word: list[str], /, times: list[int] = 1, *, end: list[str] = "") -> list[str]:
        calls.append((word, times, end))
        return [word * n + end for word, n, end in zip(word, times, end, strict=True)]

    app = make_app(repeat)
    await serve(app)

    assert await ends(await line_up(app, repeat, "a", ("b", 3), "c")) == ["a", "bbb", "c"]
    assert calls == [(["a", "b", "c"], [1, 3, 1], ["", "", ""])]


@attrs.frozen
class Point:
    x: int
    y: int = 0


async def post(http: ClientSession, app: web.Application, url: str, *bodies: Any) -> list[Any]:
    """Post bodies to ``/f`` that wait for each other; answers what the jobs come to."""
    await engine_of(app).set_limit("f", 0)
    links = []
    for body in bodies:
        async with http.post(f"{url}/f", **body) as response:
            assert response.status == 202, await response.text()
            links.append(response.headers["Location"])
    await engine_of(app).set_limit("f", None)
    results = []
    for link in links:
        async with http.get(url + link, headers=WAIT) as response:
            results.append((await response.json())["result"])
    return results


async def test_the_whole_body(serve, http: ClientSession) -> None:
    """`Annotated[list[T], Body]` is a list of whole bodies, each a T."""

    @aioqueue.queued(name="f", batch=True)
    async def function(
        points: Annotated[list[Point], aioqueue.Body],
        scale: list[int] = 1,
    ) -> list[int]:
        return [(point.x + point.y) * by for point, by in zip(points, scale, strict=True)]

    app = make_app(function)
    url = await serve(app)
    bodies = [{"json": {"x": 1}}, {"json": {"x": 2, "y": 3}, "params": {"scale": "10"}}]

    assert await post(http, app, url, *bodies) == [1, 50]
    async with http.post(f"{url}/f", json=[{"x": 1}]) as response:
        assert response.status == 422
        assert (await response.json())["errors"][0]["message"] == "must be an object, not an array"


async def test_files(serve, http: ClientSession) -> None:
    """Each job sends one file, and its text fields are parsed."""

    @aioqueue.queued(name="f", batch=True)
    async def function(image: list[bytes], page: list[int]) -> list[list[int]]:
        return [[len(content), number] for content, number in zip(image, page, strict=True)]

    app = make_app(function)
    url = await serve(app)
    forms = [FormData({"page": str(page)}) for page in (7, 8)]
    for size, form in enumerate(forms, 1):
        form.add_field("image", b"\xff" * size, filename="a.png")

    assert await post(http, app, url, *({"data": form} for form in forms)) == [[1, 7], [2, 8]]


async def test_the_jobs(serve) -> None:
    """A list of jobs has each of them, with what is its own."""
    got: list[aioqueue.Job] = []

    @aioqueue.queued(batch=True)
    async def function(
        words: list[str], jobs: list[aioqueue.Job] = aioqueue.JOB
    ) -> list[str | None]:
        got.extend(jobs)
        for word, job in zip(words, jobs, strict=True):
            job.log(f"I am {word}")
        return [job.owner for job in jobs]

    app = make_app(function)
    await serve(app)
    handles = await line_up(app, function, "a", "b")

    assert [await handle.result() for handle in handles] == [None, None]
    assert [job.id for job in got] == [handle.id for handle in handles]
    assert await events(handles[1], "message") == [
        ("started",),
        ("log", "I am b"),
        ("succeeded",),
    ]


def _no_list(word: str) -> list[str]:
    raise NotImplementedError


def _one_job(words: list[str], job: aioqueue.Job = aioqueue.JOB) -> list[str]:
    raise NotImplementedError


def _tuple(words: tuple[str, ...]) -> list[str]:
    raise NotImplementedError


def _positional(*words: list[str]) -> list[str]:
    raise NotImplementedError


def _keywords(words: list[str], **more: list[str]) -> list[str]:
    raise NotImplementedError


def _any_keywords(words: list[str], **more: Any) -> list[str]:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_no_list, r"_no_list: .* one entry a job, so declare word: list\["),
        (_one_job, r"_one_job: .* declare job: list\["),
        (_tuple, r"_tuple: .* declare words: list\["),
        (_positional, r"_positional: \*words can't be filled .* words: list\["),
        (_keywords, r"_keywords: .* declare more: list\["),
        (_any_keywords, r"_any_keywords: .* declare more: list\["),
    ],
)
async def test_parameters_that_are_no_lists(function: Callable[..., Any], message: str) -> None:
    """An app with a batch function that does not take lists does not start, and says the fix."""
    queued = aioqueue.queued(batch=True)(function)

    with pytest.raises(aioqueue.ConfigurationError, match=message):
        await web.AppRunner(make_app(queued)).setup()


# What goes wrong


class Empty(Exception):
    """An exception that is false."""

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("kind", KINDS)
async def test_an_exception_in_the_list(serve, stage: Stage, kind: Any) -> None:
    """An exception among the results fails its job alone, with what the client may know of it."""
    app = make_app(function := kind(stage, max_batch_size=4))
    await serve(app)
    secret, told = Empty("secret"), aioqueue.JobError("too dark", status=422)
    stage.end((1, 2, 3, 4), value=["a", secret, told, "d"])
    handles = await line_up(app, function, 1, 2, 3, 4)

    assert await ends(handles) == ["a", "job_failed", "job_failed", "d"]
    problems = [(await events(handle, "error"))[-1][1] for handle in handles[1:3]]
    assert "secret" not in str(problems)
    assert (problems[1]["detail"], problems[1]["status"]) == ("too dark", 422)


async def test_exceptions_may_be_annotated(serve) -> None:
    """``list[T | Exception]`` says what is returned; a job's result is the T."""

    @aioqueue.queued(batch=True)
    async def function(xs: list[int]) -> list[Point | Exception]:
        return [Point(x) if x else ValueError() for x in xs]

    app = make_app(function)
    await serve(app)

    assert await ends(await line_up(app, function, 1, 0, 2)) == [Point(1), "job_failed", Point(2)]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_exception_out_of_the_function(
    serve, stage: Stage, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What the function raises fails all of its jobs, under one id that is logged once."""
    app = make_app(function := kind(stage))
    await serve(app)
    stage.fail((1, 2), ValueError("secret"))
    stage.end((3,), value=["c"])
    handles = await line_up(app, function, 1, 2, 3)

    assert await ends(handles) == ["job_failed", "job_failed", "c"]
    one, two = [(await events(handle, "error"))[-1][1] for handle in handles[:2]]
    assert one == two
    (record,) = caplog.records
    assert one["error_id"] in record.message
    assert record.exc_info is not None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "a NoneType"),
        ("ab", "a str"),
        (b"ab", "a bytes"),
        ({1: 1, 2: 2}, "a dict"),
        ({1, 2}, "a set"),
        (zip("ab", "ab", strict=True), "a zip"),
        ([], "0"),
        (["a"], "1"),
        (("a", "b", "c"), "3"),
    ],
    ids=["nothing", "text", "bytes", "dict", "set", "iterator", "none", "less", "more"],
)
async def test_no_entry_for_each(
    serve, stage: Stage, kind: Any, value: Any, found: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no list with one entry a job fails the batch and says why; the next one works."""
    app = make_app(function := kind(stage))
    await serve(app)
    stage.end((1, 2), value=value)
    stage.end((3,), value=["c"])
    handles = await line_up(app, function, 1, 2, 3)

    assert await ends(handles) == ["job_failed", "job_failed", "c"]
    message = rf"f: a batch .* one entry a job, and returned {found} for 2 jobs\.$"
    for handle in handles[:2]:
        with pytest.raises(JobFailed, match=message):
            await handle.result()
    assert len(caplog.records) == 1


class Scalar:
    """An array without dimensions: it has a length, and nobody can ask for it."""

    def __len__(self) -> int:
        raise TypeError("len() of unsized object")

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("iteration over a 0-d array")


@pytest.mark.parametrize("kind", KINDS)
async def test_an_array_without_dimensions(serve, stage: Stage, kind: Any) -> None:
    """What looks like a list and is none fails its batch; the slot is free for the next."""
    app = make_app(function := kind(stage))
    await serve(app)
    stage.end((1,), value=Scalar())
    stage.end((2,), value=["b"])
    first = await function.submit(1)
    with pytest.raises(JobFailed, match="returned a Scalar for 1 job"):
        await first.result()

    assert await (await function.submit(2)).result() == "b"


@pytest.mark.parametrize("kind", KINDS)
async def test_an_entry_without_a_json_form(serve, stage: Stage, kind: Any) -> None:
    """An entry that can't be sent, or is too large, fails its job alone."""
    app = make_app(function := kind(stage, max_batch_size=3), max_result_bytes=100)
    await serve(app)
    stage.end((1, 2, 3), value=[object(), "b", "c" * 100])
    handles = await line_up(app, function, 1, 2, 3)

    assert await ends(handles) == ["result_not_serializable", "b", "result_too_large"]


def failing(closed: list[bool], lists: list[list[Any]]) -> list[Function]:
    """Generators of both kinds that yield these lists."""

    @aioqueue.queued(name="f", batch=True)
    def in_thread(words: list[str]) -> Iterator[Any]:
        try:
            yield from lists
        finally:
            closed.append(True)

    @aioqueue.queued(name="f", batch=True)
    async def on_loop(words: list[str]) -> AsyncIterator[Any]:
        try:
            for each in lists:
                yield each
        finally:
            closed.append(True)

    return [in_thread, on_loop]


@pytest.mark.parametrize("kind", [0, 1], ids=["thread", "loop"])
async def test_an_exception_in_a_yielded_list(serve, kind: int) -> None:
    """It fails its job, which gets nothing more; the others go on."""
    lists = [["a1", "b1", "c1"], ["a2", ValueError(), object()], ["a3", "b3", "c3"]]
    app = make_app(function := failing([], lists)[kind])
    await serve(app)
    handles = await line_up(app, function, "a", "b", "c")

    assert await ends(handles) == [["a1", "a2", "a3"], "job_failed", "result_not_serializable"]
    for handle, first in zip(handles[1:], ["b1", "c1"], strict=True):
        assert await events(handle, "data") == [("started",), ("output", first), ("failed",)]


@pytest.mark.parametrize("kind", [0, 1], ids=["thread", "loop"])
async def test_a_generator_that_nobody_needs(serve, kind: int) -> None:
    """When all of its jobs have failed a generator is closed."""
    closed: list[bool] = []
    lists = [[ValueError(), "b"], ["a", ValueError()], ["a", "b"]]
    app = make_app(function := failing(closed, lists * 1000)[kind])
    await serve(app)
    handles = await line_up(app, function, "a", "b")

    assert await ends(handles) == ["job_failed", "job_failed"]
    assert closed == [True]
    assert await events(handles[1], "data") == [("started",), ("output", "b"), ("failed",)]


@pytest.mark.parametrize("kind", [0, 1], ids=["thread", "loop"])
async def test_a_yield_of_another_length(serve, kind: int) -> None:
    """A yield without an entry for each job fails all that have not failed by themselves."""
    closed: list[bool] = []
    lists = [[aioqueue.JobError("dark"), "b", "c"], ["a", "b"]]
    app = make_app(function := failing(closed, lists)[kind])
    await serve(app)
    handles = await line_up(app, function, "a", "b", "c")
    for handle, message in zip(handles, ["dark", *["yielded 2 for 3 jobs"] * 2], strict=True):
        with pytest.raises(JobFailed, match=message):
            await handle.result()

    assert closed == [True]


# What is said


@pytest.mark.parametrize("kind", KINDS)
async def test_current_job_speaks_for_all(serve, stage: Stage, kind: Any) -> None:
    """Progress and log lines of ``current_job()`` reach every job of the batch."""
    told: dict[str, list[Any]] = {}

    def say(words: list[str]) -> list[str]:
        job = aioqueue.current_job()
        job.log("hello")
        job.progress(1, 2, "half")
        return words

    @aioqueue.queued(name="f", batch=True)
    def in_thread(words: list[str]) -> list[str]:
        said = say(words)
        stage.play_in_thread("said")
        return said

    @aioqueue.queued(name="f", batch=True)
    async def on_loop(words: list[str]) -> list[str]:
        said = say(words)
        await stage.play("said")
        return said

    app = make_app(function := in_thread if kind is in_a_thread else on_loop)
    await serve(app)
    handles = await line_up(app, function, "a", "b", "c")

    async def listen(handle: JobHandle[Any]) -> None:
        kept = told.setdefault(handle.id, [])
        async for event in handle.events():
            kept.append((event["type"], event.get("message")))

    async with asyncio.TaskGroup() as group:
        for handle in handles:
            group.create_task(listen(handle))
        await until(lambda: [len(kept) for kept in told.values()] == [3, 3, 3])
        stage.end("said")

    expected = {("started", None), ("log", "hello"), ("progress", "half"), ("succeeded", None)}
    assert all(set(kept) == expected and len(kept) == 4 for kept in told.values())


async def test_what_one_job_inherits(serve) -> None:
    """A submit inside a batch has the owner and the metadata of its jobs, if they have one."""
    inner: list[JobHandle[Any]] = []

    @aioqueue.queued
    async def other() -> None: ...

    @aioqueue.queued(batch=True)
    async def function(words: list[str]) -> list[None]:
        inner.append(await other.submit())
        return [None] * len(words)

    app = make_app(other, function)
    await serve(app)
    engine = engine_of(app)
    for owners in (("ann", "ann"), ("ann", "bob"), ("ann", None)):
        await engine.set_limit("function", 0)
        handles = [
            await function.options(owner=owner, metadata={"of": owner or "nobody"}).submit("a")
            for owner in owners
        ]
        await engine.set_limit("function", None)
        await ends(handles)
    records = [(await engine.get(handle.id)).record for handle in inner]

    assert [(record.owner, record.metadata) for record in records] == [
        ("ann", b'{"of":"ann"}'),
        (None, None),
        (None, None),
    ]


# Sizes


@pytest.mark.parametrize(("jobs", "size", "calls"), [(40, 8, [8] * 5), (10, 4, [4, 4, 2])])
async def test_max_batch_size(serve, jobs: int, size: int, calls: list[int]) -> None:
    """Jobs that wait are taken in order, as many in one call as may be."""
    got: list[list[int]] = []

    @aioqueue.queued(batch=True, max_batch_size=size)
    async def function(numbers: list[int]) -> list[int]:
        got.append(numbers)
        return numbers

    app = make_app(function)
    await serve(app)

    assert await ends(await line_up(app, function, *range(jobs))) == list(range(jobs))
    assert [len(call) for call in got] == calls
    assert [number for call in got for number in call] == list(range(jobs))


@pytest.mark.parametrize("kind", KINDS)
async def test_limits_count_calls(serve, stage: Stage, kind: Any) -> None:
    """A batch takes one slot and one worker, however many jobs are in it."""
    options = {"max_threads": 2} if kind is in_a_thread else {"max_tasks": 2}
    app = make_app(function := kind(stage, concurrency_limit=None), **options)
    await serve(app)
    await line_up(app, function, 1, 2, 3, 4, 5, 6)
    await stage.has_begun((1, 2), (3, 4))
    stage.end((1, 2), value=[1, 2])
    await stage.has_begun((1, 2), (3, 4), (5, 6))

    stage.end((3, 4), (5, 6))
    assert stage.most == 2


async def test_with_another_function(serve, stage: Stage) -> None:
    """In a shared queue mates come from behind another function's jobs, which wait their turn."""
    batch = on_the_loop(stage, "batch", concurrency_id="gpu", max_batch_size=3)

    @aioqueue.queued(concurrency_id="gpu")
    async def single(number: int) -> Any:
        return await stage.play(number)

    await serve(make_app(batch, single))
    handles = [await single.submit(0)]
    for number, function in enumerate([batch, single, batch, single, batch, batch], 1):
        handles.append(await function.submit(number))
    order = [0, (1, 3, 5), 2, 4, (6,)]
    for part in order:
        await until(lambda part=part: part in stage.begun)
        stage.end(part, value=part)

    assert await ends(handles) == list(range(7))
    assert stage.begun == order
    assert stage.most == 1
