"""Idempotency-Key: a request that is sent again is the same job, however it is to be answered."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, FormData, web
from aiohttp.test_utils import make_mocked_request

import aioqueue
from aioqueue._idempotency import fingerprint
from aioqueue._parameters import Received
from tests.inside import STREAM, Shop, until
from tests.raw_http import raw_http
from tests.sse_client import ServerSentEvent, read_events

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


def make_shop(**settings: Any) -> Shop:
    """A shop with work that waits for ``end``, other work, and work that takes a file."""
    shop = Shop()

    @aioqueue.queued
    async def work(value: Any = None) -> Any:
        await shop.end.wait()
        return value

    @aioqueue.queued
    async def other(value: Any = None) -> Any:
        return value

    @aioqueue.queued(max_size=1)
    async def small(value: Any = None) -> Any:
        await shop.end.wait()
        return value

    @aioqueue.queued(concurrency_limit=10)
    async def look(image: bytes, note: str = "") -> list[Any]:
        return [len(image), note]

    return shop.sells(work, other, small, look, **settings)


@pytest.fixture
async def shop(serve, http) -> Shop:
    """A shop whose time stands still."""
    return await make_shop().open(serve, http)


async def post(
    shop: Shop, value: Any = None, name: str = "work", key: str = KEY, **headers: str
) -> ClientResponse:
    """Send a request with a key."""
    body = {"value": value}
    return await shop.post("", name, body, **{"Idempotency-Key": key, **headers})


async def id_of(response: ClientResponse) -> str:
    """The id of the job in a 202, which the response must be."""
    async with response:
        document = await response.json()
        assert response.status == 202, document
        job_id: str = document["id"]
        return job_id


async def problem_of(response: ClientResponse) -> tuple[int, str]:
    """The status and the code of a refusal."""
    async with response:
        return response.status, (await response.json())["code"]


async def events_of(response: ClientResponse) -> list[ServerSentEvent]:
    """All events of a response, to its end."""
    async with response:
        assert response.status == 200
        return [event async for event in read_events(response)]


async def jobs_of(shop: Shop) -> int:
    """How many jobs there are that have not ended."""
    async with shop.http.get(f"{shop.url}/queue/status") as response:
        counts = (await response.json())["functions"].values()
        return sum(count["running"] + count["queued"] for count in counts)


# The same request


async def test_the_same_job(shop: Shop) -> None:
    """Sent again it is the same job, and the answer says so; the first answer does not."""
    first = await post(shop, 7)
    assert "Idempotency-Replayed" not in first.headers
    again = await post(shop, 7)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert await id_of(first) == await id_of(again)
    assert await jobs_of(shop) == 1


async def test_in_the_mode_of_the_retry(shop: Shop) -> None:
    """Whatever began the job, a retry is answered as the retry asks."""
    job_id = await id_of(await post(shop, 7))
    stream = await post(shop, 7, **STREAM)
    assert stream.headers["Idempotency-Replayed"] == "true"
    assert stream.headers["Location"] == f"/queue/jobs/{job_id}"
    waiting = asyncio.create_task(post(shop, 7, Prefer="wait=5"))
    await shop.listening(2)
    shop.end.set()
    async with await waiting as response:
        assert (response.status, await response.json()) == (200, 7)
        assert response.headers["Idempotency-Replayed"] == "true"
    assert [event.event for event in await events_of(stream)] == ["state", "started", "succeeded"]


async def test_after_the_end(shop: Shop) -> None:
    """A retry finds its job also when that has ended, in each mode."""
    shop.end.set()
    job_id = await id_of(await post(shop, 7))
    await shop.inside.ended(job_id)
    async with await post(shop, 7, Prefer="wait=5") as response:
        assert (response.status, await response.json()) == (200, 7)
    *_, end = await events_of(await post(shop, 7, **STREAM))
    assert end.data["result"] == 7
    assert await id_of(await post(shop, 7)) == job_id


async def test_a_stream_resumed_by_its_request(shop: Shop) -> None:
    """A client that lost its stream sends the request again and goes on where it was."""
    response, job_id = await shop.stream("work", {"value": 7}, **{"Idempotency-Key": KEY})
    await shop.inside.say(job_id, "a", "b")
    response.close()
    back = await post(shop, 7, **STREAM, **{"Last-Event-ID": "1-2"})
    shop.end.set()
    state, *rest = await events_of(back)
    assert (state.event, state.data["job"]) == ("state", job_id)
    assert [event.id for event in rest] == ["1-3", "1-4"]


async def test_a_place_in_another_log(shop: Shop) -> None:
    """Where the key is new, an old place means nothing: all of the new job is told."""
    shop.end.set()
    response = await post(shop, 7, **STREAM, **{"Last-Event-ID": "1-1"})
    assert [event.event for event in await events_of(response)] == ["state", "started", "succeeded"]


async def test_two_at_once(shop: Shop) -> None:
    """However close together two first requests come, there is one job."""
    responses = await asyncio.gather(*(post(shop, 7) for _ in range(10)))
    replayed = [response.headers.get("Idempotency-Replayed") for response in responses]
    assert len({await id_of(response) for response in responses}) == 1
    assert sorted(replayed, key=str) == [None] + ["true"] * 9


async def test_without_a_key(shop: Shop) -> None:
    """Requests without a key are never the same."""
    assert await shop.submit(body={"value": 7}) != await shop.submit(body={"value": 7})


@pytest.mark.parametrize(
    ("one", "two"), [(KEY, f'"{KEY}"'), (f'"{KEY}"', f'  "{KEY}"  '), ("k" * 255, "k" * 255)]
)
async def test_how_a_key_is_written(shop: Shop, one: str, two: str) -> None:
    """A key is a quoted string by the standard, and a bare word by habit: the same key."""
    assert await id_of(await post(shop, key=one)) == await id_of(await post(shop, key=two))


# Another request


@pytest.mark.parametrize("value", [8, "7", None, {"a": 1}])
async def test_another_body(shop: Shop, value: Any) -> None:
    """A key that was used for something else is refused, and does no harm to what it was for."""
    job_id = await id_of(await post(shop, 7))
    assert await problem_of(await post(shop, value)) == (422, "idempotency_key_reused")
    assert await id_of(await post(shop, 7)) == job_id


async def test_another_query(shop: Shop) -> None:
    """The query is a part of the request."""
    await id_of(await post(shop, 7))
    headers = {"Idempotency-Key": KEY}
    url = f"{shop.url}/work?try=2"
    refused = await shop.http.post(url, json={"value": 7}, headers=headers)
    assert await problem_of(refused) == (422, "idempotency_key_reused")


async def test_another_path(shop: Shop) -> None:
    """The same key for another function is another job."""
    assert await id_of(await post(shop, 7)) != await id_of(await post(shop, 7, "other"))


async def test_another_owner(serve, http) -> None:
    """Whatever keys people think of, one never gets the other's job."""
    shop = await make_shop(owner=lambda request: request.headers.get("User")).open(serve, http)
    ids = [
        await id_of(await post(shop, 7, **({"User": user} if user else {})))
        for user in ("ada", "bob", "", "None", "None POST /work")
    ]
    assert len(set(ids)) == len(ids)
    assert await id_of(await post(shop, 7, User="ada")) == ids[0]


