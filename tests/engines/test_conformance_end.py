"""The contract of the end: cancel, settle, release, and what is worth nothing without a claim."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from aioqueue._errors import ClaimLost
from aioqueue._job import Claim, Content, Emission, EventId, JobState, Outcome
from aioqueue.engines.base import Engine
from tests.engines.conformance import Bench

pytestmark = pytest.mark.one_loop

OpenBench = Callable[..., Awaitable[Bench]]


async def last_event(bench: Bench, job_id: str) -> dict[str, object]:
    """The newest event of a job, decoded."""
    page = await bench.engine.events(job_id, EventId(1, 0))
    assert page is not None
    decoded: dict[str, object] = json.loads(page.events[-1].data)
    return decoded


# Settle


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        ({"result": Content(b'{"text":"hi"}')}, {"result": {"text": "hi"}}),
        ({"result": None}, {"result": None}),
        (
            {"result": Content(b"\x89PNG", "image/png", "a.png")},
            {"result": None, "file": {"content_type": "image/png", "size": 4, "name": "a.png"}},
        ),
        ({"state": JobState.FAILED, "error": b'{"status":500}'}, {"error": {"status": 500}}),
        ({"state": JobState.CANCELLED, "reason": "shutdown"}, {"reason": "shutdown"}),
    ],
)
async def test_settle(bench: Bench, outcome: dict[str, object], told: dict[str, object]) -> None:
    """An outcome is the job's end: its state, its result and its terminal event."""
    await bench.add("1")
    await bench.start()
    bench.clock.advance(2)
    await bench.settle("1", **outcome)  # type: ignore[arg-type]

    snapshot = await bench.snapshot("1")
    state = outcome.get("state", JobState.SUCCEEDED)
    assert (snapshot.state, snapshot.finished) == (state, bench.clock())
    assert snapshot.result == outcome.get("result")
    assert (snapshot.error, snapshot.reason) == (outcome.get("error"), outcome.get("reason"))
    assert await last_event(bench, "1") == {"type": state, "job": "1", **told}
    assert snapshot.last == EventId(1, 2)


async def test_settle_once(bench: Bench) -> None:
    """A job that has ended can't end again: it stays what it was."""
    await bench.add("1")
    await bench.start()
    await bench.settle("1")

    with pytest.raises(ClaimLost):
        await bench.settle("1", state=JobState.FAILED)
    assert await bench.states("1") == "succeeded"
    assert await bench.log("1") == ["1-1 started", "1-2 succeeded"]


async def test_settle_all_or_nothing(bench: Bench) -> None:
    """If one of the jobs has ended already, none of the outcomes is stored."""
    await bench.add_all("1 2 3")
    await bench.start(batch=3)
    await bench.settle("2")

    with pytest.raises(ClaimLost):
        await bench.settle("1", "2", "3")
    assert await bench.states("1 2 3") == "running succeeded running"


async def test_settle_alone(bench: Bench) -> None:
    """One job of a batch may end before the others."""
    await bench.add_all("1 2")
    await bench.start(batch=2)
    await bench.settle("2", state=JobState.FAILED)

    assert await bench.states("1 2") == "running failed"
    await bench.settle("1")
    assert await bench.states("1 2") == "succeeded failed"
    assert await bench.running() == 0


@pytest.mark.parametrize(
    "write",
    [
        lambda engine, claim: engine.settle(claim, [Outcome("1", JobState.SUCCEEDED)]),
        lambda engine, claim: engine.settle(claim, [Outcome("1", JobState.FAILED)], keep=True),
        lambda engine, claim: engine.settle(claim, []),
        lambda engine, claim: engine.emit(claim, "1", [Emission("output", b"{}")]),
        lambda engine, claim: engine.release(claim),
    ],
    ids=["settle", "keep", "settle nothing", "emit", "release"],
)
async def test_lost_claim(bench: Bench, write: Callable[[Engine, Claim], Awaitable[None]]) -> None:
    """A worker that has lost its claim writes nothing, though the job runs again."""
    await bench.add("1")
    (lost,) = (await bench.claim()).claims
    await bench.release("1")
    await bench.claim()

    with pytest.raises(ClaimLost):
        await write(bench.engine, lost)
    assert await bench.states("1") == "running"
    assert await bench.log("1") == ["2-1 restarted", "2-2 started"]


# Settle, but keep the slot


async def test_keep(bench: Bench) -> None:
    """Work that goes on after its job has ended keeps the slot until it is released."""
    await bench.add_all("1 2")
    await bench.start()
    await bench.settle("1", state=JobState.FAILED, keep=True)
    assert await bench.states("1") == "failed"
    assert await bench.running() == 1
    assert await bench.start() == []

    await bench.release("1")
    assert await bench.states("1") == "failed"
    assert await bench.start() == ["2"]


