"""The routes of jobs, over real sockets: see one, follow one or many, get its result, cancel it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from aiohttp import web

import aioqueue
from aioqueue._routes import _is_id
from tests.inside import STREAM, Shop, until
from tests.raw_http import raw_http
from tests.sse_client import ServerSentEvent, read_events

UNKNOWN = "A" * 22


def make_shop(**settings: Any) -> Shop:
    """A shop with work that waits for ``end``, quick work, and some that ends badly."""
    shop = Shop()

    @aioqueue.queued
    async def work(value: Any = None) -> Any:
        await shop.end.wait()
        return value

    @aioqueue.queued(concurrency_limit=100)
    async def quick(value: Any = None) -> Any:
        return value

    @aioqueue.queued
    async def fail() -> None:
        raise aioqueue.JobError("There is no text in it.", status=422)

    @aioqueue.queued
    async def stubborn() -> str:
        while True:
            try:
                await shop.end.wait()
            except asyncio.CancelledError:
                continue
            return "done all the same"

    @aioqueue.queued
    async def tidy() -> None:
        try:
            await shop.end.wait()
        finally:
            for _ in range(50):
                await asyncio.sleep(0)

    return shop.sells(work, quick, fail, stubborn, tidy, **settings)


@pytest.fixture
async def shop(serve, http) -> Shop:
    """A shop whose time stands still."""
    return await make_shop().open(serve, http)


async def done(shop: Shop, value: Any = None) -> str:
    """A job that has succeeded with this value."""
    job_id = await shop.submit("quick", {"value": value})
    await shop.inside.ended(job_id)
    return job_id


async def events_of(response: Any) -> list[ServerSentEvent]:
    """All events of a response, to its end."""
    async with response:
        return [event async for event in read_events(response)]


async def json_of(response: Any) -> Any:
    """The status and the body of a response."""
    async with response:
        return response.status, await response.json()


# How a submit is answered


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pZ3kq0vX7cYwR1mB2nT5aQ", True),
        ("-_-_-_-_-_-_-_-_-_-_-A", True),
        ("A" * 21, False),
        ("A" * 23, False),
        ("", False),
        ("../../../../etc/passwd", False),
        ("A" * 21 + " ", False),
        ("A" * 21 + "\n", False),
        ("A" * 21 + "\u0661", False),
        ("A" * 21 + "\udc80", False),
    ],
)
def test_what_is_an_id(text: str, expected: bool) -> None:
    """Only what could be an id of ours gets near a look-up."""
    assert _is_id(text) is expected


@pytest.mark.parametrize(
    ("accept", "prefer", "mode"),
    [
        (None, None, "202"),
        ("*/*", None, "202"),
        ("text/*", None, "202"),
        ("application/json", None, "202"),
        ("text/html", None, "202"),
        ("text/event-stream", None, "stream"),
        ("TEXT/Event-Stream; charset=utf-8", None, "stream"),
        ("text/event-stream;q=0", None, "202"),
        ("application/json, text/event-stream", None, "stream"),
        ("application/json, text/event-stream", "respond-async", "202"),
        ("application/json, text/event-stream", "wait=5", "result"),
        ("application/json, text/event-stream;q=0.9", None, "202"),
        ("text/event-stream", "wait=5", "stream"),
        ("text/event-stream, */*;q=0.1", "wait=5", "stream"),
        ("*/*", "wait=5", "result"),
        (";;,/,,", "wait=5", "result"),
    ],
)
async def test_mode(shop: Shop, accept: str | None, prefer: str | None, mode: str) -> None:
    """The client chooses by what it names; whoever does not care is answered with a 202."""
    headers = {"Accept": accept} if accept else {}
    headers |= {"Prefer": prefer} if prefer else {}
    skip = () if accept else ("Accept",)
    async with shop.http.post(
        f"{shop.url}/quick", json={"value": 7}, headers=headers, skip_auto_headers=skip
    ) as response:
        body = await response.read()
        assert response.headers["Vary"] == "Accept, Prefer"
        match mode:
            case "202":
                assert response.status == 202
                assert response.content_type == "application/json"
            case "result":
                assert (response.status, body) == (200, b"7")
            case "stream":
                assert response.status == 200
                assert response.content_type == "text/event-stream"


async def test_accepted(shop: Shop) -> None:
    """202 says where the job is, when to ask, and how it stands; and what it says is true."""
    async with await shop.post("", "work", Host="somewhere.else") as response:
        assert response.status == 202
        document = await response.json()
        job_id = document["id"]
        location = f"/queue/jobs/{job_id}"
        assert response.headers["Location"] == location
        link = f'<{location}/events>; rel="monitor"; type="text/event-stream"'
        assert response.headers["Link"] == link
        assert 1 <= int(response.headers["Retry-After"]) <= 30
        assert response.headers["Vary"] == "Accept, Prefer"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.content_type == "application/json"
    assert document["state"] == "running"
    for name, below in (("self", ""), ("events", "/events"), ("result", "/result")):
        assert document["links"][name] == location + below
        async with shop.http.head(shop.url + document["links"][name]) as response:
            assert response.status in (200, 202)


async def test_behind_a_proxy(serve, http) -> None:
    """Where a proxy strips a prefix, every link and header has it."""
    shop = await make_shop(path="/jobs", public_path="/api/v1").open(serve, http)
    async with await shop.post("", "work") as response:
        job_id = (await response.json())["id"]
        assert response.headers["Location"] == f"/api/v1/jobs/jobs/{job_id}"
        assert response.headers["Link"].startswith(f"</api/v1/jobs/jobs/{job_id}/events>")
    async with http.get(f"{shop.url}/jobs/jobs/{job_id}") as response:
        assert (await response.json())["links"]["self"] == f"/api/v1/jobs/jobs/{job_id}"


async def test_get_function(serve, http) -> None:
    """A function on GET is called by its address; a tab that reconnects starts nothing."""
    calls = []

    @aioqueue.queued
    async def look(word: str, count: int = 1) -> str:
        calls.append(word)
        return word * count

    shop = Shop().sells(look)
    shop.app.router.add_get("/look/{word}", look)
    await shop.open(serve, http)
    url = f"{shop.url}/look/ab?count=2&unknown=1"
    async with http.get(url, headers={"Prefer": "wait=5"}) as response:
        assert (response.status, await response.json()) == (200, "abab")
        assert response.headers["Vary"] == "Accept, Prefer"
    *_, end = await events_of(await http.get(url, headers=STREAM))
    assert end.data["result"] == "abab"
    async with http.get(url, headers={**STREAM, "Last-Event-ID": end.id}) as response:
        assert (response.status, await response.read()) == (204, b"")
    assert calls == ["ab", "ab"]


# A job


async def test_job(shop: Shop) -> None:
    """A job is 200 in every state, is never stored, and says when to ask again until it ends."""
    running, waiting = await shop.submit(body={"value": 7}), await shop.submit()
    for job_id, state in ((running, "running"), (waiting, "queued")):
        async with shop.http.get(shop.job(job_id)) as response:
            assert response.status == 200
            assert (await response.json())["state"] == state
            assert int(response.headers["Retry-After"]) >= 1
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["Vary"] == "Prefer"
            assert "Location" not in response.headers
    shop.end.set()
    await shop.inside.ended(running)
    async with shop.http.get(shop.job(running)) as response:
        document = await response.json()
        assert (response.status, document["state"], document["result"]) == (200, "succeeded", 7)
        assert "Retry-After" not in response.headers


async def test_failed_job(shop: Shop) -> None:
    """A failed job is found like any other; its problem is a part of it."""
    job_id = await shop.submit("fail")
    await shop.inside.ended(job_id)
    status, document = await json_of(await shop.http.get(shop.job(job_id)))
    assert (status, document["state"]) == (200, "failed")
    assert document["error"]["detail"] == "There is no text in it."
    assert document["error"]["status"] == 422


@pytest.mark.parametrize(
    "job_id", [UNKNOWN, "A" * 21, "A" * 23, "a.b", "%2e%2e%2f" * 3, "%C3%A9" * 22, "%00" * 22]
)
@pytest.mark.parametrize("below", ["", "/events", "/result"])
async def test_unknown(shop: Shop, job_id: str, below: str) -> None:
    """What is no job of ours is a 404 with a problem, whatever it looks like."""
    for method in ("GET", *(["DELETE"] if not below else [])):
        async with shop.http.request(method, shop.job(job_id, below)) as response:
            assert response.status == 404
            assert (await response.json())["code"] == "not_found"


async def test_expired(shop: Shop) -> None:
    """After its time an ended job is as unknown as one that never was."""
    job_id = await done(shop)
    await shop.inside.pass_time(598, step=100)
    assert (await json_of(await shop.http.get(shop.job(job_id))))[0] == 200
    await shop.inside.pass_time(4)
    for below in ("", "/events", "/result"):
        assert (await json_of(await shop.http.get(shop.job(job_id, below))))[0] == 404


# Whose it is


async def owned_shop(serve: Any, http: Any) -> Shop:
    """A shop that asks who its clients are, and crashes for one of them."""

    def owner(request: web.Request) -> str | None:
        name = request.headers.get("User")
        if name == "crash":
            raise ZeroDivisionError
        return name

    return await make_shop(owner=owner).open(serve, http)


@pytest.mark.parametrize("below", ["", "/events", "/result"])
async def test_foreign(serve, http, below: str) -> None:
    """Somebody else's job can't be told from one that does not exist, byte for byte."""
    shop = await owned_shop(serve, http)
    async with await shop.post("", "quick", User="ada") as response:
        job_id = (await response.json())["id"]
    await shop.inside.ended(job_id)

    async def answer(job_id: str, method: str = "GET", **headers: str) -> tuple[Any, ...]:
        async with http.request(method, shop.job(job_id, below), headers=headers) as response:
            body = (await response.read()).replace(job_id.encode(), b"ID")
            named = dict(response.headers)
            del named["Date"]
            return response.status, named, body

    for method in ("GET", *(["DELETE"] if not below else [])):
        for who in ({}, {"User": "bob"}):
            assert await answer(job_id, method, **who) == await answer(UNKNOWN, method, **who)
            assert (await answer(job_id, method, **who))[0] == 404
        crash = await answer(job_id, method, User="crash")
        assert crash == await answer(UNKNOWN, method, User="crash")
        assert crash[0] == 500
        assert (await answer(job_id, method, User="ada"))[0] == 200


async def test_foreign_on_a_shared_stream(serve, http) -> None:
    """On a stream of many jobs somebody else's is gone like an unknown one."""
    shop = await owned_shop(serve, http)
    ids = []
    for user in ("ada", "bob"):
        async with await shop.post("", "quick", User=user) as response:
            ids.append((await response.json())["id"])
            await shop.inside.ended(ids[-1])
    url = f"{shop.url}/queue/events?job={ids[0]}&job={ids[1]}"
    events = await events_of(await http.get(url, headers={"User": "bob"}))
    assert events[0].event == "gone"
    assert events[0].data["job"] == ids[0]
    assert {event.data["job"] for event in events[1:]} == {ids[1]}


