"""What the tests of the contract get: a bench with each of the engines on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from aioqueue._job import QueuePolicy
from aioqueue.engines.base import Retention
from tests.clock import ManualClock
from tests.engines.conformance import ENGINES, Bench


@pytest.fixture(params=ENGINES)
async def open_bench(
    request: pytest.FixtureRequest, clock: ManualClock
) -> AsyncIterator[Callable[..., Awaitable[Bench]]]:
    """Open an engine until the test is over.

    `bench = await open_bench(concurrency_limit=2)` has one queue, `q`, with this policy;
    `await open_bench(fast=QueuePolicy(), slow=QueuePolicy())` has these two.
    """
    async with AsyncExitStack() as stack:

        async def open_bench(retention: Retention | None = None, **policy: object) -> Bench:
            queues = {
                name: value for name, value in policy.items() if isinstance(value, QueuePolicy)
            } or {"q": QueuePolicy(**policy)}  # type: ignore[arg-type]
            engine = ENGINES[request.param](clock)
            await engine.open(queues, retention or Retention())
            stack.push_async_callback(engine.close)
            return Bench(engine, clock)

        yield open_bench


@pytest.fixture
async def bench(open_bench: Callable[..., Awaitable[Bench]]) -> Bench:
    """One queue, `q`, of one slot, in the order of arrival."""
    return await open_bench()
