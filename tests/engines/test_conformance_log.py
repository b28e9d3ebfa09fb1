"""The contract of the log: what a reader finds, and how much of it is kept for how long."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from aioqueue._job import BEGINNING, Emission, EventId, JobState
from aioqueue.engines.base import Retention
from tests.engines.conformance import Bench, json_of

pytestmark = pytest.mark.one_loop

OpenBench = Callable[..., Awaitable[Bench]]


async def numbers(bench: Bench, job_id: str, after: EventId) -> list[int]:
    """The numbers of the events after one."""
    page = await bench.engine.events(job_id, after)
    assert page is not None
    return [event.id.number for event in page.events]


# Events


async def test_emit(bench: Bench) -> None:
    """What a job says is in its log, numbered from 1 without gaps, as one JSON object each."""
    await bench.add("1")
    await bench.start()
    spoken = [Emission("log", b'{"message":"hi"}'), Emission("output", b'{"index":0,"data":[1]}')]
    await bench.engine.emit(bench.claims["1"], "1", spoken)
    await bench.emit("1", "output")
    await bench.settle("1", result=json_of(4))

    page = await bench.engine.events("1", BEGINNING)
    assert page is not None
    assert [str(event.id) for event in page.events] == ["1-1", "1-2", "1-3", "1-4", "1-5"]
    assert [json.loads(event.data) for event in page.events] == [
        {"type": "started", "job": "1", "eta": None},
        {"type": "log", "job": "1", "message": "hi"},
        {"type": "output", "job": "1", "index": 0, "data": [1]},
        {"type": "output", "job": "1"},
        {"type": "succeeded", "job": "1", "result": "xx"},
    ]
    assert all(event.type == json.loads(event.data)["type"] for event in page.events)
    assert all(b"\n" not in event.data for event in page.events)


async def test_ephemeral(bench: Bench) -> None:
    """Of what is ephemeral the latest counts; it is in no log."""
    await bench.add("1")
    await bench.start()
    spoken = [Emission("progress", b'{"progress":%d}' % step, durable=False) for step in (1, 2)]
    await bench.engine.emit(bench.claims["1"], "1", spoken)

    assert (await bench.snapshot("1")).progress == b'{"progress":2}'
    assert await bench.log("1") == ["1-1 started"]


async def test_emit_to_one_of_a_batch(bench: Bench) -> None:
    """Each job of a batch has its own log."""
    await bench.add_all("1 2")
    await bench.start(batch=2)
    await bench.emit("2", "output")

    assert await bench.log("1") == ["1-1 started"]
    assert await bench.log("2") == ["1-1 started", "1-2 output"]


async def test_last(bench: Bench) -> None:
    """A job tells the id of its newest event."""
    await bench.add("1")
    last = [(await bench.snapshot("1")).last]
    await bench.start()
    last.append((await bench.snapshot("1")).last)
    await bench.emit("1", "output")
    last.append((await bench.snapshot("1")).last)
    await bench.release("1")
    await bench.start()
    last.append((await bench.snapshot("1")).last)

    assert [str(place) for place in last] == ["1-0", "1-1", "1-2", "2-2"]


# Progress


async def progress(bench: Bench, job_id: str, after: EventId = BEGINNING) -> bytes | None:
    """The newest progress, as a reader who is at this place gets it."""
    page = await bench.engine.events(job_id, after)
    assert page is not None
    return page.progress


async def say_progress(bench: Bench, job_id: str, *values: int) -> None:
    """Let a job say how far it is."""
    emissions = [Emission("progress", b'{"progress":%d}' % one, durable=False) for one in values]
    await bench.engine.emit(bench.claims[job_id], job_id, emissions)


async def test_progress(bench: Bench) -> None:
    """A page has the newest progress, whenever it was said, and none before that."""
    await bench.add_all("1 2")
    assert await progress(bench, "1") is None
    await bench.start(batch=2)
    await bench.emit("1", "output")
    assert await progress(bench, "1") is None

    await say_progress(bench, "1", 1)
    assert await progress(bench, "1") == b'{"progress":1}'
    await say_progress(bench, "1", 2, 3)
    await bench.emit("1", "output", "log")
    for after in (BEGINNING, EventId(1, 2), EventId(1, 4)):  # from the start, and from the end
        assert await progress(bench, "1", after) == b'{"progress":3}'
    assert await progress(bench, "2") is None


async def test_progress_of_the_next_attempt(bench: Bench) -> None:
    """What an older attempt said of its progress is gone with it."""
    await bench.add("1")
    await bench.start()
    await say_progress(bench, "1", 1)
    await bench.release("1")
    assert await progress(bench, "1") is None
    await bench.start()
    assert await progress(bench, "1") is None
    assert (await bench.snapshot("1")).progress is None

    await say_progress(bench, "1", 2)
    assert await progress(bench, "1", EventId(1, 1)) == b'{"progress":2}'


async def test_progress_is_not_in_the_ring(open_bench: OpenBench) -> None:
    """Progress pushes nothing out of the log, and is not pushed out."""
    bench = await open_bench(retention=Retention(max_log_events=2, max_log_bytes=200))
    await bench.add("1")
    await bench.start()
    await say_progress(bench, "1", *range(100))
    assert await bench.log("1") == ["1-1 started"]
    await bench.emit("1", "output", "output", "output")

    assert await progress(bench, "1") == b'{"progress":99}'


# Reading on


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("1-0", [1, 2, 3, 4]),
        ("1-1", [2, 3, 4]),
        ("1-4", []),
        ("1-5", [1, 2, 3, 4]),
        ("2-2", [1, 2, 3, 4]),
        ("0-3", [1, 2, 3, 4]),
    ],
)
async def test_after(bench: Bench, after: str, expected: list[int]) -> None:
    """A reader goes on after its event; from a place that is no place of this log, at its start."""
    await bench.add("1")
    await bench.start()
    await bench.emit("1", "output", "output", "output")
    place = EventId.parse(after)

    assert place is not None
    assert await numbers(bench, "1", place) == expected


@pytest.mark.parametrize("after", ["1-0", "1-2", "1-3", "2-0"])
async def test_after_an_older_attempt(bench: Bench, after: str) -> None:
    """A reader of an older attempt goes on with this attempt's `restarted`."""
    await bench.add("1")
    await bench.start()
    await bench.emit("1", "output", "output")
    await bench.release("1")
    await bench.start()
    place = EventId.parse(after)

    assert place is not None
    assert await bench.log("1", place) == ["2-1 restarted", "2-2 started"]


