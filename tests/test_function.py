"""The decorated function: what may be queued, what it is called, and how code submits to it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

import aioqueue
from aioqueue import ConfigurationError, QueuedFunction
from aioqueue._function import queued_of, subject_of
from tests.inside import Inside, make_app
from tests.stage import Stage, until


@aioqueue.queued
def module_level(number: int, factor: int = 2) -> int:
    """Multiply."""
    return number * factor


class Service:
    """Some object whose methods are queued."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @aioqueue.queued
    def multiply(self, number: int) -> int:
        return self.factor * number

    @aioqueue.queued(concurrency_limit=2)
    async def add(self, number: int, job: aioqueue.Job = aioqueue.JOB) -> list[Any]:
        return [self.factor + number, job.owner]

    @staticmethod
    @aioqueue.queued
    def static(number: int) -> int:
        return -number

    @aioqueue.queued
    async def handle(self, request: web.Request) -> web.Response:
        return web.Response(text=f"{self.factor} {request.path}")

    @aioqueue.queued
    def state(self) -> dict[str, int]:
        return {"factor": self.factor}


# Decorating


def test_with_and_without_parentheses() -> None:
    """The decorator takes the function, or options and then the function."""

    @aioqueue.queued
    def plain() -> None: ...

    @aioqueue.queued()
    def called() -> None: ...

    @aioqueue.queued(concurrency_limit=3, max_size=7)
    def with_options() -> None: ...

    assert all(isinstance(one, QueuedFunction) for one in (plain, called, with_options))
    assert plain.declared == called.declared
    assert (with_options.declared.concurrency_limit, with_options.declared.max_size) == (3, 7)


def test_it_is_still_the_function() -> None:
    """Name, documentation and the plain function are there."""
    assert module_level.__name__ == "module_level"
    assert module_level.__doc__ == "Multiply."
    assert module_level.__module__ == __name__
    assert module_level.__wrapped__(3, factor=5) == 15
    assert Service(4).multiply.__wrapped__(3) == 12
    assert Service.multiply.__wrapped__(Service(4), 3) == 12
    assert repr(module_level) == "<QueuedFunction module_level>"


def test_names() -> None:
    """A function is called what its definition says, from the innermost function on."""

    class Local:
        @aioqueue.queued
        def method(self) -> None: ...

        @aioqueue.queued(name="other name")
        async def named(self) -> None: ...

    def inner() -> QueuedFunction[[], None]:
        @aioqueue.queued
        def innermost() -> None: ...

        return innermost

    assert module_level.name == "module_level"
    assert Service.multiply.name == "Service.multiply"
    assert Local.method.name == "Local.method"
    assert Local.named.name == "other name"
    assert inner().name == "innermost"


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"concurrency_limit": 0}, "concurrency_limit must be a whole number of at least 1, None"),
        ({"max_size": -1}, "max_size must be"),
        ({"name": ""}, "name must be a printable name"),
        ({"on_disconnect": "stay"}, '"keep", "cancel", or a number of seconds'),
    ],
)
def test_wrong_options(option: dict[str, Any], expected: str) -> None:
    """An option out of its range is an error when the function is decorated."""
    with pytest.raises(ConfigurationError, match=expected):
        aioqueue.queued(**option)


class Callable_:
    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (module_level, "module_level is queued already"),
        (Service, "Service is a class: decorate its methods"),
        (Callable_(), "is no function: queue a def that calls it"),
        (functools.partial(print, 1), "is no function: queue a def that calls it"),
    ],
)
def test_what_is_no_function(function: Any, expected: str) -> None:
    """Only functions can be queued, and only once; the error says what to do."""
    with pytest.raises(ConfigurationError, match=expected):
        aioqueue.queued(function)


def test_a_generator_is_no_handler() -> None:
    """What takes the request answers once, so a generator that does is refused."""

    async def on_the_loop(request: web.Request) -> AsyncIterator[int]:
        yield 1

    with pytest.raises(ConfigurationError, match="on_the_loop takes the request and yields"):
        aioqueue.queued(on_the_loop)