# Its result


async def test_result(shop: Shop) -> None:
    """The bare result; until there is one, a 202 that says when to come."""
    job_id = await shop.submit(body={"value": {"text": "é"}})
    async with shop.http.get(shop.job(job_id, "/result")) as response:
        assert response.status == 202
        assert int(response.headers["Retry-After"]) >= 1
        assert response.headers["Location"] == f"/queue/jobs/{job_id}"
        assert (await response.json())["state"] == "running"
    shop.end.set()
    await shop.inside.ended(job_id)
    async with shop.http.get(shop.job(job_id, "/result")) as response:
        assert response.status == 200
        assert await response.read() == '{"text":"é"}'.encode()
        assert response.content_type == "application/json"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"


async def test_result_of_what_failed(shop: Shop) -> None:
    """There is no result but a problem, with the status that the function gave it."""
    job_id = await shop.submit("fail")
    await shop.inside.ended(job_id)
    async with shop.http.get(shop.job(job_id, "/result")) as response:
        assert response.status == 422
        assert response.content_type == "application/problem+json"
        assert (await response.json())["code"] == "job_failed"


async def test_result_of_what_was_cancelled(shop: Shop) -> None:
    """A cancelled job has no result to wait for: 409."""
    job_id = await shop.submit()
    async with shop.http.delete(shop.job(job_id)):
        pass
    status, document = await json_of(await shop.http.get(shop.job(job_id, "/result")))
    assert (status, document["code"]) == (409, "job_cancelled")


