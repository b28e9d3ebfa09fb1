"""Ordinary aiohttp handlers, one behind a decorator, one a method of a View: they run in turn."""

import asyncio
import os

from aiohttp import web

import aioqueue


@aioqueue.queued(concurrency_limit=1, max_size=20)
async def report(request: web.Request) -> web.StreamResponse:
    """Stream a report, line by line, to whoever's turn it is."""
    response = web.StreamResponse(headers={"Content-Type": "text/csv"})
    await response.prepare(request)
    for line in range(3):
        await response.write(f"{line},{line * line}\n".encode())
        await asyncio.sleep(0.05)
    return response


class Thumbnail(web.View):
    """A class-based view with one slow method."""

    async def get(self) -> web.Response:
        """Answer at once."""
        return web.json_response({"sizes": [64, 128]})

    @aioqueue.queued(concurrency_limit=2)
    async def post(self) -> web.Response:
        """Wait for a turn, then work."""
        data = await self.request.read()
        await asyncio.sleep(0.05)
        return web.json_response({"bytes": len(data)})


app = web.Application()
app.add_routes([web.get("/report", report), web.view("/thumbnail", Thumbnail)])
aioqueue.setup(app)

if __name__ == "__main__":
    aioqueue.run_app(app, port=int(os.environ.get("PORT", "8080")))
