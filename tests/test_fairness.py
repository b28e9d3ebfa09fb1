"""Whose turn it is in a served app: turns, priorities that age, caps, and slots with names.

A job plays its name, and its client is the first letter of it: ``a1``, ``b1``; ``-1`` has none.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, web

import aioqueue
from aioqueue import ConfigurationError, QueuedFunction, Refused
from tests.inside import STREAM, Inside, Shop, make_app
from tests.stage import PATIENCE, Stage, a_while, until

Function = QueuedFunction[..., Any]


@pytest.fixture
def shop() -> Shop:
    """An app that is not served yet."""
    return Shop()


def by_header(request: web.Request) -> str | None:
    """Name a client as it names itself."""
    return request.headers.get("Client")


async def slowly_by_header(request: web.Request) -> str | None:
    """Do the same after a look into some store."""
    await asyncio.sleep(0)
    return request.headers.get("Client")


def urgency(request: web.Request) -> float:
    """Give back the priority that a request asks for."""
    return float(request.headers.get("Priority", "0"))


def work(stage: Stage, name: str = "work", **options: Any) -> Function:
    """A function that plays its name."""

    @aioqueue.queued(name=name, **options)
    async def function(name: str) -> None:
        await stage.play(name)

    return function


async def ask(shop: Shop, name: str, function: str = "work", **headers: str) -> ClientResponse:
    """Ask for a job."""
    if name[0] != "-":
        headers["Client"] = name[0]
    return await shop.post("", function, {"name": name}, **headers)


async def send(shop: Shop, names: str, function: str = "work", **headers: str) -> list[str]:
    """Send jobs that are accepted; answers their ids."""
    ids = []
    for name in names.split():
        async with await ask(shop, name, function, **headers) as response:
            assert response.status == 202, await response.text()
            ids.append((await response.json())["id"])
    return ids


async def send_from_code(function: Any, names: str) -> None:
    """Submit jobs."""
    for name in names.split():
        await function.submit(name)


async def play_out(stage: Stage, count: int) -> str:
    """Let so many jobs run, one after the other, and tell in which order they began."""
    for number in range(count):
        await until(lambda number=number: len(stage.begun) > number)
        stage.end(stage.begun[number])
    return " ".join(stage.begun)


async def look(shop: Shop, job_id: str) -> Any:
    """The resource of a job."""
    async with shop.http.get(shop.job(job_id)) as response:
        return await response.json()


# Turns


@pytest.mark.parametrize("hook", [by_header, slowly_by_header])
@pytest.mark.parametrize("place", ["function", "app"])
async def test_clients_take_turns(serve, http: ClientSession, shop, stage, hook, place) -> None:
    """Of a client with twenty jobs waiting one more starts, then another client's first."""
    own, settings = (
        ({"client_key": hook}, {}) if place == "function" else ({}, {"client_key": hook})
    )
    await shop.sells(work(stage, **own), **settings).open(serve, http)
    await send(shop, " ".join(f"a{number}" for number in range(21)))
    (job,) = await send(shop, "b0")

    assert (await look(shop, job))["position"] == 2  # behind the one whose turn has begun
    assert await play_out(stage, 3) == "a0 a1 b0"


async def test_no_client(serve, http: ClientSession, shop, stage) -> None:
    """A request without a key is a client of its own, each of them."""
    await shop.sells(work(stage, client_key=by_header)).open(serve, http)
    await send(shop, "a1 a2 a3 -1 -2")

    assert await play_out(stage, 5) == "a1 a2 -1 -2 a3"


@pytest.mark.one_loop
async def test_key_that_is_no_text(serve, http: ClientSession, shop, stage) -> None:
    """A key may be a number, as user ids are; from code it is the same client."""
    function = work(stage, client_key=lambda request: int(request.headers["User"]))
    await shop.sells(function).open(serve, http)
    await send(shop, "-1 -2", User="7")
    await send_from_code(function.options(client=7), "-3")
    await send_from_code(function.options(client="7"), "-4")
    await send(shop, "-5", User="8")

    assert await play_out(stage, 5) == "-1 -2 -5 -3 -4"