# Cancelling


async def test_cancel_waiting(shop: Shop) -> None:
    """A job that waits is cancelled at once, and makes room."""
    await shop.submit()
    first, second = await shop.submit(), await shop.submit()
    status, document = await json_of(await shop.http.delete(shop.job(first)))
    assert (status, document["state"], document["reason"]) == (200, "cancelled", "client")
    assert document["finished"] is not None
    _, document = await json_of(await shop.http.get(shop.job(second)))
    assert document["position"] == 1


@pytest.mark.parametrize("name", ["work", "tidy"])
async def test_cancel_running(shop: Shop, name: str) -> None:
    """A running job that ends soon when asked to is reported as cancelled at once."""
    job_id = await shop.submit(name)
    status, document = await json_of(await shop.http.delete(shop.job(job_id)))
    assert (status, document["state"]) == (200, "cancelled")
    assert document["cancel_requested"] is False


async def test_cancel_stubborn(shop: Shop) -> None:
    """One that does not end is asked, which is all that can be said; its value still counts."""
    job_id = await shop.submit("stubborn")
    for _ in range(2):
        status, document = await json_of(await shop.http.delete(shop.job(job_id)))
        assert (status, document["state"]) == (202, "running")
        assert document["cancel_requested"] is True
    shop.end.set()
    assert await shop.inside.ended(job_id) == "succeeded"
    status, document = await json_of(await shop.http.delete(shop.job(job_id)))
    assert (status, document["state"]) == (200, "succeeded")
    assert document["result"] == "done all the same"


