"""What functions say, on its way to the logs: in order, complete, in few steps, and bounded."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import orjson
import pytest

from aioqueue._errors import ClaimLost
from aioqueue._job import Emission
from aioqueue._outbox import Outbox, OutboxBounds, Progress
from tests.stage import PATIENCE, a_while, until


class Log:
    """Takes what an outbox hands over, and can be slow or broken at that."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[Any]]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.errors: list[Exception] = []

    async def emit(self, job_id: str, emissions: Sequence[Emission]) -> None:
        """Take it, once the log is open."""
        await self.open.wait()
        self.calls.append((job_id, [(one.type, orjson.loads(one.fields)) for one in emissions]))
        if self.errors:
            raise self.errors.pop(0)

    def of(self, job_id: str, kind: str = "log") -> list[Any]:
        """What of a kind a job has said, in the order of its arrival."""
        return [
            fields
            for one, emissions in self.calls
            for type, fields in emissions
            if (one, type) == (job_id, kind)
        ]


class Calls:
    """A loop whose clock a test moves, and which counts the calls that threads make to it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = 1000.0
        self.made = 0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        """The time that the test has made it."""
        return self.now

    def call_soon(self, callback: Callable[[], None]) -> Any:
        """Count it, and call."""
        self.made += 1
        return self._loop.call_soon(callback)

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> Any:
        """Count it, and call."""
        self.made += 1
        return self._loop.call_soon_threadsafe(callback)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Any:
        """Keep it until the test lets time pass."""
        self.timers.append((self.now + seconds, callback))
        return self._loop.call_later(3600, str)

    async def pass_time(self, seconds: float) -> None:
        """Let seconds pass, and what is due then happen."""
        self.now += seconds
        due = [callback for when, callback in self.timers if when <= self.now + 1e-9]
        self.timers = [one for one in self.timers if one[0] > self.now + 1e-9]
        for callback in due:
            callback()
        await a_while()


@pytest.fixture
async def log() -> Log:
    """A log of everything."""
    return Log()


def new_outbox(log: Log, **bounds: int) -> Outbox:
    """An outbox in front of a log."""
    return Outbox(log.emit, OutboxBounds(**bounds))


def line(number: int, **more: Any) -> Emission:
    """A line with a number."""
    return Emission("log", orjson.dumps({"n": number, **more}))


def progress_at(share: float) -> dict[str, Any]:
    """The fields of a progress that is a share of the whole."""
    return {"progress": share, "step": None, "total": None, "message": None}


def in_thread(call: Callable[[], Any]) -> threading.Thread:
    """Run a call in a thread."""
    thread = threading.Thread(target=call)
    thread.start()
    return thread


async def joined(*threads: threading.Thread) -> None:
    """Wait for threads while the loop runs."""
    await until(lambda: not any(thread.is_alive() for thread in threads))


# What is said


@pytest.mark.parametrize("seed", range(6))
async def test_order_and_no_loss(log: Log, seed: int) -> None:
    """Each job's lines arrive once and in its order, whatever threads, task and flushes do."""
    dice = random.Random(seed)
    outbox = new_outbox(log, max_events=dice.choice([1, 3, 10_000]))
    said = 150

    def talk(job_id: str) -> None:
        dice = random.Random(f"{seed}{job_id}")
        for number in range(said):
            if dice.random() < 0.5:
                outbox.wait_for_room()
            outbox.put(job_id, line(number))
            if dice.random() < 0.2:
                outbox.note(job_id, Progress(number / said))
        outbox.note(job_id, Progress(1.0))

    threads = [in_thread(partial(talk, job_id)) for job_id in "abc"]
    for number in range(said):
        outbox.put("task", line(number))
        if dice.random() < 0.3:
            await outbox.flush()
        if dice.random() < 0.3:
            log.open.clear()
            await a_while(dice.randrange(3))
            log.open.set()
    await joined(*threads)
    await outbox.close()

    for job_id in ("a", "b", "c", "task"):
        assert [fields["n"] for fields in log.of(job_id)] == list(range(said))
    for job_id in "abc":
        shares = [fields["progress"] for fields in log.of(job_id, "progress")]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0


@pytest.mark.one_loop
async def test_one_call_carries_many(log: Log) -> None:
    """However much is said while the loop is busy, it is called once, and each log once."""
    outbox = new_outbox(log)
    outbox._loop = calls = Calls()  # type: ignore[assignment]
    in_thread(lambda: [outbox.put("ab"[n % 2], line(n)) for n in range(100)]).join()
    await a_while()

    assert calls.made == 1
    assert [(job_id, len(emissions)) for job_id, emissions in log.calls] == [("a", 50), ("b", 50)]


@pytest.mark.one_loop
async def test_a_slow_log_gathers_the_rest(log: Log) -> None:
    """What is said while a log takes its time is handed over together, after it."""
    outbox = new_outbox(log)
    log.open.clear()
    outbox.put("a", line(0))
    await a_while()
    for number in (1, 2, 3):
        outbox.put("a", line(number))
        await a_while()
    assert not log.calls
    log.open.set()
    await a_while()

    assert [[fields["n"] for _, fields in emissions] for _, emissions in log.calls] == [
        [0],
        [1, 2, 3],
    ]


