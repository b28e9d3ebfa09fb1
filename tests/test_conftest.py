"""What conftest.py promises; above all that its checks do fail when they should."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

ROOT = Path(__file__).parent.parent

BAD_HABITS = """
import asyncio, socket, threading, time
import pytest

async def test_task():
    test_task.kept = asyncio.create_task(asyncio.sleep(60))

async def test_exception():
    asyncio.get_running_loop().create_future().set_exception(ValueError("nobody looked"))

async def test_server(serve):
    await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)

async def test_cycle_with_socket():
    cycle = [socket.socket()]
    cycle.append(cycle)

@pytest.mark.one_loop
async def test_thread():
    threading.Thread(target=time.sleep, args=[0.5]).start()

def test_daemon():
    threading.Thread(target=time.sleep, args=[60], daemon=True).start()

def test_warning():
    import warnings
    warnings.warn("old", DeprecationWarning)
"""

GOOD_HABITS = """
import asyncio, threading, time
import pytest

async def test_loop(anyio_backend):
    loop = asyncio.get_running_loop()
    assert loop.get_debug()
    assert len(loop.create_future()._source_traceback) <= 3
    assert type(loop).__module__.startswith("uvloop") == anyio_backend[1]["use_uvloop"]

@pytest.mark.one_loop
async def test_what_ends_in_time():
    asyncio.create_task(asyncio.sleep(0.05)).set_name("short")
    threading.Thread(target=time.sleep, args=[0.05]).start()
    await asyncio.to_thread(int)

@pytest.mark.skip(reason="of no use")
def test_skipped(): pass
"""

SERVER = """
import os, sys
from aiohttp import web

async def hello(request):
    return web.Response(text=f"{sys.argv[1]} {os.environ['NAME']}")

app = web.Application()
app.router.add_get("/", hello)
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)
"""


def run_pytest(folder: Path, tests: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run tests in a folder of their own, under conftest.py and the project's settings."""
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / "test_it.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-p", "no:cacheprovider"]
    return subprocess.run([*command, *args, folder], cwd=ROOT, capture_output=True, text=True)


def test_bad_habits(tmp_path: Path) -> None:
    """What a test leaves behind fails that test, on either loop, and no other."""
    run = run_pytest(tmp_path, BAD_HABITS)
    failures = re.findall(r"^(\w+) test_it.py::test_(\S+) - (.{22})", run.stdout, re.MULTILINE)

    assert sorted(failures) == [
        ("ERROR", "cycle_with_socket[asyncio]", "ResourceWarning: unclo"),
        ("ERROR", "cycle_with_socket[uvloop]", "ResourceWarning: unclo"),
        ("ERROR", "daemon", "Failed: threads that o"),
        ("ERROR", "server[asyncio]", "ResourceWarning: unclo"),
        ("ERROR", "server[uvloop]", "ResourceWarning: unclo"),
        ("ERROR", "task[asyncio]", "Failed: tasks that out"),
        ("ERROR", "task[uvloop]", "Failed: tasks that out"),
        ("ERROR", "thread[asyncio]", "Failed: threads that o"),
        ("FAILED", "exception[asyncio]", "ValueError: nobody loo"),
        ("FAILED", "exception[uvloop]", "ValueError: nobody loo"),
        ("FAILED", "warning", "DeprecationWarning: ol"),
    ], run.stdout


def test_good_habits(tmp_path: Path) -> None:
    """What ends in time passes; a skipped test fails the run when `--no-skips` says so."""
    run = run_pytest(tmp_path, GOOD_HABITS, "--no-skips")

    assert "= 3 passed, 1 skipped in" in run.stdout, run.stdout
    assert "--no-skips: a skipped test fails the run" in run.stdout
    assert run.returncode == pytest.ExitCode.TESTS_FAILED


def test_clock(clock) -> None:
    """Time moves when the test says so, and forward."""
    start = clock()
    clock.advance(1.5)

    assert clock() == start + 1.5
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1)


@pytest.mark.parametrize("handler_cancellation", [False, True])
async def test_serve(serve, http, handler_cancellation: bool) -> None:
    """A handler outlives its client as in production, or not, as the app asks."""
    handling = asyncio.Event()
    end = asyncio.get_running_loop().create_future()

    async def handler(request: web.Request) -> web.Response:
        handling.set()
        try:
            while request.transport:
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            end.set_result("cancelled")
            raise
        end.set_result("client left")
        return web.Response()

    app = web.Application()
    app.router.add_get("/", handler)
    url = await serve(app, handler_cancellation=handler_cancellation)
    client = asyncio.create_task(http.get(url))
    await handling.wait()
    client.cancel()

    assert await end == ("cancelled" if handler_cancellation else "client left")


@pytest.mark.one_loop
async def test_server_process(server_process, http, tmp_path: Path) -> None:
    """A server starts with its arguments and environment, and stops as if by an operator."""
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    process, url = await server_process(script, "hello", env={"NAME": "you"})

    async with http.get(url) as response:
        assert await response.text() == "hello you"
    process.terminate()
    assert process.wait(10) == 0


@pytest.mark.one_loop
async def test_server_process_that_fails(server_process, tmp_path: Path) -> None:
    """A server that ends before it listens is an error at once."""
    script = tmp_path / "server.py"
    script.write_text("raise SystemExit(3)")

    with pytest.raises(AssertionError, match="ended with 3"):
        await server_process(script)
