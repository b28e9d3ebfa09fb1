"""One queue in front of handlers that nobody touched, and what passes it by."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession, WSMsgType, web

import aioqueue
from aioqueue.web import OwnRoute
from tests.inside import Inside
from tests.stage import Stage, a_while, until

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gated:
    """An app of ordinary handlers behind a middleware with one slot, and its visitors."""

    def __init__(self, http: ClientSession, stage: Stage) -> None:
        self.http = http
        self.stage = stage
        self.app = web.Application()
        self.url = ""
        self.inside: Inside
        self.app.add_routes(
            [
                web.get("/play/{n}", self.play),
                web.post("/play/{n}", self.play),
                web.options("/play/{n}", self.hello),
                web.get("/hello", self.hello),
                web.get("/chat", self.chat),
                web.get("/stream", self.stream),
                web.get("/fail/{how}", self.fail),
            ]
        )

    async def open(
        self, serve: Any, *, options: Any = None, functions: Any = (), **gate: Any
    ) -> Gated:
        """Serve it; answers itself."""
        self.app.middlewares.append(aioqueue.middleware(**gate))
        aioqueue.setup(self.app, functions=functions, drain_timeout=0)
        self.url = await serve(self.app, **(options or {}))
        self.inside = Inside(self.app)
        return self

    async def play(self, request: web.Request) -> web.Response:
        await self.stage.play(request.match_info["n"])
        return web.Response(text=f"{request.match_info['n']} {await request.text()}")

    async def hello(self, request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def chat(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in "ab":
            await response.write(part.encode())
            await self.stage.play(part)
        return response

    async def fail(self, request: web.Request) -> web.Response:
        if request.match_info["how"] == "http":
            raise web.HTTPPaymentRequired(text="Five coins.")
        raise ValueError("swordfish")

    async def visit(self, number: str, method: str = "GET") -> asyncio.Task[str]:
        """Ask for a play, and come back when it has begun or waits."""

        async def ask() -> str:
            async with self.http.request(method, f"{self.url}/play/{number}") as response:
                return f"{response.status} {await response.text()}"

        before = len(self.inside.listeners) + len(self.stage.begun)
        visit = asyncio.create_task(ask())
        await until(lambda: len(self.inside.listeners) + len(self.stage.begun) > before)
        return visit

    async def is_free(self) -> bool:
        """Whether the slot can be had."""
        return not (await self.inside.engine.stats("middleware")).running


@pytest.fixture
def gated(http: ClientSession, stage: Stage) -> Gated:
    """An app that is not served yet."""
    return Gated(http, stage)


@pytest.mark.parametrize("limit", [1, 3])
async def test_middleware_keeps_order_and_limit(serve, gated: Gated, limit: int) -> None:
    """Whatever it matches runs in the order in which it came, so many at once."""
    await gated.open(serve, concurrency_limit=limit)
    visits = [await gated.visit(str(number)) for number in range(6)]
    await gated.stage.has_begun(*map(str, range(limit)))
    for number in range(6):
        gated.stage.end(str(number))

    assert await asyncio.gather(*visits) == [f"200 {number} " for number in range(6)]
    assert gated.stage.begun == list("012345")
    assert gated.stage.most == limit
    assert await gated.is_free()


async def test_middleware_is_honest_when_full(serve, gated: Gated) -> None:
    """One waits too many: 503, with the time that it takes according to those before."""
    await gated.open(serve, max_size=1)
    first = await gated.visit("1")
    await gated.inside.pass_time(20, step=20)
    gated.stage.end("1")
    await first
    running, waiting = await gated.visit("2"), await gated.visit("3")
    async with gated.http.get(f"{gated.url}/play/4") as response:
        problem = await response.json()

    assert response.status == 503
    assert (problem["code"], problem["queue_size"], problem["max_size"]) == ("queue_full", 1, 1)
    assert 20 <= int(response.headers["Retry-After"]) <= 75
    gated.stage.end("2", "3")
    assert [await running, await waiting] == ["200 2 ", "200 3 "]
    assert gated.stage.begun == ["1", "2", "3"]


async def test_middleware_that_refuses_a_body(serve, gated: Gated) -> None:
    """A refused upload is not read: the answer is sent, and the connection closed."""
    await gated.open(serve, max_size=0)
    running = await gated.visit("1")

    async def body() -> Any:
        yield b"begin"
        await until(lambda: refused)
        yield b"end"

    refused: list[int] = []
    async with gated.http.post(f"{gated.url}/play/2", data=body()) as response:
        refused.append(response.status)
        assert response.headers["Connection"] == "close"

    assert refused == [503]
    gated.stage.end("1")
    await running


async def test_middleware_lets_routes_of_adapters_pass(serve, gated: Gated) -> None:
    """A route that an adapter marks as ours is not held up, as a plain one is."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.method} passed")

    gated.app.add_routes([web.post("/own", OwnRoute(answer)), web.get("/plain", answer)])
    await gated.open(serve, max_size=0)
    running = await gated.visit("1")
    async with gated.http.post(f"{gated.url}/own") as response:
        assert await response.text() == "POST passed"
    async with gated.http.get(f"{gated.url}/plain") as response:
        assert response.status == 503
    gated.stage.end("1")
    await running


