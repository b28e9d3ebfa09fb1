"""Gradio's routes: their answers, their refusals, and that they are no way around anything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

import aioqueue
from aioqueue import Job, JobError, Upload
from aioqueue.gradio import _routes, _streams
from aioqueue.web import _RUNTIME
from tests.gradio.visitor import NAME, Visitor, events_of, gradio_shop, kinds_of, messages_of
from tests.inside import Shop
from tests.stage import Stage, until
from tests.wire import connect, exchange, raw

OTHER = "another-session-of-mine"


def functions_of(shop: Shop, stage: Stage, tmp_path: Path) -> list[Any]:
    """What the shop sells."""

    @aioqueue.queued(concurrency_limit=100)
    def add(a: float, b: float = 2) -> float:
        """Add two numbers."""
        return a + b

    @aioqueue.queued
    def divide(number: int, by: int) -> tuple[int, int]:
        return divmod(number, by)

    @aioqueue.queued
    def nothing() -> None:
        pass

    @aioqueue.queued
    def echo(value: Any = None) -> Any:
        return value

    @aioqueue.queued
    async def work(value: Any = None) -> Any:
        await shop.end.wait()
        return value

    @aioqueue.queued(concurrency_limit=100)
    async def many(value: Any = None) -> Any:
        await shop.end.wait()
        return value

    @aioqueue.queued(cancel_timeout=60)
    def stubborn() -> None:
        stage.play_in_thread("stubborn")

    @aioqueue.queued
    def spell(word: str) -> Iterator[str]:
        for end in range(1, len(word) + 1):
            yield word[:end]

    @aioqueue.queued
    def notes(job: Job = aioqueue.JOB) -> str:
        job.log("dark", "warning")
        job.progress(1, 4, "step")
        return "done"

    @aioqueue.queued
    def broken(message: str) -> str:
        raise JobError(message)

    @aioqueue.queued
    def private() -> None:
        raise ValueError("the password is 1234")

    @aioqueue.queued
    def picture(name: str = "cat.png") -> Path:
        path = tmp_path / name
        path.write_bytes(b"a picture")
        return path

    @aioqueue.queued
    def raw_bytes() -> bytes:
        return b"abc"

    return [
        *(add, divide, nothing, echo, work, many, stubborn, spell, notes, broken, private),
        *(picture, raw_bytes),
    ]


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody lingers, but where a test is about that."""
    monkeypatch.setattr(_streams, "_LINGER_SECONDS", 0.0)
    monkeypatch.setattr(_routes, "_RESET_SECONDS", 0.0)


@pytest.fixture
async def open_shop(serve, http, stage: Stage, tmp_path: Path) -> Any:
    """Opens a shop; answers a visitor of it."""

    async def open_shop(
        *, path: str = "", headers: Any = None, sells: Any = None, **options: Any
    ) -> Visitor:
        settings = options.pop("settings", {})
        shop = gradio_shop(settings=settings, path=path, **options)
        functions = functions_of(shop, stage, tmp_path) if sells is None else sells
        for function in functions:
            shop.app.router.add_post(f"/{function.name}", function)
        await shop.open(serve, http)
        return Visitor(shop, path, **(headers or {}))

    return open_shop


@pytest.fixture
async def visitor(open_shop) -> Visitor:
    """A visitor of a shop whose time stands still."""
    return await open_shop()


def owner_of(request: web.Request) -> str | None:
    """Whose a request is: as it says."""
    return request.headers.get("X-Owner")


async def detail_of(response: Any, status: int) -> Any:
    """What a refusal says."""
    assert response.status == status, await response.text()
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    document = await response.json()
    assert list(document) == ["detail"]
    return document["detail"]


# What there is


@pytest.mark.one_loop
async def test_config(visitor: Visitor) -> None:
    """The first thing that clients ask for is not below the prefix, and nobody keeps it."""
    async with visitor.shop.http.get(f"{visitor.shop.url}/config") as response:
        assert response.status == 200
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        config = await response.json()
    assert config["protocol"] == "sse_v3"
    assert config["max_file_size"] == 1 << 20
    names = [one["api_name"] for one in config["dependencies"]]
    assert names[:3] == ["add", "divide", "nothing"]
    info = await (await visitor.get("/info?serialize=False")).json()
    assert list(info["named_endpoints"]) == [f"/{name}" for name in names]
    assert await (await visitor.get("/app_id")).json() == {"app_id": config["app_id"]}


@pytest.mark.one_loop
async def test_app_id(visitor: Visitor, open_shop) -> None:
    """Each start of a server has another number, and keeps it."""
    other = await open_shop()
    first, again, second = [
        (await (await one.get("/app_id")).json())["app_id"] for one in (visitor, visitor, other)
    ]
    assert first == again != second


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("bounds", "client_max_size", "expected"),
    [
        ([None], 1 << 20, 1 << 20),
        ([10, None], 1 << 20, 1 << 20),
        ([10, 5 << 20], 1 << 20, 5 << 20),
        ([10, 20], 1 << 20, 20),
        ([10, None], 0, None),
    ],
)
async def test_max_file_size(
    serve, http, bounds: list[Any], client_max_size: int, expected: Any
) -> None:
    """A client is told the most that any function takes, nothing where there is no bound."""
    app = web.Application(client_max_size=client_max_size)
    for number, bound in enumerate(bounds):
        function = aioqueue.queued(name=f"f{number}", max_body_size=bound)(lambda: None)
        app.router.add_post(f"/{number}", function)
    aioqueue.setup(app)
    aioqueue.gradio.setup(app)
    async with http.get(f"{await serve(app)}/config") as response:
        assert (await response.json())["max_file_size"] == expected


@pytest.mark.one_loop
async def test_status(visitor: Visitor) -> None:
    """People may see how many wait, in all queues together."""

    async def status() -> bytes:
        response = await visitor.get("/queue/status")
        assert response.status == 200
        return await response.read()

    message = b'{"msg":"estimation","event_id":null,"rank":null,"queue_size":%d,"rank_eta":null}'
    assert await status() == message % 0
    for _ in range(3):
        await visitor.join("work")
    assert await status() == message % 2


@pytest.mark.one_loop
async def test_status_is_not_public(open_shop) -> None:
    """Where counts are not public, only who is somebody may see them."""
    settings = {"public_status": False, "owner": owner_of}
    visitor = await open_shop(settings=settings)
    await detail_of(await visitor.get("/queue/status"), 404)
    visitor.headers["X-Owner"] = "me"
    assert (await visitor.get("/queue/status")).status == 200


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("method", "below"),
    [("POST", "/config"), ("GET", "/gradio_api/queue/join"), ("GET", "/login"), ("GET", "/cancel")],
)
async def test_other_methods(visitor: Visitor, method: str, below: str) -> None:
    """A route answers its own method only."""
    async with visitor.shop.http.request(method, visitor.shop.url + below) as response:
        assert response.status in (404, 405)