@pytest.mark.parametrize(
    "options",
    [
        {"client_key": lambda request: 1 / 0},
        {"priority": lambda request: 1 / 0},
        {"priority": lambda request: "high"},
        {"priority": lambda request: None},
        {"priority": lambda request: float("nan")},
        {"priority": lambda request: 10**400},
    ],
)
async def test_hook_that_fails(serve, http: ClientSession, shop, stage, caplog, options) -> None:
    """A hook that raises, or returns what is no priority, is the server's mistake, and logged."""
    await shop.sells(work(stage, **options)).open(serve, http)
    async with await ask(shop, "a1") as response:
        problem = await response.json()

    assert (response.status, problem["code"]) == (500, "internal_error")
    assert [record.levelname for record in caplog.records if record.name == "aioqueue"] == ["ERROR"]
    assert "hook" in caplog.text
    stats = await shop.inside.engine.stats("work")
    assert (stats.queue_size, stats.running, stage.begun) == (0, [], [])


@pytest.mark.one_loop
async def test_hook_that_refuses(serve, http: ClientSession, shop, stage) -> None:
    """A hook may refuse a request with an HTTP error of its own."""

    def known(request: web.Request) -> str:
        raise web.HTTPUnauthorized(text="Who are you?")

    await shop.sells(work(stage, client_key=known)).open(serve, http)
    async with await ask(shop, "a1") as response:
        assert (response.status, await response.text()) == (401, "Who are you?")


@pytest.mark.one_loop
async def test_turns_of_code(serve, stage) -> None:
    """``options(client=…)`` says whose turn a job takes; without it each is a client of its own."""
    function = work(stage, client_key=by_header)
    await serve(make_app(function))
    await send_from_code(function.options(client="a"), "a1 a2 a3")
    await send_from_code(function.options(client="b"), "b1")
    await send_from_code(function, "-1 -2")

    assert await play_out(stage, 6) == "a1 a2 b1 -1 -2 a3"


async def test_inherited_inside_a_job(serve, http: ClientSession, shop, stage) -> None:
    """What a job submits takes its client's turn and its priority, unless it says otherwise."""
    submitted: list[aioqueue.JobHandle[Any]] = []

    @aioqueue.queued(client_key=by_header)
    async def by_turns() -> None:
        submitted.append(await fair.submit("x1"))
        submitted.append(await fair.options(client="z").submit("x2"))

    @aioqueue.queued(priority=urgency)
    async def by_rank() -> None:
        submitted.append(await ranked.submit("y1"))
        submitted.append(await ranked.options(priority=1).submit("y2"))

    fair = work(stage, "fair", client_key=by_header)
    ranked = work(stage, "ranked", priority=urgency)
    await shop.sells(by_turns, by_rank, fair, ranked).open(serve, http)
    await shop.post("wait=5", "by_turns", Client="a")
    await shop.post("wait=5", "by_rank", Client="a", Priority="7")

    records = [(await shop.inside.engine.get(one.id)).record for one in submitted]
    assert [record.client for record in records[:2]] == ["a", "z"]
    assert [record.priority for record in records[2:]] == [7.0, 1.0]


@pytest.mark.one_loop
async def test_batch_of_several_clients(serve) -> None:
    """What a batch submits is its client's, if all of its jobs are one client's."""
    submitted: list[aioqueue.JobHandle[Any]] = []

    @aioqueue.queued(client_key=by_header)
    async def child(name: str) -> None: ...

    @aioqueue.queued(batch=True, max_batch_size=2, batch_timeout=30, client_key=by_header)
    async def parent(names: list[str]) -> list[None]:
        submitted.append(await child.submit(names[0]))
        return [None] * len(names)

    app = make_app(parent, child)
    await serve(app)
    for clients in ("aa", "ab"):
        handles = [await parent.options(client=client).submit("x") for client in clients]
        for handle in handles:
            await handle.result()

    records = [(await Inside(app).engine.get(one.id)).record for one in submitted]
    assert [record.client for record in records] == ["a", None]