async def test_middleware_lets_the_rest_pass(serve, gated: Gated) -> None:
    """WebSockets, HEAD, OPTIONS, unknown routes, queued functions and our own are not held up."""

    @aioqueue.queued
    async def values() -> str:
        return "done"

    class View(web.View):
        @aioqueue.queued
        async def get(self) -> web.Response:
            return web.Response()

    gated.app.add_routes([web.post("/values", values), web.view("/view", View)])
    await gated.open(serve)
    running = await gated.visit("1")
    http, url = gated.http, gated.url
    async with http.head(f"{url}/hello") as response:
        assert response.status == 200
    async with http.options(f"{url}/play/1") as response:
        assert await response.text() == "hello"
    async with http.get(f"{url}/nowhere") as response:
        assert response.status == 404
    async with http.delete(f"{url}/hello") as response:
        assert response.status == 405
    async with http.post(f"{url}/values", json={}, headers={"Prefer": "wait=5"}) as response:
        assert await response.json() == "done"
    async with http.get(f"{url}/view") as response:
        assert response.status == 200
    async with http.get(f"{url}/queue/status") as response:
        assert (await response.json())["functions"]["middleware"]["running"] == 1
    async with http.ws_connect(f"{url}/chat") as socket:
        await socket.send_str("hi")
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.TEXT, "HI")

    assert not await gated.is_free()
    gated.stage.end("1")
    await running


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": ""}),
        ("POST", {"Connection": "Upgrade", "Upgrade": "websocket"}),
    ],
)
async def test_middleware_is_not_fooled_by_an_upgrade(
    serve, gated: Gated, method: str, headers: dict[str, str]
) -> None:
    """Only a WebSocket handshake passes; who offers HTTP/2 waits like everybody."""
    await gated.open(serve)
    running = await gated.visit("1")
    asking = asyncio.create_task(gated.http.request(method, f"{gated.url}/play/2", headers=headers))
    await until(lambda: len(gated.inside.listeners) == 1)
    await a_while()
    assert gated.stage.begun == ["1"]
    gated.stage.end("1", "2")
    await running

    assert (await asking).status == 200


async def test_middleware_matches(serve, gated: Gated) -> None:
    """What it does not match never waits."""
    await gated.open(serve, match=lambda request: request.path.startswith("/play"))
    running = await gated.visit("1")
    async with gated.http.get(f"{gated.url}/hello") as response:
        assert await response.text() == "hello"
    gated.stage.end("1")

    assert await running == "200 1 "


@pytest.mark.parametrize("cancellation", [False, True])
async def test_middleware_and_clients_that_leave(serve, gated: Gated, cancellation: bool) -> None:
    """Who leaves while waiting never runs; who leaves while running is aiohttp's business."""
    await gated.open(serve, options={"handler_cancellation": cancellation})
    first, second, third = [await gated.visit(number) for number in "123"]
    second.cancel()
    if cancellation:
        await until(lambda: len(gated.inside.listeners) == 1)
    else:
        await gated.inside.have_left()
    first.cancel()
    if not cancellation:
        await a_while()
        assert gated.stage.running["1"] == 1
        gated.stage.end("1")
    gated.stage.end("3")

    assert await third == "200 3 "
    assert gated.stage.begun == ["1", "3"]
    assert await gated.is_free()


