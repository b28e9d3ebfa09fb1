"""The contract of time: how long a job may wait, and for how long nobody need listen."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from aioqueue.engines.base import LISTENING_SECONDS
from tests.engines.conformance import Bench

pytestmark = pytest.mark.one_loop

OpenBench = Callable[..., Awaitable[Bench]]


async def reap(bench: Bench) -> list[str]:
    """Let time do its work, and tell which jobs it ended."""
    return sorted((await bench.engine.reap()).ended)


async def test_clock(bench: Bench) -> None:
    """The engine's time is that of its clock."""
    before = await bench.engine.now()
    bench.clock.advance(2.5)

    assert await bench.engine.now() == before + 2.5


# queue_timeout


async def test_queue_timeout_by_reap(bench: Bench) -> None:
    """A job that waited longer than it may fails without having run."""
    await bench.add("1", queue_timeout=10.0)
    bench.clock.advance(9.5)
    assert await reap(bench) == []
    bench.clock.advance(1.5)
    assert await reap(bench) == ["1"]
    assert await reap(bench) == []

    snapshot = await bench.snapshot("1")
    assert (snapshot.state, snapshot.started) == ("failed", None)
    problem = json.loads(snapshot.error or b"")
    assert (problem["code"], problem["status"]) == ("queue_timeout", 503)
    assert await bench.log("1") == ["1-1 failed"]
    assert await bench.waiting() == {}


async def test_queue_timeout_by_claim(bench: Bench) -> None:
    """A job whose time to wait is over never starts, whether or not it was reaped."""
    await bench.add("1", queue_timeout=10.0)
    await bench.add("2")
    bench.clock.advance(10.1)
    reply = await bench.claim()

    assert list(reply.ended) == ["1"]
    assert await bench.states("1 2") == "failed running"
    assert await reap(bench) == []


async def test_queue_timeout_in_a_batch(bench: Bench) -> None:
    """One whose time is over is left out of the batch, and the next takes its place."""
    await bench.add("1")
    await bench.add("2", queue_timeout=10.0)
    await bench.add_all("3 4")
    bench.clock.advance(10.1)
    reply = await bench.claim(batch=3)

    assert list(reply.ended) == ["2"]
    assert [attempt.record.id for attempt in reply.claims[0].attempts] == ["1", "3", "4"]


async def test_queue_timeout_of_a_held_job(open_bench: OpenBench) -> None:
    """To be held beside the line is to wait."""
    bench = await open_bench(max_running_per_client=1)
    await bench.add("1", client="ann")
    await bench.add("2", client="ann", queue_timeout=10.0)
    bench.clock.advance(11)

    assert await reap(bench) == ["2"]
    assert await bench.states("1 2") == "queued failed"


async def test_queue_timeout_is_for_waiting(bench: Bench) -> None:
    """What has started in time may take its time."""
    await bench.add("1", queue_timeout=10.0)
    bench.clock.advance(9)
    await bench.start()
    bench.clock.advance(100)

    assert await reap(bench) == []
    assert await bench.states("1") == "running"


async def test_queue_timeout_of_what_came_back(bench: Bench) -> None:
    """A job that has run once waited in time: it may come back and wait again."""
    await bench.add("1", queue_timeout=10.0)
    await bench.start()
    bench.clock.advance(100)
    await bench.release("1")

    assert await reap(bench) == []
    assert await bench.start() == ["1"]


async def test_many_time_out_at_once(bench: Bench) -> None:
    """A crowd that came in the same second fails in the same second."""
    for number in range(1000):
        await bench.add(str(number), queue_timeout=10.0 + number % 2)
    bench.clock.advance(11)
    assert len(await reap(bench)) == 500
    bench.clock.advance(1)

    assert len(await reap(bench)) == 500
    assert await bench.waiting() == {}


# attend


async def test_submitter_listens(bench: Bench) -> None:
    """Enqueue says for the submitter that somebody listens; nobody need say more for a while."""
    await bench.add("1", grace=5.0)
    bench.clock.advance(LISTENING_SECONDS + 4.9)
    assert await reap(bench) == []
    bench.clock.advance(1.1)

    assert await reap(bench) == ["1"]
    snapshot = await bench.snapshot("1")
    assert (snapshot.state, snapshot.reason) == ("cancelled", "disconnect")


async def test_attend(bench: Bench) -> None:
    """As long as somebody says that he listens, the job goes on."""
    await bench.add("1", grace=5.0)
    for _ in range(10):
        bench.clock.advance(20)
        await bench.engine.attend(["1"], 30.0)
        assert await reap(bench) == []
    bench.clock.advance(36)

    assert await reap(bench) == ["1"]


