"""The contract of claim: how much may start, in which company, and on which worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from aioqueue._job import Attempt, Demand, QueuePolicy
from tests.engines.conformance import Bench

pytestmark = pytest.mark.one_loop

OpenBench = Callable[..., Awaitable[Bench]]


async def test_claim(bench: Bench) -> None:
    """A claim names its queue, its function and what is to run; the job runs from now on."""
    await bench.add("1", payload=b"[1]", owner="ann")
    bench.clock.advance(3)
    (claim,) = (await bench.claim()).claims

    snapshot = await bench.snapshot("1")
    assert (claim.queue, claim.function) == ("q", "a")
    assert claim.attempts == (Attempt(snapshot.record, 1),)
    assert (snapshot.state, snapshot.started) == ("running", bench.clock())
    assert snapshot.created == bench.clock() - 3


async def test_nothing_to_claim(bench: Bench) -> None:
    """An empty line answers nothing."""
    reply = await bench.claim()
    assert not reply.claims
    assert not reply.ended
    assert (reply.ready_at, reply.blocked) == (None, None)


async def test_claimed_once(open_bench: OpenBench) -> None:
    """What one worker has claimed no other gets."""
    bench = await open_bench(concurrency_limit=9)
    await bench.add_all("1 2 3")

    assert await bench.start(worker="w", free=2) == ["1", "2"]
    assert await bench.start(worker="v", free=2) == ["3"]


# Numbers of slots


async def test_slot_numbers(open_bench: OpenBench) -> None:
    """Each claim that runs has a number of its own, from 0, and the lowest that is free."""
    bench = await open_bench(concurrency_limit=3)
    await bench.add_all("1 2 3 4 5 6")
    await bench.start()
    assert bench.slots("1 2 3") == [0, 1, 2]

    await bench.settle("3")
    await bench.settle("2")
    await bench.start()
    assert bench.slots("4 5") == [1, 2]
    await bench.settle("1")
    await bench.start()
    assert bench.slots("6") == [0]


async def test_slot_numbers_without_a_limit(open_bench: OpenBench) -> None:
    """Without a limit there are as many numbers as claims have ever run at once."""
    bench = await open_bench(concurrency_limit=None)
    for round_ in range(3):
        await bench.add_all(f"{round_}a {round_}b {round_}c")
        await bench.start()
        assert bench.slots(f"{round_}a {round_}b {round_}c") == [0, 1, 2]
        for job_id in ("b", "a", "c"):
            await bench.settle(f"{round_}{job_id}")


async def test_slot_number_of_a_batch(open_bench: OpenBench) -> None:
    """A batch is one claim with one number, which is free when the last of it has ended."""
    bench = await open_bench(concurrency_limit=2)
    await bench.add_all("1 2 3 4 5 6")
    await bench.start(batch=2)
    assert bench.slots("1 2 3 4") == [0, 0, 1, 1]

    await bench.settle("1")
    assert await bench.start(batch=2) == []
    await bench.settle("2")
    await bench.start(batch=2)
    assert bench.slots("5") == [0]


async def test_slot_number_is_kept(open_bench: OpenBench) -> None:
    """While its work goes on a claim keeps its number, though its jobs have ended."""
    bench = await open_bench(concurrency_limit=2)
    await bench.add_all("1 2 3 4")
    await bench.start()
    await bench.settle("1", keep=True)
    await bench.settle("2")
    await bench.start()
    assert bench.slots("3") == [1]

    await bench.release("1")
    await bench.start()
    assert bench.slots("4") == [0]


async def test_slot_number_after_a_release(open_bench: OpenBench) -> None:
    """A job that was given back runs in whichever slot is free then."""
    bench = await open_bench(concurrency_limit=2)
    await bench.add_all("1 2 3")
    await bench.start()
    await bench.release("2")
    await bench.release("1")
    await bench.start()

    assert bench.slots("1 2") == [0, 1]


async def test_slot_numbers_are_the_queues(open_bench: OpenBench) -> None:
    """Each queue counts its own slots, for all of its functions together."""
    bench = await open_bench(q=QueuePolicy(concurrency_limit=2), other=QueuePolicy())
    await bench.add("1", "a")
    await bench.add("2", "b")
    await bench.add("3", queue="other")
    await bench.start()
    await bench.start("other")

    assert bench.slots("1 2 3") == [0, 1, 0]


async def test_slot_numbers_under_another_limit(open_bench: OpenBench) -> None:
    """A raised limit adds numbers; under a lowered one those that run keep theirs."""
    bench = await open_bench(concurrency_limit=2)
    await bench.engine.set_limit("q", 3)
    await bench.add_all("1 2 3 4")
    await bench.start()
    assert bench.slots("1 2 3") == [0, 1, 2]

    await bench.engine.set_limit("q", 1)
    await bench.settle("1")
    await bench.settle("3")
    assert await bench.start() == []
    await bench.settle("2")
    await bench.start()
    assert bench.slots("4") == [0]


# Limits


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_limit(open_bench: OpenBench, limit: int) -> None:
    """Never more claims run than the limit says, however much is free."""
    bench = await open_bench(concurrency_limit=limit)
    await bench.add_all("1 2 3 4 5 6 7")

    assert len(await bench.start()) == limit
    assert await bench.start() == []
    await bench.settle("1")
    assert len(await bench.start()) == 1
    assert await bench.running() == limit


async def test_no_limit(open_bench: OpenBench) -> None:
    """Without a limit all that the worker has room for starts."""
    bench = await open_bench(concurrency_limit=None)
    await bench.add_all("1 2 3 4 5")

    assert await bench.start(free=3) == ["1", "2", "3"]
    assert await bench.start() == ["4", "5"]


async def test_limit_is_the_queues(open_bench: OpenBench) -> None:
    """Functions of one queue share its slots."""
    bench = await open_bench(concurrency_limit=2)
    for job_id, function in (("1", "a"), ("2", "b"), ("3", "c")):
        await bench.add(job_id, function)

    assert await bench.start() == ["1", "2"]


async def test_limit_counts_claims(open_bench: OpenBench) -> None:
    """A batch takes one slot, however many jobs it holds, until all of them have ended."""
    bench = await open_bench(concurrency_limit=2)
    await bench.add_all("1 2 3 4 5 6 7")
    assert await bench.start(batch=3) == ["1+2+3", "4+5+6"]
    assert await bench.running() == 2

    await bench.settle("1")
    await bench.settle("2")
    assert await bench.start(batch=3) == []
    await bench.settle("3")
    assert await bench.start(batch=3) == ["7"]


async def test_pause(open_bench: OpenBench) -> None:
    """`set_limit` 0 pauses a queue: what runs goes on, nothing starts. None restores its limit."""
    bench = await open_bench(concurrency_limit=2)
    await bench.add_all("1 2 3")
    assert await bench.start(free=1) == ["1"]
    await bench.engine.set_limit("q", 0)

    assert (await bench.engine.stats("q")).concurrency_limit == 0
    assert await bench.start() == []
    await bench.settle("1")
    await bench.engine.set_limit("q", None)
    assert (await bench.engine.stats("q")).concurrency_limit == 2
    assert await bench.start() == ["2", "3"]


async def test_other_limit(open_bench: OpenBench) -> None:
    """`set_limit` raises a limit at once, and lowers it as jobs end."""
    bench = await open_bench(concurrency_limit=1)
    await bench.add_all("1 2 3 4 5")
    await bench.engine.set_limit("q", 3)
    assert await bench.start() == ["1", "2", "3"]
    await bench.engine.set_limit("q", 2)

    await bench.settle("1")
    assert await bench.start() == []
    await bench.settle("2")
    assert await bench.start() == ["4"]


async def test_limit_for_the_unlimited(open_bench: OpenBench) -> None:
    """`set_limit` bounds a queue without a limit, and None takes the bound away again."""
    bench = await open_bench(concurrency_limit=None)
    await bench.add_all("1 2 3")
    await bench.engine.set_limit("q", 1)
    assert await bench.start() == ["1"]
    await bench.engine.set_limit("q", None)

    assert await bench.start() == ["2", "3"]


# The worker's capacity


async def test_blocked(open_bench: OpenBench) -> None:
    """When the head needs what is not free, that is named, and nothing overtakes it."""
    bench = await open_bench(concurrency_limit=9)
    for job_id, function in (("1", "a"), ("2", "b"), ("3", "a"), ("4", "b")):
        await bench.add(job_id, function)
    demands = {"a": Demand("loop"), "b": Demand("thread")}
    reply = await bench.claim(demands=demands, free={"loop": 5, "thread": 0})
    assert (len(reply.claims), reply.blocked) == (1, "thread")
    assert await bench.states("1 2 3") == "running queued queued"

    reply = await bench.claim(demands=demands, free={"loop": 5, "thread": 1})
    assert (len(reply.claims), reply.blocked) == (2, "thread")
    assert await bench.states("2 3 4") == "running running queued"


async def test_blocked_by_what_it_never_had(bench: Bench) -> None:
    """A capacity that the worker does not name is one it has none of."""
    await bench.add("1")

    assert (await bench.claim(demands={"a": Demand("gpu")})).blocked == "gpu"


async def test_limit_comes_before_capacity(bench: Bench) -> None:
    """A queue at its limit waits for its own slot, not for the worker's capacity."""
    await bench.add_all("1 2")
    await bench.start()

    assert (await bench.claim(free=0)).blocked is None


