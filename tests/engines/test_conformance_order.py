"""The contract of the order: who starts before whom, and which place that is in line."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest

from aioqueue._job import JobRecord, Order, QueuePolicy
from tests.engines.conformance import UNBOUNDED, Bench

pytestmark = pytest.mark.one_loop

OpenBench = Callable[..., Awaitable[Bench]]


async def test_standing_example(open_bench: OpenBench) -> None:
    """Functions A, B, C, limit 1 each; requests arrive A B A A C B A: 1, 2 and 5 start at once."""
    bench = await open_bench(A=QueuePolicy(), B=QueuePolicy(), C=QueuePolicy())
    started = []
    for number, function in enumerate("ABAACBA", 1):
        await bench.add(str(number), function, queue=function)
        started += await bench.start(function, functions="ABC")
    assert started == ["1", "2", "5"]

    for ended, queue, starts in (
        ("1", "A", ["3"]),
        ("2", "B", ["6"]),
        ("5", "C", []),
        ("3", "A", ["4"]),
        ("6", "B", []),
        ("4", "A", ["7"]),
        ("7", "A", []),
    ):
        await bench.settle(ended)
        assert await bench.start(queue, functions="ABC") == starts


# Arrival


async def test_arrival(bench: Bench) -> None:
    """Jobs start as they arrived, whatever their function, client or priority."""
    for job_id, function, client, priority in (
        ("1", "b", "ann", 0.0),
        ("2", "a", "ann", 0.0),
        ("3", "a", "bob", 9.0),
        ("4", "b", None, 0.0),
    ):
        await bench.add(job_id, function, client=client, priority=priority)

    assert await bench.run_out() == ["1", "2", "3", "4"]


async def test_old_place(bench: Bench) -> None:
    """A job that comes back from a worker stands where it stood."""
    await bench.add_all("1 2 3")
    await bench.start()
    await bench.release("1")

    assert await bench.positions("1 2 3") == [1, 2, 3]
    assert await bench.run_out() == ["1", "2", "3"]


# Fair


async def fair(open_bench: OpenBench, **policy: object) -> Bench:
    """A bench whose queue lets clients take turns; a job's client is its first letter."""
    return await open_bench(order=Order.FAIR, **policy)


async def add_by_client(bench: Bench, jobs: str) -> None:
    """Enqueue jobs whose client is the first letter of their id, `-` for none."""
    for job_id in jobs.split():
        await bench.add(job_id, client=None if job_id[0] == "-" else job_id[0])


async def test_turns(open_bench: OpenBench) -> None:
    """Each client's next job takes the next turn; within a turn the first come is first served."""
    bench = await fair(open_bench)
    await add_by_client(bench, "a1 a2 a3 b1 c1 b2")

    assert await bench.run_out() == ["a1", "b1", "c1", "a2", "b2", "a3"]


async def test_no_client(open_bench: OpenBench) -> None:
    """A job without a client is a client of its own: each takes the very next turn."""
    bench = await fair(open_bench)
    await add_by_client(bench, "a1 a2 -1 -2 -3")

    assert await bench.run_out() == ["a1", "-1", "-2", "-3", "a2"]


async def test_newcomer(open_bench: OpenBench) -> None:
    """A newcomer goes on from the turn that runs, not from the beginning."""
    bench = await fair(open_bench)
    await add_by_client(bench, "a1 a2 a3 a4")
    for job_id in ("a1", "a2"):
        assert await bench.start() == [job_id]
        await bench.settle(job_id)
    await add_by_client(bench, "b1 b2")  # V is 2: their turns are 3 and 4

    assert await bench.run_out() == ["a3", "b1", "a4", "b2"]


async def test_turn_that_has_begun(open_bench: OpenBench) -> None:
    """The rest of the turn that runs comes before a newcomer too: it and his own, two a client."""
    bench = await fair(open_bench)
    await add_by_client(bench, "a1 b1 b2 b3")
    await bench.start()
    await add_by_client(bench, "c1")

    assert await bench.positions("b1 b2 c1 b3") == [1, 2, 3, 4]


async def test_running_jobs_are_no_turns(open_bench: OpenBench) -> None:
    """A client's last turn is that of a waiting job; what runs or has ended is forgotten."""
    bench = await fair(open_bench, concurrency_limit=3)
    await add_by_client(bench, "a1 a2 a3")
    await bench.start()
    await add_by_client(bench, "b1 a4")  # V is 3, and nobody waits: both take turn 4
    for job_id in ("a1", "a2", "a3"):
        await bench.settle(job_id)

    assert await bench.start() == ["b1", "a4"]


