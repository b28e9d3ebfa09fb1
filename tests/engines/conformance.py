"""The engines, and the bench on which each of them is held to the contract.

Another engine adds its line to ENGINES, and every `test_conformance_*.py` runs on it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aioqueue._job import (
    BEGINNING,
    AdmissionLimits,
    Claim,
    Content,
    Demand,
    Emission,
    EventId,
    JobRecord,
    JobState,
    Outcome,
    Snapshot,
)
from aioqueue.engines.base import ClaimReply, Dedup, Engine, Enqueued
from aioqueue.engines.memory import MemoryEngine
from tests.clock import ManualClock

ENGINES: dict[str, Callable[[ManualClock], Engine]] = {"memory": MemoryEngine}
"""Every engine, made with the clock it is to go by."""

UNBOUNDED = AdmissionLimits()


class Bench:
    """An engine at work, with the arguments that most tests give.

    There is one queue, `q`, unless a test opens others; functions are `a`, `b` and `c`; the worker
    is `w` and has plenty of room. A batch is written `1+2`.
    """

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        self.engine = engine
        self.clock = clock
        self.claims: dict[str, Claim] = {}  # the last one of each job

    async def add(
        self,
        job_id: str,
        function: str = "a",
        *,
        queue: str = "q",
        limits: AdmissionLimits = UNBOUNDED,
        can_start: bool = True,
        dedup: Dedup | None = None,
        group: str | None = None,
        **record: Any,
    ) -> Enqueued:
        """Enqueue a job."""
        return await self.engine.enqueue(
            JobRecord(id=job_id, function=function, queue=queue, **record),
            limits=limits,
            can_start=can_start,
            dedup=dedup,
            group=group,
        )

    async def add_all(self, jobs: str, **arguments: Any) -> None:
        """Enqueue jobs in this order: `add_all("1 2 3")`."""
        for job_id in jobs.split():
            await self.add(job_id, **arguments)

    async def claim(
        self,
        queue: str = "q",
        *,
        worker: str = "w",
        functions: str = "abc",
        batch: int = 1,
        window: float = 0.0,
        demands: Mapping[str, Demand] | None = None,
        free: int | Mapping[str, int] = 100,
    ) -> ClaimReply:
        """Take what may start."""
        if demands is None:
            demands = {name: Demand("loop", batch, window) for name in functions}
        if isinstance(free, int):
            free = {"loop": free}
        reply = await self.engine.claim(worker, queue, demands, free)
        for claim in reply.claims:
            self.claims |= {attempt.record.id: claim for attempt in claim.attempts}
        return reply

    async def start(self, queue: str = "q", **arguments: Any) -> list[str]:
        """Take what may start, and tell what it is."""
        return [names(claim) for claim in (await self.claim(queue, **arguments)).claims]

    async def settle(
        self,
        *job_ids: str,
        state: JobState = JobState.SUCCEEDED,
        keep: bool = False,
        **outcome: Any,
    ) -> None:
        """End jobs of one claim."""
        outcomes = [Outcome(job_id, state, **outcome) for job_id in job_ids]
        await self.engine.settle(self.claims[job_ids[0]], outcomes, keep=keep)

    async def release(self, job_id: str) -> None:
        """Free the slot in which this job runs, or ran."""
        await self.engine.release(self.claims[job_id])

    async def emit(self, job_id: str, *types: str, durable: bool = True, size: int = 0) -> None:
        """Let a job say something, `size` bytes of it."""
        fields = b'{"data":"%b"}' % (b"x" * size) if size else b"{}"
        emissions = [Emission(kind, fields, durable) for kind in types]
        await self.engine.emit(self.claims[job_id], job_id, emissions)

    async def run_out(self, queue: str = "q", **arguments: Any) -> list[str]:
        """Run whatever waits, a round at a time, and tell in which order it started."""
        started: list[str] = []
        while batch := await self.start(queue, **arguments):
            started += batch
            for jobs in batch:
                await self.settle(*jobs.split("+"))
        return started

    # Looking

    async def snapshot(self, job_id: str) -> Snapshot:
        """A job that must be known."""
        snapshot = await self.engine.get(job_id)
        assert snapshot is not None, f"{job_id} is not known"
        return snapshot

    async def states(self, jobs: str) -> str:
        """How these jobs stand; `-` for one that is not known."""
        snapshots = [await self.engine.get(job_id) for job_id in jobs.split()]
        return " ".join(snapshot.state if snapshot else "-" for snapshot in snapshots)

    async def positions(self, jobs: str) -> list[int | None]:
        """The places of these jobs in line."""
        places = await self.engine.ahead(jobs.split())
        return [None if ahead is None else 1 + sum(ahead.values()) for ahead in places]

    def slots(self, jobs: str) -> list[int]:
        """The numbers of the slots in which these jobs ran last."""
        return [self.claims[job_id].slot for job_id in jobs.split()]

    async def log(self, job_id: str, after: EventId = BEGINNING) -> list[str]:
        """What a job's log holds after an event: `1-2 output`."""
        page = await self.engine.events(job_id, after)
        assert page is not None, f"{job_id} is not known"
        assert all(event.job_id == job_id for event in page.events)
        return [f"{event.id} {event.type}" for event in page.events]

    async def waiting(self, queue: str = "q") -> dict[str, int]:
        """How many jobs of each function wait."""
        return dict((await self.engine.stats(queue)).waiting)

    async def running(self, queue: str = "q") -> int:
        """How many slots are taken."""
        return len((await self.engine.stats(queue)).running)


def names(claim: Claim) -> str:
    """The jobs of a claim."""
    return "+".join(attempt.record.id for attempt in claim.attempts)


def json_of(size: int) -> Content:
    """A result of so many bytes."""
    return Content(b'"%b"' % (b"x" * (size - 2)))
