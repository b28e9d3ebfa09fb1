"""What a competent developer writes in an afternoon: semaphore, thread pool, aiohttp-sse."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from aiohttp_sse import sse_response

from benchmarks.servers import _work
from benchmarks.servers._serving import account, serve

semaphore = asyncio.Semaphore(_work.LIMIT)
pool = ThreadPoolExecutor(_work.LIMIT)


async def sleepy(request: web.Request) -> web.StreamResponse:
    """Say that the job waits, that it runs, and what came of it."""
    await request.json()
    async with sse_response(request, allow_all_methods=True) as response:
        await response.send(json.dumps({"state": "queued"}), event="queued")
        async with semaphore:
            await response.send(json.dumps({"state": "running"}), event="started")
            result = await asyncio.get_running_loop().run_in_executor(pool, _work.sleep)
        await response.send(json.dumps({"result": result}), event="succeeded")
    return response


app = web.Application()
app.add_routes([web.post("/sleepy", sleepy), web.get("/account", account)])

if __name__ == "__main__":
    serve(app)
