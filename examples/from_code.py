"""Jobs from code go through the same queue as jobs from requests."""

import asyncio
import os

import attrs
from aiohttp import web

import aioqueue


@attrs.define
class Summary:
    """What the slow function returns; ``result()`` gives it back as what it is."""

    words: int
    longest: str


@aioqueue.queued(concurrency_limit=1)
async def summarise(text: str) -> Summary:
    """Stand in for something slow."""
    await asyncio.sleep(0.1)
    words = text.split()
    return Summary(len(words), max(words, key=len, default=""))


async def compare(request: web.Request) -> web.Response:
    """Queue two jobs and wait for both."""
    texts = request.query.getall("text")
    handles = [await summarise.submit(text) for text in texts]
    summaries = [await handle.result() for handle in handles]
    return web.json_response([summary.words for summary in summaries])


app = web.Application()
app.add_routes([web.post("/summarise", summarise), web.get("/compare", compare)])
aioqueue.setup(app)

if __name__ == "__main__":
    aioqueue.run_app(app, port=int(os.environ.get("PORT", "8080")))
