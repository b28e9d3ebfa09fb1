"""Files of any size pass through a real server, which stays small, and cleans up after the dead."""

from __future__ import annotations

import asyncio
import io
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, FormData

from tests.processes import ServerProcess
from tests.stage import PATIENCE

pytestmark = pytest.mark.one_loop

WAIT = {"Prefer": "wait=60"}
MiB = 1 << 20
SIZE = 200 * MiB

# What a server may grow by while 200 MiB pass through it: buffers of sockets and of writes.
GROWTH = 20 * MiB

RUNNERS = ["aiohttp", "aioqueue"]  # web.run_app on asyncio, aioqueue.run_app on uvloop


@pytest.fixture
def start(
    server_process: Callable[..., Awaitable[ServerProcess]], tmp_path: Path
) -> Callable[..., Awaitable[ServerProcess]]:
    """Start the server of these tests, with its files below `tmp_path`."""

    async def start(runner: str) -> ServerProcess:
        env = {"AIOQUEUE_SPOOL_DIR": str(tmp_path)}
        return await server_process("tests.servers.files", runner, env=env)

    return start


def peak(process: Any) -> int:
    """The most memory that a process has had so far."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


async def zeros(size: int) -> AsyncIterator[bytes]:
    """So many bytes, in chunks."""
    chunk = bytes(256 << 10)
    for _ in range(size // len(chunk)):
        yield chunk


async def length_of(response: Any) -> int:
    """How many bytes an answer has."""
    return sum([len(chunk) async for chunk in response.content.iter_any()])


async def warm_up(http: ClientSession, url: str) -> None:
    """Let the server import, and allocate, what the first files need."""
    form = FormData(default_to_multipart=True)
    form.add_field("file", b"x" * MiB, filename="a")
    async with http.post(f"{url}/back", data=form, headers=WAIT) as response:
        assert await length_of(response) == MiB


def in_a_form(size: int) -> FormData:
    """A form with one file."""

    class Zeros(io.RawIOBase):
        left = size

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            count = min(len(buffer), self.left)
            self.left -= count
            buffer[:count] = bytes(count)
            return count

    form = FormData(default_to_multipart=True)
    form.add_field("file", io.BufferedReader(Zeros(), 1 << 18), filename="zeros")
    return form


@pytest.mark.parametrize("runner", RUNNERS)
async def test_memory(start: Any, http: ClientSession, runner: str) -> None:
    """200 MiB in, as a form and as a body, and out, whole and in part, need next to no memory."""
    process, url = await start(runner)
    await warm_up(http, url)
    before = peak(process)

    async with http.post(f"{url}/back", data=in_a_form(SIZE), headers=WAIT) as response:
        assert (response.status, await length_of(response)) == (200, SIZE)
        result = response.headers["Content-Location"]
    async with http.post(f"{url}/whole", data=zeros(SIZE), headers=WAIT) as response:
        assert await response.json() == SIZE
    half = {"Range": f"bytes={SIZE // 2}-"}
    async with http.get(f"{url}{result}", headers=half) as response:
        assert (response.status, await length_of(response)) == (206, SIZE // 2)

    assert peak(process) - before < GROWTH


def left_in(path: Path) -> list[Path]:
    """The servers' directories."""
    return list(path.glob("aioqueue-*"))


async def hold(http: ClientSession, url: str) -> None:
    """Leave a server with a file that waits, one in work, and a result."""
    await warm_up(http, url)
    for _ in range(2):
        form = FormData(default_to_multipart=True)
        form.add_field("file", b"x" * MiB, filename="a")
        async with http.post(f"{url}/held", data=form) as response:
            assert response.status == 202


@pytest.mark.parametrize("runner", RUNNERS)
async def test_a_server_that_ends(
    start: Any, http: ClientSession, tmp_path: Path, runner: str
) -> None:
    """A server that is told to end leaves nothing, even if a thread is still in a function."""
    process, url = await start(runner)
    await hold(http, url)
    (root,) = left_in(tmp_path)
    assert len(list(root.rglob("upload-*"))) == 3
    process.send_signal(signal.SIGTERM)
    if runner == "aiohttp":  # which waits for its threads, and its caller for longer than a test
        async with asyncio.timeout(PATIENCE):
            while left_in(tmp_path):
                await asyncio.sleep(0.02)
        process.kill()
    await asyncio.to_thread(process.wait, PATIENCE)

    assert left_in(tmp_path) == []


async def test_a_server_that_is_killed(start: Any, http: ClientSession, tmp_path: Path) -> None:
    """What a killed server leaves, the next one removes at its start; a living one's stays."""
    killed, url = await start("aioqueue")
    await hold(http, url)
    (left,) = left_in(tmp_path)
    _, other = await start("aioqueue")
    await hold(http, other)
    assert len(left_in(tmp_path)) == 2
    killed.kill()
    await asyncio.to_thread(killed.wait, PATIENCE)
    assert left.exists()
    await start("aioqueue")

    (living,) = left_in(tmp_path)
    assert living != left
    assert len(list(living.rglob("upload-*"))) == 3
