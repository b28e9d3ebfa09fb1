"""What every server of the benchmark does alike: listen, say so, and account for itself."""

import resource
import socket
import sys
import time
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from benchmarks.servers import _work

# The kernel cuts this down to net.core.somaxconn; a whole crowd connects in one instant.
BACKLOG = 8192


def serve(app: web.Application) -> None:
    """Run a plain aiohttp application, on uvloop as all peers do."""
    web.run_app(app, loop=uvloop.new_event_loop(), **run_options())


def run_options() -> dict[str, Any]:
    """Return the arguments of ``run_app`` that all peers share."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def announce(*_: object) -> None:
        """Say the port in place of aiohttp's greeting, which comes once the server listens."""
        print(port, flush=True)

    return {"sock": listener, "backlog": BACKLOG, "access_log": None, "print": announce}


async def account(_request: web.Request) -> web.Response:
    """Answer what this process has used so far: ``GET /account``."""
    return web.json_response(
        {
            "cpu": time.process_time(),
            "peak_rss": _peak_rss(),
            "calls": _work.calls,
            "peak_running": _work.peak_running,
        }
    )


def _peak_rss() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    # Not ru_maxrss: on Linux it survives exec, so a child begins with the peak of its parent.
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