# Joining


async def test_a_job(visitor: Visitor) -> None:
    """A job is joined, told from its place to its end, and then the stream closes."""
    response = await visitor.try_join("add", 1, 2)
    assert response.status == 200
    document = await response.json()
    assert list(document) == ["event_id"]
    job_id = document["event_id"]
    assert len(job_id) == 22
    messages = await visitor.told()
    assert kinds_of(messages) == [
        "estimation",
        "process_starts",
        "process_completed",
        "close_stream",
    ]
    assert {one["event_id"] for one in messages[:-1]} == {job_id}
    assert messages[2]["output"] == {"data": [3.0], "is_generating": False}


async def test_what_it_says(visitor: Visitor) -> None:
    """What a function says, and what it yields, comes on the way."""
    await visitor.join("notes")
    kinds = kinds_of(await visitor.told())
    assert [kind for kind in kinds if kind != "progress"] == [
        "estimation",
        "process_starts",
        "log",
        "process_completed",
        "close_stream",
    ]
    await visitor.join("spell", "abc")
    outputs = [one["output"]["data"] for one in await visitor.told() if "output" in one]
    assert outputs == [["a"], [[["append", [], "b"]]], [[["append", [], "c"]]], ["abc"]]


@pytest.mark.one_loop
async def test_defaults(visitor: Visitor) -> None:
    """Values that are left out at the end are the defaults."""
    await visitor.join("add", 1)
    assert (await visitor.told())[2]["output"]["data"] == [3.0]


@pytest.mark.one_loop
async def test_extra_fields(visitor: Visitor) -> None:
    """What clients send besides means nothing."""
    extra = {"event_data": None, "trigger_id": None, "simple_format": True}
    assert (await visitor.try_join("add", 1, **extra)).status == 200


@pytest.mark.one_loop
async def test_unknown_function(visitor: Visitor) -> None:
    """A number of no function is refused with words, whatever it is."""
    for index in (99, -1, True, False, 1.0, "0", None, 2**80, [0], {}):
        detail = await detail_of(await visitor.try_join("", fn_index=index), 404)
        assert "fn_index" in detail


@pytest.mark.one_loop
async def test_values_that_are_no_list(visitor: Visitor) -> None:
    """Values come as a list, on every route."""
    values = ({}, "ab", 3, True, {"a": 1})
    for below, data in product(("/queue/join", "/call/add", "/run/add"), values):
        body = {"data": data, "fn_index": 0, "session_hash": NAME}
        detail = await detail_of(await visitor.post(below, body), 400)
        assert detail == "data must be an array of values."


@pytest.mark.one_loop
async def test_wrong_name_of_a_session(visitor: Visitor) -> None:
    """A name that can be guessed, or is none, is refused where nobody owns it."""
    for name in (None, 3, "", "short", "x" * 5, "x" * 257, ["x" * 20], True):
        detail = await detail_of(await visitor.try_join("add", 1, session=name), 400)
        assert "hard to guess" in detail
    assert (await visitor.try_join("add", 1, session="x" * 6)).status == 200
    assert (await visitor.try_join("add", 1, session="x" * 256)).status == 200


@pytest.mark.one_loop
async def test_short_names_of_an_owner(open_shop) -> None:
    """Whoever is known may call sessions what he likes: nobody else can read them."""
    visitor = await open_shop(settings={"owner": owner_of}, headers={"X_Owner": "me"})
    await visitor.join("add", 1, session="x")
    assert len(await visitor.told("x")) == 4
    await detail_of(await visitor.try_join("add", 1, session=""), 400)


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ([1, 2, 3], "data", "has 3 values for 2 parameters"),
        ([], "a", "is missing"),
        (["x"], "a", 'must be a number, not "x"'),
        ([1, "x"], "b", 'must be a number, not "x"'),
    ],
)
async def test_wrong_arguments(
    visitor: Visitor, values: list[Any], field: str, message: str
) -> None:
    """Wrong values are refused with a list of objects, which the Python client shows."""
    (wrong,) = await detail_of(await visitor.try_join("add", *values), 422)
    assert wrong.pop("message").startswith(message.partition(",")[0])
    assert wrong == {"__type__": "validate", "is_valid": False, "parameter_name": field}


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", b"application/json", 400),
        (b"[]", b"application/json", 400),
        (b"3", b"application/json", 400),
        (b"{}", b"text/plain", 415),
        (b"a=b", b"application/x-www-form-urlencoded", 415),
        (b"--b--", b"multipart/form-data; boundary=b", 415),
        (b'{"data":NaN}', b"application/json", 400),
        (b'{"data":' + b"[" * 2000 + b"]" * 2000 + b"}", b"application/json", 400),
    ],
    ids=range(8),
)
async def test_wrong_bodies(visitor: Visitor, body: bytes, kind: bytes, status: int) -> None:
    """A body that is no JSON object is refused, in JSON, on every route."""
    for below in ("queue/join", "call/add", "call/v2/add", "run/add", "cancel"):
        request = raw("POST", f"/gradio_api/{below}", b"Content-Type: " + kind, body=body)
        answer = await exchange(visitor.shop.url, request)
        assert answer.status == status, (below, answer.body)
        assert list(answer.json()) == ["detail"]


@pytest.mark.one_loop
@pytest.mark.parametrize(("depth", "status"), [(80, 200), (400, 400), (1000, 400)])
async def test_deep_values(visitor: Visitor, depth: int, status: int) -> None:
    """What is nested too deeply is refused, and breaks nothing."""
    deep, kind = b"[" * depth + b"]" * depth, b"Content-Type: application/json"
    where = b'"fn_index":%d,"session_hash":"%b"' % (await visitor.index("echo"), NAME.encode())
    for below, data in (
        ("queue/join", b'{"data":[%b],%b}' % (deep, where)),
        ("call/echo", b'{"data":[%b]}' % deep),
        ("call/v2/echo", b'{"value":%b}' % deep),
        ("run/echo", b'{"data":[%b]}' % deep),
    ):
        request = raw("POST", f"/gradio_api/{below}", kind, body=data)
        answer = await exchange(visitor.shop.url, request)
        assert answer.status == status, answer.body


@pytest.mark.one_loop
async def test_another_site(visitor: Visitor) -> None:
    """A page of another site can send no JSON unasked; what it can send is refused."""
    headers = (b"Sec-Fetch-Site: cross-site", b"Origin: https://evil.example")
    for below in ("/gradio_api/queue/join", "/gradio_api/call/nothing", "/gradio_api/run/nothing"):
        answer = await exchange(visitor.shop.url, raw("POST", below, *headers))
        assert answer.status == 403
        assert answer.json() == {
            "detail": "This function takes such a request from its own site only."
        }


