"""An app that is left as it is: a middleware queues its slow routes, and only those."""

import asyncio
import os

from aiohttp import web

import aioqueue


async def search(request: web.Request) -> web.Response:
    """Ask something slow."""
    await asyncio.sleep(0.2)
    return web.json_response({"query": request.query.get("q", ""), "hits": 3})


async def health(request: web.Request) -> web.Response:
    """Answer, however long the queue is."""
    return web.Response(text="ok")


app = web.Application()
app.add_routes([web.get("/search", search), web.get("/health", health)])

app.middlewares.append(
    aioqueue.middleware(
        match=lambda request: request.path.startswith("/search"),
        name="search",
        concurrency_limit=2,
        max_size=10,
    )
)
aioqueue.setup(app)

if __name__ == "__main__":
    aioqueue.run_app(app, port=int(os.environ.get("PORT", "8080")))
