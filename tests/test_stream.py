"""The life of a stream, whatever is said on it: how it begins, lives through silence, and ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aioqueue._admission import Estimate
from aioqueue._eventlog import Reader
from aioqueue._job import BEGINNING, JobRecord, JobState, Snapshot
from aioqueue._settings import Settings
from aioqueue._stream import Stream
from tests.inside import Paper, Socket, Worker
from tests.stage import a_while, until

PING = b"still here\n"


class Words(Stream):
    """Says a word for each event in the logs that it follows."""

    __slots__ = ("closed",)

    ping = PING

    def __init__(self, worker: Worker, *job_ids: str, **settings: Any) -> None:
        reader = Reader(worker.engine, dict.fromkeys(job_ids, BEGINNING))
        request: Any = Socket()
        super().__init__(request, reader, Settings(**settings), {})
        response: Any = Paper()
        self.response = response
        self.closed = 0

    @property
    def paper(self) -> Any:
        """What is written."""
        return self.response

    async def news(self) -> bytes:
        """What has happened."""
        pages = await self.reader.read()
        words = [event.type for _, page in pages for event in page.events]
        return "".join(f"{word}\n" for word in words).encode()

    def frame(self, kind: str, data: bytes) -> bytes:
        """What is worth nothing later."""
        return b"%b %b\n" % (kind.encode(), data)

    def close(self) -> None:
        """Count it."""
        self.closed += 1


@pytest.fixture
async def worker() -> Worker:
    """A worker with a job that waits."""
    worker = await Worker().open()
    await worker.enqueue("a")
    return worker


async def serve(stream: Words) -> asyncio.Task[Any]:
    """Let it speak; answers from when it waits for more."""
    task = asyncio.create_task(stream.serve())
    await a_while()
    return task


async def test_a_quick_job(worker: Worker) -> None:
    """Of a job that has ended by the first turn of the loop everything is one write, and the end.

    A job that is not followed any more is the end of its stream.
    """
    stream = Words(worker, "a")
    task = asyncio.create_task(stream.serve())
    await worker.claim()
    await worker.say("a", 1)
    await worker.end("a")
    assert await task is stream.response
    assert stream.paper.body == b"started\noutput\nsucceeded\n"
    assert (stream.paper.writes, stream.paper.ended, stream.closed) == (1, True, 1)


async def test_as_it_comes(worker: Worker) -> None:
    """What is new is written when it comes, and nothing where nothing is."""
    stream = Words(worker, "a")
    task = await serve(stream)
    assert stream.paper.writes == 0
    await worker.claim()
    await a_while()
    assert (stream.paper.body, stream.paper.writes) == (b"started\n", 1)
    stream.reader.wake()
    await a_while()
    assert stream.paper.writes == 1
    await worker.end("a")
    await task
    assert (stream.paper.body, stream.paper.writes) == (b"started\nsucceeded\n", 2)


async def test_one_more_job(worker: Worker) -> None:
    """A stream may follow more jobs while it goes on, and those are listened to as well."""
    stream = Words(worker, "a")
    task = await serve(stream)
    await worker.enqueue("b")
    stream.reader.follow("b")
    assert list(stream.jobs) == ["a", "b"]
    await worker.claim()
    await worker.end("a")
    await a_while()
    assert list(stream.jobs) == ["b"]
    assert not task.done()
    await worker.claim()
    await worker.end("b")
    await task
    assert stream.paper.body == b"started\nsucceeded\n" * 2


async def test_dropped(worker: Worker) -> None:
    """Who has to stop says what there is, and stops, though his jobs go on."""
    stream = Words(worker, "a")
    task = await serve(stream)
    await worker.claim()
    stream.drop()
    await task
    assert (stream.paper.body, stream.paper.ended, stream.closed) == (b"started\n", False, 1)
    await worker.end("a")
    await a_while()
    assert stream.paper.body == b"started\n"


async def test_dropped_while_the_client_is_slow(worker: Worker) -> None:
    """What has happened while a client was slow is said once he reads, also at the end."""
    stream = Words(worker, "a")
    task = await serve(stream)
    stream.paper.free.clear()
    await worker.claim()
    await a_while()
    await worker.end("a")
    stream.drop()
    await a_while()
    assert not task.done()
    stream.paper.free.set()
    await task
    assert (stream.paper.body, stream.paper.ended) == (b"started\nsucceeded\n", True)


async def test_woken_while_the_client_is_slow(worker: Worker) -> None:
    """What wakes a stream while it writes is looked at when it has written."""
    looked = 0

    class Looking(Words):
        async def news(self) -> bytes:
            nonlocal looked
            looked += 1
            return await super().news()

    stream = Looking(worker, "a")
    await worker.claim()
    stream.paper.free.clear()
    task = await serve(stream)
    before = looked
    stream.reader.wake()
    stream.paper.free.set()
    await until(lambda: looked > before)
    await worker.end("a")
    await task


async def test_who_has_left(worker: Worker) -> None:
    """Writing to who has left is the end of the stream, and no error."""
    stream = Words(worker, "a")
    task = await serve(stream)
    stream.paper.torn = True
    await worker.claim()
    assert await task is stream.response
    assert (stream.paper.ended, stream.closed) == (False, 1)
    assert await worker.engine.get("a")


async def test_pings(worker: Worker) -> None:
    """Silence is broken in time, in the stream's own words, and by nothing else that is said."""
    stream = Words(worker, "a", ping_interval=15)
    task = await serve(stream)
    start = stream._ping_at - 14
    for second in range(14):
        await stream.tick(start + second)
    assert stream.paper.body == b""
    assert stream.look_at == pytest.approx(start + 14)
    await stream.tick(start + 14)
    assert stream.paper.body == PING
    assert stream._ping_at == start + 14 + 14
    await stream.tick(start + 20)
    assert stream.paper.body == PING
    await worker.claim()
    await a_while()
    await stream.tick(stream._ping_at - 1)
    assert stream.paper.body == PING + b"started\n"
    await worker.end("a")
    await task