async def test_long_promise(bench: Bench) -> None:
    """One long promise lasts as long as many short ones, and not for ever."""
    await bench.add("1", grace=5.0)
    await bench.engine.attend(["1"], 100.0)
    for _ in range(10):
        bench.clock.advance(10)
        assert await reap(bench) == []
    bench.clock.advance(6)

    assert await reap(bench) == ["1"]


@pytest.mark.parametrize("grace", [0.0, 5.0])
async def test_last_listener_has_left(bench: Bench, grace: float) -> None:
    """With zero the grace begins: who comes back within it saves the job, later does not."""
    await bench.add_all("1 2", grace=grace)
    await bench.engine.attend(["1", "2"], 0)
    if grace:
        bench.clock.advance(grace - 0.1)
        assert await reap(bench) == []
    await bench.engine.attend(["2"], 30.0)
    bench.clock.advance(1.1)

    assert await reap(bench) == ["1"]
    assert await bench.states("1 2") == "cancelled queued"


@pytest.mark.parametrize("grace", [0.0, 5.0])
async def test_nobody_listens_at_its_turn(bench: Bench, grace: float) -> None:
    """A job whose grace is over is dropped at its turn, whether or not it was reaped."""
    await bench.add("1", grace=grace)
    await bench.add("2")
    await bench.engine.attend(["1"], 0)
    bench.clock.advance(grace)
    reply = await bench.claim()

    assert list(reply.ended) == ["1"]
    assert await bench.states("1 2") == "cancelled running"


async def test_nobody_listens_to_a_running_job(bench: Bench) -> None:
    """A running job is asked to end when its grace is over."""
    await bench.add("1", grace=5.0)
    await bench.start()
    await bench.engine.attend(["1"], 0)
    bench.clock.advance(6)

    assert await reap(bench) == []
    snapshot = await bench.snapshot("1")
    assert (snapshot.state, snapshot.cancel_requested) == ("running", True)
    assert (await bench.engine.wait_work("w", 0)).cancelled == ("1",)


async def test_nobody_listens_to_what_came_back(bench: Bench) -> None:
    """A job that comes back from a worker needs its listener as before."""
    await bench.add("1", grace=5.0)
    await bench.start()
    await bench.release("1")
    await bench.engine.attend(["1"], 0)
    bench.clock.advance(6)

    assert await reap(bench) == ["1"]


async def test_detach(bench: Bench) -> None:
    """A detached job needs no listener, and nobody attaches it again."""
    await bench.add("1", grace=5.0)
    await bench.engine.attend(["1"], None)
    await bench.engine.attend(["1"], 0)
    bench.clock.advance(1000)

    assert await reap(bench) == []
    assert await bench.states("1") == "queued"


async def test_never_attached(bench: Bench) -> None:
    """A job without a grace is detached from the beginning."""
    await bench.add("1")
    await bench.engine.attend(["1"], 0)
    bench.clock.advance(1000)

    assert await reap(bench) == []


async def test_attend_passes_over(bench: Bench) -> None:
    """Ended and unknown jobs are passed over, the others are not."""
    await bench.add_all("1 2", grace=5.0)
    await bench.start()
    await bench.settle("1")
    await bench.engine.attend(["1", "nobody", "2"], 0)
    bench.clock.advance(6)

    assert await reap(bench) == ["2"]
    assert await bench.states("1") == "succeeded"


async def test_both_deadlines(bench: Bench) -> None:
    """Whichever time is over first ends the job, though the other was moved away."""
    await bench.add("1", grace=1.0, queue_timeout=20.0)
    await bench.add("2", grace=1.0, queue_timeout=20.0)
    await bench.engine.attend(["1"], 500.0)
    await bench.engine.attend(["2"], 0)
    bench.clock.advance(3)
    assert await reap(bench) == ["2"]
    bench.clock.advance(18)

    assert await reap(bench) == ["1"]
    assert await bench.states("1 2") == "failed cancelled"


async def test_place_of_who_timed_out(open_bench: OpenBench) -> None:
    """Whoever is ended by time makes room, for the client's next job too."""
    bench = await open_bench(max_running_per_client=1)
    await bench.add("1", client="ann", queue_timeout=10.0)
    await bench.add("2", client="ann")
    bench.clock.advance(11)

    assert await reap(bench) == ["1"]
    assert await bench.positions("2") == [1]
