"""Jobs belong to who started them: to anybody else they do not exist."""

import asyncio
import os

from aiohttp import web

import aioqueue

USERS = {"Bearer ann-secret": "ann", "Bearer bob-secret": "bob"}


@web.middleware
async def authenticate(request, handler):  # type: ignore[no-untyped-def]
    """Let nobody in who is not known; aioqueue's own routes are behind it too."""
    if request.headers.get("Authorization") not in USERS:
        raise web.HTTPUnauthorized
    return await handler(request)


def owner(request: web.Request) -> str:
    """Whose job it is."""
    return USERS[request.headers["Authorization"]]


@aioqueue.queued(
    on_disconnect="keep", metadata=lambda request: {"agent": request.headers.get("User-Agent")}
)
async def translate(text: str, job: aioqueue.Job = aioqueue.JOB) -> str:
    """Know who asked."""
    await asyncio.sleep(0.1)
    return f"{job.owner}: {text[::-1]}"


app = web.Application(middlewares=[authenticate])
app.add_routes([web.post("/translate", translate)])
aioqueue.setup(app, owner=owner, public_status=False)

if __name__ == "__main__":
    aioqueue.run_app(app, port=int(os.environ.get("PORT", "8080")))