@pytest.mark.one_loop
async def test_inherited_behind_a_gate(serve, http: ClientSession, shop, stage) -> None:
    """What a gated handler submits takes the turn of its request's client."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=(await function.submit("x")).id)

    function = work(stage, client_key=by_header)
    app = web.Application(middlewares=[aioqueue.middleware(client_key=by_header)])
    app.router.add_get("/", handler)
    aioqueue.setup(app, functions=[function], drain_timeout=0)
    async with http.get(await serve(app), headers={"Client": "a"}) as response:
        job_id = await response.text()

    assert (await Inside(app).engine.get(job_id)).record.client == "a"


# Caps


async def test_max_running_per_client(serve, http: ClientSession, shop, stage) -> None:
    """A client's extra jobs are held, though slots are free, and start when one of its ends."""
    function = work(stage, client_key=by_header, max_running_per_client=1, concurrency_limit=3)
    await shop.sells(function).open(serve, http)
    _, second, third = await send(shop, "a1 a2 a3")
    await send(shop, "b1 -1")
    await stage.has_begun("a1", "b1", "-1")
    held = await look(shop, second)
    assert (held["state"], held["position"], held["held"]) == ("queued", None, True)
    assert held["eta"] is None

    stage.end("b1")
    await a_while()
    assert len(stage.begun) == 3
    stage.end("a1")
    await stage.has_begun("a1", "b1", "-1", "a2")
    assert [(await look(shop, one))["held"] for one in (second, third)] == [False, True]
    stage.end("a2")
    await stage.has_begun("a1", "b1", "-1", "a2", "a3")


async def test_held_job_joins_after_a_cancel(serve, http: ClientSession, shop, stage) -> None:
    """When a client cancels the job that counts, the next one joins the line for it."""
    function = work(stage, client_key=by_header, max_running_per_client=1)
    await shop.sells(function).open(serve, http)
    _, second, third = await send(shop, "b1 a1 a2")
    async with http.delete(shop.job(second)) as response:
        assert response.status == 200
    assert (await look(shop, third))["position"] == 1

    stage.end("b1")
    await stage.has_begun("b1", "a2")


async def test_max_queued_per_client(serve, http: ClientSession, shop, stage) -> None:
    """A client with its share waiting, in whichever queues, is refused with a 429; others not."""
    functions = [work(stage, name, client_key=by_header) for name in ("one", "two")]
    await shop.sells(*functions, max_queued_per_client=2).open(serve, http)
    await send(shop, "a1 a2", "one")
    await send(shop, "a3 a4", "two")
    async with await ask(shop, "a5", "one") as response:
        problem = await response.json()

    assert (response.status, problem["code"]) == (429, "quota_exceeded")
    assert problem["detail"] == "You have 2 jobs waiting already. Please wait for one of them."
    assert (problem["queue_size"], problem["max_size"]) == (2, 2)
    assert 1 <= int(response.headers["Retry-After"]) <= 3600
    await send(shop, "b1 -1 -2 -3", "one")
    stage.end("a3")
    await until(lambda: "a4" in stage.begun)
    await send(shop, "a6", "one")


@pytest.mark.one_loop
async def test_quota_of_one(serve, http: ClientSession, shop, stage) -> None:
    """One job is one job, and what need not wait is not counted."""
    function = work(stage, client_key=by_header, max_queued_per_client=1)
    await shop.sells(function).open(serve, http)
    await send(shop, "a1 a2")
    async with await ask(shop, "a3") as response:
        problem = await response.json()
    with pytest.raises(Refused) as refused:
        await function.options(client="a").submit("a4")

    assert problem["detail"] == "You have 1 job waiting already. Please wait for it."
    assert refused.value.problem.code == "quota_exceeded"


@pytest.mark.parametrize("cap", ["max_running_per_client", "max_queued_per_client"])
@pytest.mark.parametrize("place", ["function", "app"])
async def test_cap_without_a_client(serve, stage, cap: str, place: str) -> None:
    """A cap for clients that nobody names stops the app, which says what is missing."""
    options = {cap: 2}
    if place == "function":
        app = make_app(work(stage, **options))
    else:
        app = make_app(work(stage), **options)
    with pytest.raises(ConfigurationError, match=f"work: {cap} needs a client_key"):
        await serve(app)