async def test_turn_of_a_batch(open_bench: OpenBench) -> None:
    """V is the turn of the head of a claim, not of the last of its mates."""
    bench = await fair(open_bench)
    await add_by_client(bench, "a1 a2 a3")
    assert await bench.start(batch=2) == ["a1+a2"]
    await add_by_client(bench, "b1 b2")  # V is 1: their turns are 2 and 3
    await bench.settle("a1", "a2")

    assert await bench.run_out() == ["b1", "a3", "b2"]


async def test_turn_never_falls(open_bench: OpenBench) -> None:
    """A job that comes back and starts again leaves V where it was."""
    bench = await fair(open_bench, concurrency_limit=2)
    await add_by_client(bench, "a1 a2 a3")
    await bench.start()
    await bench.release("a1")
    assert await bench.start() == ["a1"]
    await add_by_client(bench, "b1")  # V is still 2: it goes behind a3, whose turn is 3

    assert await bench.positions("a3 b1") == [1, 2]


async def test_late_turns(open_bench: OpenBench) -> None:
    """A client whose waiting job is behind its turn goes on from the turn that runs."""
    bench = await fair(open_bench, concurrency_limit=3)
    await add_by_client(bench, "a1 b1 b2 b3")
    await bench.start()
    await bench.settle("b1")
    assert await bench.start() == ["b3"]  # V is 3
    await bench.release("a1")
    await add_by_client(bench, "c1 a2")  # both take turn 4, though a1 with turn 1 waits again

    assert await bench.positions("a1 c1 a2") == [1, 2, 3]


async def test_gap(open_bench: OpenBench) -> None:
    """A cancelled job leaves its gap: who stands behind it keeps its turn."""
    bench = await fair(open_bench)
    await add_by_client(bench, "a1 a2 a3")
    await bench.engine.cancel("a2", "client")
    await add_by_client(bench, "b1 b2 a4")

    assert await bench.run_out() == ["a1", "b1", "b2", "a3", "a4"]


async def test_last_turn_after_a_cancel(open_bench: OpenBench) -> None:
    """When a client's last job is cancelled, its last turn is the one before."""
    bench = await fair(open_bench)
    await add_by_client(bench, "a1 a2 b1 b2 b3")
    await bench.engine.cancel("a2", "client")
    await add_by_client(bench, "a3")  # turn 2, behind b2, which came first

    assert await bench.run_out() == ["a1", "b1", "b2", "a3", "b3"]


async def test_turns_are_the_queues(open_bench: OpenBench) -> None:
    """Each queue has its own turns."""
    bench = await open_bench(
        q=QueuePolicy(order=Order.FAIR), other=QueuePolicy(order=Order.FAIR, concurrency_limit=9)
    )
    await bench.add_all("1 2 3", queue="other", client="ann")
    await bench.start("other")
    await bench.add("4", client="ann")
    await bench.add("5", client="bob")
    await bench.add("6", client="ann")

    assert await bench.run_out() == ["4", "5", "6"]


async def test_as_many_turns_as_jobs(open_bench: OpenBench) -> None:
    """The k-th waiting job of a client is k turns away: no crowd of others gets between."""
    bench = await fair(open_bench)
    await add_by_client(bench, " ".join(f"a{number}" for number in range(1, 50)))
    await add_by_client(bench, "b1 b2 c1")

    assert await bench.positions("b1 c1 b2") == [2, 3, 5]


# Priority


async def prioritised(open_bench: OpenBench) -> Bench:
    """A bench whose queue goes by priority, a minute a step."""
    return await open_bench(order=Order.PRIORITY, priority_step=60.0)


async def test_priority(open_bench: OpenBench) -> None:
    """The higher priority starts first; the same, in the order of arrival."""
    bench = await prioritised(open_bench)
    for job_id, priority in (("1", 0), ("2", 1), ("3", -1), ("4", 1), ("5", 0)):
        await bench.add(job_id, priority=priority)

    assert await bench.run_out() == ["2", "4", "1", "5", "3"]


async def test_ageing(open_bench: OpenBench) -> None:
    """A minute of waiting weighs as much as one step, so nobody starves."""
    bench = await prioritised(open_bench)
    await bench.add("old")
    bench.clock.advance(59)
    await bench.add("new", priority=1)
    bench.clock.advance(2)
    await bench.add("late", priority=1)

    assert await bench.run_out() == ["new", "old", "late"]


async def test_priority_tie(open_bench: OpenBench) -> None:
    """When waiting and priority weigh the same, who came first starts first."""
    bench = await prioritised(open_bench)
    await bench.add("1")
    bench.clock.advance(60)
    await bench.add("2", priority=1)

    assert await bench.run_out() == ["1", "2"]


