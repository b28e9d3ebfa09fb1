"""Reading logs: nothing twice, nothing missed, and nobody held up."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson
import pytest

from aioqueue._eventlog import Reader, ended, follow, outputs
from aioqueue._job import BEGINNING, Emission, EventId, JobState, Outcome
from tests.clock import ManualClock
from tests.inside import Worker


async def ids_of(worker: Worker, job_id: str, after: EventId) -> list[str]:
    """The ids that ``follow`` yields for a job that has ended."""
    pages = follow(worker.engine, job_id, after)
    return [str(event.id) async for page in pages for event in page.events]


async def ended_job() -> Worker:
    """Job "a" said two things and ended: four events."""
    worker = await Worker().open()
    await worker.enqueue("a")
    await worker.claim()
    await worker.say("a", 1, 2)
    await worker.end("a")
    return worker


# follow


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (BEGINNING, ["1-1", "1-2", "1-3", "1-4"]),
        (EventId(1, 2), ["1-3", "1-4"]),
        (EventId(1, 4), []),
        (EventId(1, 5), ["1-1", "1-2", "1-3", "1-4"]),
        (EventId(2, 1), ["1-1", "1-2", "1-3", "1-4"]),
    ],
)
async def test_follow_replays(after: EventId, expected: list[str]) -> None:
    """An ended job's log is replayed from any place; from no place of it, as a whole."""
    assert await ids_of(await ended_job(), "a", after) == expected


async def test_follow_tails() -> None:
    """Events come as they happen, and the terminal one is the last."""
    worker = await Worker().open()
    await worker.enqueue("a")
    pages = follow(worker.engine, "a")
    events = (event async for page in pages for event in page.events)
    first = asyncio.create_task(anext(events))
    await asyncio.sleep(0)
    assert not first.done()

    await worker.claim()
    assert (await first).type == "started"
    await worker.say("a", 1)
    assert (await anext(events)).data == b'{"type":"output","job":"a","data":1}'
    await worker.end("a")
    assert [event.type async for event in events] == ["succeeded"]


async def test_follow_unknown() -> None:
    """A job that nobody knows has no events, and is not waited for."""
    worker = await Worker().open()

    assert await ids_of(worker, "a", BEGINNING) == []


async def test_readers_share_events() -> None:
    """However many follow a job, each event is encoded once and is the same for all."""
    worker = await ended_job()
    one, two = [
        [event async for page in follow(worker.engine, "a") for event in page.events]
        for _ in range(2)
    ]

    assert len(one) == 4
    assert one == two
    assert all(event.data is other.data for event, other in zip(one, two, strict=True))


@pytest.mark.parametrize("seed", range(10))
async def test_each_event_once(seed: int) -> None:
    """A reader who leaves and comes back at random places gets each event exactly once."""
    dice = random.Random(seed)
    worker = await Worker().open()
    await worker.enqueue("a")
    await worker.claim()
    place, seen, said = BEGINNING, [], 0
    while said < 50 or dice.random() < 0.5:
        with Reader(worker.engine, {"a": place}) as reader:
            for _ in range(dice.randrange(4)):
                count = dice.randrange(4)
                await worker.say("a", *range(said, said + count))
                said += count
                seen += [event.id for _, page in await reader.read() for event in page.events]
            place = reader.cursors["a"]
    await worker.end("a")
    rest = follow(worker.engine, "a", place)
    seen += [event.id async for page in rest for event in page.events]

    assert seen == [EventId(1, number) for number in range(1, said + 3)]


# Reader


async def test_read_does_not_wait() -> None:
    """Reading answers what is there, once, be it nothing."""
    worker = await Worker().open()
    await worker.enqueue("a", "b")
    with Reader(worker.engine, {"a": BEGINNING, "b": BEGINNING}) as reader:
        assert await reader.read() == []
        await worker.claim()
        ((job_id, page),) = await reader.read()
        assert (job_id, [event.type for event in page.events]) == ("a", ["started"])
        assert await reader.read() == []
        assert reader.cursors == {"a": EventId(1, 1), "b": BEGINNING}


