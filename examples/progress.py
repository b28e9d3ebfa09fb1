"""A function that says how far it is, and a hook that is told when its job has ended.

Try it: curl -N localhost:8080/denoise -H 'Accept: text/event-stream' --json '{"steps": 20}'
"""

import os
import time

from aiohttp import web

import aioqueue


@aioqueue.queued(time_limit=60)
def denoise(steps: int = 20, job: aioqueue.Job = aioqueue.JOB) -> str:
    """Take some steps, and say each."""
    for step in range(steps):
        job.progress(step, steps, "denoise")  # ends the loop, too, when the job is cancelled
        time.sleep(0.2)
    job.log("The picture was rather dark.", level="warning")
    return "done"


async def keep_the_books(job: aioqueue.FinishedJob) -> None:
    """Write down what to charge, and for what."""
    seconds = job.finished - (job.started or job.finished)
    print(f"{job.function} {job.state} after {seconds:.1f} s", flush=True)


app = web.Application()
app.add_routes([web.post("/denoise", denoise)])
aioqueue.setup(app, on_finish=keep_the_books)

if __name__ == "__main__":
    aioqueue.run_app(app, port=int(os.environ.get("PORT", "8080")))
