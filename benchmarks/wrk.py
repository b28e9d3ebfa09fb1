"""A second opinion of our own load generator: wrk, where it is installed (`make system-deps`)."""

import asyncio
import re
import shutil
import tempfile
from pathlib import Path

from benchmarks.load import HOST

SECONDS = 3
SCRIPT = Path(__file__).with_name("wrk.lua")


def is_there() -> bool:
    """Whether it is installed."""
    return shutil.which("wrk") is not None


async def requests_per_second(port: int, request: bytes, connections: int) -> float:
    """Return how many of these requests were answered in a second; it shares our core."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(request)
        file.flush()
        process = await asyncio.create_subprocess_exec(
            *("wrk", "--threads", "1", "--connections", str(connections)),
            *("--duration", f"{SECONDS}s", "--script", SCRIPT),
            *(f"http://{HOST}:{port}", "--", file.name),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    found = re.search(r"Requests/sec: +([0-9.]+)", output.decode())
    if found is None or b"Non-2xx" in output:
        raise ConnectionError(f"wrk failed: {output.decode()}")
    return float(found[1])