async def test_ended(bench: Bench) -> None:
    """A page says whether anything may follow."""
    await bench.add("1")
    pages = [await bench.engine.events("1", BEGINNING)]
    await bench.start()
    pages.append(await bench.engine.events("1", BEGINNING))
    await bench.settle("1")
    pages.append(await bench.engine.events("1", BEGINNING))
    pages.append(await bench.engine.events("1", EventId(1, 2)))

    assert [(len(page.events), page.ended) for page in pages if page] == [
        (0, False),
        (1, False),
        (2, True),
        (0, True),
    ]


# The ring


async def test_max_log_events(open_bench: OpenBench) -> None:
    """The oldest events go; a reader who has not seen them is told, others miss nothing."""
    bench = await open_bench(retention=Retention(max_log_events=3))
    await bench.add("1")
    await bench.start()
    await bench.emit("1", *["output"] * 9)

    for after, expected, truncated in (
        (0, [8, 9, 10], True),
        (6, [8, 9, 10], True),
        (7, [8, 9, 10], False),
        (9, [10], False),
        (10, [], False),
        (11, [8, 9, 10], True),
    ):
        page = await bench.engine.events("1", EventId(1, after))
        assert page is not None
        assert [event.id.number for event in page.events] == expected
        assert page.truncated is truncated


async def test_max_log_bytes(open_bench: OpenBench) -> None:
    """The log is bounded in bytes too; one event too large for it stands alone."""
    bench = await open_bench(retention=Retention(max_log_bytes=1000))
    await bench.add("1")
    await bench.start()
    for _ in range(9):
        await bench.emit("1", "output", size=200)
    page = await bench.engine.events("1", BEGINNING)
    assert page is not None
    assert page.truncated
    assert 2 <= len(page.events) <= 4
    assert sum(len(event.data) for event in page.events) <= 1000

    await bench.emit("1", "output", size=2000)
    assert await bench.log("1") == ["1-11 output"]
    await bench.emit("1", "output")
    assert await bench.log("1") == ["1-12 output"]


async def test_terminal_event_is_not_counted(open_bench: OpenBench) -> None:
    """The terminal event is kept, however large, and pushes nothing out."""
    bench = await open_bench(retention=Retention(max_log_events=2, max_log_bytes=200))
    await bench.add("1")
    await bench.start()
    await bench.emit("1", "output", "output")
    await bench.settle("1", result=json_of(1000))

    assert await bench.log("1") == ["1-2 output", "1-3 output", "1-4 succeeded"]


