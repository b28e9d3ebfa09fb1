"""A generator: each word is an event the moment it is there, and the result is all of them.

Try it: curl -N localhost:8080/story -H 'Accept: text/event-stream' --json '{"about": "a train"}'
"""

import asyncio
import os
from collections.abc import AsyncIterator

from aiohttp import web

import aioqueue


@aioqueue.queued
async def story(about: str, words: int = 12) -> AsyncIterator[str]:
    """Tell a story, slowly."""
    told = f"Once upon a time there was {about}, and it waited in line until it was its turn."
    for word in told.split()[:words]:
        await asyncio.sleep(0.2)  # a model that thinks of the next word
        yield word


app = web.Application()
app.add_routes([web.post("/story", story)])
aioqueue.setup(app)

if __name__ == "__main__":
    aioqueue.run_app(app, port=int(os.environ.get("PORT", "8080")))