async def test_keep_is_for_the_claim(bench: Bench) -> None:
    """Once kept, a slot is freed by nothing but its release, whatever else is settled."""
    await bench.add_all("1 2 3")
    await bench.start(batch=2)
    await bench.settle("1", state=JobState.CANCELLED, keep=True)
    await bench.settle("2")

    assert await bench.start() == []
    await bench.release("1")
    assert await bench.start() == ["3"]


async def test_release_once(bench: Bench) -> None:
    """A slot is freed once; a settled claim has none to free."""
    await bench.add_all("1 2")
    await bench.start()
    await bench.settle("1", keep=True)
    await bench.release("1")
    with pytest.raises(ClaimLost):
        await bench.release("1")
    await bench.start()
    await bench.settle("2")

    with pytest.raises(ClaimLost):
        await bench.release("2")


async def test_kept_jobs_say_nothing_more(bench: Bench) -> None:
    """A job that has ended for its client is over, though its work goes on."""
    await bench.add("1")
    await bench.start()
    await bench.settle("1", state=JobState.FAILED, keep=True)

    with pytest.raises(ClaimLost):
        await bench.emit("1", "output")
    with pytest.raises(ClaimLost):
        await bench.settle("1")


# Release


async def test_release(bench: Bench) -> None:
    """A job that comes back waits as if it had never run; then it is the next attempt."""
    await bench.add("1")
    await bench.start()
    await bench.emit("1", "output")
    await bench.emit("1", "progress", durable=False)
    await bench.release("1")
    snapshot = await bench.snapshot("1")
    assert (snapshot.state, snapshot.started, snapshot.progress) == ("queued", None, None)
    assert await bench.running() == 0

    bench.clock.advance(5)
    (claim,) = (await bench.claim()).claims
    assert claim.attempts[0].number == 2
    assert (await bench.snapshot("1")).started == bench.clock()
    assert await bench.log("1") == ["2-1 restarted", "2-2 started"]


async def test_release_some(bench: Bench) -> None:
    """Of a batch that comes back only the jobs that have not ended wait again."""
    await bench.add_all("1 2 3")
    await bench.start(batch=3)
    await bench.settle("2")
    await bench.release("1")

    assert await bench.states("1 2 3") == "queued succeeded queued"
    assert await bench.start(batch=3) == ["1+3"]


async def test_many_attempts(bench: Bench) -> None:
    """Each time it comes back it is another attempt, with a log of its own."""
    await bench.add("1")
    for number in range(1, 5):
        (claim,) = (await bench.claim()).claims
        assert claim.attempts[0].number == number
        await bench.emit("1", "output")
        await bench.release("1")

    await bench.start()
    await bench.settle("1")
    assert await bench.log("1") == ["5-1 restarted", "5-2 started", "5-3 succeeded"]


async def test_cancel_of_what_came_back(bench: Bench) -> None:
    """A job that waits again can be cancelled where it is."""
    await bench.add("1")
    await bench.start()
    await bench.release("1")
    await bench.engine.cancel("1", "client")

    assert await bench.log("1") == ["1-1 started", "1-2 cancelled"]
    assert await bench.waiting() == {}


async def test_release_of_what_was_to_be_cancelled(bench: Bench) -> None:
    """A job that comes back after its cancel was requested is cancelled, not run again."""
    await bench.add("1")
    await bench.start()
    await bench.engine.cancel("1", "client")
    await bench.release("1")

    assert await bench.states("1") == "cancelled"
    assert (await bench.snapshot("1")).reason == "client"
    assert await bench.log("1") == ["1-1 started", "1-2 cancelled"]
    assert await bench.waiting() == {}


# Cancel


@pytest.mark.parametrize("only_queued", [False, True])
async def test_cancel_queued(bench: Bench, only_queued: bool) -> None:
    """A waiting job is cancelled at once, without having run."""
    await bench.add("1")
    snapshot = await bench.engine.cancel("1", "client", only_queued=only_queued)

    assert snapshot is not None
    assert (snapshot.state, snapshot.reason, snapshot.cancel_requested) == (
        "cancelled",
        "client",
        False,
    )
    assert await last_event(bench, "1") == {"type": "cancelled", "job": "1", "reason": "client"}
    assert await bench.log("1") == ["1-1 cancelled"]
    assert await bench.start() == []


async def test_cancel_held(open_bench: OpenBench) -> None:
    """A job beside the line is cancelled like one in it."""
    bench = await open_bench(max_running_per_client=1)
    await bench.add_all("1 2 3", client="ann")
    await bench.engine.cancel("2", "client")

    assert await bench.states("1 2 3") == "queued cancelled queued"
    assert await bench.waiting() == {"a": 2}


async def test_cancel_running(bench: Bench) -> None:
    """The cancel of a running job is a request: the job runs until its worker ends it."""
    await bench.add("1")
    await bench.start()
    snapshot = await bench.engine.cancel("1", "client")
    assert snapshot is not None
    assert (snapshot.state, snapshot.cancel_requested) == ("running", True)
    await bench.emit("1", "output")
    await bench.settle("1", state=JobState.CANCELLED)

    snapshot = await bench.snapshot("1")
    assert (snapshot.state, snapshot.reason, snapshot.cancel_requested) == (
        "cancelled",
        "client",
        False,
    )