async def test_cancel_a_thread(serve, http) -> None:
    """A thread that does not look is asked: 202, within the tenth of a second a client waits."""
    begun, release = threading.Event(), threading.Event()

    @aioqueue.queued
    def work() -> None:
        begun.set()
        release.wait(20)

    shop = await Shop().sells(work).open(serve, http)
    job_id = await shop.submit()
    await until(begun.is_set)
    try:
        for _ in range(3):
            status, document = await json_of(await http.delete(shop.job(job_id)))
            assert (status, document["cancel_requested"]) == (202, True)
    finally:
        release.set()
    await shop.inside.ended(job_id)


@pytest.mark.parametrize("name", ["quick", "fail"])
async def test_cancel_what_has_ended(shop: Shop, name: str) -> None:
    """What has ended stays as it is, however often somebody cancels it."""
    job_id = await shop.submit(name)
    await shop.inside.ended(job_id)
    before = await json_of(await shop.http.get(shop.job(job_id)))
    assert before[0] == 200
    for _ in range(2):
        assert await json_of(await shop.http.delete(shop.job(job_id))) == before


async def test_cancel_twice(shop: Shop) -> None:
    """Two who cancel one job are told the same."""
    await shop.submit()
    job_id = await shop.submit()
    answers = [await json_of(await shop.http.delete(shop.job(job_id))) for _ in range(2)]
    assert answers[0] == answers[1]


async def test_cancel_where_no_stream_has_room(serve, http) -> None:
    """Cancelling always works, also where there is no place to wait for anything."""
    shop = await make_shop(max_streams=1).open(serve, http)
    response, job_id = await shop.stream("stubborn")
    status, document = await json_of(await http.delete(shop.job(job_id)))
    assert (status, document["cancel_requested"]) == (202, True)
    response.close()
    shop.end.set()