# Forms


def form(*fields: tuple[str, Any, str | None]) -> FormData:
    """A form of these fields; one with a file name is a file."""
    data = FormData()
    for name, value, filename in fields:
        data.add_field(name, value, filename=filename)
    return data


async def send_form(shop: Shop, *fields: tuple[str, Any, str | None]) -> ClientResponse:
    """Send a form with the key."""
    data = form(*fields)
    return await shop.http.post(
        f"{shop.url}/look", data=data, headers={"Idempotency-Key": KEY, "Prefer": "wait=5"}
    )


async def test_a_form_again(shop: Shop) -> None:
    """A form that is sent again has another boundary, and is the same request all the same."""
    fields = (("image", b"\x89PNG\r\n--", "a.png"), ("note", "hello", None))
    first, again = [await send_form(shop, *fields) for _ in range(2)]
    assert first.request_info.headers["Content-Type"] != again.request_info.headers["Content-Type"]
    assert await first.json() == await again.json() == [8, "hello"]
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize(
    "fields",
    [
        (("image", b"PNG!", "a.png"), ("note", "hello", None)),
        (("image", b"PNG", "b.png"), ("note", "hello", None)),
        (("image", b"PNG", "a.png"), ("note", "hell", None)),
        (("image", b"PNG", "a.png"),),
    ],
)
async def test_another_form(shop: Shop, fields: Any) -> None:
    """A form that differs in any part is another request."""
    same = (("image", b"PNG", "a.png"), ("note", "hello", None))
    async with await send_form(shop, *same) as response:
        assert await response.json() == [3, "hello"]
    refused = await send_form(shop, *fields)
    assert await problem_of(refused) == (422, "idempotency_key_reused")


def upload(number: int) -> aioqueue.Upload:
    """A file on disk."""
    return aioqueue.Upload("a", "image/png", 3, Path(f"/upload-{number}"))


def test_no_two_requests_look_alike() -> None:
    """What is taken of a request can't be cut in another way and come to the same."""
    received = [
        Received(fields=[("a", "bc")]),
        Received(fields=[("ab", "c")]),
        Received(fields=[("a", "b"), ("c", "")]),
        Received(fields=[("c", ""), ("a", "b")]),
        Received(files=[("a", b"bc")]),
        Received(files=[("ab", b"c")]),
        Received(fields=[("a", "b")], files=[("c", b"")]),
        Received(json=b"abc"),
        Received(whole=b"abc"),
        Received(),
        Received(files=[("a", upload(1))]),
        Received(files=[("a", upload(2))]),
        Received(whole=upload(1)),
    ]
    digests = {upload(number).path: bytes([number]) * 32 for number in (1, 2)}
    requests = [
        make_mocked_request("POST", path, {"Content-Type": kind})
        for path in ("/work", "/work?a", "/work?a=b")
        for kind in ("application/json", "image/png")
    ]
    fingerprints = {fingerprint(request, one, digests) for request in requests for one in received}
    assert len(fingerprints) == len(requests) * len(received)


