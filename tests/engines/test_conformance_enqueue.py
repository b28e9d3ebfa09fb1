"""The contract of enqueue: what is accepted, recognised or refused, and what that leaves behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from aioqueue._job import BEGINNING, AdmissionLimits, JobRecord, JobState, QueuePolicy
from aioqueue.engines.base import Dedup, Enqueued, Retention
from tests.engines.conformance import UNBOUNDED, Bench

pytestmark = pytest.mark.one_loop

OpenBench = Callable[..., Awaitable[Bench]]

NO_ROOM = AdmissionLimits(max_size=0)
"""Takes only what need not wait."""

TOO_LONG = AdmissionLimits(max_size=7, too_long=True)
"""What is asked for when the wait was found to be too long."""


async def test_accepted(bench: Bench) -> None:
    """An accepted job is queued as it was recorded, with nothing in its log."""
    record = JobRecord(id="1", function="a", queue="q", payload=b"{}", owner="ann", metadata=b"1")
    enqueued = await bench.engine.enqueue(record, limits=AdmissionLimits(max_size=7))

    snapshot = await bench.snapshot("1")
    assert enqueued == Enqueued("accepted", "1", queue_size=1, max_size=7)
    assert snapshot.record == record
    assert snapshot.state is JobState.QUEUED
    assert (snapshot.created, snapshot.started, snapshot.finished) == (bench.clock(), None, None)
    assert (snapshot.last, await bench.log("1")) == (BEGINNING, [])


async def test_unknown_job(bench: Bench) -> None:
    """Of a job that nobody enqueued nothing is known."""
    assert await bench.engine.get("1") is None
    assert await bench.engine.events("1", BEGINNING) is None
    assert await bench.engine.cancel("1", "client") is None
    assert await bench.engine.ahead(["1"]) == [None]


# What can start at once is not bounded


async def test_free_slot(bench: Bench) -> None:
    """With an empty line and a free slot there is no bound, unless no worker is free."""
    assert (await bench.add("1", limits=NO_ROOM, can_start=False)).outcome == "queue_full"
    assert (await bench.add("2", limits=NO_ROOM)).outcome == "accepted"


async def test_line_before_it(bench: Bench) -> None:
    """Somebody in line means waiting, although the slot is free."""
    await bench.add("1")

    assert (await bench.add("2", limits=NO_ROOM)).outcome == "queue_full"


async def test_no_slot(bench: Bench) -> None:
    """A taken slot means waiting, until it is free again."""
    await bench.add("1")
    await bench.start()
    assert (await bench.add("2", limits=NO_ROOM)).outcome == "queue_full"

    await bench.settle("1")
    assert (await bench.add("3", limits=NO_ROOM)).outcome == "accepted"


async def test_paused_queue(bench: Bench) -> None:
    """A paused queue starts nothing at once."""
    await bench.engine.set_limit("q", 0)

    assert (await bench.add("1", limits=NO_ROOM)).outcome == "queue_full"


async def test_client_at_its_cap(open_bench: OpenBench) -> None:
    """A client at its cap waits beside the line; the others pass by."""
    bench = await open_bench(concurrency_limit=3, max_running_per_client=1)
    await bench.add("1", client="ann")
    await bench.start()
    assert (await bench.add("2", client="ann", limits=NO_ROOM)).outcome == "queue_full"
    await bench.add("3", client="ann")

    assert (await bench.add("4", client="bob", limits=NO_ROOM)).outcome == "accepted"


# Bounds


async def test_max_size(open_bench: OpenBench) -> None:
    """`max_size` bounds the waiting jobs of all queues together."""
    bench = await open_bench(q=QueuePolicy(), other=QueuePolicy())
    limits = AdmissionLimits(max_size=2)
    await bench.add("1", limits=limits)
    await bench.start()
    await bench.add("2", limits=limits)
    await bench.add("3", queue="other", limits=limits)

    assert await bench.add("4", limits=limits) == Enqueued("queue_full", "4", 2, 2)
    refused = await bench.add("5", queue="other", limits=limits)
    assert refused == Enqueued("queue_full", "5", 2, 2)
    await bench.engine.cancel("3", "client")
    assert await bench.add("6", limits=limits) == Enqueued("accepted", "6", 2, 2)


async def test_function_max_size(bench: Bench) -> None:
    """`function_max_size` bounds the waiting jobs of the function alone."""
    limits = AdmissionLimits(max_size=9, function_max_size=1)
    await bench.add("1", "a", limits=limits, can_start=False)

    assert await bench.add("2", "a", limits=limits) == Enqueued("queue_full", "2", 1, 1)
    assert (await bench.add("3", "b", limits=limits)).outcome == "accepted"


async def test_max_queued_bytes(bench: Bench) -> None:
    """`max_queued_bytes` bounds the arguments that wait; what runs waits no more."""
    limits = AdmissionLimits(max_queued_bytes=10)
    await bench.add("1", payload=b"x" * 6, limits=limits, can_start=False)

    assert (await bench.add("2", payload=b"x" * 5, limits=limits)).outcome == "queue_full"
    assert (await bench.add("3", payload=b"x" * 4, limits=limits)).outcome == "accepted"
    await bench.start()
    assert (await bench.add("4", payload=b"x" * 6, limits=limits)).outcome == "accepted"


async def test_max_queued_per_client(open_bench: OpenBench) -> None:
    """The quota counts a client's waiting jobs in all queues; no client is nobody's quota."""
    bench = await open_bench(q=QueuePolicy(), other=QueuePolicy())
    limits = AdmissionLimits(max_queued_per_client=2)
    for job_id, queue in (("1", "q"), ("2", "other")):
        await bench.add(job_id, queue=queue, client="ann", limits=limits, can_start=False)

    refused = await bench.add("3", client="ann", limits=limits)
    assert refused == Enqueued("quota_exceeded", "3", 2, 2)
    for job_id, client in (("4", "bob"), ("5", None), ("6", None), ("7", None)):
        assert (await bench.add(job_id, client=client, limits=limits)).outcome == "accepted"
    await bench.start()
    assert (await bench.add("8", client="ann", limits=limits)).outcome == "accepted"


async def test_quota_bounds_what_waits(open_bench: OpenBench) -> None:
    """A client at its quota may still start what need not wait."""
    bench = await open_bench(q=QueuePolicy(), other=QueuePolicy())
    limits = AdmissionLimits(max_queued_per_client=1)
    await bench.add("1", client="ann", can_start=False)

    late = await bench.add("2", queue="other", client="ann", limits=limits, can_start=False)
    assert late.outcome == "quota_exceeded"
    now = await bench.add("3", queue="other", client="ann", limits=limits)
    assert now.outcome == "accepted"


async def test_too_long(bench: Bench) -> None:
    """Where the wait was found to be too long nothing new may wait, and nothing is stored."""
    await bench.add("1")
    await bench.start()
    await bench.add("2")

    refused = await bench.add("3", limits=TOO_LONG)
    assert refused == Enqueued("wait_too_long", "3", 1, 7)
    assert await bench.engine.get("3") is None
    assert await bench.waiting() == {"a": 1}


async def test_too_long_for_what_starts_at_once(bench: Bench) -> None:
    """A job that can start at once waits for nothing, so no wait is too long for it."""
    assert (await bench.add("1", limits=TOO_LONG, can_start=False)).outcome == "wait_too_long"
    assert (await bench.add("2", limits=TOO_LONG)).outcome == "accepted"


async def test_too_long_beside_the_line(open_bench: OpenBench) -> None:
    """A job that would be held waits, although a slot is free."""
    bench = await open_bench(concurrency_limit=2, max_running_per_client=1)
    await bench.add("1", client="ann")
    await bench.start()

    assert (await bench.add("2", client="ann", limits=TOO_LONG)).outcome == "wait_too_long"
    assert (await bench.add("3", client="bob", limits=TOO_LONG)).outcome == "accepted"


async def test_too_long_for_a_retry(bench: Bench) -> None:
    """A retry finds its job, however long the line is by now; a conflict is still one."""
    await bench.add("1", dedup=Dedup("s", "k", b"1"))

    known = await bench.add("2", limits=TOO_LONG, dedup=Dedup("s", "k", b"1"))
    assert (known.outcome, known.job_id) == ("duplicate", "1")
    other = await bench.add("3", limits=TOO_LONG, dedup=Dedup("s", "k", b"2"))
    assert other.outcome == "conflict"


async def test_full_before_too_long(bench: Bench) -> None:
    """A queue that is full says so, and a quota too, whatever the wait would be."""
    await bench.add("1", client="ann")

    full = AdmissionLimits(max_size=1, too_long=True)
    assert (await bench.add("2", limits=full)).outcome == "queue_full"
    quota = AdmissionLimits(max_queued_per_client=1, too_long=True)
    assert (await bench.add("3", client="ann", limits=quota)).outcome == "quota_exceeded"


async def test_jobs_that_come_back(bench: Bench) -> None:
    """A job that comes back from a worker waits again, whatever the bounds say."""
    await bench.add("1", payload=b"x")
    await bench.start()
    await bench.add("2")
    await bench.release("1")

    assert await bench.waiting() == {"a": 2}
    refused = await bench.add("3", limits=AdmissionLimits(max_size=2))
    assert refused == Enqueued("queue_full", "3", 2, 2)


async def test_refused(bench: Bench) -> None:
    """A refusal stores nothing: no job, no count, no key, no member."""
    dedup = Dedup("ann", "key", b"1")
    await bench.add("1", limits=NO_ROOM, can_start=False, dedup=dedup, group="g")

    assert await bench.states("1") == "-"
    assert await bench.waiting() == {}
    assert await bench.engine.members("g") == ()
    assert (await bench.add("2", dedup=dedup)).outcome == "accepted"


# Idempotency keys


async def test_duplicate(bench: Bench) -> None:
    """The same key for the same thing is the same job, and enqueues nothing."""
    await bench.add("1", dedup=Dedup("ann", "key", b"1"))
    again = await bench.add("2", dedup=Dedup("ann", "key", b"1"))

    assert (again.outcome, again.job_id) == ("duplicate", "1")
    assert await bench.states("1 2") == "queued -"


async def test_conflict(bench: Bench) -> None:
    """The same key for another thing is a conflict, and enqueues nothing."""
    await bench.add("1", dedup=Dedup("ann", "key", b"1"))
    other = await bench.add("2", dedup=Dedup("ann", "key", b"2"))

    assert (other.outcome, other.job_id) == ("conflict", "1")
    assert await bench.states("1 2") == "queued -"


async def test_scope(bench: Bench) -> None:
    """One person's key says nothing of another's."""
    await bench.add("1", dedup=Dedup("ann", "key", b"1"))

    assert (await bench.add("2", dedup=Dedup("bob", "key", b"1"))).outcome == "accepted"


async def test_duplicate_in_a_full_queue(bench: Bench) -> None:
    """A retry finds its job in a full queue too."""
    dedup = Dedup("ann", "key", b"1")
    await bench.add("1", dedup=dedup)

    assert (await bench.add("2", dedup=dedup, limits=NO_ROOM)).outcome == "duplicate"


@pytest.mark.parametrize("retained", [True, False])
async def test_key_lives_as_long_as_its_job(open_bench: OpenBench, retained: bool) -> None:
    """A key is known while its job is: queued, running, ended, until it is forgotten."""
    bench = await open_bench(retention=Retention(result_ttl=60))
    dedup = Dedup("ann", "key", b"1")
    await bench.add("1", dedup=dedup, retained=retained)
    await bench.start()
    assert (await bench.add("2", dedup=dedup)).outcome == "duplicate"

    await bench.settle("1")
    outcome = (await bench.add("3", dedup=dedup)).outcome
    assert outcome == ("duplicate" if retained else "accepted")
    bench.clock.advance(60)
    await bench.engine.reap()
    outcome = (await bench.add("4", dedup=dedup)).outcome
    assert outcome == ("accepted" if retained else "duplicate")


# Groups


async def test_members(open_bench: OpenBench) -> None:
    """A group lists the known jobs that were enqueued with its label, wherever they are."""
    bench = await open_bench(retention=Retention(result_ttl=60))
    for job_id, group in (("1", "g"), ("2", "g"), ("3", "other"), ("4", None)):
        await bench.add(job_id, group=group)
    await bench.start()
    await bench.settle("1")
    assert set(await bench.engine.members("g")) == {"1", "2"}

    bench.clock.advance(60)
    await bench.engine.reap()
    assert list(await bench.engine.members("g")) == ["2"]
    assert list(await bench.engine.members("nobody")) == []


# Counts


async def test_counts(open_bench: OpenBench) -> None:
    """The counts of a queue follow each job through its life."""
    bench = await open_bench(concurrency_limit=2, max_running_per_client=1)
    for job_id, function in (("1", "a"), ("2", "b"), ("3", "b")):
        await bench.add(job_id, function, client="ann", limits=UNBOUNDED)
    await bench.add("4", "a")
    stats = await bench.engine.stats("q")
    assert (stats.concurrency_limit, stats.queue_size) == (2, 4)
    assert dict(stats.waiting) == {"a": 2, "b": 2}  # those beside the line wait as well

    await bench.start()
    stats = await bench.engine.stats("q")
    assert dict(stats.waiting) == {"b": 2}
    assert [(claim.function, claim.started) for claim in stats.running] == [
        ("a", bench.clock()),
        ("a", bench.clock()),
    ]
    await bench.engine.cancel("3", "client")
    await bench.settle("1")
    assert await bench.waiting() == {"b": 1}
    assert await bench.running() == 1
