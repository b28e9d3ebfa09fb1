"""Server processes: fresh ones, each on its own core, that account for what they used."""

import asyncio
import os
import resource
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import orjson
from attrs import frozen

from benchmarks.load import fetch
from benchmarks.usage import usage_of

ROOT = Path(__file__).parent.parent
START_SECONDS = 30
STOP_SECONDS = 10


class ServerFailed(Exception):
    """A server did not start, or went away."""


@frozen
class Cores:
    """Which core is whose; None where the platform cannot say or has but one."""

    server: int | None
    load: int | None

    @classmethod
    def of_this_machine(cls) -> "Cores":
        """Give the load the first core that is ours, and the server the last."""
        if not hasattr(os, "sched_setaffinity"):
            return cls(None, None)
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[-1], cores[0]) if len(cores) > 1 else cls(None, None)

    def __str__(self) -> str:
        """Say how it is for the head of a report."""
        if self.server is None:
            return "server and load share the cores"
        return f"server on core {self.server}, load on core {self.load}"


@frozen
class Account:
    """What a server process has used and done so far."""

    cpu: float
    """Seconds of CPU, user and system."""
    peak_rss: int
    """Bytes."""
    calls: int | None = None
    """How often the slow function ran; None where it does not count."""
    peak_running: int | None = None
    """How many of those at once, as the function itself counts."""


@frozen
class Server:
    """A server that listens."""

    port: int
    _complaints: IO[bytes]
    _session: int | None = None
    """That of its processes, where it can't be asked what they have used."""

    async def account(self) -> Account:
        """Return what the server has used so far."""
        if self._session is not None:
            return Account(*usage_of(self._session))
        return Account(**orjson.loads(await fetch(self.port, "/account")))

    def complaints(self) -> str:
        """Return what the server has written to its standard error."""
        return text_of(self._complaints)


def pin_load(cores: Cores) -> None:
    """Keep this process to its core."""
    if cores.load is not None:
        os.sched_setaffinity(0, {cores.load})


def pin(process: asyncio.subprocess.Process, cores: Cores, *, both_cores: bool = False) -> None:
    """Keep a server, and what it will start, to its core."""
    if cores.server is not None and cores.load is not None:
        its = {cores.server, cores.load} if both_cores else {cores.server}
        os.sched_setaffinity(process.pid, its)


def raise_file_limit() -> None:
    """Allow this process, and the servers that it starts, as many sockets as the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@asynccontextmanager
async def running(
    module: str,
    cores: Cores,
    environ: Mapping[str, str] | None = None,
    *,
    both_cores: bool = False,
) -> AsyncIterator[Server]:
    """Run the server `module`, with `environ` on top of ours, while the block lasts.

    With `both_cores` it may use that of the load too: for servers that start processes.
    """
    with tempfile.TemporaryFile() as complaints:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"benchmarks.servers.{module}"),
            cwd=ROOT,
            env={**os.environ, **(environ or {})},
            stdout=asyncio.subprocess.PIPE,
            stderr=complaints,
        )
        try:
            pin(process, cores, both_cores=both_cores)
            yield Server(await _port(process), complaints)
        except (OSError, ServerFailed) as error:  # what it said itself tells more than the error
            message = f"benchmarks.servers.{module} failed: {error}\n{text_of(complaints)}"
            raise ServerFailed(message) from error
        finally:
            await stop(process)


async def _port(process: asyncio.subprocess.Process) -> int:
    """Wait for the line that says where the server listens."""
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline()
    except TimeoutError:
        raise ServerFailed(f"it did not listen within {START_SECONDS} s") from None
    if not line:
        raise ServerFailed("it ended before it listened")
    return int(line)


def text_of(complaints: IO[bytes]) -> str:
    """Return what was written there."""
    complaints.seek(0)
    return complaints.read().decode(errors="replace").strip()


async def stop(process: asyncio.subprocess.Process) -> None:
    """End the process, politely first."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
