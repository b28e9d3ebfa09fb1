"""``max_wait``: who would wait too long is told so at once, with the time after which he would not.

In these tests the function takes ten seconds, as its history says, and time stands still.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, web

import aioqueue
from aioqueue import QueuedFunction, Refused
from tests.inside import STREAM, Inside, Shop
from tests.stage import until

SECONDS = 10.0
KEY = "0123456789abcdef"


@pytest.fixture
def shop() -> Shop:
    """An app that is not served yet."""
    return Shop()


def work(shop: Shop, **options: Any) -> QueuedFunction[[], None]:
    """A function that waits for the end."""

    @aioqueue.queued(name="work", **options)
    async def function() -> None:
        await shop.end.wait()

    return function


async def work_has_ended(shop: Shop) -> None:
    """Let what runs end, then let time stand still again."""
    shop.end.set()
    await until(lambda: not shop.inside.runtime._scheduler._active)
    shop.end.clear()


async def open_with_history(shop: Shop, serve: Any, http: ClientSession, *functions: Any) -> Inside:
    """Serve these functions; one job of the first has taken ten seconds."""
    await shop.sells(*functions).open(serve, http)
    await functions[0].submit()
    await shop.inside.pass_time(SECONDS)
    await work_has_ended(shop)
    return shop.inside


async def send(shop: Shop, count: int = 1, **headers: str) -> list[int]:
    """Ask for jobs, and tell how each was answered."""
    answers = []
    for _ in range(count):
        async with await shop.post(**headers) as response:
            answers.append(response.status)
    return answers


async def problem_of(response: ClientResponse) -> Any:
    """The problem that a refusal tells."""
    async with response:
        assert response.content_type == "application/problem+json", await response.text()
        return await response.json()


async def size(inside: Inside) -> int:
    """How many jobs wait."""
    return int((await inside.engine.stats("work")).queue_size)


@pytest.mark.parametrize("headers", [{}, {"Prefer": "wait=5"}, STREAM])
async def test_refused(serve, http: ClientSession, shop, headers: dict[str, str]) -> None:
    """A job that would wait longer is a 503 at once, in every mode, and leaves nothing behind."""
    inside = await open_with_history(shop, serve, http, work(shop, max_wait=15))
    assert await send(shop, 2) == [202, 202]  # it starts, and it waits for ten seconds
    response = await shop.post(**headers)
    problem = await problem_of(response)

    assert (response.status, problem["code"]) == (503, "wait_too_long")
    assert (problem["queue_size"], problem["max_size"]) == (1, None)
    assert problem["eta"] == pytest.approx(30, rel=0.1)
    seconds = response.headers["Retry-After"]
    assert 5 <= int(seconds) <= 7  # 20 s are 5 s too many, and not all come back at once
    assert problem["detail"] == (
        "The wait would be about 20 s, and 15 s are the most. "
        f"Please try again in about {seconds} s."
    )
    assert (await size(inside), len(inside.listeners)) == (1, 0)
    assert len(inside.runtime._scheduler._locals) == 2


async def test_it_is_right_about_when(serve, http: ClientSession, shop) -> None:
    """Who comes back after ``Retry-After`` is accepted, if nobody came meanwhile."""
    inside = await open_with_history(shop, serve, http, work(shop, max_wait=15))
    await send(shop, 2)
    async with await shop.post() as response:
        seconds = int(response.headers["Retry-After"])
    await inside.pass_time(4)
    assert await send(shop) == [503]
    await inside.pass_time(seconds - 4)

    assert await send(shop, 2) == [202, 503]


async def test_no_history(serve, http: ClientSession, shop) -> None:
    """Nobody is refused for what nobody can know."""
    await shop.sells(work(shop, max_wait=0.001)).open(serve, http)

    assert await send(shop, 5) == [202] * 5


async def test_free_slot(serve, http: ClientSession, shop) -> None:
    """A job that need not wait is accepted, however long it takes itself."""
    await open_with_history(shop, serve, http, work(shop, max_wait=0.001, concurrency_limit=3))

    assert await send(shop, 4) == [202, 202, 202, 503]
    await work_has_ended(shop)
    assert await send(shop) == [202]


async def test_paused_queue(serve, http: ClientSession, shop) -> None:
    """While a queue is paused nobody can say how long, and nobody is refused."""
    inside = await open_with_history(shop, serve, http, work(shop, max_wait=1))
    await inside.engine.set_limit("work", 0)

    assert await send(shop, 3) == [202] * 3


async def test_retry(serve, http: ClientSession, shop) -> None:
    """A retry with the key of an accepted job finds its job, though the line is too long now."""
    await open_with_history(shop, serve, http, work(shop, max_wait=15))
    await send(shop)
    ids = []
    for _ in range(2):
        async with await shop.post(**{"Idempotency-Key": KEY}) as response:
            assert response.status == 202
            ids.append((await response.json())["id"])
    assert ids[0] == ids[1]
    assert response.headers["Idempotency-Replayed"] == "true"

    assert await send(shop, **{"Idempotency-Key": KEY[::-1]}) == [503]
    async with await shop.post(body={"other": 1}, **{"Idempotency-Key": KEY}) as response:
        assert response.status == 422


async def test_app_and_function(serve, http: ClientSession, shop) -> None:
    """The app's setting is for all functions; a function's own goes before it."""

    @aioqueue.queued(max_wait=1000)
    async def patient() -> None:
        await shop.end.wait()

    shop.sells(work(shop), patient, max_wait=15, max_size=100)
    await shop.open(serve, http)
    await shop.submit("work")
    await shop.submit("patient")
    await shop.inside.pass_time(SECONDS)
    await work_has_ended(shop)

    assert await send(shop, 3) == [202, 202, 503]
    for _ in range(5):
        await shop.submit("patient")
    assert (await problem_of(await shop.post()))["max_size"] == 100


async def test_full_queue_says_so(serve, http: ClientSession, shop) -> None:
    """Where there is no room either, that is what is said."""
    await open_with_history(shop, serve, http, work(shop, max_wait=15, max_size=1))
    await send(shop, 2)

    assert (await problem_of(await shop.post()))["code"] == "queue_full"


@pytest.mark.one_loop
async def test_in_turns(serve, http: ClientSession, shop) -> None:
    """The wait is that of the job's own turn: a newcomer joins where the greedy one may not."""
    function = work(shop, max_wait=25, client_key=lambda request: request.headers["Client"])
    await open_with_history(shop, serve, http, function)

    assert await send(shop, 5, Client="greedy") == [202, 202, 202, 503, 503]
    assert await send(shop, 2, Client="new") == [202, 503]