def test_a_batch_takes_lists() -> None:
    """A batch function takes neither the request nor ``self``, and says what to do instead."""

    class Model:
        def read(self, texts: list[str]) -> list[str]:
            return texts

    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    for function in (Model.read, handler):
        with pytest.raises(ConfigurationError, match="Queue a function that calls it"):
            aioqueue.queued(batch=True)(function)


# Who takes the request


class Request:
    """A class of the app's own that happens to be called like aiohttp's."""


def test_who_takes_the_request() -> None:
    """First parameter annotated web.Request or named request; a View's method with nothing else."""

    async def annotated(r: web.Request) -> None: ...
    async def base(r: web.BaseRequest) -> None: ...
    async def more_parameters(r: web.Request, number: int = 1) -> None: ...
    async def unannotated(request): ...
    async def method(self, r: web.Request) -> None: ...
    async def evaluated(r) -> None: ...

    class View(web.View):
        @aioqueue.queued
        async def get(self) -> None: ...

    evaluated.__annotations__ = {"r": web.Request}
    functions = annotated, base, more_parameters, unannotated, method, evaluated

    assert all(aioqueue.queued(function).takes_request for function in functions)
    assert View.get.takes_request


def test_who_takes_values() -> None:
    """Everything else takes values, also what looks alike."""

    async def no_parameters() -> None: ...
    async def own_class(request: Request) -> None: ...
    async def second_parameter(number: int, request: web.Request) -> None: ...
    async def named_otherwise(number): ...
    async def of_another_type(request: str) -> None: ...

    functions = no_parameters, own_class, second_parameter, named_otherwise, of_another_type

    assert not any(aioqueue.queued(function).takes_request for function in functions)
    assert not Service.state.takes_request


def test_annotation_for_type_checkers_only() -> None:
    """A name that can't be found at run time is judged by its spelling."""

    async def imported(r: checkers.Request) -> None: ...  # noqa: F821

    async def misspelled(r: web.Requst) -> None: ...

    assert aioqueue.queued(imported).takes_request
    assert not aioqueue.queued(misspelled).takes_request


async def test_def_that_takes_the_request(serve) -> None:
    """A ``def`` could not await the body: it is refused, with the advice to take parameters."""
    advice = "Take the values you need as parameters"

    def function(request: web.Request) -> None: ...

    with pytest.raises(ConfigurationError, match=advice):
        aioqueue.queued(function)

    class View(web.View):
        @aioqueue.queued
        def get(self) -> None: ...

    app = make_app()
    app.router.add_view("/", View)
    with pytest.raises(ConfigurationError, match=advice):
        await serve(app)


# Calling it


def test_direct_call() -> None:
    """A direct call names what to use instead, at once: nobody has to await it to hear that."""
    method, request = Service(1).multiply, make_mocked_request("POST", "/")
    instead = r"`await .*\.submit\(…\)`, or `.*\.__wrapped__\(…\)`"
    for function, args, kwargs in (
        (module_level, [3], {}),
        (module_level, [3, 4], {}),
        (module_level, [], {}),
        (module_level, [], {"number": 3}),
        (method, [3], {}),
        (method, [], {}),
        (method, [3], {"factor": 1}),
        (module_level, [request, 3], {}),
        (method, [request], {"factor": 1}),
    ):
        with pytest.raises(TypeError, match=instead):
            function(*args, **kwargs)


async def test_no_setup(serve, http, caplog) -> None:
    """Without setup() a route and a submit fail, and the error says what to call where."""
    fix = r"call aioqueue\.setup\(app\) on the root application before it starts"
    with pytest.raises(ConfigurationError, match=fix):
        await module_level.submit(3)
    app = web.Application()
    app.router.add_post("/", module_level)
    url = await serve(app)
    async with http.post(url, json={"number": 3}) as response:
        assert response.status == 500

    assert "functions=[module_level]" in caplog.text


async def test_no_route(serve) -> None:
    """A function without a route, not named in setup(), can't be submitted to."""
    await serve(make_app(Service.static))
    with pytest.raises(ConfigurationError, match=r"setup\(app, functions=\[module_level\]\)"):
        await module_level.submit(3)


async def test_functions_without_a_route(serve) -> None:
    """``setup(app, functions=[f])`` is enough, for methods too."""
    service = Service(10)
    await serve(make_app(functions=[module_level, service.multiply]))

    assert await (await module_level.submit(3)).result() == 6
    assert await (await service.multiply.submit(3)).result() == 30


