"""Bare aiohttp writing three prepared events by hand: the ceiling of any event stream.

They answer a POST, or a GET after a POST that was answered with 202.
"""

import orjson
from aiohttp import web

from benchmarks.servers._events import EVENTS
from benchmarks.servers._serving import account, serve

HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform"}
FRAMES = [b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data)) for name, data in EVENTS]

ACCEPTED_EVENTS = EVENTS[0][1]["links"]["events"]
ACCEPTED = orjson.dumps(EVENTS[0][1])


async def noop(request: web.Request) -> web.StreamResponse:
    """Read the job and stream its life."""
    await request.read()
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(request)
    for frame in FRAMES:
        await response.write(frame)
    return response


async def later(request: web.Request) -> web.Response:
    """Read the job and answer where its events are."""
    await request.read()
    return web.Response(body=ACCEPTED, status=202, content_type="application/json")


app = web.Application()
app.add_routes(
    [
        web.post("/noop", noop),
        web.post("/later", later),
        web.get(ACCEPTED_EVENTS, noop),
        web.get("/account", account),
    ]
)

if __name__ == "__main__":
    serve(app)
