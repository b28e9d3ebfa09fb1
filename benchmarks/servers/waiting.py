"""A line that moves slowly, and one that does not move at all."""

import asyncio
import time

from aiohttp import web

import aioqueue
from benchmarks.servers._serving import account, run_options

SECONDS = 0.1
LIMIT = 4


@aioqueue.queued(concurrency_limit=LIMIT)
def moving() -> str:
    """Take its time."""
    time.sleep(SECONDS)
    return "done"


@aioqueue.queued(concurrency_limit=1)
async def still() -> None:
    """Never end."""
    await asyncio.Event().wait()


@aioqueue.queued(concurrency_limit=1)
async def stuck(seconds: float) -> None:
    """End the first time, so that times left are known, and never again."""
    await asyncio.sleep(seconds)


app = web.Application()
app.add_routes([web.post(f"/{one.name}", one) for one in (moving, still, stuck)])
app.add_routes([web.get("/account", account)])
aioqueue.setup(app, max_size=20_000, max_streams=20_000, drain_timeout=0.2)

if __name__ == "__main__":
    aioqueue.run_app(app, **run_options())