async def test_after_the_end(serve) -> None:
    """When its app has ended, a function has no queue any more."""
    app = make_app(module_level)
    runner = web.AppRunner(app)
    await runner.setup()
    assert await (await module_level.submit(3)).result() == 6
    await runner.cleanup()

    with pytest.raises(ConfigurationError, match="has no queue here"):
        await module_level.submit(3)


# Submitting


@attrs.frozen
class Word:
    text: str
    scores: list[float] = attrs.field(factory=list)


async def test_result_has_its_type_back(serve) -> None:
    """What the return annotation says is what result() gives."""

    @aioqueue.queued
    def words(text: str) -> list[Word]:
        return [Word(word, [1, 0.5]) for word in text.split()]

    @aioqueue.queued
    async def longest(words: list[Word]) -> Word | None:
        return max(words, key=lambda word: len(word.text), default=None)

    await serve(make_app(words, longest))
    found = await (await words.submit("a bc")).result()

    assert found == [Word("a", [1.0, 0.5]), Word("bc", [1.0, 0.5])]
    assert await (await longest.submit(found)).result() == Word("bc", [1.0, 0.5])
    assert await (await longest.submit([])).result() is None


async def test_result_without_an_annotation(serve) -> None:
    """Without one it is what JSON made of it."""

    @aioqueue.queued
    def function():
        return (Word("a"), {1: 2})

    await serve(make_app(function))

    assert await (await function.submit()).result() == [{"text": "a", "scores": []}, {"1": 2}]


async def test_arguments_pass_through_json(serve) -> None:
    """A job gets a copy of its arguments, of the types it declares; bytes stay bytes."""
    seen: list[Any] = []

    @aioqueue.queued
    async def function(words: list[Word], image: bytes, /, factor: float = 1, **more: Any) -> None:
        seen.extend((words, image, factor, more))

    await serve(make_app(function))
    words = [Word("a")]
    await (await function.submit(words, b"\x00\xff", factor=2, extra=[1])).result()

    assert seen == [words, b"\x00\xff", 2.0, {"extra": [1]}]
    assert type(seen[2]) is float
    assert seen[0] is not words


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1, 2, 3), {}),
        ((1,), {"unknown": 1}),
        (("1",), {}),
        ((object(),), {}),
        ((True,), {}),
    ],
)
async def test_wrong_arguments(serve, args: Any, kwargs: Any) -> None:
    """Arguments that do not fit, or have no JSON form, are a TypeError at submit."""
    app = make_app(module_level)
    await serve(app)
    with pytest.raises(TypeError):
        await module_level.submit(*args, **kwargs)

    status = await Inside(app).engine.stats("module_level")
    assert (status.queue_size, status.running, status.durations) == (0, [], {})


async def test_handle(serve) -> None:
    """A handle tells the state and the events, cancels, and can be asked for the result again."""
    stage = Stage()

    @aioqueue.queued
    async def function(number: int) -> Any:
        return await stage.play(number)

    await serve(make_app(function))
    first, second = await function.submit(1), await function.submit(2)
    assert repr(first) == f"<JobHandle {first.id}>"
    assert [await first.state(), await second.state()] == ["running", "queued"]
    assert await second.cancel() == "cancelled"
    events = first.events()
    assert (await anext(events))["type"] == "started"
    stage.end(1, value="one")

    assert [event async for event in events] == [
        {"type": "succeeded", "job": first.id, "result": "one"}
    ]
    assert [await first.result(), await first.result()] == ["one", "one"]
    assert await first.cancel() == "succeeded"
    assert [event["type"] async for event in second.events()] == ["cancelled"]


async def test_job_that_fails(serve) -> None:
    """result() raises JobFailed with the problem that clients get."""

    @aioqueue.queued
    def function() -> None:
        raise aioqueue.JobError("No text in there.", status=422)

    await serve(make_app(function))
    with pytest.raises(aioqueue.JobFailed, match=r"No text in there\.") as caught:
        await (await function.submit()).result()

    assert caught.value.state == "failed"
    assert caught.value.problem["status"] == 422
    assert caught.value.problem["code"] == "job_failed"