async def test_max_streams_per_client(serve, http: ClientSession, shop, stage) -> None:
    """A client with its streams open gets no other at any door, and no job; the next one does."""
    function, caps = work(stage, concurrency_limit=None), {"max_streams_per_client": 2}
    await shop.sells(function, client_key=by_header, **caps).open(serve, http)
    ann, bob = {"Client": "a"}, {"Client": "b"}
    first, second = [
        await http.post(f"{shop.url}/work", json={"name": name}, headers={**ann, **STREAM})
        for name in ("a1", "a2")
    ]
    job = shop.url + first.headers["Location"]
    doors = (
        ("POST", f"{shop.url}/work", STREAM),
        ("POST", f"{shop.url}/work", {"Prefer": "wait=5"}),
        ("GET", f"{job}/events", {}),
        ("GET", job, {"Prefer": "wait=5"}),
    )
    for method, url, headers in doors:
        body = {"name": "a3"} if method == "POST" else None
        async with http.request(method, url, json=body, headers={**ann, **headers}) as response:
            problem = await response.json()
        assert (response.status, problem["code"]) == (429, "quota_exceeded")
        assert problem["detail"] == "You have 2 streams open already. Please close one of them."
    counts = await http.get(f"{shop.url}/queue/status")
    assert (await counts.json())["functions"]["work"]["running"] == 2

    other = await http.get(f"{job}/events", headers=bob)
    assert other.status == 200
    async with http.get(job, headers=ann) as response:  # it does not wait
        assert response.status == 200
    first.close()
    await until(lambda: any(place.is_deserted for place in shop.inside.listeners._places))
    again = await http.get(f"{job}/events", headers=ann)
    assert again.status == 200
    for response in (second, other, again):
        response.close()


async def test_who_it_is_is_known_further_in(serve, http: ClientSession, stage, how) -> None:
    """A gate before the one that finds out who it is asks too early for itself only."""

    @web.middleware
    async def authenticate(request: web.Request, handler: Any) -> web.StreamResponse:
        request[user_key] = request.headers.get("Client")
        return await handler(request)

    def user(request: web.Request) -> str | None:
        return request.get(user_key)

    user_key = web.RequestKey("user", str)
    gated = Gated(stage, http, how)
    gated.app.middlewares.insert(0, aioqueue.middleware(name="outer", concurrency_limit=9))
    gated.app.middlewares.insert(1, authenticate)
    await gated.open(serve, client_key=user, max_running_per_client=1, default_concurrency_limit=2)
    visits = await gated.visit("a1 a2 b1")

    assert stage.begun == ["a1", "b1"]
    assert await play_out(stage, 3) == "a1 b1 a2"
    assert [await visit for visit in visits] == ["200 a1", "200 a2", "200 b1"]


async def test_streams_without_a_client(serve, stage) -> None:
    """A cap on the streams of clients that the app does not name stops it."""
    app = make_app(work(stage, client_key=by_header), max_streams_per_client=2)
    with pytest.raises(ConfigurationError, match="max_streams_per_client needs a client_key"):
        await serve(app)


async def test_cap_of_a_gate_without_a_client(serve) -> None:
    """A middleware is held to the same."""
    app = web.Application()
    app.middlewares.append(aioqueue.middleware(name="gate", max_running_per_client=1))
    aioqueue.setup(app)
    with pytest.raises(ConfigurationError, match="gate: max_running_per_client needs a client_key"):
        await serve(app)


@pytest.mark.one_loop
async def test_room_beside_held_jobs(serve, http: ClientSession, shop, stage) -> None:
    """Jobs that are held fill the queue, but not for who starts at once, however his body comes."""
    asked: list[str | None] = []

    def client_key(request: web.Request) -> str | None:
        asked.append(by_header(request))
        return asked[-1]

    function = work(stage, client_key=client_key, max_running_per_client=1, concurrency_limit=2)
    await shop.sells(function, max_size=2).open(serve, http)
    await send(shop, "a1 a2 a3")

    async def body() -> Any:
        yield b'{"name": '
        await until(lambda: "b" in asked or late.done())
        yield b'"b1"}'

    headers = {"Client": "b", "Content-Type": "application/json"}
    late = asyncio.create_task(http.post(f"{shop.url}/work", data=body(), headers=headers))
    async with await late as response:
        assert response.status == 202, await response.text()
    await stage.has_begun("a1", "b1")


