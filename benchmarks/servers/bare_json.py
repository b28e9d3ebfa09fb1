"""Bare aiohttp answering JSON: no queue, no events."""

from aiohttp import web

from benchmarks.servers._serving import account, serve


async def noop(request: web.Request) -> web.Response:
    """Read the job and answer its result."""
    await request.json()
    return web.json_response("done")


app = web.Application()
app.add_routes([web.post("/noop", noop), web.get("/account", account)])

if __name__ == "__main__":
    serve(app)