async def test_middleware_and_a_client_that_leaves_at_its_turn(
    serve, gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that is cancelled between its grant and its first step gives its slot back."""
    tasks: dict[str, Any] = {}

    @web.middleware
    async def remember(request: web.Request, handler: Handler) -> web.StreamResponse:
        tasks[request.match_info["n"]] = asyncio.current_task()
        return await handler(request)

    gated.app.middlewares.append(remember)
    await gated.open(serve)
    # By POST, which a client that was hung up on does not send again.
    first, second, third = [await gated.visit(number, "POST") for number in "123"]
    scheduler = gated.inside.runtime._scheduler
    grant, granted = scheduler._start, []

    def grant_and_cancel(claim: Any) -> None:
        grant(claim)
        granted.append(claim)
        if len(granted) == 1:
            tasks["2"].cancel()

    monkeypatch.setattr(scheduler, "_start", grant_and_cancel)
    gated.stage.end("1", "3")

    assert [await first, await third] == ["200 1 ", "200 3 "]
    with pytest.raises(ClientConnectionError):
        await second
    assert gated.stage.begun == ["1", "3"]
    assert await gated.is_free()


async def test_middleware_holds_the_slot_of_a_stream(serve, gated: Gated) -> None:
    """A streamed response is under way until its handler ends, and so is its slot."""
    await gated.open(serve)
    async with gated.http.get(f"{gated.url}/stream") as response:
        assert await response.content.readany() == b"a"
        visit = await gated.visit("1")
        gated.stage.end("a")
        assert await response.content.readany() == b"b"
        await a_while()
        assert gated.stage.begun == ["a", "b"]
        gated.stage.end("b")
        assert await response.content.read() == b""
    gated.stage.end("1")

    assert await visit == "200 1 "


async def test_middleware_lets_exceptions_through(
    serve, gated: Gated, caplog: pytest.LogCaptureFixture
) -> None:
    """What a handler raises is what the app's own middlewares and aiohttp see."""
    seen: list[str] = []

    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except BaseException as error:
            seen.append(repr(error))
            raise

    gated.app.middlewares.append(watch)
    await gated.open(serve)
    for how, status in (("http", 402), ("any", 500)):
        async with gated.http.get(f"{gated.url}/fail/{how}") as response:
            assert response.status == status
        assert await gated.is_free()

    assert seen == [
        "<HTTPPaymentRequired Payment Required not prepared>",
        "ValueError('swordfish')",
    ]


async def test_middleware_in_a_request(serve, gated: Gated) -> None:
    """A gated handler has a job like any other, nobody's, from its first line to its last."""
    seen: list[Any] = []

    async def look(request: web.Request) -> web.Response:
        job = aioqueue.current_job()
        seen.extend((job.owner, job.metadata, job.app is request.app, job.cancelled))
        return web.Response()

    @web.middleware
    async def outside(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        finally:
            with pytest.raises(aioqueue.AioqueueError):
                aioqueue.current_job()
            seen.append("outside")

    gated.app.router.add_get("/look", look)
    gated.app.middlewares.append(outside)
    await gated.open(serve)
    async with gated.http.get(f"{gated.url}/look") as response:
        assert response.status == 200

    assert seen == [None, None, True, False, "outside"]


async def test_middleware_twice(serve, http: ClientSession) -> None:
    """On the root and on a sub-app, one gate is passed once: it does not wait for itself."""
    gate = aioqueue.middleware(concurrency_limit=1)
    other = aioqueue.middleware(name="other", concurrency_id="middleware")

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app, sub_app = web.Application(middlewares=[gate]), web.Application(middlewares=[gate, other])
    sub_app.router.add_get("/hello", hello)
    app.add_subapp("/sub", sub_app)
    aioqueue.setup(app)
    url = await serve(app)
    for _ in range(3):
        async with http.get(f"{url}/sub/hello") as response:
            assert await response.text() == "hello"
    assert (await Inside(app).engine.stats("middleware")).running == []


async def test_middleware_shares_a_queue(serve, gated: Gated) -> None:
    """With a concurrency_id its requests and jobs stand in one line, under one limit."""

    @aioqueue.queued(concurrency_id="gpu")
    async def values(number: str) -> None:
        await gated.stage.play(number)

    await gated.open(serve, functions=[values], concurrency_id="gpu", concurrency_limit=1)
    visit = await gated.visit("1")
    handle = await values.submit("2")
    await a_while()
    assert gated.stage.begun == ["1"]
    gated.stage.end("1", "2")

    assert await visit == "200 1 "
    assert await handle.result() is None


async def test_middleware_queue_timeout(serve, gated: Gated) -> None:
    """Who waits too long gets a 503 that says so, and never runs."""
    await gated.open(serve, queue_timeout=5)
    running, waiting = await gated.visit("1"), await gated.visit("2")
    await gated.inside.pass_time(6, step=6)

    assert '"code":"queue_timeout"' in await waiting
    gated.stage.end("1")
    assert await running == "200 1 "
    assert gated.stage.begun == ["1"]


class Overtime:
    """The time limits of a test's handlers, which are over when the test says so."""

    LIMIT = 77.7

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clocks: list[asyncio.Timeout] = []
        self._timeout = asyncio.timeout
        monkeypatch.setattr(asyncio, "timeout", self._start)

    def _start(self, delay: float | None) -> asyncio.Timeout:
        if delay != self.LIMIT:
            return self._timeout(delay)
        self.clocks.append(self._timeout(None))
        return self.clocks[-1]

    def begins(self) -> None:
        """The time of the handler that began last is over."""
        self.clocks[-1].reschedule(asyncio.get_running_loop().time())


@pytest.fixture
def overtime(monkeypatch: pytest.MonkeyPatch) -> Overtime:
    """Ends the time limit of a handler."""
    return Overtime(monkeypatch)


async def test_middleware_time_limit(serve, gated: Gated, overtime: Overtime) -> None:
    """A handler that runs too long is cancelled and gets a 504; its slot is the next one's."""
    await gated.open(serve, time_limit=overtime.LIMIT)
    slow, waiting = await gated.visit("1"), await gated.visit("2")
    await gated.stage.has_begun("1")
    overtime.begins()
    answer = await slow

    assert answer.startswith("504 ")
    assert '"code":"job_timeout"' in answer
    assert "The server did not answer within 77.7 s." in answer
    assert not gated.stage.running["1"]
    gated.stage.end("2")
    assert await waiting == "200 2 "  # its time began with its turn
    assert await gated.is_free()


async def test_request_function_time_limit(
    serve, http: ClientSession, stage: Stage, overtime: Overtime
) -> None:
    """A request function's own time limit answers with a 504, too, and reads no further."""

    @aioqueue.queued(time_limit=overtime.LIMIT)
    async def handler(request: web.Request) -> str:
        return str(await stage.play("a"))

    app = web.Application()
    app.router.add_post("/handler", handler)
    aioqueue.setup(app)
    url = await serve(app)
    answered = asyncio.Event()

    async def body() -> Any:
        yield b"begin"
        await answered.wait()

    asking = asyncio.create_task(http.post(f"{url}/handler", data=body()))
    await stage.has_begun("a")
    overtime.begins()
    async with await asking as response:
        assert response.status == 504
        assert (await response.json())["code"] == "job_timeout"
        assert response.headers["Connection"] == "close"
    answered.set()


async def test_time_limit_of_a_handler_that_answers_anyway(
    serve, http: ClientSession, stage: Stage, overtime: Overtime
) -> None:
    """A handler that makes an answer out of its cancellation has answered."""

    @aioqueue.queued(time_limit=overtime.LIMIT)
    async def handler(request: web.Request) -> str:
        try:
            return str(await stage.play("a"))
        except asyncio.CancelledError:
            return "so far"

    app = web.Application()
    app.router.add_get("/handler", handler)
    aioqueue.setup(app)
    url = await serve(app)
    asking = asyncio.create_task(http.get(f"{url}/handler"))
    await stage.has_begun("a")
    overtime.begins()
    async with await asking as response:
        assert (response.status, await response.json()) == (200, "so far")


async def test_own_timeout_of_a_handler(serve, gated: Gated, overtime: Overtime) -> None:
    """A TimeoutError of a handler's own is an error as any other, and aiohttp's business."""
    error, seen = TimeoutError("the other server's"), []

    async def own(request: web.Request) -> web.Response:
        raise error

    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except TimeoutError as caught:
            seen.append(caught)
            raise

    gated.app.router.add_get("/own", own)
    gated.app.middlewares.append(watch)
    await gated.open(serve, time_limit=overtime.LIMIT)
    async with gated.http.get(f"{gated.url}/own") as response:
        assert "job_timeout" not in await response.text()

    assert seen == [error]
    assert await gated.is_free()


async def test_time_limit_of_a_stream(
    serve, gated: Gated, overtime: Overtime, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that is on its way is cut off, so that nobody takes it for a whole one."""
    await gated.open(serve, time_limit=overtime.LIMIT)
    async with gated.http.get(f"{gated.url}/stream") as response:
        assert (response.status, await response.content.readany()) == (200, b"a")
        overtime.begins()
        with pytest.raises(ClientPayloadError):
            await response.content.read()
    await until(lambda: not gated.stage.running["a"])
    await a_while()

    assert await gated.is_free()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_middleware_without_setup(serve, http: ClientSession, caplog) -> None:
    """Without setup() it fails every request, and the log says what to call."""
    app = web.Application(middlewares=[aioqueue.middleware()])
    url = await serve(app)
    async with http.get(url) as response:
        assert response.status == 500

    assert "call aioqueue.setup(app) on the root application before it starts" in caplog.text