# The limits of every door


async def test_queue_full(open_shop) -> None:
    """Where there is no room a job is refused with the words that people are shown."""
    visitor = await open_shop(settings={"max_size": 1})
    for _ in range(2):
        await visitor.join("work")
    for below, body in (
        ("/queue/join", {"fn_index": await visitor.index("work"), "session_hash": NAME}),
        ("/call/work", {}),
        ("/call/v2/work", {}),
        ("/run/work", {}),
    ):
        response = await visitor.post(below, body)
        detail = await detail_of(response, 503)
        assert detail.startswith("The queue is full (1 waiting). Please try again")
        assert int(response.headers["Retry-After"]) >= 1
    assert (await visitor.post("/run/add", {"data": [1]})).status == 200


def by_header(name: str) -> Any:
    """A hook that answers what a header says."""
    return lambda request: request.headers.get(name)


async def test_clients_take_turns(open_shop) -> None:
    """Whose turn a job takes, and how many may wait, is said by the hook of every door."""
    settings = {"client_key": by_header("X-Client"), "max_queued_per_client": 2}
    visitor = await open_shop(settings=settings, headers={"X_Client": "one"})
    first, second, third = [await visitor.join("work", number) for number in range(3)]
    response = await visitor.try_join("work")
    assert "2 jobs waiting" in await detail_of(response, 429)
    visitor.headers["X-Client"] = "two"
    fourth = await visitor.join("work", 3)
    async with visitor.stream() as stream:
        ranks = {
            one["event_id"]: one["rank"]
            for one in [await stream.take() for _ in range(5)]
            if one["msg"] == "estimation"
        }
    assert ranks == {first: 0, second: 0, fourth: 1, third: 2}


@pytest.mark.one_loop
async def test_priority_and_metadata(open_shop) -> None:
    """Priority and metadata are those that the hooks say of the request."""
    settings = {
        "priority": lambda request: float(request.headers.get("X-Priority", 0)),
        "metadata": lambda request: {"agent": request.headers["X-Agent"]},
        "owner": owner_of,
    }
    headers = {"X_Priority": "3", "X_Agent": "test", "X_Owner": "me"}
    visitor = await open_shop(settings=settings, headers=headers)
    joined = await visitor.join("work")
    called = (await (await visitor.post("/call/work", {})).json())["event_id"]
    for job_id in (joined, called):
        record = (await visitor.shop.inside.engine.get(job_id)).record
        assert (record.priority, record.metadata) == (3.0, b'{"agent":"test"}')
        assert (record.owner, record.function) == ("me", "work")
    grace = [
        (await visitor.shop.inside.engine.get(job_id)).record.grace for job_id in (joined, called)
    ]
    assert grace == [30.0, None]


@pytest.mark.one_loop
async def test_max_body_size(serve, http) -> None:
    """A function that takes little takes little here, too."""

    @aioqueue.queued(max_body_size=100)
    def small(text: str) -> int:
        return len(text)

    @aioqueue.queued(max_body_size=1000)
    def large(text: str) -> int:
        return len(text)

    visitor = Visitor(await gradio_shop(small, large).open(serve, http))
    for below in ("/call/v2/", "/run/", "/call/"):

        async def send(name: str, size: int, below: str = below) -> int:
            body = {"text": "x" * size} if "v2" in below else {"data": ["x" * size]}
            return (await visitor.post(below + name, body)).status

        assert await send("small", 80) == 200
        assert await send("small", 100) == 413
        assert await send("large", 900) == 200
        assert await send("large", 1100) == 413
    assert "100 bytes" in await detail_of(await visitor.try_join("small", "x" * 100), 413)


@pytest.mark.one_loop
@pytest.mark.parametrize("most", [500, 0])
async def test_json_limits(serve, http, most: int) -> None:
    """What is for files is not for JSON, which has the bound of its function on every route."""

    @aioqueue.queued(max_body_size=300)
    def small(text: str) -> int:
        return len(text)

    @aioqueue.queued(max_body_size=700)
    def large(text: str) -> int:
        return len(text)

    @aioqueue.queued(max_body_size=900)
    def video(text: str, file: Upload | None = None) -> int:
        return len(text)

    app = web.Application(client_max_size=most)
    for function in (small, large, video):
        app.router.add_post(f"/{function.name}", function)
    aioqueue.setup(app)
    aioqueue.gradio.setup(app)
    url, kind = await serve(app), b"Content-Type: application/json"

    async def bounds(below: str, **body: Any) -> tuple[int, str]:
        """Send as much as may be, and a byte more; answers the status of one, and the other."""
        limit = body.pop("limit")
        answers = []
        for size in (limit, limit + 1):
            data = orjson.dumps(body).ljust(size)
            request = raw("POST", f"/gradio_api{below}", kind, body=data)
            answers.append(await exchange(url, request))
        return answers[0].status, answers[1].json()["detail"]

    for name, limit in (("small", 300), ("large", 700), ("video", most or 900)):
        expected = (200, f"The body may have {limit} bytes.")
        for below in ("/call/", "/run/"):
            assert await bounds(below + name, data=["x"], limit=limit) == expected
        assert await bounds(f"/call/v2/{name}", text="x", limit=limit) == expected
    join, limit = {"data": ["x"], "fn_index": 0, "session_hash": NAME}, 700 if most else 900
    expected = (200, f"The body may have {limit} bytes.")
    assert await bounds("/queue/join", **join, limit=limit) == expected


async def test_shutting_down(visitor: Visitor) -> None:
    """A server that goes takes nothing more."""
    await visitor.shop.inside.runtime.drain()
    for below in ("/queue/join", "/call/add", "/run/add"):
        body = {"data": [1], "fn_index": 0, "session_hash": NAME}
        assert (
            await detail_of(await visitor.post(below, body), 503) == "The server is shutting down."
        )


@pytest.mark.one_loop
async def test_hooks_that_fail(open_shop, caplog: pytest.LogCaptureFixture) -> None:
    """A hook that fails is a mistake of the server's, told in JSON without its reason."""

    def fail(request: web.Request) -> None:
        raise ValueError("the password is 1234")

    visitor = await open_shop(settings={"owner": fail})
    for below in ("/info", "/queue/status", f"/queue/data?session_hash={NAME}"):
        detail = await detail_of(await visitor.get(below), 500)
        assert "1234" not in detail
    assert "1234" in caplog.text