async def test_first_reason_counts(bench: Bench) -> None:
    """Of several cancels the first one says why; a worker with a reason of its own knows better."""
    await bench.add_all("1 2")
    await bench.start(batch=2)
    for reason in ("disconnect", "client"):
        await bench.engine.cancel("1", reason)
        await bench.engine.cancel("2", reason)
    await bench.settle("1", state=JobState.CANCELLED)
    await bench.settle("2", state=JobState.CANCELLED, reason="shutdown")

    assert (await bench.snapshot("1")).reason == "disconnect"
    assert (await bench.snapshot("2")).reason == "shutdown"


async def test_too_late_to_cancel(bench: Bench) -> None:
    """A job whose result came before it could be cancelled has succeeded."""
    await bench.add("1")
    await bench.start()
    await bench.engine.cancel("1", "client")
    await bench.settle("1")

    snapshot = await bench.snapshot("1")
    assert (snapshot.state, snapshot.reason) == ("succeeded", None)


async def test_cancel_only_queued(bench: Bench) -> None:
    """`only_queued` leaves a running job alone."""
    await bench.add("1")
    await bench.start()
    snapshot = await bench.engine.cancel("1", "shutdown", only_queued=True)

    assert snapshot is not None
    assert (snapshot.state, snapshot.cancel_requested) == ("running", False)


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
async def test_cancel_ended(bench: Bench, state: JobState) -> None:
    """The cancel of a job that has ended changes nothing."""
    await bench.add("1")
    await bench.start()
    await bench.settle("1", state=state, reason="client" if state == "cancelled" else None)
    before = await bench.snapshot("1")

    assert await bench.engine.cancel("1", "disconnect") == before
    assert await bench.snapshot("1") == before


async def test_cancelled_or_run(open_bench: OpenBench) -> None:
    """A job is either cancelled before it runs, or runs: never both, never neither."""
    bench = await open_bench(concurrency_limit=None)
    await bench.add_all("1 2 3 4")
    await bench.engine.cancel("1", "client")
    assert await bench.start(free=2) == ["2", "3"]
    for job_id in ("2", "4"):
        await bench.engine.cancel(job_id, "client")

    assert await bench.start() == []
    assert await bench.states("1 2 3 4") == "cancelled running running cancelled"


# How long it took


async def test_durations(open_bench: OpenBench) -> None:
    """A claim that is settled tells how long its function takes, from its start to its end."""
    bench = await open_bench(concurrency_limit=2)
    await bench.add("1", "a")
    await bench.add("2", "b")
    bench.clock.advance(100)
    await bench.start()
    bench.clock.advance(3)
    await bench.settle("1", state=JobState.FAILED)
    bench.clock.advance(4)
    await bench.settle("2")

    durations = (await bench.engine.stats("q")).durations
    assert {name: history.mean for name, history in durations.items()} == {"a": 3.0, "b": 7.0}


async def test_duration_of_a_batch(bench: Bench) -> None:
    """A batch is one run, over when its last job has ended."""
    await bench.add_all("1 2")
    await bench.start(batch=2)
    bench.clock.advance(3)
    await bench.settle("1")
    bench.clock.advance(2)
    await bench.settle("2")

    assert (await bench.engine.stats("q")).durations["a"].mean == 5.0


async def test_duration_of_what_outlives_its_job(bench: Bench) -> None:
    """Work that goes on after its job has failed takes as long as it keeps its slot."""
    await bench.add("1")
    await bench.start()
    bench.clock.advance(3)
    await bench.settle("1", state=JobState.FAILED, keep=True)
    assert not (await bench.engine.stats("q")).durations
    bench.clock.advance(4)
    await bench.release("1")

    assert (await bench.engine.stats("q")).durations["a"].mean == 7.0


@pytest.mark.parametrize("how", ["cancelled", "kept", "released", "never ran"])
async def test_no_duration(bench: Bench, how: str) -> None:
    """What was cut short says nothing about how long the function takes."""
    await bench.add("1", queue_timeout=1.0)
    bench.clock.advance(0.5)
    if how == "never ran":
        bench.clock.advance(1)
        await bench.engine.reap()
    else:
        await bench.start()
        bench.clock.advance(1)
    if how == "cancelled":
        await bench.settle("1", state=JobState.CANCELLED)
    elif how == "kept":
        await bench.settle("1", state=JobState.CANCELLED, keep=True)
    if how in ("kept", "released"):
        await bench.release("1")

    assert not (await bench.engine.stats("q")).durations
    assert await bench.running() == 0


async def test_expected_duration_at_the_start(bench: Bench) -> None:
    """A job is told at its start how long its function took lately; null before the first."""
    for job_id, eta in (("1", None), ("2", 3.0)):
        await bench.add(job_id)
        await bench.start()
        assert (await last_event(bench, job_id))["eta"] == eta
        bench.clock.advance(3)
        await bench.settle(job_id)
