"""Event streams: every byte of them, and clients who leave, come back, or do not read."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from yarl import URL

import aioqueue
from aioqueue._job import BEGINNING, EventId
from aioqueue._sse import cursor_of, cursors_of, frame
from tests.inside import STREAM, Shop, until
from tests.raw_http import RawResponse, connection, raw_http
from tests.sse_client import EventParser, ServerSentEvent, read_events


def make_shop(**settings: Any) -> Shop:
    """A shop with work that waits for ``end``, and work that is done at once."""
    shop = Shop()

    @aioqueue.queued
    async def work(value: Any = None) -> Any:
        await shop.end.wait()
        return value

    @aioqueue.queued(concurrency_limit=100)
    async def many() -> None:
        await shop.end.wait()

    @aioqueue.queued
    async def quick(value: Any = None) -> Any:
        return value

    return shop.sells(work, many, quick, **settings)


@pytest.fixture
async def shop(serve, http) -> Shop:
    """A shop whose time stands still."""
    return await make_shop().open(serve, http)


async def events_of(response: Any) -> list[ServerSentEvent]:
    """All events of a response, to its end."""
    async with response:
        return [event async for event in read_events(response)]


def names(events: list[ServerSentEvent]) -> list[str]:
    """What the events are called."""
    return [event.event for event in events]


async def take(events: Any, name: str) -> ServerSentEvent:
    """Read on until an event of this name."""
    async for event in events:
        if event.event == name:
            return event
    raise AssertionError(f"the stream ended without {name}")


# Frames and cursors


def test_frame() -> None:
    """A frame is its name, its one line of data and, if it is durable, its id."""
    assert frame("state", b'{"a":1}') == b'event: state\ndata: {"a":1}\n\n'
    assert frame("output", b"{}", "1-7") == b"id: 1-7\nevent: output\ndata: {}\n\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [(1, 0), (1, 0)]),
        ("1-3.2-1", [(1, 3), (2, 1)]),
        ("1-3", [(1, 0), (1, 0)]),
        ("1-3.1-4.1-5", [(1, 0), (1, 0)]),
        ("1-3.x", [(1, 3), (1, 0)]),
        (".", [(1, 0), (1, 0)]),
        ("1-3.", [(1, 3), (1, 0)]),
        ("1-\u0663.1-2", [(1, 0), (1, 2)]),
        ("-1-3.1--2", [(1, 0), (1, 0)]),
        ("1-99999999999.1-2", [(1, 0), (1, 2)]),
    ],
)
def test_cursors_of(text: str, expected: list[tuple[int, int]]) -> None:
    """Each id stands for its job in their order; what can't be read is the beginning."""
    cursors = cursors_of(text, ["b", "a"])
    assert list(cursors) == ["b", "a"]
    assert [(cursor.attempt, cursor.number) for cursor in cursors.values()] == expected


def test_cursors_of_one() -> None:
    """One job has one id."""
    assert cursors_of("1-3", ["a"]) == {"a": EventId(1, 3)}
    assert cursors_of("1-3.1-4", ["a"]) == {"a": BEGINNING}


def test_cursor_of() -> None:
    """The header beats the query: a browser that reconnects repeats the address as it was."""
    for headers, query, expected in (
        ({}, "", ""),
        ({}, "?last_event_id=1-2", "1-2"),
        ({"Last-Event-ID": "1-3"}, "?last_event_id=1-2", "1-3"),
        ({"last-event-id": "1-3"}, "", "1-3"),
    ):
        assert cursor_of(make_mocked_request("GET", f"/events{query}", headers)) == expected


# The wire

BLOCK = re.compile(
    rb"(?:id: 1-\d+\nevent: (?:started|output|succeeded|failed|cancelled)"
    rb"|event: (?:state|position))\ndata: \{[^\r\n]+\}\n\n"
)


