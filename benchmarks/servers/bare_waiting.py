"""Bare aiohttp with a stream that waits: no queue, no log, no heartbeat."""

import asyncio

import orjson
from aiohttp import web

from benchmarks.servers._events import EVENTS
from benchmarks.servers._serving import account, serve

HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform"}
STATE = b"event: state\ndata: %b\n\n" % orjson.dumps(EVENTS[0][1])

end = asyncio.Event()


async def still(request: web.Request) -> web.StreamResponse:
    """Say that the job waits, and wait."""
    await request.read()
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(request)
    await response.write(STATE)
    await end.wait()
    return response


async def let_go(_app: web.Application) -> None:
    """End all streams, so that the server can."""
    end.set()


app = web.Application()
app.add_routes([web.post("/still", still), web.get("/account", account)])
app.on_shutdown.append(let_go)

if __name__ == "__main__":
    serve(app)