@pytest.mark.one_loop
async def test_waiting_for_a_job_that_is_held_for_ever(serve, caplog) -> None:
    """A job that waits for one that only its own end would let in gets an error, no deadlock."""

    @aioqueue.queued(concurrency_limit=2, client_key=by_header, max_running_per_client=1)
    async def nested(depth: int) -> str:
        return await (await nested.submit(depth - 1)).result() if depth else "done"

    await serve(make_app(nested))
    outer = await nested.options(client="a").submit(1)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(aioqueue.JobFailed):
            await outer.result()
    assert "this job would wait for ever" in caplog.text
    assert await (await nested.submit(1)).result() == "done"  # nobody's jobs have no cap


# Priorities


async def test_priority_of_functions(serve, http: ClientSession, shop, stage) -> None:
    """In a shared queue the function with the higher number goes first; none is 0."""
    functions = [
        work(stage, "low", concurrency_id="gpu", priority=-1),
        work(stage, "none", concurrency_id="gpu"),
        work(stage, "high", concurrency_id="gpu", priority=1.5),
    ]
    await shop.sells(*functions).open(serve, http)
    await send(shop, "-0", "none")
    for number, name in enumerate(("low", "none", "high"), 1):
        await send(shop, f"-{number}", name)

    assert await play_out(stage, 4) == "-0 -3 -2 -1"


async def rank_by_header(request: web.Request) -> float:
    """Look the priority up."""
    await asyncio.sleep(0)
    return urgency(request)


@pytest.mark.parametrize("hook", [urgency, rank_by_header])
async def test_priority_of_requests(serve, http: ClientSession, shop, stage, hook) -> None:
    """A callable tells the priority of each request; the same goes by arrival."""
    await shop.sells(work(stage), priority=hook).open(serve, http)
    for name, priority in (("-0", "0"), ("-1", "0"), ("-2", "3"), ("-3", "-1"), ("-4", "3")):
        await send(shop, name, Priority=priority)

    assert await play_out(stage, 5) == "-0 -2 -4 -1 -3"


@pytest.mark.one_loop
async def test_waiting_weighs_as_much_as_priority(serve, http: ClientSession, shop, stage) -> None:
    """Each ``priority_step`` of waiting makes up for one of priority, so nobody waits for ever."""
    function = work(stage, priority=urgency)
    await shop.sells(function, priority_step=10, on_disconnect="keep").open(serve, http)
    await send(shop, "-0")
    await send(shop, "-1", Priority="0")
    await shop.inside.pass_time(15)
    await send(shop, "-2", Priority="2")
    await shop.inside.pass_time(6)
    await send(shop, "-3", Priority="2")  # 21 s after the first: 20 s are what 2 is worth

    assert await play_out(stage, 4) == "-0 -2 -1 -3"


@pytest.mark.one_loop
async def test_priority_of_code(serve, stage) -> None:
    """``options(priority=…)`` goes before the function's number; a callable has no request."""
    by_number = work(stage, "number", concurrency_id="gpu", priority=2)
    by_hook = work(stage, "hook", concurrency_id="gpu", priority=urgency)
    await serve(make_app(by_number, by_hook))
    await send_from_code(by_number, "-0 -1")
    await send_from_code(by_hook, "-2")
    await send_from_code(by_number.options(priority=1), "-3")
    await send_from_code(by_hook.options(priority=3), "-4")

    assert await play_out(stage, 5) == "-0 -4 -1 -3 -2"


@pytest.mark.one_loop
@pytest.mark.parametrize("priority", [float("nan"), float("-inf"), "high", 10**400])
async def test_no_priority_from_code(serve, stage, priority: Any) -> None:
    """What is no priority is refused where it is said: NaN would disorder the line."""
    function = work(stage, priority=1)
    await serve(make_app(function))

    with pytest.raises(ValueError, match="priority must be a number"):
        function.options(priority=priority)