async def test_behind_a_gate(serve, http) -> None:
    """A gate before everything lets these routes pass, also while it is full."""
    shop = Shop()

    @aioqueue.queued
    async def work() -> None:
        await shop.end.wait()

    async def slow(request: web.Request) -> web.Response:
        await shop.end.wait()
        return web.Response()

    app = web.Application(middlewares=[aioqueue.middleware(concurrency_limit=1, max_size=0)])
    app.router.add_get("/slow", slow)
    app.router.add_post("/work", work)
    aioqueue.setup(app, drain_timeout=0)
    aioqueue.gradio.setup(app)
    shop.app = app
    await shop.open(serve, http)
    visitor = Visitor(shop)
    request = asyncio.create_task(http.get(f"{shop.url}/slow"))
    await until(lambda: app[_RUNTIME][0]._scheduler._active)
    async with http.get(f"{shop.url}/slow") as response:
        assert response.status == 503
    job_id = await visitor.join("work")
    async with visitor.stream() as stream:
        assert kinds_of(await stream.until("process_starts"))
        assert (await visitor.cancel(job_id)).status == 200
        assert (await visitor.get("/queue/status")).status == 200
    shop.end.set()
    (await request).close()


# The session's stream


@pytest.mark.one_loop
async def test_unknown_session(visitor: Visitor) -> None:
    """A session of which nothing is known is told so, and ends."""
    for query in ("?session_hash=nobodys-session", "", "?session_hash="):
        async with visitor.shop.http.get(visitor.url(f"/queue/data{query}")) as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            assert response.headers["Cache-Control"] == "no-store"
            (message,) = messages_of(await response.read())
        text = message.pop("message")
        assert "no such session" in text
        assert message == {
            "msg": "unexpected_error",
            "event_id": None,
            "session_not_found": True,
            "success": False,
        }


async def test_told_already(visitor: Visitor) -> None:
    """A session whose jobs have all been told is known no more."""
    await visitor.join("add", 1)
    await visitor.told()
    assert kinds_of(await visitor.told()) == ["unexpected_error"]


@pytest.mark.one_loop
async def test_headers(visitor: Visitor) -> None:
    """A stream is kept, changed and held back by nobody on its way."""
    await visitor.join("add", 1)
    async with visitor.stream() as stream:
        headers = stream.response.headers
        assert headers["Content-Type"] == "text/event-stream"
        assert headers["Cache-Control"] == "no-store, no-transform"
        assert headers["X-Accel-Buffering"] == "no"
        assert "Content-Encoding" not in headers


async def test_heartbeats(open_shop) -> None:
    """A stream on which nothing happens is never silent for long; what it says then is exact."""
    visitor = await open_shop(settings={"ping_interval": 15})
    await visitor.join("work")
    inside = visitor.shop.inside
    async with visitor.stream() as stream:
        await stream.until("process_starts")
        (place,) = inside.listeners._places
        for _ in range(45):
            await inside.pass_time(1)
            assert inside.now() - (place.listener._ping_at - 14) < 15
        block = b'data: {"msg":"heartbeat","event_id":null}\n\n'
        assert await stream.response.content.readexactly(len(block) * 3) == block * 3
        visitor.shop.end.set()
        assert kinds_of(await stream.rest()) == ["process_completed", "close_stream"]


async def test_many_jobs(visitor: Visitor) -> None:
    """All jobs of a session are told on its stream, whenever they joined."""
    job_ids = [await visitor.join("many", number) for number in range(5)]
    async with visitor.stream() as stream:
        await stream.until("process_starts")
        job_ids += [await visitor.join("many", number) for number in range(5, 10)]
        visitor.shop.end.set()
        messages = messages_of(stream.body) + await stream.rest()
    for number, job_id in enumerate(job_ids):
        told = [one for one in messages if one["event_id"] == job_id]
        assert kinds_of(told) == ["estimation", "process_starts", "process_completed"]
        assert told[-1]["output"]["data"] == [number]
    assert kinds_of(messages)[-1] == "close_stream"
    assert kinds_of(messages).count("close_stream") == 1


async def test_sessions_do_not_mix(visitor: Visitor) -> None:
    """A session hears of its own jobs only."""
    mine = await visitor.join("many")
    other = await visitor.join("many", session=OTHER)
    visitor.shop.end.set()
    assert {one["event_id"] for one in await visitor.told()} == {mine, None}
    assert {one["event_id"] for one in await visitor.told(OTHER)} == {other, None}