# Many jobs on one stream


def many(shop: Shop, *job_ids: str) -> str:
    """The address of the stream of these jobs."""
    return f"{shop.url}/queue/events?" + "&".join(f"job={job_id}" for job_id in job_ids)


async def test_many(shop: Shop) -> None:
    """One stream tells of all jobs, each event naming its own, and ends with the last."""
    first, second = await shop.submit(body={"value": 1}), await shop.submit(body={"value": 2})
    response = await shop.http.get(many(shop, first, second))
    events = read_events(response)
    states = [await anext(events) for _ in range(2)]
    assert [(one.event, one.data["job"], one.data["state"]) for one in states] == [
        ("state", first, "running"),
        ("state", second, "queued"),
    ]
    shop.end.set()
    durable = [event async for event in events if event.event != "position"]
    assert [(one.event, one.data["job"], one.id) for one in durable] == [
        ("started", first, "1-1.1-0"),
        ("succeeded", first, "1-2.1-0"),
        ("started", second, "1-2.1-1"),
        ("succeeded", second, "1-2.1-2"),
    ]
    headers = {"Last-Event-ID": durable[-1].id}
    async with shop.http.get(many(shop, first, second), headers=headers) as response:
        assert response.status == 204


async def test_many_resumed(shop: Shop) -> None:
    """The ids stand in the order of the query; each job goes on behind its own."""
    jobs = [await done(shop, value) for value in range(3)]
    for last, expected in (
        ("1-1.1-2.1-0", ["1-2.1-2.1-0", "1-2.1-2.1-1", "1-2.1-2.1-2"]),
        ("1-2.1-1.1-2", ["1-2.1-2.1-2"]),
        ("1-2.1-1", 6),
        ("1-2.nonsense.1-2", ["1-2.1-1.1-2", "1-2.1-2.1-2"]),
        ("", 6),
    ):
        response = await shop.http.get(many(shop, *jobs), headers={"Last-Event-ID": last})
        events = await events_of(response)
        assert [event.event for event in events[:3]] == ["state"] * 3
        assert [event.data["job"] for event in events[:3]] == jobs
        ids = [event.id for event in events[3:]]
        assert ids == expected if isinstance(expected, list) else len(ids) == expected
        assert ids[-1] == "1-2.1-2.1-2"


async def test_many_with_unknown(shop: Shop) -> None:
    """What is not known is gone, at once and each by its name; the ids keep its place."""
    job_id = await done(shop)
    names = ["x", UNKNOWN, 'a"b\n\nevent: forged\ndata: 1']
    params = [("job", name) for name in (names[0], job_id, *names[1:])]
    async with shop.http.get(f"{shop.url}/queue/events", params=params) as response:
        events = [event async for event in read_events(response)]
    assert [event.data["job"] for event in events if event.event == "gone"] == names
    assert [event.event for event in events[3:]] == ["state", "started", "succeeded"]
    assert events[-1].id == "1-0.1-2.1-0.1-0"
    headers = {"Last-Event-ID": events[-1].id}
    url = f"{shop.url}/queue/events"
    async with shop.http.get(url, params=params, headers=headers) as response:
        assert response.status == 204


async def test_many_and_one_expires(shop: Shop) -> None:
    """A job that is forgotten before its end was read is gone; the others go on."""
    job_id = await shop.submit()
    other = await shop.submit()
    response = await shop.http.get(many(shop, job_id, other))
    events = read_events(response)
    await anext(events)
    engine = shop.inside.engine
    await engine.cancel(other, "client")
    shop.inside._passed += 601  # before the stream has looked
    await engine.reap()
    gone = await anext(event async for event in events if event.event == "gone")
    assert gone.data == {"type": "gone", "job": other}
    shop.end.set()
    assert [event.event async for event in events] == ["succeeded"]