async def test_ring_of_the_next_attempt(open_bench: OpenBench) -> None:
    """Another attempt has a log of its own, and its own room."""
    bench = await open_bench(retention=Retention(max_log_events=4, max_log_bytes=500))
    await bench.add("1")
    await bench.start()
    for _ in range(9):
        await bench.emit("1", "output", size=200)
    await bench.release("1")
    await bench.start()
    await bench.emit("1", "output", "output")

    page = await bench.engine.events("1", EventId(1, 10))
    assert page is not None
    assert [str(event.id) for event in page.events] == ["2-1", "2-2", "2-3", "2-4"]
    assert not page.truncated


async def test_long_log(open_bench: OpenBench) -> None:
    """However much has gone through the ring, each place in it is found."""
    bench = await open_bench(retention=Retention(max_log_events=100))
    await bench.add("1")
    await bench.start()
    for count in range(2, 1002):
        await bench.emit("1", "output")
        kept = list(range(max(1, count - 99), count + 1))
        assert await numbers(bench, "1", BEGINNING) == kept
        assert await numbers(bench, "1", EventId(1, max(0, count - 5))) == kept[-5:]


# What is kept of ended jobs


async def end(bench: Bench, *job_ids: str, size: int = 10) -> None:
    """Run jobs to their end, one after the other."""
    for job_id in job_ids:
        await bench.add(job_id)
        await bench.start()
        await bench.settle(job_id, result=json_of(size))


async def test_result_ttl(open_bench: OpenBench) -> None:
    """An ended job is known until it expires, then no verb knows it."""
    bench = await open_bench(retention=Retention(result_ttl=60))
    await end(bench, "1")
    bench.clock.advance(20)
    await end(bench, "2")
    assert (await bench.snapshot("1")).expires == bench.clock() + 40

    bench.clock.advance(39.9)
    await bench.engine.reap()
    assert await bench.states("1 2") == "succeeded succeeded"
    bench.clock.advance(0.1)
    await bench.engine.reap()
    assert await bench.states("1 2") == "- succeeded"
    assert await bench.engine.events("1", BEGINNING) is None
    assert await bench.engine.cancel("1", "client") is None


async def test_what_has_not_ended_never_expires(open_bench: OpenBench) -> None:
    """A job that waits or runs is kept, however long that takes and however many have ended."""
    bench = await open_bench(concurrency_limit=2, retention=Retention(result_ttl=60, max_results=1))
    await bench.add_all("1 2")
    await bench.start(free=1)
    await bench.engine.cancel("2", "client")
    await bench.add("3")
    bench.clock.advance(1000)
    await bench.engine.reap()

    assert await bench.states("1 2 3") == "running - queued"
    assert (await bench.snapshot("1")).expires is None


async def test_max_results(open_bench: OpenBench) -> None:
    """Of more ended jobs than that the first to end goes first, by whatever end."""
    bench = await open_bench(retention=Retention(max_results=2))
    await bench.add("1")
    await end(bench)
    await bench.start()
    await bench.add_all("2 3 4")
    await bench.engine.cancel("3", "client")
    await bench.settle("1", state=JobState.FAILED)
    assert await bench.states("1 2 3 4") == "failed queued cancelled queued"
    await bench.engine.cancel("2", "client")

    assert await bench.states("1 2 3 4") == "failed cancelled - queued"


async def test_max_result_bytes(open_bench: OpenBench) -> None:
    """Results are bounded in bytes; the newest is there, whatever its size."""
    bench = await open_bench(retention=Retention(max_result_bytes=100))
    await end(bench, "1", "2", "3", size=40)
    assert await bench.states("1 2 3") == "- succeeded succeeded"

    await end(bench, "4", size=1000)
    assert await bench.states("2 3 4") == "- - succeeded"
    await end(bench, "5", size=100)
    assert await bench.states("4 5") == "- succeeded"


async def test_not_retained(bench: Bench) -> None:
    """A job that is not to be retained is forgotten at its end."""
    await bench.add("1", retained=False)
    await bench.start()
    assert await bench.states("1") == "running"
    await bench.settle("1")
    await bench.add("2", retained=False)
    await bench.engine.cancel("2", "client")

    assert await bench.states("1 2") == "- -"


async def test_forgotten_while_its_work_goes_on(open_bench: OpenBench) -> None:
    """A kept slot outlives the memory of its job."""
    bench = await open_bench(retention=Retention(result_ttl=60))
    await bench.add_all("1 2")
    await bench.start()
    await bench.settle("1", state=JobState.FAILED, keep=True)
    bench.clock.advance(60)
    await bench.engine.reap()
    assert await bench.states("1") == "-"
    assert await bench.start() == []

    await bench.release("1")
    assert await bench.start() == ["2"]
