"""What happens to a request before its job is queued."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from aiohttp import ClientSession, web

import aioqueue
from aioqueue._submit import new_job_id

pytestmark = pytest.mark.one_loop


def test_ids_are_short_and_never_repeat() -> None:
    """128 bits each: ten thousand of them are all different, and fit into a path as they are."""
    ids = [new_job_id() for _ in range(10_000)]

    assert len(set(ids)) == len(ids)
    assert all(len(one) == 22 and one.replace("-", "").replace("_", "").isalnum() for one in ids)


async def test_head_starts_nothing(serve: Any, http: ClientSession) -> None:
    """Routing sends HEAD where GET goes; looking at a function must not run it."""
    calls = []

    @aioqueue.queued
    async def look() -> None:
        calls.append(1)

    app = web.Application()
    app.add_routes([web.get("/look", look)])
    aioqueue.setup(app)
    url = await serve(app)

    async with http.head(f"{url}/look") as response:
        assert (response.status, await response.read()) == (200, b"")
    async with http.get(f"{url}/look", headers={"Prefer": "wait=5"}) as response:
        assert (await response.json(), calls) == (None, [1])


class _Full:
    """An app whose only slot and only place in line are taken."""

    def __init__(self, **limits: Any) -> None:
        self.release = threading.Event()
        release = self.release

        @aioqueue.queued(max_size=limits.pop("function_max_size", None), max_body_size=1 << 20)
        def stuck(text: str = "") -> None:
            release.wait(10)

        self.app = web.Application()
        self.app.add_routes([web.post("/stuck", stuck)])
        aioqueue.setup(self.app, **limits)

    async def fill(self, http: ClientSession, url: str) -> None:
        for _ in range(2):
            async with http.post(f"{url}/stuck", json={}) as response:
                assert response.status == 202


@pytest.mark.parametrize("limits", [{"max_size": 1}, {"function_max_size": 1}])
async def test_a_full_queue_refuses_before_the_body(
    serve: Any, http: ClientSession, limits: dict[str, int]
) -> None:
    """Nobody uploads into a full queue: the 503 comes when only the headers are there."""
    full = _Full(**limits)
    url = await serve(full.app)
    try:
        await full.fill(http, url)
        port = int(url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /stuck HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100000\r\n\r\n"
        )
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await writer.wait_closed()
    finally:
        full.release.set()

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: " in head
    assert b'"code":"queue_full"' in body


async def test_the_refusal_says_how_full_and_when(serve: Any, http: ClientSession) -> None:
    """A sentence for people, numbers for programs, and a header for both."""
    full = _Full(max_size=1)
    url = await serve(full.app)
    try:
        await full.fill(http, url)
        async with http.post(f"{url}/stuck", json={}) as response:
            problem = await response.json()
    finally:
        full.release.set()

    assert (response.status, problem["code"]) == (503, "queue_full")
    assert (problem["queue_size"], problem["max_size"]) == (1, 1)
    assert problem["detail"].startswith("The queue is full (1 waiting). Please try again in")
    assert 1 <= int(response.headers["Retry-After"]) <= 3600


async def test_a_failing_hook_is_the_servers_mistake(serve: Any, http: ClientSession) -> None:
    """A hook that raises queues nothing and tells nothing."""

    @aioqueue.queued(metadata=lambda request: {"user": request.headers["X-User"]})
    async def greet(job: aioqueue.Job = aioqueue.JOB) -> Any:
        return job.metadata

    app = web.Application()
    app.add_routes([web.post("/greet", greet)])
    aioqueue.setup(app)
    url = await serve(app)
    wait = {"Prefer": "wait=5"}

    async with http.post(f"{url}/greet", json={}, headers=wait) as response:
        problem = await response.json()
        assert (response.status, problem["code"]) == (500, "internal_error")
        assert "X-User" not in problem["detail"]
    async with http.post(f"{url}/greet", json={}, headers={**wait, "X-User": "ann"}) as response:
        assert await response.json() == {"user": "ann"}


async def test_the_refusal_counts_until_the_next_start(serve: Any, http: ClientSession) -> None:
    """Room comes when the next job starts, however long the whole line would take."""
    release = threading.Event()

    @aioqueue.queued(max_size=4)
    def work(seconds: float) -> None:
        release.wait(seconds)

    app = web.Application()
    app.add_routes([web.post("/work", work)])
    aioqueue.setup(app)
    url = await serve(app)
    async with http.post(
        f"{url}/work", json={"seconds": 0.5}, headers={"Prefer": "wait=5"}
    ) as response:
        assert response.status == 200
    try:
        for _ in range(5):
            async with http.post(f"{url}/work", json={"seconds": 10}) as response:
                assert response.status == 202
        async with http.post(f"{url}/work", json={"seconds": 10}) as response:
            problem = await response.json()
    finally:
        release.set()

    assert problem["eta"] > 2.0  # five times half a second, and a bit
    assert response.headers["Retry-After"] in ("1", "2")