@pytest.mark.one_loop
async def test_flush_waits_for_what_was_said_first(log: Log) -> None:
    """When a flush returns, everything said before it is in the log, that of another flush too."""
    outbox = new_outbox(log)
    log.open.clear()
    outbox.put("a", line(0))
    await a_while()
    outbox.put("a", line(1))
    flush = asyncio.create_task(outbox.flush())
    await a_while()
    assert not flush.done()
    log.open.set()
    await flush

    assert [fields["n"] for fields in log.of("a")] == [0, 1]


# Progress


@pytest.mark.parametrize(
    ("progress", "fields"),
    [
        (Progress(0.25), progress_at(0.25)),
        (Progress(-1.0), progress_at(0.0)),
        (Progress(1.0000001), progress_at(1.0)),
        (Progress(1 / 3), progress_at(0.333333)),
        (Progress(float("nan")), progress_at(0.0)),
        (Progress(None, 1, 4, "x"), {"progress": 0.25, "step": 1, "total": 4, "message": "x"}),
        (Progress(None, 5, 4), {"progress": 1.0, "step": 5, "total": 4, "message": None}),
        (Progress(None, 7), {"progress": None, "step": 7, "total": None, "message": None}),
        (Progress(None, 0, 0), {"progress": None, "step": 0, "total": 0, "message": None}),
        (Progress(0.5, message="a\ud800"), {**progress_at(0.5), "message": "a?"}),
    ],
    ids=repr,
)
def test_progress_as_an_event(progress: Progress, fields: dict[str, Any]) -> None:
    """A share lies between 0 and 1, or is null where nobody knows it; it is kept in no log."""
    emission = progress.emission()

    assert (emission.type, emission.durable) == ("progress", False)
    assert orjson.loads(emission.fields) == fields


@pytest.mark.one_loop
async def test_progress_ten_times_a_second(log: Log) -> None:
    """A thousand notes a second are ten looks and ten events, each the newest of its time."""
    outbox = new_outbox(log)
    outbox._loop = calls = Calls()  # type: ignore[assignment]
    for number in range(1000):
        outbox.note("a", Progress(number / 1000))
        if number % 10 == 9 or number == 0:
            await calls.pass_time(0.01 * (number > 0))

    shares = [fields["progress"] for fields in log.of("a", "progress")]
    assert shares == [0.0, *(hundred / 10 - 0.001 for hundred in range(1, 10)), 0.999]
    assert calls.made == 11
    await outbox.close()


@pytest.mark.one_loop
async def test_progress_among_lines(log: Log) -> None:
    """Lines and flushes don't take progress along before it is time."""
    outbox = new_outbox(log)
    outbox._loop = calls = Calls()  # type: ignore[assignment]
    for number in range(100):
        outbox.note("a", Progress(number / 100))
        outbox.put("a", line(number))
        await (a_while() if number % 2 else outbox.flush())
        await calls.pass_time(0.01)
    await outbox.close()

    shares = [fields["progress"] for fields in log.of("a", "progress")]
    assert len(shares) <= 11
    assert shares[-1] == 0.99
    assert len(log.of("a")) == 100


@pytest.mark.one_loop
async def test_progress_of_each_job(log: Log) -> None:
    """The newest counts for each job by itself, and one look takes all of them."""
    outbox = new_outbox(log)
    outbox._loop = calls = Calls()  # type: ignore[assignment]
    in_thread(
        lambda: [outbox.note(job_id, Progress(n / 10)) for n in range(5) for job_id in "ab"]
    ).join()
    await a_while()

    assert calls.made == 1
    assert log.calls == [(job_id, [("progress", progress_at(0.4))]) for job_id in "ab"]


@pytest.mark.one_loop
async def test_last_progress(log: Log) -> None:
    """What was noted last before the end is told, though it is not yet time for news."""
    outbox = new_outbox(log)
    outbox._loop = calls = Calls()  # type: ignore[assignment]
    for share in (0.1, 0.5, 0.9):
        outbox.note("a", Progress(share))
        await a_while()
    assert log.of("a", "progress") == [progress_at(0.1)]
    await outbox.close()

    assert log.of("a", "progress") == [progress_at(0.1), progress_at(0.9)]
    await calls.pass_time(1)
    assert len(log.calls) == 2


async def test_last_progress_of_a_thread(log: Log) -> None:
    """However a thread and the loop interleave, its last note is never left lying."""
    outbox = new_outbox(log)
    threads = [
        in_thread(lambda job_id=job_id: [outbox.note(job_id, Progress(n)) for n in (0, 0.5, 1)])
        for job_id in map(str, range(20))
    ]
    await joined(*threads)
    await until(lambda: not outbox._progress)
    await outbox.close()

    assert all(log.of(str(n), "progress")[-1] == progress_at(1.0) for n in range(20))


# Room