async def test_many_but_none(shop: Shop) -> None:
    """Of no job there is no stream: 404, or a browser would come back for ever."""
    for url in (many(shop, UNKNOWN), many(shop, UNKNOWN, "x")):
        status, document = await json_of(await shop.http.get(url))
        assert (status, document["code"]) == (404, "not_found")


@pytest.mark.parametrize(("count", "status"), [(0, 400), (1, 200), (50, 200), (51, 400)])
async def test_how_many(shop: Shop, count: int, status: int) -> None:
    """One to fifty jobs make a stream; more is an error that says so."""
    job_id = await done(shop)
    names = [job_id, *(f"{number:022}" for number in range(count - 1))][:count]
    async with shop.http.get(many(shop, *names)) as response:
        assert response.status == status
        if status == 400:
            assert (await response.json())["code"] == "bad_request"
            assert "50" in (await response.json())["detail"]


async def test_one_many_times(shop: Shop) -> None:
    """A job that is named twice is told once."""
    job_id = await done(shop)
    events = await events_of(await shop.http.get(many(shop, *[job_id] * 60)))
    assert [event.event for event in events] == ["state", "started", "succeeded"]
    assert events[-1].id == "1-2"


# The counts


async def test_status(shop: Shop) -> None:
    """Everyone may see how much there is to do, and nothing of what it is."""
    await shop.submit(body={"value": "secret"})
    response, job_id = await shop.stream(body={"value": "secret"})
    await done(shop)
    async with shop.http.get(f"{shop.url}/queue/status") as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        text = await answer.text()
        document = await answer.json()
    assert job_id not in text
    assert "secret" not in text
    assert document["streams"] == 1
    assert set(document["functions"]) == {"work", "quick", "fail", "stubborn", "tidy"}
    assert document["functions"]["work"] == {
        "running": 1,
        "queued": 1,
        "concurrency_limit": 1,
        "max_size": None,
        "avg_duration": None,
        "eta": None,
        "eta_high": None,
    }
    assert document["functions"]["quick"]["avg_duration"] is not None
    response.close()


@pytest.mark.parametrize("owner", [None, "ada"])
async def test_private_status(serve, http, owner: str | None) -> None:
    """Counts that are not public are not found by strangers, and shown to whoever is somebody."""
    shop = await make_shop(
        public_status=False, owner=lambda request: request.headers.get("User")
    ).open(serve, http)
    headers = {"User": owner} if owner else {}
    async with http.get(f"{shop.url}/queue/status", headers=headers) as response:
        assert response.status == (200 if owner else 404)


async def test_private_status_without_owners(serve, http) -> None:
    """Where nobody is anybody, private counts are nobody's."""
    shop = await make_shop(public_status=False).open(serve, http)
    status, document = await json_of(await http.get(f"{shop.url}/queue/status"))
    assert (status, document["code"]) == (404, "not_found")


# HEAD and other methods


@pytest.mark.parametrize("below", ["", "/result", "/events"])
async def test_head(shop: Shop, below: str) -> None:
    """HEAD is answered at once, with no body, for whatever GET answers."""
    job_id = await shop.submit()
    async with raw_http(
        shop.job(job_id, below), "HEAD", version="1.1", Connection="close"
    ) as response:
        assert response.status in (200, 202)
        assert await response.rest() == b""
    async with raw_http(
        shop.job(UNKNOWN, below), "HEAD", version="1.1", Connection="close"
    ) as response:
        assert response.status == 404
        assert await response.rest() == b""


async def test_other_methods(shop: Shop) -> None:
    """What is not there is aiohttp's to refuse."""
    job_id = await shop.submit()
    for method, url in (
        ("POST", shop.job(job_id)),
        ("PUT", shop.job(job_id)),
        ("DELETE", shop.job(job_id, "/events")),
        ("POST", f"{shop.url}/queue/status"),
    ):
        async with shop.http.request(method, url) as response:
            assert response.status == 405
    async with shop.http.get(f"{shop.url}/queue/jobs") as response:
        assert response.status == 404