@pytest.mark.parametrize("shared", [True, False])
async def test_two_orders_in_one_queue(serve, stage, shared: bool) -> None:
    """A queue with turns and priorities stops the app, which names both functions and a way out."""
    queue = {"concurrency_id": "gpu"} if shared else {}
    app = make_app(
        work(stage, "polite", client_key=by_header, **queue),
        work(stage, "urgent", priority=1, **queue),
    )
    if not shared:
        await serve(app)
        return
    with pytest.raises(ConfigurationError) as error:
        await serve(app)
    assert all(word in str(error.value) for word in ("gpu", "polite", "urgent", "concurrency_id"))


# Gates


class Gated:
    """Handlers behind a middleware or with a queue of their own, and their visitors."""

    def __init__(self, stage: Stage, http: ClientSession, how: str, **options: Any) -> None:
        async def handler(request: web.Request) -> web.Response:
            await stage.play(request.match_info["name"])
            return web.Response(text=request.match_info["name"])

        self.http, self.stage = http, stage
        self.app = web.Application()
        self.queue = "gate"
        if how == "function":
            handler = aioqueue.queued(name="gate", **options)(handler)  # type: ignore[assignment]
        else:
            self.app.middlewares.append(aioqueue.middleware(name="gate", **options))
        self.app.router.add_get("/{name}", handler)

    async def open(self, serve: Any, **settings: Any) -> Gated:
        """Serve it; answers itself."""
        aioqueue.setup(self.app, **{"drain_timeout": 0, **settings})
        self.url = await serve(self.app)
        self.inside = Inside(self.app)
        return self

    async def visit(self, names: str, **headers: str) -> list[asyncio.Task[str]]:
        """Visitors come one after the other, and each plays or waits when the next one does."""
        visits = []
        for name in names.split():
            if name[0] != "-":
                headers["Client"] = name[0]
            before = await self.size()
            visits.append(asyncio.create_task(self.answer(name, dict(headers))))
            while await self.size() == before and not visits[-1].done():
                await asyncio.sleep(0)
        return visits

    async def answer(self, name: str, headers: dict[str, str]) -> str:
        """What one is answered."""
        async with self.http.get(f"{self.url}/{name}", headers=headers) as response:
            return f"{response.status} {await response.text()}"

    async def size(self) -> int:
        """How many visitors wait or are served."""
        stats = await self.inside.engine.stats(self.queue)
        return stats.queue_size + len(stats.running)


@pytest.fixture(params=["middleware", "function"])
def how(request: pytest.FixtureRequest) -> str:
    """What makes the gate."""
    answer: str = request.param
    return answer


async def test_max_streams_per_client_of_a_gate(serve, http: ClientSession, stage, how) -> None:
    """Requests that wait for their turn are counted like streams."""
    gated = await Gated(stage, http, how).open(
        serve, client_key=by_header, max_streams_per_client=1
    )
    visits = await gated.visit("a1 a2 a3 b1")

    assert (await visits[2]).startswith("429 ")
    assert await play_out(stage, 3) in ("a1 a2 b1", "a1 b1 a2")
    assert [await visits[number] for number in (0, 1, 3)] == ["200 a1", "200 a2", "200 b1"]


async def test_gates_take_turns(serve, http: ClientSession, stage, how: str) -> None:
    """Requests behind a gate take turns too."""
    gated = await Gated(stage, http, how, client_key=by_header).open(serve)
    visits = await gated.visit("a1 a2 a3 b1")

    assert await play_out(stage, 4) == "a1 a2 b1 a3"
    assert [await visit for visit in visits] == ["200 a1", "200 a2", "200 a3", "200 b1"]


async def test_cap_of_a_gate(serve, http: ClientSession, stage, how: str) -> None:
    """A client passes a gate as often as it may, the next time when it is through."""
    options = {"client_key": by_header, "max_running_per_client": 1, "concurrency_limit": 3}
    gated = await Gated(stage, http, how, **options).open(serve)
    visits = await gated.visit("a1 a2 b1")
    await stage.has_begun("a1", "b1")
    stage.end("a1", "b1")
    await stage.has_begun("a1", "b1", "a2")
    stage.end("a2")

    assert [await visit for visit in visits] == ["200 a1", "200 a2", "200 b1"]


