"""Functions with the limits that the environment says, for the plots of the guide to tuning."""

import asyncio
import os
import threading
import time

from aiohttp import web

import aioqueue
from benchmarks.servers._serving import account, run_options

APART, GPU = 0.06, 0.02
"""Seconds of one job of `shared`: apart from others, and in what only one can use at a time."""
CALL, ITEM = 0.02, 0.001
"""Seconds of one call of `batched`, and of each item in it."""
REMOTE = 0.5
"""Seconds that `remote` waits for another machine."""
COMPUTE = 0.05
"""Seconds of CPU that `compute` takes, all of it Python."""
STEADY = 0.02
"""Seconds of one job of `steady`."""

LIMIT = int(os.environ.get("BENCHMARK_LIMIT", "1"))
BATCH = int(os.environ.get("BENCHMARK_BATCH", "1"))

gpu = threading.Lock()


@aioqueue.queued(concurrency_limit=LIMIT)
def shared() -> list[float]:
    """Use the GPU for a part of the time; answers when it started and when it ended."""
    started = time.monotonic()
    time.sleep(APART)
    with gpu:
        time.sleep(GPU)
    return [started, time.monotonic()]


@aioqueue.queued(batch=True, max_batch_size=BATCH)
def batched(inputs: list[int]) -> list[list[float]]:
    """Take a little longer for each input."""
    started = time.monotonic()
    time.sleep(CALL + ITEM * len(inputs))
    return [[started, time.monotonic()]] * len(inputs)


@aioqueue.queued(concurrency_limit=LIMIT)
def steady() -> list[float]:
    """Take always the same."""
    started = time.monotonic()
    time.sleep(STEADY)
    return [started, time.monotonic()]


@aioqueue.queued(concurrency_limit=LIMIT)
def remote() -> list[float]:
    """Wait for another machine in a thread."""
    started = time.monotonic()
    time.sleep(REMOTE)
    return [started, time.monotonic()]


@aioqueue.queued(concurrency_limit=LIMIT)
async def remote_async() -> list[float]:
    """Wait for another machine on the loop."""
    started = time.monotonic()
    await asyncio.sleep(REMOTE)
    return [started, time.monotonic()]


@aioqueue.queued(concurrency_limit=LIMIT)
def compute() -> list[float]:
    """Compute in a thread."""
    return _compute()


@aioqueue.queued(concurrency_limit=LIMIT)
async def compute_async() -> list[float]:
    """Compute on the loop, which one must not."""
    return _compute()


def _compute() -> list[float]:
    started, end = time.monotonic(), time.thread_time() + COMPUTE
    while time.thread_time() < end:
        sum(number * number for number in range(1_000))
    return [started, time.monotonic()]


async def plain(request: web.Request) -> web.Response:
    """Answer at once, as any other route of the app would."""
    return web.json_response([0.0, 0.0])


app = web.Application()
app.add_routes(
    [
        web.post(f"/{one.name}", one)
        for one in (
            *(shared, batched, steady, remote, remote_async),
            *(compute, compute_async),
        )
    ]
)
app.add_routes([web.get("/plain", plain), web.get("/account", account)])
aioqueue.setup(app, drain_timeout=0.5)

if __name__ == "__main__":
    aioqueue.run_app(app, **run_options())