async def test_ended_jobs_leave() -> None:
    """A job that has ended is followed no more; the others are."""
    worker = await Worker().open()
    await worker.enqueue("a", "b")
    await worker.claim()
    with Reader(worker.engine, {"a": BEGINNING, "b": BEGINNING}) as reader:
        await worker.end("a")
        ((_, page),) = await reader.read()
        assert page.ended
        assert reader.cursors == {"b": BEGINNING}
        waiting = asyncio.ensure_future(reader.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        await worker.claim()
        await waiting
        assert [job_id for job_id, _ in await reader.read()] == ["b"]


async def test_growth_before_the_wait() -> None:
    """What has happened between a read and the wait ends the wait at once."""
    worker = await Worker().open()
    await worker.enqueue("a")
    with Reader(worker.engine, {"a": BEGINNING}) as reader:
        await reader.read()
        await worker.claim()
        await reader.wait()
        assert len(await reader.read()) == 1


async def test_wake() -> None:
    """Whoever waits can be woken for another reason than an event, and waits again after."""
    worker = await Worker().open()
    await worker.enqueue("a")
    with Reader(worker.engine, {"a": BEGINNING}) as reader:
        reader.wake()  # nobody waits: no harm
        await reader.read()
        waiting = asyncio.ensure_future(reader.wait())
        await asyncio.sleep(0)
        reader.wake()
        reader.wake()
        await waiting
        assert await reader.read() == []
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.wait(), 0.001)


async def test_woken_before_the_wait() -> None:
    """Who is woken between a read and the wait does not wait: what woke him is not lost."""
    worker = await Worker().open()
    await worker.enqueue("a")
    with Reader(worker.engine, {"a": BEGINNING}) as reader:
        await reader.read()
        reader.wake()
        await asyncio.wait_for(reader.wait(), 1)
        await reader.read()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.wait(), 0.001)


async def test_one_more_job() -> None:
    """A job that is followed later is read from its beginning, and wakes who waits."""
    worker = await Worker().open(limit=None)
    await worker.enqueue("a", "b")
    await worker.claim()
    with Reader(worker.engine, {"a": BEGINNING}) as reader:
        await reader.read()
        waiting = asyncio.ensure_future(reader.wait())
        await asyncio.sleep(0)
        reader.follow("b")
        await waiting
        ((job_id, page),) = await reader.read()
        assert (job_id, [event.type for event in page.events]) == ("b", ["started"])
        await worker.say("b", 1)
        assert [job_id for job_id, _ in await reader.read()] == ["b"]
    await worker.say("b", 2)
    assert not reader._changed


async def test_leave() -> None:
    """A job that is left is not read any more, whatever it says; the others are."""
    worker = await Worker().open(limit=None)
    await worker.enqueue("a", "b")
    await worker.claim()
    with Reader(worker.engine, {"a": BEGINNING, "b": BEGINNING}) as reader:
        reader.leave("a")
        reader.leave("a")
        reader.leave("never followed")
        assert [job_id for job_id, _ in await reader.read()] == ["b"]
        await worker.say("a", 1)
        assert not reader._changed
        assert list(reader.cursors) == ["b"]
        reader.follow("a")
        ((job_id, page),) = await reader.read()
        assert (job_id, len(page.events)) == ("a", 2)


async def test_one_more_that_nobody_knows() -> None:
    """A job that is followed and not known is gone."""
    worker = await Worker().open()
    with Reader(worker.engine, {}) as reader:
        reader.follow("x")
        assert await reader.read() == []
        assert (reader.gone, reader.cursors) == (("x",), {})


