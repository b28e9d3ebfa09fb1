"""Work that holds the GIL: the same functions in threads and in processes."""

import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

from aiohttp import web

import aioqueue
from benchmarks.servers._serving import account, run_options

LIMIT = 2
START: web.AppKey[list[float]] = web.AppKey("start")


def noop() -> int:
    """Do nothing; answers which process did it."""
    return os.getpid()


@aioqueue.queued(concurrency_limit=LIMIT)
async def noop_loop() -> int:
    """Do the same on the loop."""
    return os.getpid()


def crunch(milliseconds: int) -> str:
    """Use so much CPU, all of it Python."""
    end = time.thread_time() + milliseconds / 1000
    while time.thread_time() < end:
        str(end)
    return "done"


def hog(seconds: float, job: aioqueue.Job = aioqueue.JOB) -> None:
    """Say who it is, then keep the GIL busy, and look at nothing but the clock."""
    job.log(os.getpid())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def stubborn(way: Literal["looks", "python", "c_code"], job: aioqueue.Job = aioqueue.JOB) -> None:
    """Say who it is at 10 %, then go on until something ends it."""
    job.progress(0.1)
    job.log(os.getpid())
    if way == "c_code":
        sum(range(10**12))  # nothing can be thrown into it, for it does not return to Python
    while True:
        if way == "looks":
            job.raise_if_cancelled()


def when() -> float:
    """Say when it started."""
    return time.monotonic()


async def plain(request: web.Request) -> web.Response:
    """Answer at once."""
    return web.json_response("done")


async def started(request: web.Request) -> web.Response:
    """Say how long the queues took to start, with their processes."""
    before, after = request.app[START]
    return web.json_response(after - before)


async def note_time(app: web.Application) -> AsyncIterator[None]:
    app[START].append(time.monotonic())
    yield


def queued(function: Callable[..., Any], place: Any, **options: Any) -> web.RouteDef:
    """The route of a function in a thread or in a process."""
    name = f"{function.__name__}_{place}"
    return web.post(f"/{name}", aioqueue.queued(name=name, executor=place, **options)(function))


app = web.Application()
app[START] = []
app.add_routes(
    [
        queued(function, place, concurrency_limit=LIMIT)
        for function in (noop, crunch, hog)
        for place in ("thread", "process")
    ]
)
app.add_routes(
    [
        queued(function, "process", concurrency_id="one", concurrency_limit=1)
        for function in (stubborn, when)
    ]
)
app.add_routes([web.get(f"/{one.__name__}", one) for one in (plain, started, account)])
app.add_routes([web.post("/noop_loop", noop_loop)])
app.cleanup_ctx.append(note_time)
aioqueue.setup(app)
app.cleanup_ctx.append(note_time)

if __name__ == "__main__":
    aioqueue.run_app(app, **run_options())