async def test_every_byte(shop: Shop) -> None:
    """Line ends, fields and their order are just these, and what a function said is in one line."""
    value = "two\r\nlines\u2028\u0085\0, and data: not ours\n\nevent: forged"
    async with raw_http(
        f"{shop.url}/work", "POST", body=json.dumps({"value": value}), **STREAM
    ) as response:
        job_id = response.header("Location")[0].rpartition("/")[2]
        await shop.inside.say(job_id, "a\nb", None)
        shop.end.set()
        body = await response.rest()

    retry, _, rest = body.partition(b"\n\n")
    assert re.fullmatch(rb"retry: \d+", retry)
    assert 1000 <= int(retry[7:]) <= 3000
    assert b"".join(BLOCK.findall(rest)) == rest
    state, rest = rest.split(b"\n\n", 1)
    assert state.startswith(b'event: state\ndata: {"type":"state","job":"%b"' % job_id.encode())
    assert state.endswith(b'"truncated":false}')
    encoded = json.dumps(value, ensure_ascii=False).replace("\\u2028", "\u2028")
    job = job_id.encode()
    assert rest == (
        b'id: 1-1\nevent: started\ndata: {"type":"started","job":"%b","eta":null}\n\n'
        b'id: 1-2\nevent: output\ndata: {"type":"output","job":"%b","data":"a\\nb"}\n\n'
        b'id: 1-3\nevent: output\ndata: {"type":"output","job":"%b","data":null}\n\n'
        b'id: 1-4\nevent: succeeded\ndata: {"type":"succeeded","job":"%b","result":%b}\n\n'
        % (job, job, job, job, encoded.encode())
    )


async def test_headers(shop: Shop) -> None:
    """Nothing keeps, changes or holds back a stream on its way, and each header is there once."""
    async with raw_http(
        f"{shop.url}/work", "POST", body="{}", version="1.1", Accept_Encoding="gzip", **STREAM
    ) as response:
        assert response.status == 200
        headers = dict(response.headers)
        assert len(headers) == len(response.headers)
        del headers["Date"], headers["Server"]
        location = headers.pop("Location")
        assert re.fullmatch(r"/queue/jobs/[\w-]{22}", location)
        expected = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store, no-transform",
            "X-Accel-Buffering": "no",
            "X-Content-Type-Options": "nosniff",
            "Vary": "Accept, Prefer",
            "Transfer-Encoding": "chunked",
        }
        assert headers == expected
    async with raw_http(f"{shop.url}{location}/events", version="1.1") as response:
        headers = dict(response.headers)
        del headers["Date"], headers["Server"]
        assert headers == expected


async def test_first_bytes_at_once(shop: Shop) -> None:
    """Who has to wait knows his job and his place before anything moves."""
    await shop.submit()
    async with raw_http(f"{shop.url}/work", "POST", body="{}", **STREAM) as response:
        retry = await response.reader.readuntil(b"\n\n")
        state = await response.reader.readuntil(b"\n\n")
    assert retry.startswith(b"retry: ")
    (event,) = EventParser().feed(state)
    assert event.data["state"] == "queued"
    assert (event.data["position"], event.data["queue_size"]) == (1, 1)
    assert event.data["links"]["self"] == f"/queue/jobs/{event.data['job']}"


async def test_retry_is_spread(shop: Shop) -> None:
    """When a server restarts, its clients do not all come back in the same moment."""
    job_id = await shop.submit()
    retries = set()
    for _ in range(20):
        async with raw_http(shop.job(job_id, "/events")) as response:
            retries.add(await response.reader.readuntil(b"\n\n"))
    assert len(retries) > 5


async def test_http_1_0(shop: Shop) -> None:
    """An old client that would keep the connection gets the stream, and its end is the end."""
    async with raw_http(
        f"{shop.url}/work", "POST", body="{}", Connection="keep-alive", **STREAM
    ) as response:
        assert response.header("Transfer-Encoding") == []
        assert response.header("Connection") in ([], ["close"])
        shop.end.set()
        events = EventParser().feed(await response.rest())
    assert names(events) == ["state", "started", "succeeded"]