async def test_quota_of_a_gate(serve, http: ClientSession, stage, how: str) -> None:
    """A client with his share waiting is not let in to wait; another one is."""
    gated = await Gated(stage, http, how, client_key=by_header).open(serve, max_queued_per_client=1)
    visits = await gated.visit("a1 a2 a3 b1")
    refused = await visits.pop(2)

    assert refused.startswith("429 ")
    assert '"code":"quota_exceeded"' in refused
    assert await play_out(stage, 3) == "a1 a2 b1"
    await asyncio.gather(*visits)


async def test_held_visitor_who_leaves(serve, http: ClientSession, stage, how: str) -> None:
    """A visitor who leaves while he is held is forgotten, and the next one is let in."""
    options = {"client_key": by_header, "max_running_per_client": 1, "concurrency_limit": 3}
    gated = await Gated(stage, http, how, **options).open(serve)
    first, second, third = await gated.visit("a1 a2 a3")
    second.cancel()
    await asyncio.wait([second])
    await gated.inside.have_left()
    stage.end("a1")
    await stage.has_begun("a1", "a3")
    stage.end("a3")

    assert [await first, await third] == ["200 a1", "200 a3"]


async def test_priority_of_a_gate(serve, http: ClientSession, stage, how: str) -> None:
    """The more urgent request passes first."""
    gated = await Gated(stage, http, how, priority=urgency).open(serve)
    visits = await gated.visit("-0 -1")
    visits += await gated.visit("-2", Priority="1")

    assert await play_out(stage, 3) == "-0 -2 -1"
    await asyncio.gather(*visits)


@pytest.mark.one_loop
async def test_hook_of_a_gate_that_fails(serve, http: ClientSession, stage, how, caplog) -> None:
    """A hook that raises lets nobody through, and takes no slot."""
    gated = await Gated(stage, http, how, client_key=lambda request: 1 / 0).open(serve)
    (visit,) = await gated.visit("a1")

    assert (await visit).startswith("500 ")
    assert "ZeroDivisionError" in caplog.text
    assert (await gated.size(), stage.begun) == (0, [])


# Slots with names

GPUS = ["cuda:0", "cuda:1"]


def on_the_loop(stage: Stage, **options: Any) -> Function:
    """Play one's slot with one's name."""

    @aioqueue.queued(name="work", **options)
    async def function(name: str, job: aioqueue.Job = aioqueue.JOB) -> None:
        await stage.play(f"{name}@{job.slot}")

    return function


def in_a_thread(stage: Stage, **options: Any) -> Function:
    """Play it in a thread."""

    @aioqueue.queued(name="work", **options)
    def function(name: str, job: aioqueue.Job = aioqueue.JOB) -> None:
        stage.play_in_thread(f"{name}@{job.slot}")

    return function


def in_batches(stage: Stage, **options: Any) -> Function:
    """Play it as a batch of one."""

    @aioqueue.queued(name="work", batch=True, max_batch_size=1, **options)
    async def function(names: list[str], jobs: list[aioqueue.Job] = aioqueue.JOB) -> list[None]:
        (job,) = jobs
        assert job.slot == aioqueue.current_job().slot
        await stage.play(f"{names[0]}@{job.slot}")
        return [None]

    return function


@pytest.mark.parametrize("kind", [on_the_loop, in_a_thread, in_batches])
async def test_slots(serve, stage, kind: Any) -> None:
    """As many run at once as there are names, each with its own; the next gets what was freed."""
    function = kind(stage, slots=GPUS)
    await serve(make_app(function))
    await send_from_code(function, "1 2 3 4")
    await stage.has_begun("1@cuda:0", "2@cuda:1")

    stage.end("2@cuda:1")
    await until(lambda: len(stage.begun) == 3)
    stage.end("1@cuda:0")
    await until(lambda: len(stage.begun) == 4)
    assert stage.begun[2:] == ["3@cuda:1", "4@cuda:0"]
    assert stage.most == 2


