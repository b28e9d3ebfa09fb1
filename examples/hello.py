"""The smallest queue: one slow function, one at a time, everyone sees their place in line."""

import os
import time

from aiohttp import web

import aioqueue


@aioqueue.queued
def hello(name: str = "you", seconds: float = 3.0) -> str:
    """Take a while to say hello."""
    time.sleep(seconds)
    return f"Hello, {name}!"


app = web.Application()
app.add_routes([web.get("/hello", hello), web.post("/hello", hello)])
aioqueue.setup(app, max_size=100)

if __name__ == "__main__":
    aioqueue.run_app(app, port=int(os.environ.get("PORT", "8080")))