@pytest.mark.parametrize("connection_header", ["keep-alive", "close"])
async def test_http_1_1(shop: Shop, connection_header: str) -> None:
    """After a stream the connection is good for another request, unless the client is done."""
    job_id = await shop.submit("quick")
    await shop.inside.ended(job_id)
    async with connection(shop.url) as (reader, writer):
        for _ in range(2):
            head = f"GET /queue/jobs/{job_id}/events HTTP/1.1\r\nHost: here\r\n"
            writer.write(f"{head}Connection: {connection_header}\r\n\r\n".encode())
            response = RawResponse(await reader.readuntil(b"\r\n\r\n"), reader)
            assert response.status == 200
            assert (await reader.readuntil(b"0\r\n\r\n")).count(b"event: ") == 3
            if connection_header == "close":
                assert response.header("Connection") == ["close"]
                assert await response.rest() == b""
                break


async def test_response_hooks_see_streams(serve, http) -> None:
    """What an app adds to every response, such as CORS headers, is on streams too."""

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Access-Control-Allow-Origin"] = "*"

    shop = make_shop()
    shop.app.on_response_prepare.append(add)
    await shop.open(serve, http)
    response, _ = await shop.stream()
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    response.close()


# Events in their order


async def test_order(shop: Shop) -> None:
    """First how it stands, then what happens: started, what it says, and one end."""
    response = await shop.post("", "work", {"value": 7}, **STREAM)
    events = read_events(response)
    state = await anext(events)
    assert (state.event, state.data["state"], state.id) == ("state", "running", "")
    assert list(state.data)[:3] == ["type", "job", "id"]
    started = await anext(events)
    assert (started.event, started.data["type"], started.id) == ("started", "started", "1-1")
    job_id = state.data["job"]
    await shop.inside.say(job_id, "Hel", "lo")
    assert [(await anext(events)).data["data"] for _ in range(2)] == ["Hel", "lo"]
    shop.end.set()
    (end,) = [event async for event in events]
    assert (end.event, end.id) == ("succeeded", "1-4")
    assert end.data == {"type": "succeeded", "job": job_id, "result": 7}


async def test_done_before_the_first_write(shop: Shop) -> None:
    """A job that has ended by the first write is told whole; the result only in its last event."""
    events = await events_of(await shop.post("", "quick", {"value": 7}, **STREAM))
    assert names(events) == ["state", "started", "succeeded"]
    assert (events[0].data["state"], events[0].data["result"]) == ("succeeded", None)
    assert events[2].data["result"] == 7


async def test_cancelled(shop: Shop) -> None:
    """A cancel ends the stream with its reason, whether the job waits or runs."""
    running, job_id = await shop.stream()
    waiting, other_id = await shop.stream()
    async with shop.http.delete(shop.job(other_id)), shop.http.delete(shop.job(job_id)):
        pass
    for response in (waiting, running):
        *_, end = await events_of(response)
        assert (end.event, end.data["reason"]) == ("cancelled", "client")


async def test_positions(shop: Shop) -> None:
    """Who waits sees himself move up; such news has no id, so it does not move the cursor."""
    responses = [await shop.post("", "work", **STREAM) for _ in range(4)]
    streams = [read_events(response) for response in responses]
    states = [await anext(events) for events in streams]
    assert [state.data["position"] for state in states] == [None, 1, 2, 3]
    async with shop.http.delete(shop.job(states[1].data["job"])):
        await shop.inside.pass_time(2)
    moved = await take(streams[3], "position")
    assert (moved.id, moved.data["position"], moved.data["queue_size"]) == ("", 2, 2)
    shop.end.set()
    assert (await take(streams[3], "started")).id == "1-1"
    for response in responses:
        response.close()


async def test_who_left_is_told_nothing(shop: Shop) -> None:
    """When a stream is gone nobody works out its positions any more."""
    await shop.submit()
    response, job_id = await shop.stream()
    await shop.leave(response)
    await shop.inside.pass_time(16)
    assert await shop.inside.state(job_id) == "queued"
    assert shop.inside.runtime._positions._due == []


async def test_who_has_left_is_not_kept(shop: Shop) -> None:
    """A stream that has ended is let go at once, whenever its next position would have come."""
    streams = [read_events(await shop.post("", "work", **STREAM)) for _ in range(2)]
    state = [await anext(events) for events in streams][1]
    (waiting,) = shop.inside.runtime._positions._due
    assert waiting.listener is not None
    async with shop.http.delete(shop.job(state.data["job"])):
        await take(streams[1], "cancelled")
        await until(lambda: len(shop.inside.listeners) == 1)
    assert waiting.listener is None
    shop.end.set()
    await take(streams[0], "succeeded")


