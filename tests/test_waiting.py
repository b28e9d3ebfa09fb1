"""Waiting for a result: as long as the client is willing to, and not a moment longer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import aioqueue
from aioqueue._listeners import Listeners
from aioqueue._waiting import wait_for_end
from tests.inside import Shop, Socket, Worker


def make_shop(**settings: Any) -> Shop:
    """A shop with work that waits for ``end``, and work that is done at once."""
    shop = Shop()

    @aioqueue.queued(concurrency_limit=10)
    async def work(n: int = 0) -> int:
        await shop.end.wait()
        return n

    @aioqueue.queued
    async def quick(n: int = 0) -> int:
        return n

    @aioqueue.queued
    async def fail() -> None:
        raise aioqueue.JobError("There is no text in it.", status=422)

    @aioqueue.queued
    async def crash() -> None:
        raise ZeroDivisionError

    return shop.sells(work, quick, fail, crash, **settings)


@pytest.fixture
async def shop(serve, http) -> Shop:
    """A shop whose time stands still."""
    return await make_shop().open(serve, http)


# wait_for_end


@pytest.mark.parametrize("seconds", [0.0, 0.0014])
async def test_every_wait_ends(seconds: float) -> None:
    """However the timer and the clock of a loop disagree, a wait ends when its time is over."""
    worker = await Worker().open()
    await worker.enqueue("a")
    with Listeners(worker.engine, 1).place() as place:
        for _ in range(100):
            assert not await wait_for_end(worker.engine, place, Socket(), "a", seconds)


async def test_wait_for_an_end() -> None:
    """A wait ends with its job, and not with what the job says before."""
    worker = await Worker().open()
    await worker.enqueue("a")
    with Listeners(worker.engine, 1).place() as place:
        waiting = asyncio.create_task(wait_for_end(worker.engine, place, Socket(), "a", 50.0))
        await worker.claim()
        await worker.say("a", 1)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        await worker.end("a")
        assert await waiting


async def test_who_is_dropped_waits_no_longer() -> None:
    """A client that has left is not waited for, nor its job."""
    worker = await Worker().open()
    await worker.enqueue("a")
    with Listeners(worker.engine, 1).place() as place:
        waiting = asyncio.create_task(wait_for_end(worker.engine, place, Socket(), "a", 50.0))
        await asyncio.sleep(0)
        place.listener.drop()
        assert not await waiting


async def test_nothing_to_wait_for() -> None:
    """A job that has ended, or is not known, is not waited for."""
    worker = await Worker().open()
    await worker.enqueue("a")
    await worker.claim()
    await worker.end("a")
    with Listeners(worker.engine, 1).place() as place:
        assert await wait_for_end(worker.engine, place, Socket(), "a", 0.0)
        assert await wait_for_end(worker.engine, place, Socket(), "x", 0.0)


# Prefer: wait


async def test_result_in_time(shop: Shop) -> None:
    """The bare result, with where to get it again and how long one would have waited."""
    waiting = await shop.wait("wait=5", body={"n": 7})
    shop.end.set()
    async with await waiting as response:
        assert response.status == 200
        assert await response.read() == b"7"
        assert response.headers["Preference-Applied"] == "wait=5"
        assert response.headers["Vary"] == "Accept, Prefer"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        location = response.headers["Content-Location"]
    async with shop.http.get(shop.url + location) as response:
        assert await response.read() == b"7"


@pytest.mark.parametrize(
    ("name", "status", "detail"),
    [("fail", 422, "There is no text in it."), ("crash", 500, "error id")],
)
async def test_failure_in_time(shop: Shop, name: str, status: int, detail: str) -> None:
    """A job that failed is answered with its problem and the problem's status."""
    async with await shop.post("wait=5", name) as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"
        document = await response.json()
        assert (document["status"], document["code"]) == (status, "job_failed")
        assert detail in document["detail"]
        assert "ZeroDivisionError" not in document["detail"]
        assert response.headers["Preference-Applied"] == "wait=5"
        assert response.headers["Vary"] == "Accept, Prefer"


async def test_cancelled_in_time(shop: Shop) -> None:
    """A job that somebody cancels ends the wait with a 409."""
    waiting = await shop.wait("wait=5")
    *_, place = shop.inside.listeners._places
    (job_id,) = place.listener.jobs
    async with shop.http.delete(shop.job(job_id)) as response:
        assert response.status == 200
    async with await waiting as response:
        assert response.status == 409
        assert (await response.json())["code"] == "job_cancelled"


