"""A server in a process of its own, for what only a real process shows: signals, exit, restart."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class ServerProcess(NamedTuple):
    process: subprocess.Popen[bytes]
    url: str


@asynccontextmanager
async def server_process(
    target: str | Path,
    *args: str,
    port: int,
    env: Mapping[str, str] | None = None,
    timeout: float = 15,
    python: str | Path = sys.executable,
) -> AsyncIterator[ServerProcess]:
    """Run a script (`examples/demo.py`) or module (`tests.existing_app`) that listens on $PORT.

    It is ready on entry; on exit it gets a SIGTERM, and a failure if that does not end it in time.
    What it printed is printed again then, where pytest shows it beside a failure.
    """
    command = [python, *([] if str(target).endswith(".py") else ["-m"]), target, *args]
    environ = {**os.environ, **(env or {}), "PORT": str(port)}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=output)
        try:
            async with asyncio.timeout(timeout):
                while not await _accepts(port):
                    assert process.poll() is None, f"{target} ended with {process.returncode}"
                    await asyncio.sleep(0.02)
            yield ServerProcess(process, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, timeout)
            finally:
                process.kill()
                process.wait()
                output.seek(0)
                print(output.read().decode(errors="replace"))


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
