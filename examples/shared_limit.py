"""Two functions that need the same GPU share one queue and its limit."""

import asyncio
import os

from aiohttp import web

import aioqueue


@aioqueue.queued(concurrency_id="gpu", concurrency_limit=1)
async def paint(prompt: str) -> str:
    """Stand in for a model that draws."""
    await asyncio.sleep(0.2)
    return f"a picture of {prompt}"


@aioqueue.queued(concurrency_id="gpu")
async def caption(picture: str) -> str:
    """Stand in for a model that describes."""
    await asyncio.sleep(0.1)
    return f"this shows {picture}"


app = web.Application()
app.add_routes([web.post("/paint", paint), web.post("/caption", caption)])
aioqueue.setup(app, max_size=50)

if __name__ == "__main__":
    aioqueue.run_app(app, port=int(os.environ.get("PORT", "8080")))