async def test_too_late(shop: Shop) -> None:
    """When the time is over it is a 202 like any other, that says how long one has waited."""
    async with await shop.post("wait=0") as response:
        assert response.status == 202
        document = await response.json()
        assert document["state"] == "running"
        assert response.headers["Location"] == document["links"]["self"]
        assert response.headers["Preference-Applied"] == "wait=0"
        assert response.headers["Vary"] == "Accept, Prefer"


async def test_quick_needs_no_time(shop: Shop) -> None:
    """What is done by the next turn of the loop is answered even if nobody wants to wait."""
    async with await shop.post("wait=0", "quick", {"n": 3}) as response:
        assert (response.status, await response.read()) == (200, b"3")


@pytest.mark.parametrize("most", [0, 0.9])
async def test_no_longer_than_the_app_allows(serve, http, most: float) -> None:
    """The app's bound holds, and the client hears how long it was."""
    shop = await make_shop(prefer_wait_max=most).open(serve, http)
    async with await shop.post("wait=1000") as response:
        assert response.status == 202
        assert response.headers["Preference-Applied"] == "wait=0"


@pytest.mark.parametrize(
    ("prefer", "status", "applied"),
    [
        ("", 202, None),
        ("respond-async", 202, "respond-async"),
        ("respond-async, wait=5", 200, "wait=5"),
        ("wait=5, respond-async", 200, "wait=5"),
        ("wait=5, wait=0", 200, "wait=5"),
        ('WAIT = "5"', 200, "wait=5"),
        ("wait=-1", 202, None),
        ("wait=1.5", 202, None),
        ("wait=soon", 202, None),
        ("wait", 202, None),
        ("depth-noted, wait=5", 200, "wait=5"),
    ],
)
async def test_what_was_preferred(
    shop: Shop, prefer: str, status: int, applied: str | None
) -> None:
    """Preferences are wishes: understood, and otherwise passed over."""
    async with await shop.post(prefer, "quick") as response:
        assert response.status == status
        assert response.headers.get("Preference-Applied") == applied


# GET with Prefer: wait


async def test_long_poll(shop: Shop) -> None:
    """A GET of the job waits for its end, and then is the same as ever."""
    job_id = await shop.submit(body={"n": 7})
    headers = {"Prefer": "wait=5"}
    waiting = asyncio.create_task(shop.http.get(shop.job(job_id), headers=headers))
    await shop.listening()
    shop.end.set()
    async with await waiting as response:
        document = await response.json()
        assert (response.status, document["state"], document["result"]) == (200, "succeeded", 7)
        assert response.headers["Preference-Applied"] == "wait=5"
        assert response.headers["Vary"] == "Prefer"
        assert "Retry-After" not in response.headers


async def test_long_poll_too_late(shop: Shop) -> None:
    """When the time is over, the job is shown as it stands."""
    job_id = await shop.submit()
    async with shop.http.get(shop.job(job_id), headers={"Prefer": "wait=0"}) as response:
        assert (response.status, (await response.json())["state"]) == (200, "running")
        assert response.headers["Preference-Applied"] == "wait=0"
        assert int(response.headers["Retry-After"]) >= 1


async def test_long_poll_of_what_has_ended(shop: Shop) -> None:
    """There is nothing to wait for, and the wish made no difference."""
    job_id = await shop.submit("quick")
    await shop.inside.ended(job_id)
    async with shop.http.get(shop.job(job_id), headers={"Prefer": "wait=5"}) as response:
        assert (await response.json())["state"] == "succeeded"
        assert "Preference-Applied" not in response.headers


async def test_long_poll_of_what_is_forgotten(serve, http) -> None:
    """A job that is forgotten the moment it ends is not found, rather than shown as it was."""
    shop = await make_shop(max_results=1).open(serve, http)
    job_ids = [await shop.submit(body={"n": n}) for n in range(3)]
    headers = {"Prefer": "wait=5"}
    waiting = asyncio.create_task(shop.http.get(shop.job(job_ids[0]), headers=headers))
    await shop.listening()
    shop.end.set()
    async with await waiting as response:
        assert response.status == 404