async def test_it_lingers(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream stays open for a while, so that a script needs none for each call."""
    monkeypatch.setattr(_streams, "_LINGER_SECONDS", 60.0)
    await visitor.join("add", 1)
    async with visitor.stream() as stream:
        for _ in range(3):
            await stream.until("process_completed")
            await visitor.join("add", 1)
        await stream.until("process_completed")
        monkeypatch.setattr(_streams, "_LINGER_SECONDS", 0.0)
        await visitor.join("add", 1)
        assert kinds_of(await stream.rest())[-2:] == ["process_completed", "close_stream"]


async def test_a_join_right_after_the_close(visitor: Visitor) -> None:
    """Whoever joins before his client can have heard of a close waits for that long."""
    await visitor.join("add", 1)
    loop = asyncio.get_running_loop()
    await visitor.told()
    await visitor.join("add", 2)
    session = visitor.shop.app[aioqueue.gradio._ROUTES][0].sessions.find(None, NAME)
    assert session is not None
    assert loop.time() - session._closed_at > 0.245
    assert kinds_of(await visitor.told())[-2:] == ["process_completed", "close_stream"]


async def test_too_many_streams(open_shop) -> None:
    """Where there is no place for a stream, it is refused in JSON; so is a call that would wait."""
    visitor = await open_shop(settings={"max_streams": 1})
    await visitor.join("work")
    async with visitor.stream() as stream:
        await stream.until("process_starts")
        await detail_of(await visitor.get(f"/queue/data?session_hash={NAME}"), 503)
        await detail_of(await visitor.post("/run/add", {"data": [1]}), 503)
        status = await (await visitor.get("/queue/status")).json()
        assert status["queue_size"] == 0


async def test_too_many_streams_of_a_client(open_shop) -> None:
    """A client with its streams open gets no other, and no job; the next one does."""
    settings = {"client_key": by_header("X-Client"), "max_streams_per_client": 1}
    visitor = await open_shop(settings=settings, headers={"X_Client": "one"})
    await visitor.join("work")
    async with visitor.stream() as stream:
        await stream.until("process_starts")
        response = await visitor.get(f"/queue/data?session_hash={NAME}")
        assert "a stream open already" in await detail_of(response, 429)
        await detail_of(await visitor.post("/run/add", {"data": [1]}), 429)
        visitor.headers["X-Client"] = "two"
        assert await (await visitor.post("/run/add", {"data": [1]})).json() == {"data": [3.0]}


# Clients that leave


async def test_a_client_that_leaves(visitor: Visitor) -> None:
    """Whoever hangs up gives his jobs up, after their grace; what he had not heard is forgotten."""
    running = await visitor.join("work")
    waiting = await visitor.join("work")
    inside = visitor.shop.inside
    async with visitor.stream() as stream:
        await stream.until("process_starts")
        await inside.pass_time(100)
        assert [await inside.state(one) for one in (running, waiting)] == ["running", "queued"]
    await inside.have_left()
    await inside.pass_time(29)
    assert [await inside.state(one) for one in (running, waiting)] == ["running", "queued"]
    await inside.pass_time(4)
    assert [await inside.ended(one) for one in (running, waiting)] == ["cancelled"] * 2
    await inside.pass_time(602, step=50)
    assert not visitor.shop.app[aioqueue.gradio._ROUTES][0].sessions._sessions


async def test_a_client_that_comes_back(visitor: Visitor) -> None:
    """Whoever comes back in time hears of his jobs from their beginning."""
    job_id = await visitor.join("work")
    async with visitor.stream() as stream:
        await stream.until("process_starts")
    await visitor.shop.inside.have_left()
    await visitor.shop.inside.pass_time(20)
    async with visitor.stream() as stream:
        assert kinds_of(await stream.until("process_starts")) == ["estimation", "process_starts"]
        await visitor.shop.inside.pass_time(100)
        assert await visitor.shop.inside.state(job_id) == "running"
        visitor.shop.end.set()
        kinds = [kind for kind in kinds_of(await stream.rest()) if kind != "heartbeat"]
        assert kinds == ["process_completed", "close_stream"]


async def test_a_client_that_comes_back_in_the_last_moment(visitor: Visitor) -> None:
    """Whoever is back in time is heard of at once: his job may be about to start."""
    await visitor.post("/call/work", {})
    await visitor.join("work")
    inside = visitor.shop.inside
    async with visitor.stream() as stream:
        await stream.take()
    await inside.have_left()
    await inside.pass_time(29)
    async with visitor.stream() as stream:
        await stream.take()
        inside._passed += 5  # with no tick, which would tell the engine
        visitor.shop.end.set()
        *_, end, close = await stream.rest()
    assert (end["success"], close["msg"]) == (True, "close_stream")


async def test_a_client_that_never_listens(visitor: Visitor) -> None:
    """Jobs for which nobody opens a stream are given up, and nothing is left of their sessions."""
    job_ids = [await visitor.join("work", session=f"{OTHER}-{number}") for number in range(120)]
    inside = visitor.shop.inside
    await inside.pass_time(65)
    assert {await inside.ended(job_id) for job_id in job_ids} == {"cancelled"}
    assert (await inside.engine.stats("work")).queue_size == 0
    await inside.pass_time(700, step=50)
    assert not visitor.shop.app[aioqueue.gradio._ROUTES][0].sessions._sessions


async def test_the_server_ends(visitor: Visitor) -> None:
    """At the end of the server each job fails with words, and each stream closes as it should."""
    job_ids = [await visitor.join("work") for _ in range(2)]
    async with visitor.stream() as stream:
        await stream.until("process_starts")
        await visitor.shop.inside.runtime.drain()
        messages = await stream.rest()
    assert kinds_of(messages)[-1] == "close_stream"
    for job_id in job_ids:
        (end,) = (
            one
            for one in messages
            if (one["msg"], one["event_id"]) == ("process_completed", job_id)
        )
        assert end["output"]["error"] == "The server shut down before the job ended."
        assert not end["success"]


# Cancelling


@pytest.mark.parametrize("name", ["work", "stubborn"])
async def test_cancel(visitor: Visitor, stage: Stage, name: str) -> None:
    """A cancel ends a job for its client before the answer, whatever its function does then."""
    job_id = await visitor.join(name)
    waiting = await visitor.join(name)
    async with visitor.stream() as stream:
        await stream.until("process_starts")
        for one in (waiting, job_id):
            response = await visitor.cancel(one)
            assert (response.status, await response.read()) == (200, b'{"success":true}')
            messages = await stream.until("process_completed")
            assert messages[-1]["event_id"] == one
            assert messages[-1]["output"] == {
                "error": "Job cancelled",
                "duration": 10,
                "visible": True,
                "title": "Error",
            }
            response = await visitor.post("/reset", {"event_id": one})
            assert (response.status, await response.read()) == (200, b'{"success":true}')
        assert kinds_of(await stream.rest()) == ["close_stream"]
    assert await visitor.shop.inside.state(waiting) == "cancelled"
    if name == "stubborn":  # it does not look, and has its way
        assert await visitor.shop.inside.state(job_id) == "running"
        stage.end("stubborn")
        assert await visitor.shop.inside.ended(job_id) == "succeeded"
    else:
        assert await visitor.shop.inside.ended(job_id) == "cancelled"


async def test_cancel_frees_the_place(visitor: Visitor) -> None:
    """Whoever waits behind a cancelled job runs, and a sibling that runs is left alone."""
    first = await visitor.join("work")
    second = await visitor.join("work")
    third = await visitor.join("work")
    await visitor.cancel(second)
    assert await visitor.shop.inside.state(first) == "running"
    await visitor.cancel(first)
    await visitor.shop.inside.ended(first)
    assert await visitor.shop.inside.state(third) == "running"


@pytest.mark.one_loop
async def test_cancel_of_nothing(visitor: Visitor) -> None:
    """A cancel of what there is not is a success: clients ask for no more."""
    event_ids = ("unknown", "", None, 3, ["x"], "x" * 10_000, "../x")
    for event_id, session in product(event_ids, (NAME, None, 3, "unknown")):
        for below in ("/cancel", "/reset"):
            response = await visitor.post(below, {"event_id": event_id, "session_hash": session})
            assert (response.status, await response.read()) == (200, b'{"success":true}')


@pytest.mark.parametrize("session", [None, "another", OTHER])
async def test_cancel_without_its_session(visitor: Visitor, session: Any) -> None:
    """Whoever knows a job may cancel it; its session hears of it when it has ended."""
    job_id = await visitor.join("work")
    await visitor.join("many", session=OTHER)
    async with visitor.stream() as stream:
        await stream.until("process_starts")
        assert (await visitor.cancel(job_id, session)).status == 200
        (end, close) = await stream.rest()
    assert (end["event_id"], end["output"]["error"]) == (job_id, "Job cancelled")
    assert close["msg"] == "close_stream"


@pytest.mark.one_loop
@pytest.mark.parametrize(("size", "status"), [(64 << 10, 200), ((64 << 10) + 1, 413)])
async def test_large_cancel(visitor: Visitor, size: int, status: int) -> None:
    """A cancel names a job and a session, and no more."""
    kind = b"Content-Type: application/json"
    request = raw("POST", "/gradio_api/cancel", kind, body=b"{}".ljust(size))
    assert (await exchange(visitor.shop.url, request)).status == status


@pytest.mark.parametrize("size", [10, 100_000_000])
async def test_reset_reads_nothing(visitor: Visitor, size: int) -> None:
    """A reset is answered whatever its body is, and without it; the connection closes then."""
    async with connect(visitor.shop.url) as connection:
        connection.send(raw("POST", "/gradio_api/reset", body=b"{", length=size))
        answer = await connection.answer()
        assert (answer.status, answer.body) == (200, b'{"success":true}')
        assert await connection.rest() == b""


async def test_reset_keeps_the_connection(visitor: Visitor) -> None:
    """A reset whose body is here leaves the connection as it was."""
    async with connect(visitor.shop.url) as connection:
        for body in (b"{}", b"no JSON", b""):
            connection.send(raw("POST", "/gradio_api/reset", body=body))
            assert (await connection.answer()).status == 200


async def test_reset_is_late(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a reset gives the end of the job time to arrive first."""
    monkeypatch.undo()
    loop = asyncio.get_running_loop()
    start = loop.time()
    await visitor.post("/reset", {"event_id": "unknown"})
    assert loop.time() - start > 0.14


# With nothing but HTTP


@pytest.mark.parametrize("version", ["", "/v2"])
async def test_call(visitor: Visitor, version: str) -> None:
    """A call is two requests: one submits, the other gets the outputs and the end."""

    async def call(name: str, **arguments: Any) -> bytes:
        body: Any = arguments if version else {"data": list(arguments.values())}
        response = await visitor.post(f"/call{version}/{name}", body)
        assert response.status == 200, await response.text()
        document = await response.json()
        assert list(document) == ["event_id"]
        response = await visitor.get(f"/call{version}/{name}/{document['event_id']}")
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        return await response.read()

    assert await call("add", a=1, b=2) == b"event: complete\ndata: [3.0]\n\n"
    assert await call("add", a=1) == b"event: complete\ndata: [3.0]\n\n"
    assert await call("divide", number=17, by=5) == b"event: complete\ndata: [3,2]\n\n"
    assert await call("nothing") == b"event: complete\ndata: []\n\n"
    assert await call("notes") == b'event: complete\ndata: ["done"]\n\n'
    assert await call("spell", word="ab") == (
        b'event: generating\ndata: ["a"]\n\n'
        b'event: generating\ndata: ["ab"]\n\n'
        b'event: complete\ndata: ["ab"]\n\n'
    )
    assert await call("broken", message="no") == (
        b'event: error\ndata: {"error":"no","duration":10,"visible":true,"title":"Error"}\n\n'
    )
    assert b"1234" not in await call("private")


@pytest.mark.one_loop
async def test_call_by_name(visitor: Visitor) -> None:
    """By name, values may come in any order; what is no parameter is refused."""
    response = await visitor.post("/call/v2/divide", {"by": 5, "number": 17})
    job_id = (await response.json())["event_id"]
    answer = await visitor.get(f"/call/divide/{job_id}")  # either form will do
    assert events_of(await answer.read()) == [("complete", [3, 2])]
    wrong = await detail_of(await visitor.post("/call/v2/divide", {"by": 5, "x": 1}), 422)
    assert {one["parameter_name"]: one["message"] for one in wrong} == {
        "x": "is not a parameter here",
        "number": "is missing",
    }


async def test_call_again(visitor: Visitor) -> None:
    """The events of a call can be asked for as long as it is kept, and while it goes on."""
    response = await visitor.post("/call/work", {"data": [7]})
    job_id = (await response.json())["event_id"]
    early = asyncio.create_task(visitor.get(f"/call/work/{job_id}"))
    await visitor.shop.listening()
    visitor.shop.end.set()
    assert events_of(await (await early).read()) == [("complete", [7])]
    for _ in range(2):
        late = await visitor.get(f"/call/work/{job_id}")
        assert events_of(await late.read()) == [("complete", [7])]
    await visitor.shop.inside.pass_time(601, step=100)
    gone = await visitor.get(f"/call/work/{job_id}")
    assert await gone.read() == b'event: error\ndata: "404: Not Found"\n\n'


async def test_call_lives_on(visitor: Visitor) -> None:
    """A call is nobody's to listen to: it ends whether somebody asks for its events or not."""
    response = await visitor.post("/call/work", {})
    job_id = (await response.json())["event_id"]
    await visitor.shop.inside.pass_time(200, step=10)
    assert await visitor.shop.inside.state(job_id) == "running"


async def test_call_is_alive(visitor: Visitor) -> None:
    """While a call goes on its stream says so, in the words of this stream."""
    response = await visitor.post("/call/work", {})
    job_id = (await response.json())["event_id"]
    answer = asyncio.create_task(visitor.get(f"/call/work/{job_id}"))
    await visitor.shop.listening()
    await visitor.shop.inside.pass_time(15)
    visitor.shop.end.set()
    assert await (await answer).read() == (
        b"event: heartbeat\ndata: null\n\nevent: complete\ndata: [null]\n\n"
    )


async def test_call_that_is_forgotten_at_its_end(open_shop) -> None:
    """Where nothing is kept, a call whose end nobody knows any more says so."""
    visitor = await open_shop(settings={"max_results": 1})
    ids = []
    for _ in range(3):
        response = await visitor.post("/call/many", {})
        ids.append((await response.json())["event_id"])
    streams = [asyncio.create_task(visitor.get(f"/call/many/{one}")) for one in ids]
    await visitor.shop.listening(3)
    visitor.shop.end.set()
    ends = [events_of(await (await stream).read()) for stream in streams]
    assert all(len(events) == 1 for events in ends)
    assert {kind for ((kind, _),) in ends} <= {"complete", "error"}
    assert [("complete", [None])] in ends


@pytest.mark.one_loop
async def test_call_of_nothing(visitor: Visitor) -> None:
    """An unknown function, and an unknown call, are told apart, and another function's is none."""
    for below in ("/call/unknown", "/call/v2/unknown", "/run/unknown"):
        assert "'unknown'" in await detail_of(await visitor.post(below, {"data": []}), 404)
    await detail_of(await visitor.get("/call/unknown/x"), 404)
    job_id = await visitor.join("many")
    for below in (f"/call/work/{job_id}", "/call/work/unknown", "/call/v2/many/x%00y"):
        response = await visitor.get(below)
        assert response.status == 200
        assert await response.read() == b'event: error\ndata: "404: Not Found"\n\n'


async def test_run(visitor: Visitor) -> None:
    """A call in one request answers with the outputs, or with what went wrong."""

    async def run(name: str, *values: Any) -> tuple[int, Any]:
        response = await visitor.post(f"/run/{name}", {"data": list(values)})
        return response.status, await response.json()

    assert await run("add", 1, 2) == (200, {"data": [3.0]})
    assert await run("divide", 17, 5) == (200, {"data": [3, 2]})
    assert await run("nothing") == (200, {"data": []})
    assert await run("spell", "abc") == (200, {"data": ["abc"]})
    status, document = await run("broken", "no")
    assert (status, document["error"]) == (500, "no")
    status, document = await run("private")
    assert status == 500
    assert "1234" not in document["error"]


@pytest.mark.parametrize("most", [0.0, 60.0])
async def test_run_takes_long(open_shop, most: float) -> None:
    """A call in one request waits as long as it takes, and works for nothing meanwhile."""
    visitor = await open_shop(settings={"prefer_wait_max": most})
    call = asyncio.create_task(visitor.post("/run/work", {"data": [7]}))
    await visitor.shop.listening()
    (place,) = visitor.shop.inside.listeners._places
    listener = place.listener
    await visitor.shop.inside.pass_time(5)
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert place.listener is listener
    visitor.shop.end.set()
    assert await (await call).json() == {"data": [7]}


async def test_run_and_leave(visitor: Visitor) -> None:
    """Whoever leaves while he waits for a call gives it up."""
    call = asyncio.create_task(visitor.post("/run/work", {}))
    await visitor.shop.listening()
    inside = visitor.shop.inside
    (job_id,) = inside.runtime._scheduler._active
    call.cancel()
    await asyncio.wait([call])
    await inside.have_left()
    await inside.pass_time(35)
    assert await inside.ended(job_id) == "cancelled"


async def test_run_at_the_end_of_the_server(visitor: Visitor) -> None:
    """Who waits for a call when the server ends is told so."""
    call = asyncio.create_task(visitor.post("/run/work", {}))
    await visitor.shop.listening()
    await visitor.shop.inside.runtime.drain()
    response = await call
    assert response.status == 500
    assert (await response.json())["error"] == "The server shut down before the job ended."


# Results that are files


async def test_file(visitor: Visitor) -> None:
    """A result that is a file is told with its address, and is there."""
    job_id = await visitor.join("picture", "ä b?.png")
    end = (await visitor.told())[2]
    (told,) = end["output"]["data"]
    address = visitor.url(f"/file={job_id}/%C3%A4%20b%3F.png")
    assert told == {
        "path": f"{job_id}/ä b?.png",
        "url": address,
        "orig_name": "ä b?.png",
        "size": 9,
        "mime_type": "image/png",
        "is_stream": False,
        "meta": {"_type": "gradio.FileData"},
    }
    async with visitor.shop.http.get(told["url"]) as response:
        assert (response.status, await response.read()) == (200, b"a picture")
        assert response.content_type == "image/png"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert await visitor.call("raw_bytes")
    response = await visitor.get(f"/file={job_id}/any name will do")
    assert (response.status, await response.read()) == (200, b"a picture")


@pytest.mark.one_loop
async def test_no_such_file(visitor: Visitor) -> None:
    """What is no result that is a file is not found: a value, a job that goes on, any path."""
    value = await visitor.join("add", 1)
    running = await visitor.join("work")
    await visitor.shop.inside.ended(value)
    for path in (
        *(f"{value}/result", f"{running}/result", value, "unknown/x"),
        *("/etc/passwd", "../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd"),
        *(f"{value}/../../etc/passwd", "%00", "\N{SNOWMAN}"),
    ):
        response = await visitor.get(f"/file={path}")
        assert response.status == 404, path


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("headers", "begin"),
    [
        ({}, "http://{host}"),
        ({"X-Forwarded-Proto": "https"}, "https://{host}"),
        (
            {"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "a.example, b"},
            "https://a.example",
        ),
        ({"Host": "c.example:81"}, "http://c.example:81"),
    ],
)
async def test_address_of_a_file(open_shop, headers: dict[str, str], begin: str) -> None:
    """The address of a file is one that the client can reach, by the way it came."""
    visitor = await open_shop(path="/gradio", settings={"public_path": "/outside"})
    visitor.headers = headers
    job_id = await visitor.join("picture")
    (told,) = (await visitor.told())[2]["output"]["data"]
    start = begin.format(host=visitor.shop.url.removeprefix("http://"))
    assert told["url"] == f"{start}/outside/gradio/gradio_api/file={job_id}/cat.png"
    ((_, (told,)),) = await visitor.call("picture")
    assert told["url"].startswith(f"{start}/outside/gradio/gradio_api/file=")


# Who asks


async def test_owners(open_shop) -> None:
    """What is somebody's is nobody else's: no stream, no events, no cancel, no file."""
    visitor = await open_shop(settings={"owner": owner_of}, headers={"X_Owner": "me"})
    mine = await visitor.join("work")
    picture = await visitor.join("picture")
    await visitor.shop.inside.ended(picture)
    for owner in ("you", None):
        headers = {"X_Owner": owner} if owner else {}
        stranger = Visitor(visitor.shop, **headers)
        assert kinds_of(await stranger.told()) == ["unexpected_error"]
        assert (await (await stranger.cancel(mine)).json()) == {"success": True}
        assert await visitor.shop.inside.state(mine) == "running"
        events = await stranger.get(f"/call/work/{mine}")
        assert await events.read() == b'event: error\ndata: "404: Not Found"\n\n'
        assert (await stranger.get(f"/file={picture}/cat.png")).status == 404
        await stranger.join("add", 1)
        assert len(await stranger.told()) == 4
    assert (await visitor.get(f"/file={picture}/cat.png")).status == 200
    visitor.shop.end.set()
    ends = [one for one in await visitor.told() if one["msg"] == "process_completed"]
    assert {one["event_id"] for one in ends} == {mine, picture}


LOCKED = [
    *(("GET", "/config"), ("GET", "/gradio_api/info"), ("POST", "/gradio_api/queue/join")),
    *(("GET", f"/gradio_api/queue/data?session_hash={NAME}"), ("GET", "/gradio_api/queue/status")),
    *(("POST", "/gradio_api/cancel"), ("POST", "/gradio_api/upload")),
    *(("GET", "/gradio_api/file=x/y"), ("POST", "/gradio_api/call/add")),
    *(("POST", "/gradio_api/call/v2/add"), ("GET", "/gradio_api/call/add/x")),
    *(("GET", "/gradio_api/call/v2/add/x"), ("POST", "/gradio_api/run/add")),
]


@pytest.mark.one_loop
async def test_not_logged_in(open_shop) -> None:
    """Where the app lets nobody in whom it does not know, clients are told in their words."""

    def owner(request: web.Request) -> str:
        raise web.HTTPUnauthorized

    visitor = await open_shop(settings={"owner": owner})
    for method, below in LOCKED:
        body = b"" if method == "GET" else b'{"data":[1],"fn_index":0}'
        request = raw(method, below, b"Content-Type: application/json", body=body)
        answer = await exchange(visitor.shop.url, request)
        assert answer.status == 401, below
        assert answer.json() == {"detail": {"error": "Not authenticated", "auth_message": None}}


async def test_not_logged_in_with_a_body_to_come(open_shop) -> None:
    """Whoever is not known is answered before his body, and the connection closes."""

    def owner(request: web.Request) -> str:
        raise web.HTTPUnauthorized

    visitor = await open_shop(settings={"owner": owner})
    request = raw("POST", "/gradio_api/upload", body=b"x" * 100_000, length=1_000_000)
    answer = await exchange(visitor.shop.url, request)
    assert answer.status == 401
    assert answer.headers["Connection"] == "close"


class Guests:
    """An app's way to log people in, with a cookie."""

    def __init__(self) -> None:
        self.words = {"ann": "secret", "": ""}

    def owner(self, request: web.Request) -> str:
        """Who somebody is."""
        name = request.cookies.get("guest")
        if name is None:
            raise web.HTTPUnauthorized
        return name

    async def login(self, request: web.Request, name: str, word: str) -> web.StreamResponse | None:
        """Let somebody in."""
        if self.words.get(name) != word:
            return None
        response = web.json_response({"success": True})
        response.set_cookie("guest", name, httponly=True)
        return response


@pytest.mark.one_loop
@pytest.mark.parametrize("multipart", [False, True])
async def test_login(open_shop, multipart: bool) -> None:
    """Whoever logs in has a cookie, with which all other requests are his."""
    guests = Guests()
    visitor = await open_shop(settings={"owner": guests.owner}, login=guests.login)
    login = f"{visitor.shop.url}/login"

    async def send(name: str, word: str) -> Any:
        data: Any = {"username": name, "password": word}
        if multipart:
            from aiohttp import FormData

            data = FormData(default_to_multipart=True)
            data.add_field("username", name)
            data.add_field("password", word)
        async with visitor.shop.http.post(login, data=data) as response:
            await response.read()
            return response

    refused = await send("ann", "wrong")
    assert (refused.status, await refused.json()) == (401, {"detail": "Incorrect credentials."})
    assert "Set-Cookie" not in refused.headers
    accepted = await send("ann", "secret")
    assert (accepted.status, await accepted.json()) == (200, {"success": True})
    cookie = accepted.cookies["guest"].value
    visitor.headers = {"Cookie": f"guest={cookie}"}
    job_id = await visitor.join("add", 1)
    assert len(await visitor.told()) == 4
    assert (await visitor.shop.inside.engine.get(job_id)).record.owner == "ann"


@pytest.mark.one_loop
async def test_no_login(visitor: Visitor) -> None:
    """Where nobody can log in there is no such route."""
    async with visitor.shop.http.post(f"{visitor.shop.url}/login", data={}) as response:
        await detail_of(response, 404)


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", b"application/x-www-form-urlencoded", 401),
        (b"username=ann", b"application/x-www-form-urlencoded", 401),
        (b"password=secret", b"application/x-www-form-urlencoded", 401),
        (b'{"username":"ann","password":"secret"}', b"application/json", 401),
        (b"nonsense", b"multipart/form-data", 400),
        (b"nonsense", b"multipart/form-data; boundary=b", 400),
        (b"username=ann", b"application/x-www-form-urlencoded; charset=nonsense", 400),
        (b"username=\xff", b"application/x-www-form-urlencoded", 400),
        (b"x" * 2_000_000, b"application/x-www-form-urlencoded", 413),
    ],
    ids=range(9),
)
async def test_wrong_login(open_shop, body: bytes, kind: bytes, status: int) -> None:
    """A body that is no login is refused, whatever it is."""
    visitor = await open_shop(login=Guests().login)
    request = raw("POST", "/login", b"Content-Type: " + kind, body=body)
    answer = await exchange(visitor.shop.url, request)
    assert answer.status == status, answer.body
    assert list(answer.json()) == ["detail"]