async def test_lets_go() -> None:
    """After its block a reader hears of nothing, nor inside it of a job that has ended."""
    worker = await Worker().open(limit=None)
    await worker.enqueue("a", "b", "c")
    await worker.claim()
    clock = worker.engine._clock
    with Reader(worker.engine, {"a": BEGINNING, "b": BEGINNING}) as reader:
        await worker.end("a")
        await reader.read()
        clock.advance(601)
        await worker.engine.reap()  # forgets "a", which tells whoever still watches it
        assert not reader._changed
        await worker.say("b", 1)
        assert list(reader._changed) == ["b"]
        await reader.read()
    await worker.say("b", 2)
    assert not reader._changed


async def test_gone() -> None:
    """A job that is forgotten while it is followed wakes its reader, who is told."""
    clock = ManualClock()
    worker = await Worker(clock).open(result_ttl=60)
    await worker.enqueue("a")
    await worker.claim()
    with Reader(worker.engine, {"a": BEGINNING, "x": BEGINNING}) as reader:
        await reader.read()
        assert reader.gone == ("x",)
        waiting = asyncio.ensure_future(reader.wait())
        await worker.end("a")
        clock.advance(61)
        await worker.engine.reap()
        await waiting
        assert await reader.read() == []
        assert reader.gone == ("x", "a")
        assert not reader.cursors


async def test_behind_the_ring() -> None:
    """Who is too far behind is told so, and goes on with the oldest event that is kept."""
    worker = await Worker().open(max_log_events=3)
    await worker.enqueue("a")
    await worker.claim()
    with Reader(worker.engine, {"a": BEGINNING}) as reader:
        await reader.read()
        await worker.say("a", *range(10))
        ((_, page),) = await reader.read()
        assert page.truncated
        assert [event.id.number for event in page.events] == [9, 10, 11]
        await worker.say("a", 10)
        ((_, page),) = await reader.read()
        assert not page.truncated
        assert [event.id.number for event in page.events] == [12]


# Progress


async def say_progress(worker: Worker, job_id: str, *values: int) -> None:
    """Let a job say how far it is."""
    emissions = [Emission("progress", b"%d" % value, durable=False) for value in values]
    await worker.engine.emit(worker.claims[job_id], job_id, emissions)


async def test_progress_is_told_once() -> None:
    """Progress is news when it has changed, with events or alone; else it is not told again."""
    worker = await Worker().open()
    await worker.enqueue("a")
    await worker.claim()
    await say_progress(worker, "a", 1, 2)
    with Reader(worker.engine, {"a": BEGINNING}) as reader:

        async def news() -> list[Any]:
            pages = await reader.read()
            return [([event.type for event in page.events], page.progress) for _, page in pages]

        assert await news() == [(["started"], b"2")]
        await worker.say("a", 1)
        assert await news() == [(["output"], None)]
        await say_progress(worker, "a", 2)
        assert await news() == []
        await say_progress(worker, "a", 3)
        assert await news() == [([], b"3")]
        assert reader.cursors == {"a": EventId(1, 2)}
        await worker.say("a", 2)
        await say_progress(worker, "a", 4)
        assert await news() == [(["output"], b"4")]
        await say_progress(worker, "a", 5)
        await worker.end("a")
        assert await news() == [(["succeeded"], None)]  # that of an ended job is no news


async def test_progress_of_several() -> None:
    """Each job's progress is compared with its own, and each reader's with what he was told."""
    worker = await Worker().open(limit=None)
    await worker.enqueue("a", "b")
    await worker.claim()
    places = {"a": EventId(1, 1), "b": EventId(1, 1)}
    with Reader(worker.engine, places) as reader:
        await say_progress(worker, "a", 1)
        await say_progress(worker, "b", 1)
        assert [page.progress for _, page in await reader.read()] == [b"1", b"1"]
        with Reader(worker.engine, places) as late:
            assert [page.progress for _, page in await late.read()] == [b"1", b"1"]