# Keys that are none


@pytest.mark.parametrize(
    "key",
    [
        "",
        '""',
        '"',
        "k" * 256,
        '"' + "k" * 256 + '"',
        "two words, sixteen",
        "sixteen-letters-\u00e9",
        "short",
        '"fifteen-letters"',
    ],
)
async def test_no_key(shop: Shop, key: str) -> None:
    """What is no key, or one that a stranger could guess, is refused before anything happens."""
    assert await problem_of(await post(shop, key=key)) == (400, "idempotency_key_invalid")
    assert await jobs_of(shop) == 0


async def test_two_keys(shop: Shop) -> None:
    """Two lines are no key, even if they are the same."""
    lines = f"{KEY}\r\nIdempotency-Key: {KEY}"
    async with raw_http(
        f"{shop.url}/work", "POST", body="{}", **{"Idempotency-Key": lines}
    ) as response:
        assert response.status == 400
        assert b"idempotency_key_invalid" in await response.rest()
    assert await jobs_of(shop) == 0


async def test_short_keys_of_somebody(serve, http) -> None:
    """Who is somebody shares his keys with nobody, so they may be short."""
    shop = await make_shop(owner=lambda request: request.headers.get("User")).open(serve, http)
    first = await id_of(await post(shop, key="1", User="ada"))
    assert await id_of(await post(shop, key="1", User="ada")) == first
    assert await problem_of(await post(shop, key="1")) == (400, "idempotency_key_invalid")
    for key in ("", '""', "k" * 256):
        refused = await post(shop, key=key, User="ada")
        assert await problem_of(refused) == (400, "idempotency_key_invalid")


# When there is no room


async def test_replay_in_a_full_queue(shop: Shop) -> None:
    """A job that is there is found although no new one would be taken."""
    await shop.submit("small")
    job_id = await id_of(await post(shop, 7, "small"))
    refused = await post(shop, 7, "small", key=KEY + "2")
    assert await problem_of(refused) == (503, "queue_full")
    assert await id_of(await post(shop, 7, "small")) == job_id


async def test_refused_is_forgotten(shop: Shop) -> None:
    """A request that was refused has used up nothing: the key is free for whatever comes."""
    await shop.submit("small")
    waiting = await shop.submit("small")
    assert await problem_of(await post(shop, 7, "small")) == (503, "queue_full")
    async with shop.http.delete(shop.job(waiting)):
        pass
    response = await post(shop, 8, "small")
    assert "Idempotency-Replayed" not in response.headers
    await id_of(response)


async def test_refused_for_its_body(shop: Shop) -> None:
    """A key is not used up by a request that could not be read."""
    headers = {"Idempotency-Key": KEY}
    refused = await shop.http.post(f"{shop.url}/work", json={"unknown": 1}, headers=headers)
    assert await problem_of(refused) == (422, "invalid_arguments")
    await id_of(await post(shop, 7))


async def test_refused_for_a_stream(serve, http) -> None:
    """Where there was no place for the stream the key is free as well."""
    shop = await make_shop(max_streams=1).open(serve, http)
    response, _ = await shop.stream()
    assert await problem_of(await post(shop, 7, **STREAM)) == (503, "too_many_streams")
    response.close()
    async with await post(shop, 8) as accepted:
        assert accepted.status == 202
        assert "Idempotency-Replayed" not in accepted.headers


# For how long


async def test_a_key_lives_as_long_as_its_job(shop: Shop) -> None:
    """While the job is kept its key is; after that both are free for another."""
    shop.end.set()
    job_id = await id_of(await post(shop, 7))
    await shop.inside.ended(job_id)
    await shop.inside.pass_time(598, step=100)
    assert await id_of(await post(shop, 7)) == job_id
    await shop.inside.pass_time(4)
    response = await post(shop, 8)
    assert "Idempotency-Replayed" not in response.headers
    assert await id_of(response) != job_id


async def test_a_key_and_a_bound(serve, http) -> None:
    """A job that had to make room for newer ones takes its key along."""
    shop = await make_shop(max_results=1).open(serve, http)
    first = await id_of(await post(shop, 7, "other"))
    await shop.inside.ended(first)
    await shop.inside.ended(await shop.submit("other"))
    response = await post(shop, 8, "other")
    assert "Idempotency-Replayed" not in response.headers
    await id_of(response)


async def test_a_request_function_has_no_keys(serve, http) -> None:
    """A handler answers each request by itself; to it a key is a header like any other."""
    calls = []

    @aioqueue.queued
    async def handler(request: web.Request) -> web.Response:
        calls.append(request.headers["Idempotency-Key"])
        return web.Response(text="hello")

    shop = await Shop().sells(handler).open(serve, http)
    for _ in range(2):
        async with await shop.post("", "handler", **{"Idempotency-Key": "any"}) as response:
            assert (response.status, await response.text()) == (200, "hello")
            assert "Idempotency-Replayed" not in response.headers
    await until(lambda: calls == ["any", "any"])
