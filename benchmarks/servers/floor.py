"""The least that serves a crowd: a raw stream, eight threads and one queue, no positions."""

import asyncio
import queue
import threading

from aiohttp import web

from benchmarks.servers import _work
from benchmarks.servers._serving import account, serve

HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform"}

waiting: queue.SimpleQueue[asyncio.Future[str]] = queue.SimpleQueue()


def work() -> None:
    """Serve one waiting user after the other, for ever."""
    while True:
        future = waiting.get()
        result = _work.sleep()
        future.get_loop().call_soon_threadsafe(future.set_result, result)


async def sleepy(request: web.Request) -> web.StreamResponse:
    """Accept the job, wait for a thread to do it, and tell the result."""
    await request.read()
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(request)
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    waiting.put(future)
    await response.write(b"event: accepted\ndata: {}\n\n")
    result = await future
    await response.write(b'event: result\ndata: "%b"\n\n' % result.encode())
    return response


async def start_threads(_app: web.Application) -> None:
    """Start the threads that work the queue off."""
    for _ in range(_work.LIMIT):
        threading.Thread(target=work, daemon=True).start()


app = web.Application()
app.add_routes([web.post("/sleepy", sleepy), web.get("/account", account)])
app.on_startup.append(start_threads)

if __name__ == "__main__":
    serve(app)