# Coming back


async def told(shop: Shop, *values: Any) -> str:
    """A job that said these things and ended; its events are 1-1 to 1-n+2."""
    job_id = await shop.submit()
    await shop.inside.say(job_id, *values)
    shop.end.set()
    await shop.inside.ended(job_id)
    return job_id


@pytest.mark.parametrize(
    ("header", "query", "first"),
    [
        (None, None, 1),
        ("1-0", None, 1),
        ("1-2", None, 3),
        (None, "1-2", 3),
        ("1-3", "1-1", 4),
        ("nonsense", None, 1),
        ("nonsense", "1-2", 1),
        ("1-5", None, 1),
        ("1-99999999999999999999", None, 1),
        ("2-1", None, 1),
        ("0-3", None, 1),
        ("3", None, 1),
        ("1-2.1-2", None, 1),
        ("\u00e9", None, 1),
    ],
)
async def test_resume(shop: Shop, header: str | None, query: str | None, first: int) -> None:
    """A reader goes on behind what he has seen; who names no place of this log gets all of it."""
    job_id = await told(shop, "a", "b")
    headers = {"Last-Event-ID": header} if header else {}
    params = {"last_event_id": query} if query else {}
    url = shop.job(job_id, "/events")
    state, *rest = await events_of(await shop.http.get(url, headers=headers, params=params))
    assert state.event == "state"
    assert state.data["truncated"] is False
    assert [event.id for event in rest] == [f"1-{number}" for number in range(first, 5)]


async def test_nothing_new_yet(shop: Shop) -> None:
    """Who has seen everything so far of a job that goes on gets what comes."""
    job_id = await shop.submit()
    response = await shop.http.get(shop.job(job_id, "/events"), headers={"Last-Event-ID": "1-1"})
    assert response.status == 200
    shop.end.set()
    assert names(await events_of(response)) == ["state", "succeeded"]


async def test_nothing_left_to_say(shop: Shop) -> None:
    """Who has seen the end is told to stay away."""
    job_id = await told(shop)
    for headers, params in (({"Last-Event-ID": "1-2"}, {}), ({}, {"last_event_id": "1-2"})):
        url = shop.job(job_id, "/events")
        async with shop.http.get(url, headers=headers, params=params) as response:
            assert (response.status, await response.read()) == (204, b"")


async def test_not_there(shop: Shop) -> None:
    """Unknown, expired and impossible ids are not found, so that nobody comes back for ever."""
    job_id = await told(shop)
    await shop.inside.pass_time(601, step=100)
    for name in (job_id, "A" * 22, "A" * 21, "A" * 23, "..%2f..%2fetc%2fpasswd", "%00" * 22):
        async with shop.http.get(shop.job(name, "/events")) as response:
            assert response.status == 404, name
            assert (await response.json())["code"] == "not_found"


async def test_behind_the_ring_at_first(serve, http) -> None:
    """Who comes too late for the oldest events is told so, and gets the rest."""
    shop = await make_shop(max_log_events=3).open(serve, http)
    job_id = await shop.submit()
    await shop.inside.say(job_id, *range(5))
    response = await shop.http.get(shop.job(job_id, "/events"), headers={"Last-Event-ID": "1-2"})
    events = read_events(response)
    assert (await anext(events)).data["truncated"] is True
    assert [(await anext(events)).id for _ in range(3)] == ["1-4", "1-5", "1-6"]
    response.close()

    response = await shop.http.get(shop.job(job_id, "/events"), headers={"Last-Event-ID": "1-3"})
    events = read_events(response)
    assert (await anext(events)).data["truncated"] is False
    assert (await anext(events)).id == "1-4"
    response.close()


async def test_behind_the_ring_later(serve, http) -> None:
    """Who falls behind while he reads is told in between, and goes on with what is kept."""
    shop = await make_shop(max_log_events=3).open(serve, http)
    response, job_id = await shop.stream()
    events = read_events(response)
    await shop.inside.say(job_id, "a")
    await take(events, "output")
    await shop.inside.say(job_id, *range(10))
    state = await anext(events)
    assert (state.event, state.data["truncated"], state.id) == ("state", True, "1-2")
    assert [(await anext(events)).id for _ in range(3)] == ["1-10", "1-11", "1-12"]
    shop.end.set()
    assert names([event async for event in events]) == ["succeeded"]


