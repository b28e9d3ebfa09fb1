"""What is the memory engine's own, beside the contract."""

from __future__ import annotations

import asyncio
import time

import pytest

from aioqueue._job import AdmissionLimits, Demand, JobRecord, JobState, Outcome, QueuePolicy
from aioqueue.engines.base import Retention
from aioqueue.engines.memory import MemoryEngine, steady_clock


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_arguments_of_an_ended_job(size: int) -> None:
    """What nobody will run again does not take its room until the job is forgotten."""
    payload = b"{" + b" " * size + b"}"
    engine = MemoryEngine()

    async def end_one() -> int:
        await engine.open({"q": QueuePolicy()}, Retention())
        record = JobRecord(id="1", function="a", queue="q", payload=payload)
        await engine.enqueue(record, limits=AdmissionLimits())
        reply = await engine.claim("w", "q", {"a": Demand("loop")}, {"loop": 1})
        assert reply.claims[0].attempts[0].record.payload == payload
        await engine.settle(reply.claims[0], [Outcome("1", JobState.SUCCEEDED)])
        ended = await engine.get("1")
        assert ended is not None
        return len(ended.record.payload)

    assert asyncio.run(end_one()) < 1 << 10


def test_steady_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default clock tells seconds since the epoch, and ignores a system clock that is set."""
    clock = steady_clock()
    assert clock() == pytest.approx(time.time(), abs=1.0)
    now = clock()
    monkeypatch.setattr(time, "time", lambda: 0.0)

    assert now <= clock() < now + 60