@pytest.mark.parametrize("bounds", [{"max_events": 2}, {"max_bytes": 25}])
@pytest.mark.parametrize("way", ["taken", "closed", "discarded"])
async def test_thread_waits_for_room(log: Log, bounds: dict[str, int], way: str) -> None:
    """While the loop is behind a thread waits, until something is taken or nothing will be."""
    outbox, passed = new_outbox(log, **bounds), threading.Event()

    def talk() -> None:
        for number in range(3):
            outbox.wait_for_room()
            outbox.put("a", line(number, text="123"))
        passed.set()

    thread = in_thread(talk)
    while outbox._room is None:
        pass  # the loop is busy: this is it
    assert not passed.is_set()
    match way:
        case "closed":
            await outbox.close()
        case "discarded":
            outbox.discard()
    await joined(thread)
    await a_while()

    heard = [fields["n"] for fields in log.of("a")]
    # While it closes, what is said is heard or dropped.
    heard = heard[:2] if way == "closed" else heard
    assert heard == {"taken": [0, 1, 2], "closed": [0, 1], "discarded": []}[way]
    assert passed.is_set()


@pytest.mark.one_loop
async def test_the_loop_never_waits_for_itself(log: Log) -> None:
    """On the loop there is always room: nobody else could make some."""
    outbox = new_outbox(log, max_events=1)
    for number in range(5):
        outbox.wait_for_room()
        outbox.put("a", line(number))
    await outbox.close()

    assert [fields["n"] for fields in log.of("a")] == [0, 1, 2, 3, 4]


@pytest.mark.one_loop
async def test_lines_that_were_dropped(log: Log) -> None:
    """Lines beyond the bound are counted, for each job, and its log says where they are missing."""
    outbox = new_outbox(log, max_events=2)
    for number in range(5):
        outbox.offer("a", line(number))
    outbox.offer("b", line(0))
    await a_while()
    outbox.offer("a", line(5))
    await outbox.close()

    def dropped(count: int) -> dict[str, str]:
        return {"level": "warning", "message": f"{count} lines were dropped here."}

    assert log.of("a") == [{"n": 0}, {"n": 1}, dropped(3), {"n": 5}]
    assert log.of("b") == [dropped(1)]


@pytest.mark.one_loop
async def test_lines_dropped_at_the_very_end(log: Log) -> None:
    """The count is told even if everything else was taken just before."""
    outbox = new_outbox(log, max_events=0)  # as if it was full when a thread looked
    outbox.offer("a", line(0))
    await outbox.close()

    assert [fields["message"] for fields in log.of("a")] == ["1 lines were dropped here."]


# The end


@pytest.mark.parametrize("way", ["closed", "discarded"])
async def test_nothing_after_the_end(log: Log, way: str) -> None:
    """After the end whatever is said is dropped in silence, from the loop or a thread."""
    outbox = new_outbox(log, max_events=1)
    outbox.put("a", line(0))
    outbox.note("a", Progress(0.5))
    if way == "closed":
        await outbox.close()
    else:
        outbox.discard()
    heard = list(log.calls)

    def talk() -> None:
        outbox.wait_for_room()
        outbox.put("a", line(1))
        outbox.offer("a", line(2))
        outbox.offer("a", line(3))
        outbox.note("a", Progress(0.9))

    talk()
    await joined(in_thread(talk))
    await a_while()
    await outbox.flush()
    await outbox.close()

    assert log.calls == heard
    assert len(heard) == (1 if way == "closed" else 0)


@pytest.mark.one_loop
async def test_close_without_a_word(log: Log) -> None:
    """A function that said nothing costs its log nothing."""
    await new_outbox(log).close()

    assert not log.calls


@pytest.mark.one_loop
async def test_a_lost_claim(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    """That a job has ended meanwhile is nobody's error."""
    outbox = new_outbox(log)
    log.errors = [ClaimLost("gone")]
    outbox.put("a", line(0))
    outbox.put("b", line(0))
    await outbox.close()

    assert len(log.of("b")) == 1
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


@pytest.mark.one_loop
async def test_a_broken_log(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    """What can't be stored is told to the server's log, and does not stop what follows."""
    outbox = new_outbox(log)
    log.errors = [OSError("disk full")]
    for job_id in "ab":
        outbox.put(job_id, line(0))
    await a_while()
    outbox.put("a", line(1))
    await a_while()

    assert [fields["n"] for fields in log.of("a")] == [0, 1]
    assert len(log.of("b")) == 1
    (record,) = caplog.records
    assert record.getMessage() == "what a job said could not be stored"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], OSError)


@pytest.mark.parametrize("new_loop", ["asyncio", "uvloop"])
def test_a_closed_loop(new_loop: str) -> None:
    """A thread that outlives the loop says what it likes to nobody, and is not held up."""
    factory: Any = asyncio.new_event_loop
    if new_loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop

    async def main() -> Outbox:
        return new_outbox(Log(), max_events=1)

    with asyncio.Runner(loop_factory=factory) as runner:
        outbox = runner.run(main())

    def talk() -> None:
        outbox.note("a", Progress(0.5))
        for number in range(10):
            outbox.wait_for_room()
            outbox.put("a", line(number))

    thread = in_thread(talk)
    thread.join(PATIENCE)

    assert not thread.is_alive()