@pytest.mark.parametrize("seed", range(3))
async def test_through_ten_tunnels(shop: Shop, seed: int) -> None:
    """A client that is cut off ten times, anywhere, has each durable event once, in order."""
    dice = random.Random(seed)
    job_id = await shop.submit()
    url = shop.job(job_id, "/events")
    seen: list[str] = []
    said = 0

    async def say(count: int) -> None:
        nonlocal said
        await shop.inside.say(job_id, *range(said, said + count))
        said += count

    for _ in range(10):
        before, meanwhile = dice.randrange(5), dice.randrange(5)
        await say(before)
        headers = {"Last-Event-ID": seen[-1]} if seen else {}
        async with raw_http(url, **headers) as response:
            await say(meanwhile)
            # A state has more than 500 bytes, an event more than 70.
            until_here = dice.randrange(1, 500 + 70 * (before + meanwhile))
            events = EventParser().feed(await response.reader.readexactly(until_here))
            seen += [event.id for event in events if event.event != "state"]
    shop.end.set()
    await shop.inside.ended(job_id)
    rest = await events_of(await shop.http.get(url, headers={"Last-Event-ID": seen[-1]}))
    seen += [event.id for event in rest if event.event != "state"]
    assert said > 20
    assert seen == [f"1-{number}" for number in range(1, said + 3)]


async def test_two_readers(shop: Shop) -> None:
    """All who follow a job see the same, whenever they came."""
    response, job_id = await shop.stream()
    await shop.inside.say(job_id, 1)
    late = await shop.http.get(shop.job(job_id, "/events"))
    await shop.inside.say(job_id, 2)
    shop.end.set()
    one = [event for event in await events_of(response) if event.event != "state"]
    two = [event for event in await events_of(late) if event.event != "state"]
    assert names(two) == ["started", "output", "output", "succeeded"]
    assert [event.data for event in two][-len(one) :] == [event.data for event in one]
    assert two[-1].id == one[-1].id == "1-4"