async def test_a_login_that_takes_too_long(open_shop) -> None:
    """A login whose rest never comes is let go."""
    visitor = await open_shop(login=Guests().login, settings={"body_timeout": 0.1})
    kind = b"Content-Type: application/x-www-form-urlencoded"
    answer = await exchange(visitor.shop.url, raw("POST", "/login", kind, body=b"user", length=99))
    assert answer.status == 408


@pytest.mark.one_loop
@pytest.mark.parametrize("answer", [True, "yes", ZeroDivisionError()])
async def test_a_login_that_answers_nothing(
    open_shop, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    """What an app's login gives back is an answer or None; else the log says what it must be."""

    def login(request: web.Request, name: str, password: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer if name == "me" else None

    visitor = await open_shop(login=login)
    address = f"{visitor.shop.url}/login"
    form = {"username": "me", "password": "secret"}
    async with visitor.shop.http.post(address, data=form) as response:
        assert response.status == 500
        assert await response.json() == {"detail": "The server made a mistake."}
    assert caplog.records[-1].levelname == "ERROR"
    if not isinstance(answer, Exception):
        assert "login must return a response" in caplog.records[-1].getMessage()
        async with visitor.shop.http.post(address, data=form | {"username": "you"}) as response:
            assert response.status == 401


@pytest.mark.one_loop
async def test_login_from_another_site(open_shop) -> None:
    """No other site can log somebody in, which would make him work for its owner."""
    visitor = await open_shop(login=Guests().login)
    headers = {"Sec-Fetch-Site": "cross-site"}
    data = {"username": "ann", "password": "secret"}
    address = f"{visitor.shop.url}/login"
    async with visitor.shop.http.post(address, data=data, headers=headers) as response:
        await detail_of(response, 403)


# Below a path


@pytest.mark.one_loop
async def test_below_a_path(open_shop) -> None:
    """Everything works below a path as well, and nothing is at the root then."""
    visitor = await open_shop(path="/gradio")
    await visitor.join("add", 1)
    assert len(await visitor.told()) == 4
    assert await visitor.call("add", 1) == [("complete", [3.0])]
    assert (await visitor.post("/run/add", {"data": [1]})).status == 200
    assert (await visitor.get("/app_id")).status == 200
    async with visitor.shop.http.get(f"{visitor.shop.url}/config") as response:
        assert response.status == 404


@pytest.mark.one_loop
async def test_json_is_on_one_line(visitor: Visitor) -> None:
    """What a function says can't break the frames, nor come in a form that clients can't read."""
    value = "two\r\nlines\u2028\u0085\0, and data: not ours\n\ndata: {}"
    await visitor.join("echo", value)
    async with visitor.stream() as stream:
        body = await stream.response.read()
    assert messages_of(body)[2]["output"]["data"] == [value]
    for block in body.split(b"\n\n")[:-1]:
        json.loads(block[6:])
        assert orjson.loads(block[6:])