async def test_batch_costs_one_place(open_bench: OpenBench) -> None:
    """A batch takes one place of the capacity."""
    bench = await open_bench(concurrency_limit=None)
    await bench.add_all("1 2 3 4 5")
    reply = await bench.claim(batch=2, free=2)

    assert (len(reply.claims), reply.blocked) == (2, "loop")


async def test_functions_of_the_worker(open_bench: OpenBench) -> None:
    """The head is the oldest job that this worker can run; others wait for another worker."""
    bench = await open_bench(concurrency_limit=9)
    for job_id, function in (("1", "a"), ("2", "b"), ("3", "a")):
        await bench.add(job_id, function)

    assert await bench.start(functions="b") == ["2"]
    assert await bench.start(functions="a") == ["1", "3"]


async def test_node(open_bench: OpenBench) -> None:
    """A job bound to a node is claimed by the worker there, and stands in nobody else's way."""
    bench = await open_bench(concurrency_limit=9)
    for job_id, node in (("1", "v"), ("2", None), ("3", "w")):
        await bench.add(job_id, node=node)
    assert await bench.positions("1 2 3") == [1, 2, 3]

    assert await bench.start(worker="w") == ["2", "3"]
    assert await bench.start(worker="v") == ["1"]


# Batches


async def test_mates(open_bench: OpenBench) -> None:
    """A batch is the head and the next of its function, in order, up to the size."""
    bench = await open_bench(concurrency_limit=9)
    for job_id, function in zip("1234567", "abaabac", strict=True):
        await bench.add(job_id, function)

    assert await bench.start(batch=3) == ["1+3+4", "2+5", "6", "7"]