async def test_who_leaves_in_silence(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Writing to a client who has just left ends his stream at once, and is no error to report."""
    response, job_id = await shop.stream()
    (place,) = shop.inside.listeners._places
    response.close()
    await until(lambda: place.listener.is_gone)
    await shop.inside.say(job_id, "anybody there?")
    await until(lambda: not len(shop.inside.listeners))
    await asyncio.sleep(0)
    assert caplog.records == []
    assert await shop.inside.state(job_id) == "running"


async def test_head(shop: Shop) -> None:
    """Asking only for the head of a stream that goes on is answered at once."""
    job_id = await shop.submit()
    for url in (shop.job(job_id, "/events"), f"{shop.url}/queue/events?job={job_id}"):
        async with raw_http(url, "HEAD", version="1.1", Connection="close") as response:
            assert response.status == 200
            assert response.header("Content-Type") == ["text/event-stream"]
            assert response.header("Cache-Control") == ["no-store, no-transform"]
            assert await response.rest() == b""
    assert len(shop.inside.listeners) == 0


# Silence


async def test_pings(shop: Shop) -> None:
    """A stream on which nothing happens is never silent for longer than the interval."""
    job_id = await shop.submit()
    async with raw_http(shop.job(job_id, "/events")) as response:
        await shop.listening()
        (place,) = shop.inside.listeners._places
        for _ in range(60):
            await shop.inside.pass_time(1)
            assert shop.inside.now() - (place.listener._ping_at - 14) < 15
        await shop.inside.say(job_id, "end")
        data = await response.reader.readuntil(b'"end"')
        assert data.count(b":\n\n") == 4


async def test_no_ping_where_something_is_said(shop: Shop) -> None:
    """An event is as good as a ping, so that a busy stream has none."""
    response, job_id = await shop.stream()
    (place,) = shop.inside.listeners._places
    place.listener._ping_at -= 10
    await shop.inside.say(job_id, "a")
    events = read_events(response)
    await take(events, "output")
    await shop.inside.pass_time(13, step=13)
    await shop.inside.say(job_id, "b")
    assert (await take(events, "output")).comments == ()
    response.close()


# Clients who do not read


BIG = "x" * 50_000


async def fill(shop: Shop, job_id: str, listener: Any) -> None:
    """Let a job speak until a client that does not read holds up its stream, and no longer."""
    transport = listener.request.transport
    while transport.get_write_buffer_size() <= 64 << 10:
        await shop.inside.say(job_id, BIG)
        await asyncio.sleep(0)


async def shrinks(size: Callable[[], int]) -> None:
    """Wait until something is smaller than it was."""
    before = size()
    await until(lambda: size() < before)


async def test_slow_reader(shop: Shop) -> None:
    """Who does not read holds a bounded buffer, holds up nobody, and is dropped in the end."""
    job_id = await shop.submit("many")
    async with raw_http(shop.job(job_id, "/events")) as slow:
        await slow.reader.readuntil(b"\n\n")
        slow.reader._transport.pause_reading()
        (place,) = shop.inside.listeners._places
        await shop.inside.pass_time(1)
        await fill(shop, job_id, place.listener)
        assert not await place.listener.tell("position", b"{}")

        response = await shop.http.get(shop.job(job_id, "/events"))
        events = read_events(response)
        await take(events, "output")
        most = 0
        for number in range(100):
            await shop.inside.say(job_id, BIG, number)
            while (await take(events, "output")).data["data"] != number:
                pass
            most = max(most, place.listener.request.transport.get_write_buffer_size())
        assert most < 256 << 10

        await shop.inside.pass_time(100)
        assert len(shop.inside.listeners) == 2
        await shop.inside.pass_time(30)
        await until(lambda: len(shop.inside.listeners) == 1)
        assert await shop.inside.state(job_id) == "running"
        await shop.inside.say(job_id, "still here")
        assert (await take(events, "output")).data["data"] == "still here"
        response.close()


async def test_slow_but_steady(shop: Shop) -> None:
    """Who reads, however slowly, is not dropped."""
    job_id = await shop.submit("many")
    async with raw_http(shop.job(job_id, "/events")) as slow:
        await slow.reader.readuntil(b"\n\n")
        slow.reader._transport.pause_reading()
        (place,) = shop.inside.listeners._places
        size = place.listener.request.transport.get_write_buffer_size
        await shop.inside.pass_time(1)
        for _ in range(3):
            await fill(shop, job_id, place.listener)
            await shop.inside.pass_time(100)
            await fill(shop, job_id, place.listener)  # the kernel may have taken some
            slow.reader._transport.resume_reading()
            await shrinks(size)
            slow.reader._transport.pause_reading()
        assert len(shop.inside.listeners) == 1


async def test_slow_at_the_end(shop: Shop) -> None:
    """Who does not read the last event, which may be the largest, is dropped as well."""
    job_id = await shop.submit(body={"value": "x" * 900_000})
    other_id = await shop.submit()
    async with raw_http(shop.job(job_id, "/events")) as slow:
        await slow.reader.readuntil(b"\n\n")
        slow.reader._transport.pause_reading()
        await shop.inside.pass_time(1)
        (place,) = shop.inside.listeners._places
        shop.end.set()
        await shop.inside.ended(other_id)
        assert place.listener.request.transport.get_write_buffer_size()
        await shop.inside.pass_time(100)
        assert len(shop.inside.listeners) == 1
        await shop.inside.pass_time(30)
        await until(lambda: not len(shop.inside.listeners))


async def test_a_little_unread(shop: Shop) -> None:
    """Who stopped reading is dropped also while so little is waiting that nobody is held up."""
    response, _ = await shop.stream()
    (place,) = shop.inside.listeners._places
    place.listener.response.unsent = lambda: (1000, 1)
    await shop.inside.pass_time(100)
    assert not place.listener.is_gone
    await shop.inside.pass_time(30)
    await until(lambda: not len(shop.inside.listeners))
    response.close()


# What a stream costs


@pytest.mark.parametrize(("below", "prefer"), [("/events", ""), ("", "wait=60")])
async def test_no_task_of_its_own(serve, http, below: str, prefer: str) -> None:
    """Fifty who wait have the tasks of fifty plain responses, and not one more."""
    shop = await make_shop().open(serve, http)
    job_id = await shop.submit()
    inside = 0

    async def plain(request: web.Request) -> web.StreamResponse:
        nonlocal inside
        response = web.StreamResponse()
        await response.prepare(request)
        inside += 1
        await shop.end.wait()
        return response

    app = web.Application()
    app.router.add_get("/", plain)
    plain_url = await serve(app)

    async def tasks_of(url: str, waiting: Callable[[], bool]) -> int:
        before = len(asyncio.all_tasks())
        async with AsyncExitStack() as stack:
            for _ in range(50):
                _, writer = await stack.enter_async_context(connection(url))
                head = f"GET {URL(url).path} HTTP/1.1\r\nHost: here\r\nPrefer: {prefer}\r\n\r\n"
                writer.write(head.encode())
            await until(waiting)
            return len(asyncio.all_tasks()) - before

    of_plain = await tasks_of(plain_url, lambda: inside == 50)
    of_ours = await tasks_of(shop.job(job_id, below), lambda: len(shop.inside.listeners) == 50)
    assert 50 <= of_plain <= 100
    assert of_ours == of_plain
    shop.end.set()


# When there is no room, and at the end


async def test_too_many_streams(serve, http) -> None:
    """Where there is no place for a stream there is no job either; other answers still work."""
    shop = await make_shop(max_streams=1).open(serve, http)
    response, job_id = await shop.stream()
    for headers in (STREAM, {"Prefer": "wait=5"}):
        async with await shop.post("", "work", **headers) as refused:
            assert refused.status == 503
            assert (await refused.json())["code"] == "too_many_streams"
            assert int(refused.headers["Retry-After"]) >= 1
    async with http.get(shop.job(job_id, "/events")) as refused:
        assert refused.status == 503
    async with http.get(f"{shop.url}/queue/status") as status:
        counts = (await status.json())["functions"]["work"]
        assert (counts["running"], counts["queued"]) == (1, 0)
    await shop.submit()
    await shop.leave(response)
    again, _ = await shop.stream()
    again.close()


async def test_a_stream_without_a_job(serve, http) -> None:
    """A submit that is refused gives the place back that it took for its stream."""
    shop = await make_shop(max_streams=2, max_size=1).open(serve, http)
    running, _ = await shop.stream()
    await shop.submit()
    for _ in range(3):
        async with await shop.post("", "work", **STREAM) as refused:
            assert (await refused.json())["code"] == "queue_full"
    assert len(shop.inside.listeners) == 1
    running.close()


async def test_shutdown(shop: Shop) -> None:
    """When the server ends, every stream has its terminal event and its end."""
    running, _ = await shop.stream()
    waiting, _ = await shop.stream()
    waiter = await shop.wait("wait=50")
    await shop.inside.runtime.drain()
    for response in (running, waiting):
        *_, end = await events_of(response)
        assert (end.event, end.data["reason"]) == ("cancelled", "shutdown")
    async with await waiter as response:
        assert response.status == 503
        assert (await response.json())["code"] == "lost_on_shutdown"


async def test_forgotten_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a job is forgotten before its stream began, the stream says so, and ends."""

    async def forgotten(*arguments: Any) -> None:
        return None

    for verb in ("events", "get"):
        monkeypatch.setattr(shop.inside.engine, verb, forgotten)
    response = await shop.post("", "quick", **STREAM)
    job_id = response.headers["Location"].rpartition("/")[2]
    (gone,) = await events_of(response)
    assert (gone.event, gone.data) == ("gone", {"type": "gone", "job": job_id})


async def test_forgotten_at_its_end(serve, http) -> None:
    """Where one result is kept, many streams that end together all end, and none in silence."""
    shop = await make_shop(max_results=1).open(serve, http)
    responses = [await shop.post("", "many", **STREAM) for _ in range(5)]
    shop.end.set()
    ends = [(await events_of(response))[-1].event for response in responses]
    assert set(ends) <= {"succeeded", "gone"}
    assert ends[-1] == "succeeded"