async def test_slot_of_a_whole_batch(serve) -> None:
    """The jobs of one call share its slot, and the calls differ."""
    seen: list[list[str | None]] = []
    both = asyncio.Event()

    @aioqueue.queued(batch=True, max_batch_size=2, batch_timeout=30, slots=("left", "right"))
    async def pair(numbers: list[int], jobs: list[aioqueue.Job] = aioqueue.JOB) -> list[int]:
        seen.append([job.slot for job in jobs])
        if len(seen) == 2:
            both.set()
        await both.wait()
        return numbers

    await serve(make_app(pair))
    handles = [await pair.submit(number) for number in range(4)]

    assert [await handle.result() for handle in handles] == [0, 1, 2, 3]
    assert seen == [["left", "left"], ["right", "right"]]


async def test_slot_of_abandoned_work(serve, stage) -> None:
    """A thread that outlives its job keeps its slot: nobody else gets it while it runs."""
    function = in_a_thread(stage, slots=GPUS, cancel_timeout=0)
    await serve(make_app(function))
    first, second = await function.submit("1"), await function.submit("2")
    await stage.has_begun("1@cuda:0", "2@cuda:1")
    await first.cancel()
    await until(lambda: stage.running["1@cuda:0"] == 1)
    stage.end("2@cuda:1")
    await second.result()
    await function.submit("3")
    await until(lambda: len(stage.begun) == 3)

    assert await first.state() == "cancelled"
    assert stage.begun[2] == "3@cuda:1"
    stage.end("1@cuda:0", "3@cuda:1")


@pytest.mark.one_loop
async def test_shared_slots(serve, stage) -> None:
    """Functions of one queue share its slots, also one that names none."""
    one = work(stage, "one", concurrency_id="gpu", slots=GPUS)
    slots: list[str | None] = []

    @aioqueue.queued(concurrency_id="gpu")
    async def two() -> None:
        slots.append(aioqueue.current_job().slot)

    await serve(make_app(one, two))
    await one.submit("1")
    await (await two.submit()).result()

    assert slots == ["cuda:1"]


@pytest.mark.one_loop
async def test_slot_of_a_request_function(serve, http: ClientSession) -> None:
    """A handler that takes the request asks for its slot where it runs."""

    @aioqueue.queued(slots=GPUS)
    async def draw(request: web.Request) -> str | None:
        return aioqueue.current_job().slot

    url = await serve(make_app(draw))
    async with http.post(f"{url}/draw") as response:
        assert await response.json() == "cuda:0"


@pytest.mark.one_loop
async def test_no_slots(serve, stage) -> None:
    """Without names a job's slot is None."""
    function = on_the_loop(stage)
    await serve(make_app(function))
    await function.submit("1")

    await stage.has_begun("1@None")


@pytest.mark.one_loop
@pytest.mark.parametrize("limit", [1, 3, None])
async def test_slots_and_another_limit(serve, stage, limit: int | None) -> None:
    """Slots are the limit: another one beside them stops the app."""
    app = make_app(on_the_loop(stage, slots=GPUS, concurrency_limit=limit))
    with pytest.raises(ConfigurationError, match=r"work: it has 2 slots and concurrency_limit="):
        await serve(app)


@pytest.mark.one_loop
async def test_slots_and_the_same_limit(serve, stage) -> None:
    """The same number beside the names is no contradiction."""
    function = on_the_loop(stage, slots=GPUS, concurrency_limit=2)
    await serve(make_app(function))
    await send_from_code(function, "1 2 3")

    await stage.has_begun("1@cuda:0", "2@cuda:1")


@pytest.mark.one_loop
async def test_slots_with_two_sets_of_names(serve, stage) -> None:
    """Two functions that name the slots of one queue differently stop the app."""
    one = work(stage, "one", concurrency_id="gpu", slots=GPUS)
    two = work(stage, "two", concurrency_id="gpu", slots=["a", "b"])
    with pytest.raises(ConfigurationError, match=r"two names the slots of the queue 'gpu'"):
        await serve(make_app(one, two))
