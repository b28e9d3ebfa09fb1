"""aiohttp and aiohttp-sse with a stream that waits: no queue, no log, a task each for pings."""

import asyncio
import json

from aiohttp import web
from aiohttp_sse import sse_response

from benchmarks.servers._events import EVENTS
from benchmarks.servers._serving import account, serve

end = asyncio.Event()


async def still(request: web.Request) -> web.StreamResponse:
    """Say that the job waits, and wait."""
    await request.json()
    name, data = EVENTS[0]
    async with sse_response(request, allow_all_methods=True) as response:
        await response.send(json.dumps(data), event=name)
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
