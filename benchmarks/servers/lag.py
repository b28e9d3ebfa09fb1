"""Forty threads that work, behind a queue and by hand, beside a route that answers at once."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

import aioqueue
from benchmarks.servers._serving import account, run_options

THREADS = 40
SECONDS = 0.01

pool = ThreadPoolExecutor(THREADS)


def sleep() -> str:
    """Wait, as for a model on a GPU."""
    time.sleep(SECONDS)
    return "done"


def compute() -> str:
    """Compute as long, all of it Python."""
    end = time.thread_time() + SECONDS
    while time.thread_time() < end:
        str(end)
    return "done"


@aioqueue.queued(concurrency_limit=THREADS)
def sleeps() -> str:
    """Wait, in a queue."""
    return sleep()


@aioqueue.queued(concurrency_limit=THREADS)
def computes() -> str:
    """Compute, in a queue."""
    return compute()


async def sleeps_by_hand(request: web.Request) -> web.Response:
    """Wait, in a pool."""
    await request.json()
    return web.json_response(await asyncio.get_running_loop().run_in_executor(pool, sleep))


async def computes_by_hand(request: web.Request) -> web.Response:
    """Compute, in a pool."""
    await request.json()
    return web.json_response(await asyncio.get_running_loop().run_in_executor(pool, compute))


async def plain(request: web.Request) -> web.Response:
    """Answer at once."""
    return web.json_response("done")


app = web.Application()
app.add_routes([web.post(f"/{one.name}", one) for one in (sleeps, computes)])
app.add_routes([web.post(f"/{one.__name__}", one) for one in (sleeps_by_hand, computes_by_hand)])
app.add_routes([web.get("/plain", plain), web.get("/account", account)])
aioqueue.setup(app, max_threads=THREADS)

if __name__ == "__main__":
    aioqueue.run_app(app, **run_options())