async def test_priority_of_a_job_that_comes_back(open_bench: OpenBench) -> None:
    """A job that comes back keeps the number it was given at enqueue."""
    bench = await prioritised(open_bench)
    await bench.add("1", priority=1)
    await bench.start()
    bench.clock.advance(300)
    await bench.add("2", priority=5)  # as if it had come at the same time as 1
    await bench.release("1")

    assert await bench.positions("1 2") == [1, 2]


# Places in line


async def test_ahead(bench: Bench) -> None:
    """`ahead` counts, by function, who would start before."""
    for job_id, function in (("1", "a"), ("2", "b"), ("3", "a"), ("4", "c")):
        await bench.add(job_id, function)

    places = await bench.engine.ahead(["4", "1", "3"])
    assert [dict(ahead or {}) for ahead in places] == [{"a": 2, "b": 1}, {}, {"a": 1, "b": 1}]


async def test_not_in_line(open_bench: OpenBench) -> None:
    """Only a job in line has a place: not one that runs, has ended, is held or unknown."""
    bench = await open_bench(concurrency_limit=2, max_running_per_client=2)
    await bench.add_all("1 2 3 4", client="ann")
    await bench.start()
    await bench.settle("1")
    assert await bench.states("1 2 3 4") == "succeeded running queued queued"

    assert await bench.positions("1 2 3 4 5") == [None, None, 1, None, None]


async def test_places_after_a_cancel(bench: Bench) -> None:
    """Everybody behind a cancelled job moves up."""
    await bench.add_all("1 2 3 4")
    await bench.engine.cancel("2", "client")

    assert await bench.positions("1 3 4") == [1, 2, 3]


async def test_places_across_queues(open_bench: OpenBench) -> None:
    """Who waits in another queue stands before nobody here."""
    bench = await open_bench(q=QueuePolicy(), other=QueuePolicy())
    await bench.add_all("1 2", queue="other")
    await bench.add("3")

    assert await bench.positions("2 3") == [2, 1]


async def test_old_place_among_many(bench: Bench) -> None:
    """A whole batch comes back to its places, before and behind others."""
    for job_id, function in (("1", "a"), ("2", "b"), ("3", "a"), ("4", "b")):
        await bench.add(job_id, function)
    assert await bench.start(batch=2) == ["1+3"]
    assert await bench.positions("2 4") == [1, 2]
    await bench.release("1")

    assert await bench.positions("1 2 3 4") == [1, 2, 3, 4]


# The place that a job would have


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (Order.ARRIVAL, {"a": 2, "b": 1}),
        (Order.FAIR, {"a": 1, "b": 1}),
        (Order.PRIORITY, {"b": 1}),
    ],
)
async def test_ahead_of(open_bench: OpenBench, order: Order, expected: dict[str, int]) -> None:
    """`ahead_of` foresees what stands before a job, by function, in each order."""
    bench = await open_bench(order=order, priority_step=60.0)
    await bench.add("1", client="ann")
    await bench.add("2", client="ann")
    await bench.add("3", "b", client="bob", priority=2)
    bench.clock.advance(30)
    newcomer = JobRecord(id="4", function="a", queue="q", client="cid", priority=1)

    foreseen = await bench.engine.ahead_of(newcomer)
    await bench.engine.enqueue(newcomer, limits=UNBOUNDED)
    assert foreseen == expected
    assert await bench.engine.ahead(["4"]) == [foreseen]


@pytest.mark.parametrize("order", list(Order))
async def test_ahead_of_agrees_with_ahead(open_bench: OpenBench, order: Order) -> None:
    """Right after the same job was enqueued `ahead` says the same, whatever waits and runs."""
    bench = await open_bench(order=order, concurrency_limit=2, priority_step=10.0)
    dice = random.Random(7)
    for number in range(60):
        newcomer = JobRecord(
            id=str(number),
            function=dice.choice("abc"),
            queue="q",
            client=dice.choice(["ann", "ann", "ann", "bob", None]),
            priority=dice.randrange(4),
            node=dice.choice(["w", None]),
        )
        foreseen = await bench.engine.ahead_of(newcomer)
        await bench.engine.enqueue(newcomer, limits=UNBOUNDED)
        assert await bench.engine.ahead([newcomer.id]) == [foreseen]
        bench.clock.advance(dice.randrange(5))
        if number % 3 == 0:
            for claim in await bench.start(batch=2):
                await bench.settle(*claim.split("+"))


async def test_ahead_of_a_job_that_would_be_held(open_bench: OpenBench) -> None:
    """A job that would wait beside the line would have no place, until its client has room."""
    bench = await open_bench(concurrency_limit=2, max_running_per_client=1)
    await bench.add("1", client="ann")
    await bench.start()
    newcomer = JobRecord(id="2", function="a", queue="q", client="ann")

    assert await bench.engine.ahead_of(newcomer) is None
    await bench.settle("1")
    assert await bench.engine.ahead_of(newcomer) == {}