async def test_follow_yields_progress() -> None:
    """Who follows gets a page for what is new, be it progress alone."""
    worker = await Worker().open()
    await worker.enqueue("a")
    await worker.claim()
    pages = follow(worker.engine, "a")
    assert (await anext(pages)).progress is None
    for value in (1, 2):
        waiting = asyncio.create_task(anext(pages))
        await asyncio.sleep(0)
        await say_progress(worker, "a", value)
        page = await waiting
        assert (list(page.events), page.progress, page.ended) == ([], b"%d" % value, False)
    await worker.end("a")

    assert [(len(page.events), page.progress, page.ended) async for page in pages] == [
        (1, None, True)
    ]


# outputs


TRICKY = ['{"x":1,"data":2}', {"x": 1, "data": [',"data":']}, ',"data":', None]


async def test_outputs() -> None:
    """What a job has put out is a list, whatever is in it; what else it said is not in there."""
    worker = await Worker().open()
    await worker.enqueue("a")
    await worker.claim()
    assert (await outputs(worker.engine, "a", 0)).body == b"[]"
    for index, value in enumerate(TRICKY):
        fields = b'{"index":%d,"data":%b}' % (index, orjson.dumps(value))
        log = Emission("log", b'{"level":"info","message":"a","data":0}')
        emissions = [Emission("output", fields), log]
        await worker.engine.emit(worker.claims["a"], "a", emissions)
    await say_progress(worker, "a", 1)
    content = await outputs(worker.engine, "a", len(TRICKY))

    assert orjson.loads(content.body) == TRICKY
    assert content.is_value
    assert not content.truncated


@pytest.mark.parametrize("bound", [{"max_log_events": 3}, {"max_log_bytes": 100}])
async def test_outputs_that_the_log_did_not_keep(bound: dict[str, int]) -> None:
    """A list with gaps helps nobody: it is null, and says that it is."""
    worker = await Worker().open(**bound)
    await worker.enqueue("a")
    await worker.claim()
    await worker.say("a", 1)
    assert (await outputs(worker.engine, "a", 1)).body == b"[1]"
    await worker.say("a", 2, 3, 4)
    content = await outputs(worker.engine, "a", 4)

    assert (content.body, content.truncated) == (b"null", True)
    assert (await outputs(worker.engine, "x", 1)).truncated  # known no more


async def test_nothing_put_out_and_much_said() -> None:
    """Lines that pushed each other out of the log are no outputs: the list of none is whole."""
    worker = await Worker().open(max_log_events=2)
    await worker.enqueue("a")
    await worker.claim()
    for _ in range(5):
        log = Emission("log", b'{"level":"info","message":"a"}')
        await worker.engine.emit(worker.claims["a"], "a", [log])

    assert (await outputs(worker.engine, "a", 0)).body == b"[]"


# ended


async def test_ended() -> None:
    """It waits for all the jobs, however they end, and not for unknown ones."""
    worker = await Worker().open(limit=None)
    await worker.enqueue("a", "b")
    await worker.claim()
    waiting = asyncio.create_task(ended(worker.engine, ["a", "b", "x"]))
    await worker.say("a", 1)
    await worker.end("a")
    await asyncio.sleep(0)
    assert not waiting.done()
    await worker.end("b")
    await waiting


async def test_progress_of_a_job_that_has_ended() -> None:
    """A reader that takes on one job after the other keeps nothing of those that have ended."""
    worker = await Worker().open(limit=None)
    with Reader(worker.engine, {}) as reader:
        for number in range(3):
            await worker.enqueue(f"job-{number}")
            await worker.claim()
            reader.follow(f"job-{number}")
            claim = worker.claims[f"job-{number}"]
            emission = Emission("progress", b'{"progress":0.5}', durable=False)
            await worker.engine.emit(claim, f"job-{number}", [emission])
            await reader.read()
            assert reader._progress
            if number == 0:
                reader.leave("job-0")
            else:
                await worker.engine.settle(claim, [Outcome(f"job-{number}", JobState.SUCCEEDED)])
                await reader.read()
            assert not reader._progress