@pytest.mark.parametrize(
    ("reason", "code", "status"),
    [("client", "job_cancelled", 409), ("shutdown", "lost_on_shutdown", 503)],
)
async def test_job_that_is_cancelled(serve, reason: str, code: str, status: int) -> None:
    """result() raises JobFailed for a cancelled job too, with the problem that clients get."""
    stage = Stage()

    @aioqueue.queued
    async def function() -> None:
        await stage.play(1)

    app = make_app(function)
    await serve(app)
    handle = await function.submit()
    await stage.has_begun(1)
    await Inside(app).runtime._scheduler.cancel(handle.id, reason)
    with pytest.raises(aioqueue.JobFailed) as caught:
        await handle.result()

    problem = caught.value.problem
    assert caught.value.state == "cancelled"
    assert (problem["code"], problem["status"]) == (code, status)
    assert set(problem) == {"type", "title", "status", "detail", "code"}


async def test_job_that_is_no_longer_kept(serve) -> None:
    """A handle of a job that was forgotten says so."""
    await serve(make_app(module_level, max_results=1))
    first = await module_level.submit(1)
    await first.result()
    await (await module_level.submit(2)).result()

    for verb in (first.result, first.state, first.cancel):
        with pytest.raises(aioqueue.AioqueueError, match="no longer kept"):
            await verb()


async def test_submit_while_shutting_down(serve) -> None:
    """A submit is refused while the app drains."""
    app = make_app(module_level)
    await serve(app)
    await Inside(app).runtime.drain()
    with pytest.raises(aioqueue.Refused) as caught:
        await module_level.submit(3)

    assert caught.value.problem.code == "shutting_down"


# Owner, metadata, app


@aioqueue.queued
async def who() -> list[Any]:
    """Say whose job this is."""
    job = aioqueue.current_job()
    return [job.owner, job.metadata]


@aioqueue.queued(concurrency_limit=None)
async def who_inside(**options: Any) -> list[Any]:
    """Submit a job from inside a job."""
    return await (await who.options(**options).submit()).result()


HOOKS: dict[str, Any] = {
    "owner": lambda request: request.headers.get("User"),
    "metadata": lambda request: {"plan": "free"} if "User" in request.headers else None,
}


async def test_options(serve, http) -> None:
    """A submit from code belongs to nobody, unless it says otherwise."""
    url = await serve(make_app(who, owner=HOOKS["owner"]))
    mine = await who.options(owner="ada", metadata=[1]).submit()

    assert await (await who.submit()).result() == [None, None]
    assert await mine.result() == ["ada", [1]]
    for user, status in (("ada", 200), ("bob", 404)):
        async with http.get(f"{url}/queue/jobs/{mine.id}", headers={"User": user}) as response:
            assert response.status == status


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["ada", {"plan": "free"}]),
        ({"owner": "bob"}, ["bob", {"plan": "free"}]),
        ({"metadata": 1}, ["ada", 1]),
    ],
)
async def test_options_of_the_job_around(serve, http, options: Any, expected: Any) -> None:
    """A submit from inside a job inherits its owner and metadata, unless it says otherwise."""
    url = await serve(make_app(who, who_inside, **HOOKS))
    headers = {"User": "ada", "Prefer": "wait=10"}
    async with http.post(f"{url}/who_inside", json=options, headers=headers) as response:
        assert await response.json() == expected


async def test_options_of_the_request_around(serve, http) -> None:
    """A submit from a request function inherits what the hooks say of the request."""

    @aioqueue.queued
    async def handler(request: web.Request) -> list[Any]:
        job = aioqueue.current_job()
        return [[job.owner, job.metadata], await (await who.submit()).result()]

    url = await serve(make_app(who, handler, **HOOKS))
    for headers, expected in (({"User": "ada"}, ["ada", {"plan": "free"}]), ({}, [None, None])):
        async with http.post(f"{url}/handler", headers=headers) as response:
            assert await response.json() == [expected, expected]


