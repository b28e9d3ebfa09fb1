"""Gradio's own clients, unmodified, call queued functions: no Gradio on the server.

    pip install gradio_client
    python -i -c "from gradio_client import Client; client = Client('http://localhost:8080')"
    >>> client.predict("Ann", api_name="/greet")

or with nothing but HTTP:

    curl -X POST localhost:8080/gradio_api/call/greet --json '{"data": ["Ann"]}'
    curl -N localhost:8080/gradio_api/call/greet/EVENT_ID
"""

import os
import time
from collections.abc import Iterator

from aiohttp import web

import aioqueue
import aioqueue.gradio


@aioqueue.queued
def greet(name: str, loud: bool = False) -> str:
    """Greet somebody."""
    time.sleep(0.5)
    return f"Hello, {name.upper() if loud else name}!"


@aioqueue.queued
def spell(word: str, job: aioqueue.Job = aioqueue.JOB) -> Iterator[str]:
    """Spell a word, letter by letter."""
    for end in range(1, len(word) + 1):
        job.progress(end, len(word))
        yield word[:end]


app = web.Application()
app.add_routes([web.post("/greet", greet)])  # for everybody else
aioqueue.setup(app, functions=[spell])  # for Gradio's clients alone
aioqueue.gradio.setup(app)

if __name__ == "__main__":
    aioqueue.run_app(app, port=int(os.environ.get("PORT", "8080")))
