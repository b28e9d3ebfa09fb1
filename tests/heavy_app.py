"""A server whose functions run in processes, for what only a real one shows: signals and its end.

python -m tests.heavy_app
"""

from __future__ import annotations

import os

from aiohttp import web

import aioqueue
from tests import heavy

FUNCTIONS = (heavy.echo, heavy.spin, heavy.native, heavy.with_children, heavy.with_files)


def make_app() -> web.Application:
    """The app."""
    app = web.Application()
    for function in FUNCTIONS:
        queued = aioqueue.queued(executor="process", concurrency_limit=None)(function)
        app.router.add_post(f"/{queued.name}", queued)
    aioqueue.setup(app, max_processes=2, drain_timeout=0.2)
    return app


if __name__ == "__main__":
    aioqueue.run_app(make_app(), port=int(os.environ["PORT"]), print=None)