async def test_app_of_a_job(serve, http) -> None:
    """``job.app`` is the app of the function's route, from code too; else that of the caller."""
    name = web.AppKey("name", str)

    @aioqueue.queued
    async def in_sub_app() -> list[str]:
        return [aioqueue.current_job().app[name], *await (await nowhere.submit()).result()]

    @aioqueue.queued
    async def nowhere() -> list[str]:
        return [aioqueue.current_job().app[name]]

    app = make_app(functions=[nowhere])
    sub_app = web.Application()
    sub_app.router.add_post("/", in_sub_app)
    app[name], sub_app[name] = "root", "sub"
    app.add_subapp("/sub", sub_app)
    url = await serve(app)
    async with http.post(f"{url}/sub/", json={}, headers={"Prefer": "wait=10"}) as response:
        assert await response.json() == ["sub", "sub"]

    assert await (await in_sub_app.submit()).result() == ["sub", "sub"]
    assert await (await nowhere.submit()).result() == ["root"]


async def test_two_apps(serve) -> None:
    """Of a function in two apps, a job submits to that of its own app; others must not guess."""

    @aioqueue.queued
    async def outer() -> str:
        return (await who.submit()).id

    apps = [make_app(outer, who), make_app(who)]
    for app in apps:
        await serve(app)
    job_id = await (await outer.submit()).result()

    found = [await Inside(app).engine.get(job_id) is not None for app in apps]
    assert found == [True, False]
    with pytest.raises(ConfigurationError, match="several apps"):
        await who.submit()


# Methods


async def test_methods_of_an_object(serve, http) -> None:
    """Methods are handlers and can be submitted to, on their object or with it."""
    service = Service(10)
    app = make_app()
    for method in (service.multiply, service.add, service.static, service.handle, service.state):
        name = queued_of(method).name
        app.router.add_post(f"/{name}", method)
    url = await serve(app)

    assert await (await service.multiply.submit(3)).result() == 30
    assert await (await Service(7).multiply.submit(3)).result() == 21
    assert await (await Service.multiply.submit(Service(8), 3)).result() == 24
    assert await (await service.add.options(owner="ada").submit(3)).result() == [13, "ada"]
    assert await (await Service.static.submit(3)).result() == -3
    assert await (await service.state.submit()).result() == {"factor": 10}
    with pytest.raises(TypeError, match="is a method: submit it on its object"):
        await Service.multiply.submit()
    with pytest.raises(TypeError, match="takes the request"):
        await service.handle.submit(None)

    for path, arguments, answer in (
        ("Service.multiply", {"number": 3}, "30"),
        ("Service.add", {"number": 3}, "[13,null]"),
        ("Service.static", {"number": 3}, "-3"),
        ("Service.state", {}, '{"factor":10}'),
    ):
        headers = {"Prefer": "wait=10"}
        async with http.post(f"{url}/{path}", json=arguments, headers=headers) as response:
            assert await response.text() == answer
    async with http.post(f"{url}/Service.handle") as response:
        assert await response.text() == "10 /Service.handle"


async def test_queued_of() -> None:
    """The queued function in a handler is found through decorators that use functools.wraps."""

    def decorator(handler: Any) -> Any:
        @functools.wraps(handler)
        async def wrapper(request: web.Request) -> Any:
            return await handler(request)

        return wrapper

    assert queued_of(decorator(decorator(module_level))) is module_level
    assert queued_of(Service(1).multiply) is Service.multiply
    assert queued_of(module_level.__wrapped__) is None
    assert queued_of(None) is None


async def test_subject_of() -> None:
    """So is the object whose method it is; what is no method has none."""

    def decorator(handler: Any) -> Any:
        @functools.wraps(handler)
        async def wrapper(request: web.Request) -> Any:
            return await handler(request)

        return wrapper

    service = Service(1)
    assert subject_of(service.multiply) is service
    assert subject_of(decorator(decorator(service.multiply))) is service
    assert subject_of(Service.multiply) is None
    assert subject_of(decorator(module_level)) is None
    assert subject_of(None) is None


async def test_waiting_for_a_result_can_be_cancelled(serve) -> None:
    """Who stops waiting for a job leaves the job alone."""
    stage = Stage()

    @aioqueue.queued
    async def function() -> str:
        await stage.play(1)
        return "done"

    await serve(make_app(function))
    handle = await function.submit()
    waiting = asyncio.create_task(handle.result())
    await stage.has_begun(1)
    waiting.cancel()
    await until(waiting.done)
    stage.end(1)

    assert await handle.result() == "done"