async def test_size_of_each_function(open_bench: OpenBench) -> None:
    """Each function has its own batch size."""
    bench = await open_bench(concurrency_limit=9)
    for job_id, function in zip("123456", "abaaba", strict=True):
        await bench.add(job_id, function)
    demands = {"a": Demand("loop", 2), "b": Demand("loop")}

    assert await bench.start(demands=demands) == ["1+3", "2", "4+6", "5"]


async def test_mates_of_the_node(bench: Bench) -> None:
    """Jobs bound to this worker and unbound ones make one batch; those of others stay out."""
    for job_id, node in (("1", "w"), ("2", None), ("3", "v"), ("4", "w"), ("5", None)):
        await bench.add(job_id, node=node)

    assert await bench.start(batch=4) == ["1+2+4+5"]


async def test_window(bench: Bench) -> None:
    """A batch that is not full waits for mates until its window is over, and says until when."""
    await bench.add("1")
    bench.clock.advance(1)
    await bench.add("2")
    reply = await bench.claim(batch=3, window=5)
    assert not reply.claims
    assert reply.ready_at == bench.clock() + 4

    bench.clock.advance(3.5)
    assert await bench.start(batch=3, window=5) == []
    bench.clock.advance(0.5)
    assert await bench.start(batch=3, window=5) == ["1+2"]


async def test_full_batch(open_bench: OpenBench) -> None:
    """A full batch waits for nothing."""
    bench = await open_bench(concurrency_limit=9)
    await bench.add_all("1 2 3 4")
    reply = await bench.claim(batch=3, window=5)

    assert len(reply.claims) == 1
    assert reply.ready_at == bench.clock() + 5  # that of the fourth
    assert await bench.states("3 4") == "running queued"


async def test_nothing_overtakes_a_window(open_bench: OpenBench) -> None:
    """While the head waits for mates, so does everybody behind it."""
    bench = await open_bench(concurrency_limit=9)
    await bench.add("1", "a")
    await bench.add("2", "b")
    demands = {"a": Demand("loop", 2, 5.0), "b": Demand("loop")}
    assert await bench.start(demands=demands) == []

    await bench.add("3", "a")
    assert await bench.start(demands=demands) == ["1+3", "2"]


async def test_window_is_over_for_who_comes_back(bench: Bench) -> None:
    """A job that comes back has waited already."""
    await bench.add("1")
    bench.clock.advance(5)
    await bench.start(batch=3, window=5)
    await bench.release("1")

    assert await bench.start(batch=3, window=5) == ["1"]