@pytest.mark.one_loop
async def test_by_priority(serve, http: ClientSession, shop) -> None:
    """The urgent one does not wait as long, and is accepted where others are not."""
    function = work(shop, max_wait=15, priority=lambda request: float(request.headers["Priority"]))
    await open_with_history(shop, serve, http, function)

    assert await send(shop, 3, Priority="0") == [202, 202, 503]
    assert await send(shop, 2, Priority="1") == [202, 503]


@pytest.mark.one_loop
async def test_batches(serve, http: ClientSession, shop) -> None:
    """Of a batch function the calls count: who runs with those before him waits no longer."""

    @aioqueue.queued(name="work", batch=True, max_batch_size=3, max_wait=15)
    async def function(texts: list[str] = "") -> list[None]:  # type: ignore[assignment]
        await shop.end.wait()
        return [None] * len(texts)

    await open_with_history(shop, serve, http, function)

    assert await send(shop, 5) == [202, 202, 202, 202, 503]


async def test_from_code(serve, http: ClientSession, shop) -> None:
    """Code is refused with the same problem."""
    function = work(shop, max_wait=15)
    inside = await open_with_history(shop, serve, http, function)
    for _ in range(2):
        await function.submit()
    with pytest.raises(Refused) as refused:
        await function.submit()

    assert refused.value.problem.code == "wait_too_long"
    assert 5 <= refused.value.retry_after <= 7
    assert await size(inside) == 1


async def test_gate(serve, http: ClientSession, shop) -> None:
    """A visitor of a gate is not let in to wait that long; those before him are served."""
    app = shop.app = web.Application()

    async def handler(request: web.Request) -> web.Response:
        await shop.end.wait()
        return web.Response(text=request.match_info["name"])

    app.router.add_get("/{name}", handler)
    app.middlewares.append(aioqueue.middleware(name="work", max_wait=15))
    aioqueue.setup(app, drain_timeout=0)
    await shop.open(serve, http)

    async def visit(name: str) -> str:
        async with http.get(f"{shop.url}/{name}") as response:
            return f"{response.status} {await response.text()}"

    async def comes(name: str) -> asyncio.Task[str]:
        task = asyncio.create_task(visit(name))
        scheduler = shop.inside.runtime._scheduler
        before = len(scheduler._locals)
        await until(lambda: len(scheduler._locals) > before)
        return task

    first = await comes("1")
    await shop.inside.pass_time(SECONDS)
    await work_has_ended(shop)
    assert await first == "200 1"
    visits = [await comes("2"), await comes("3")]
    answer = await visit("4")
    shop.end.set()

    assert answer.startswith("503 ")
    assert '"code":"wait_too_long"' in answer
    assert [await one for one in visits] == ["200 2", "200 3"]
