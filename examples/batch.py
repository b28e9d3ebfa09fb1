r"""A batch function: one call for up to eight jobs, each of which gets its own answer.

Try it: for word in one two three four; do
            curl localhost:8080/shout -H 'Prefer: wait=9' --json "{\"texts\": \"$word\"}" &
        done; wait
"""

import os
import time

from aiohttp import web

import aioqueue


@aioqueue.queued(batch=True, max_batch_size=8, batch_timeout=0.1)
def shout(texts: list[str]) -> list[str | Exception]:
    """Answer all at once; a call takes a second, however many there are."""
    time.sleep(1)
    print(f"one call for {len(texts)}", flush=True)
    return [
        text.upper() if text else aioqueue.JobError("Nothing to shout.", status=422)
        for text in texts
    ]


app = web.Application()
app.add_routes([web.post("/shout", shout)])
aioqueue.setup(app)

if __name__ == "__main__":
    aioqueue.run_app(app, port=int(os.environ.get("PORT", "8080")))
