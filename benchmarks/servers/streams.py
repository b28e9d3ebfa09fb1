"""Functions that stream, take batches, and say how far they are."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from aiohttp import web

import aioqueue
from benchmarks.servers._serving import account, run_options


@aioqueue.queued(concurrency_limit=None)
def tokens(stream: int, count: int, pause: float) -> Iterator[list[float]]:
    """Yield from a thread: which stream, which token, and when."""
    for number in range(count):
        time.sleep(pause)
        yield [stream, number, time.monotonic()]


@aioqueue.queued(concurrency_limit=None)
async def tokens_on_the_loop(stream: int, count: int, pause: float) -> AsyncIterator[list[float]]:
    """Yield on the loop."""
    for number in range(count):
        await asyncio.sleep(pause)
        yield [stream, number, time.monotonic()]


def model(milliseconds: list[int]) -> list[str]:
    """Answer any number of inputs in one call, which takes as long as one of them says."""
    time.sleep(milliseconds[0] / 1000)
    return ["done" for _ in milliseconds]


@aioqueue.queued(batch=True, max_batch_size=8)
def batched(milliseconds: list[int]) -> list[str]:
    """The model behind a queue."""
    return model(milliseconds)


async def by_hand(request: web.Request) -> web.Response:
    """The model, called with full batches one after the other."""
    calls, milliseconds = int(request.query["calls"]), int(request.query["milliseconds"])

    def call_all() -> None:
        for _ in range(calls):
            model([milliseconds] * 8)

    await asyncio.to_thread(call_all)
    return web.json_response("done")


@aioqueue.queued
def count(to: int, job: aioqueue.Job = aioqueue.JOB) -> float:
    """Say progress in a tight loop; answers the microseconds of one."""
    start = time.perf_counter()
    for number in range(to):
        job.progress(number, to)
    return (time.perf_counter() - start) / to * 1e6


@aioqueue.queued
def spin(to: int) -> float:
    """The same loop without progress, as long as the other takes."""
    start = time.perf_counter()
    for number in range(to):
        str(number)
    return (time.perf_counter() - start) / to * 1e6


async def plain(request: web.Request) -> web.Response:
    """Answer at once."""
    return web.json_response("done")


app = web.Application(client_max_size=1 << 20)
app.add_routes(
    [web.post(f"/{one.name}", one) for one in (tokens, tokens_on_the_loop, batched, count, spin)]
)
app.add_routes(
    [web.get("/by_hand", by_hand), web.get("/plain", plain), web.get("/account", account)]
)
aioqueue.setup(app, max_size=20_000, max_threads=120)

if __name__ == "__main__":
    aioqueue.run_app(app, **run_options())