async def test_no_ping_for_who_does_not_read(worker: Worker) -> None:
    """Who does not read gets no pings, and is hung up on when that has lasted too long."""
    stream = Words(worker, "a", ping_interval=15, send_timeout=100)
    task = await serve(stream)
    stream.paper.free.clear()
    start = stream._ping_at - 14
    for second in range(0, 100, 10):
        await stream.tick(start + second)
    assert stream.paper.body == b""
    assert not stream.is_gone
    assert not await stream.tell("place", b"1")
    await stream.tick(start + 101)
    assert stream.is_gone
    stream.paper.free.set()
    await worker.claim()
    await worker.end("a")
    await task


async def test_tell(worker: Worker) -> None:
    """What is worth nothing later is said at once, to who reads; who has left is told nothing."""
    stream = Words(worker, "a")
    task = await serve(stream)
    assert await stream.tell("place", b"1")
    assert stream.paper.body == b"place 1\n"
    stream.paper.torn = True
    assert not await stream.tell("place", b"2")
    stream.drop()
    await task


async def test_places(worker: Worker) -> None:
    """Whoever waits can be told his place, until the stream says that nobody is to tell it."""

    class Places:
        def __init__(self) -> None:
            self.followed: list[Any] = []

        def follow(self, waiting: Any, now: float) -> None:
            self.followed.append(waiting)

    places: Any = Places()
    stream = Words(worker, "a")
    record = JobRecord(id="a", function="function", queue="queue", priority=2.0)
    snapshot = Snapshot(record=record, state=JobState.QUEUED, created=0.0)
    estimate = Estimate(3, 4, None, None)
    waiting = stream.tell_positions(places, snapshot, estimate)
    assert places.followed == [waiting]
    assert (waiting.job_id, waiting.told, waiting.priority) == ("a", estimate, 2.0)
    assert waiting.listener is not None
    assert await waiting.listener.tell("place", b"3")
    assert stream.paper.body == b"place 3\n"
