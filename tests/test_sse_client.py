"""The tests' own SSE client; the first examples are those of the HTML standard."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from aiohttp import web
from hypothesis import given, strategies as st

from tests.sse_client import EventParser, ServerSentEvent, read_events


def parse(stream: str) -> list[ServerSentEvent]:
    """Read a whole stream whose data is text."""
    return EventParser(str).feed(stream.encode())


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ("data: YHOO\ndata: +2\ndata: 10\n\n", ["YHOO\n+2\n10"]),
        (
            ": test stream\n\ndata: first\nid: 1\n\ndata:second\nid\n\ndata:  third",
            ["first", "second"],
        ),
        ("data\n\ndata\ndata\n\ndata:", ["", "\n"]),
        ("data:test\n\ndata: test\n\n", ["test", "test"]),
        ("event: only a name\n\nid: 1\n\n", []),
        ("\ufeffdata: 1\n\ndata: a\u2028b\n\n", ["1", "a\u2028b"]),
        ("data: 1\r\rdata: 2\r\n\r\ndata: 3\n\n", ["1", "2", "3"]),
        ("Data: 1\n data: 2\nunknown: 3\n\n", []),
    ],
)
def test_data(stream: str, expected: list[str]) -> None:
    """Data is what lies between blank lines; a block without data is no event."""
    assert [event.data for event in parse(stream)] == expected


def test_id_is_sticky() -> None:
    """An id holds until the next one, even if it came without data; one with a NUL is none."""
    stream = "data: a\n\nid: 1\ndata: b\n\ndata: c\n\nid: 2\n\ndata: d\nid: 3\0\n\nid\ndata: e\n\n"

    assert [event.id for event in parse(stream)] == ["", "1", "1", "2", ""]


def test_name_is_not_sticky() -> None:
    """A name is that of its block, with data or without."""
    stream = "event: a\ndata: 1\n\ndata: 2\n\nevent: b\n\ndata: 3\n\n"

    assert [event.event for event in parse(stream)] == ["a", "message", "message"]


def test_comments_and_retry() -> None:
    """Comments and a valid retry come with the event after them."""
    stream = ":ping\n\n: two\nretry: 10\nretry: 1.5\ndata: a\n\ndata: b\n\n"
    first, second = parse(stream)

    assert (first.comments, first.retry) == (("ping", "two"), 10)
    assert (second.comments, second.retry) == ((), None)


@given(st.text(alphabet="\r\n:id\0é\ufeff datae"), st.lists(st.integers(0, 60)))
def test_cuts_make_no_difference(stream: str, cuts: list[int]) -> None:
    """Events do not depend on how the network cuts the bytes."""
    whole = stream.encode()
    bounds = [0, *sorted(cuts), len(whole)]
    parser = EventParser(str)
    pieces = [whole[start:end] for start, end in pairwise(bounds)]

    assert [event for piece in pieces for event in parser.feed(piece)] == parse(stream)


async def test_read_events(serve, http) -> None:
    """Events of a real response arrive one by one, as JSON, and one that was cut off does not."""
    more = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'id: 1-1\nevent: queued\ndata: {"position": 1}\n\n')
        await more.wait()
        await response.write(b"data: 2\n\ndata: 3\n")
        return response

    app = web.Application()
    app.router.add_get("/", handler)
    async with http.get(await serve(app)) as response:
        events = read_events(response)

        assert await anext(events) == ServerSentEvent("queued", {"position": 1}, "1-1")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(events), 0.01)
        more.set()
        assert [event async for event in events] == [ServerSentEvent("message", 2, "1-1")]
