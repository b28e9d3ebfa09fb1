"""One function four times, each with another rule about who of its clients goes first."""

from aiohttp import web

import aioqueue
from benchmarks.servers import _work
from benchmarks.servers._serving import account, run_options

LIMIT = 2


def client(request: web.Request) -> str | None:
    """Name the client by a header; an app of yours would take the user or the address."""
    return request.headers.get("X-Client")


@aioqueue.queued(concurrency_limit=LIMIT)
def first_come() -> str:
    """First come, first served."""
    return _work.sleep()


@aioqueue.queued(concurrency_limit=LIMIT, client_key=client)
def turns() -> str:
    """Clients take turns."""
    return _work.sleep()


@aioqueue.queued(concurrency_limit=LIMIT, client_key=client, max_running_per_client=1)
def one_running() -> str:
    """They take turns, and nobody has more than one job running or in line."""
    return _work.sleep()


@aioqueue.queued(concurrency_limit=LIMIT, client_key=client, max_queued_per_client=50)
def few_queued() -> str:
    """They take turns, and nobody has more than 50 jobs waiting."""
    return _work.sleep()


app = web.Application()
app.add_routes(
    [web.post(f"/{one.name}", one) for one in (first_come, turns, one_running, few_queued)]
)
app.add_routes([web.get("/account", account)])
aioqueue.setup(app, max_size=20_000)

if __name__ == "__main__":
    aioqueue.run_app(app, **run_options())
