"""The demo behind ``make demo``: a slow function, and a page that shows its queue."""

import os
import time
from pathlib import Path

from aiohttp import web

import aioqueue

PAGE = Path(__file__).with_name("demo.html")


@aioqueue.queued(concurrency_limit=2, max_size=200)
def slow_primes(below: int, job: aioqueue.Job = aioqueue.JOB) -> dict[str, int]:
    """Count primes the slow way, and look now and then whether anybody still wants to know."""
    if not 2 <= below <= 50_000:
        raise aioqueue.JobError("Choose a number from 2 to 50,000.", status=422)
    count = 0
    for number in range(2, below):
        count += all(number % divisor for divisor in range(2, int(number**0.5) + 1))
        if number % 500 == 0:
            job.raise_if_cancelled()
            time.sleep(0.05)
    return {"below": below, "primes": count}


async def page(request: web.Request) -> web.FileResponse:
    """Show the page."""
    return web.FileResponse(PAGE, headers={"Referrer-Policy": "no-referrer"})


app = web.Application()
app.add_routes([web.get("/", page), web.post("/primes", slow_primes)])
aioqueue.setup(app)

if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8080"))
    print(f"Open http://localhost:{port} in two or three tabs, and press the button in each.")
    aioqueue.run_app(app, host=os.environ.get("HOST", "localhost"), port=port, print=None)
