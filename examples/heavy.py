"""A function that computes: in a process it holds up nobody, and ends when it is cancelled.

Try it: curl -N localhost:8080/primes -H 'Accept: text/event-stream' --json '{"below": 3000000}'
and while it runs: curl -X DELETE localhost:8080/queue/jobs/ID
"""

import os
from math import isqrt

from aiohttp import web

import aioqueue


@aioqueue.queued(executor="process", concurrency_limit=2, max_size=20)
def primes(below: int = 1_000_000, job: aioqueue.Job = aioqueue.JOB) -> dict[str, int]:
    """Count primes in plain Python, which would slow down everybody from a thread."""
    count = int(below > 2)
    for number in range(3, below, 2):
        if number % 10_000 == 1:
            job.progress(number, below)
        count += all(number % divisor for divisor in range(3, isqrt(number) + 1, 2))
    return {"primes": count, "process": os.getpid()}


async def health(request: web.Request) -> web.Response:
    """Answer at once, whatever is being computed."""
    return web.json_response({"process": os.getpid()})


app = web.Application()
app.add_routes([web.post("/primes", primes), web.get("/health", health)])
aioqueue.setup(app)

# The processes import this file too: without this line each of them would start a server.
if __name__ == "__main__":
    aioqueue.run_app(app, port=int(os.environ.get("PORT", "8080")))
