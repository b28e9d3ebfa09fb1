"""aioqueue, used as its README shows."""

from aiohttp import web

import aioqueue
from benchmarks.servers import _work
from benchmarks.servers._serving import account, run_options


@aioqueue.queued(concurrency_limit=_work.LIMIT)
def sleepy() -> str:
    """Do the slow work of the viral minute."""
    return _work.sleep()


@aioqueue.queued(concurrency_limit=None)
async def noop() -> str:
    """Do nothing."""
    return "done"


app = web.Application()
app.add_routes(
    [web.post("/noop", noop), web.post("/sleepy", sleepy), web.get("/account", account)],
)
aioqueue.setup(app, max_size=20_000)

if __name__ == "__main__":
    aioqueue.run_app(app, **run_options())