async def test_ahead_of_is_one_queues(open_bench: OpenBench) -> None:
    """Who waits in another queue would stand before nobody here."""
    bench = await open_bench(q=QueuePolicy(), other=QueuePolicy())
    await bench.add_all("1 2", queue="other")

    assert await bench.engine.ahead_of(JobRecord(id="3", function="a", queue="q")) == {}


@pytest.mark.parametrize("order", list(Order))
async def test_ahead_of_changes_nothing(open_bench: OpenBench, order: Order) -> None:
    """Asking is not joining: no job, no count, no turn, and no wake-up comes of it."""
    bench = await open_bench(order=order)
    await bench.add("1", client="ann")
    await bench.engine.wait_work("w", 0)
    for number in range(5):
        newcomer = JobRecord(id=f"x{number}", function="a", queue="q", client="bob", priority=9)
        assert await bench.engine.ahead_of(newcomer) is not None

    assert (await bench.engine.wait_work("w", 0)).queues == ()
    assert await bench.engine.get("x0") is None
    assert await bench.waiting() == {"a": 1}
    await bench.add("2", client="bob")
    assert await bench.positions("1 2") == [1, 2]


# Beside the line: max_running_per_client


async def test_held_beside_the_line(open_bench: OpenBench) -> None:
    """A client in line or running as often as it may waits beside the line, in nobody's way."""
    bench = await open_bench(max_running_per_client=2)
    await bench.add_all("1 2 3", client="ann")
    await bench.add("4", client="bob")
    assert await bench.positions("1 2 3 4") == [1, 2, None, 3]
    assert await bench.states("3") == "queued"
    await bench.start()

    assert await bench.positions("2 3 4") == [1, None, 2]


async def test_joins_when_one_ends(open_bench: OpenBench) -> None:
    """A held job joins the line when one of its client's has ended, at the place it was given."""
    bench = await open_bench(max_running_per_client=1)
    await bench.add_all("1 2", client="ann")
    await bench.add("3", client="bob")
    await bench.start()
    await bench.settle("1")

    assert await bench.positions("2 3") == [1, 2]


@pytest.mark.parametrize("who", ["1", "2"])
async def test_joins_when_one_is_cancelled(open_bench: OpenBench, who: str) -> None:
    """A held job joins when one in line is cancelled; a held one that is cancelled just goes."""
    bench = await open_bench(max_running_per_client=1)
    await bench.add_all("1 2 3", client="ann")
    await bench.engine.cancel(who, "client")

    left = "2 3" if who == "1" else "1 3"
    assert await bench.positions(left) == [1, None]
    assert await bench.run_out() == left.split()


async def test_joins_when_given_up(open_bench: OpenBench) -> None:
    """A job that has ended for its client makes room, though its work goes on."""
    bench = await open_bench(concurrency_limit=2, max_running_per_client=1)
    await bench.add_all("1 2", client="ann")
    await bench.start()
    await bench.settle("1", keep=True)

    assert "q" in (await bench.engine.wait_work("w", 0)).queues
    assert await bench.start() == ["2"]


async def test_comes_back_into_the_line(open_bench: OpenBench) -> None:
    """A job that comes back from its worker is still in line: nobody else joins for it."""
    bench = await open_bench(max_running_per_client=1)
    await bench.add_all("1 2", client="ann")
    await bench.start()
    await bench.release("1")

    assert await bench.positions("1 2") == [1, None]


async def test_held_jobs_join_in_order(open_bench: OpenBench) -> None:
    """Of a client's held jobs the first in the queue's order joins first."""
    bench = await open_bench(order=Order.PRIORITY, max_running_per_client=1)
    for job_id, priority in (("1", 0), ("2", 0), ("3", 5)):
        await bench.add(job_id, client="ann", priority=priority)

    assert await bench.run_out() == ["1", "3", "2"]


async def test_no_cap_without_a_client(open_bench: OpenBench) -> None:
    """Without a client there is no cap."""
    bench = await open_bench(concurrency_limit=9, max_running_per_client=1)
    await bench.add_all("1 2 3")

    assert await bench.start() == ["1", "2", "3"]


async def test_cap_is_the_queues(open_bench: OpenBench) -> None:
    """The cap counts in each queue by itself."""
    capped = QueuePolicy(max_running_per_client=1)
    bench = await open_bench(q=capped, other=capped)
    await bench.add("1", client="ann")
    await bench.add("2", queue="other", client="ann")

    assert await bench.positions("1 2") == [1, 1]
