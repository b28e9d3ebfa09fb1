"""Bare aiohttp writing three prepared events by hand: the ceiling of any event stream."""

import orjson
from aiohttp import web

from benchmarks.servers._events import EVENTS
from benchmarks.servers._serving import account, serve

HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform"}
FRAMES = [b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data)) for name, data in EVENTS]


async def noop(request: web.Request) -> web.StreamResponse:
    """Read the job and stream its life."""
    await request.read()
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(request)
    for frame in FRAMES:
        await response.write(frame)
    return response


app = web.Application()
app.add_routes([web.post("/noop", noop), web.get("/account", account)])

if __name__ == "__main__":
    serve(app)
