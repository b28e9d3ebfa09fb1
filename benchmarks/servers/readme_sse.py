"""aiohttp and aiohttp-sse as their documentation shows them: three sends, no queue."""

import json

from aiohttp import web
from aiohttp_sse import sse_response

from benchmarks.servers._events import EVENTS
from benchmarks.servers._serving import account, serve


async def noop(request: web.Request) -> web.StreamResponse:
    """Read the job and stream its life."""
    await request.json()
    async with sse_response(request, allow_all_methods=True) as response:
        for name, data in EVENTS:
            await response.send(json.dumps(data), event=name)
    return response


app = web.Application()
app.add_routes([web.post("/noop", noop), web.get("/account", account)])

if __name__ == "__main__":
    serve(app)
