"""What every test gets: both event loops, a server as in production, and a search for leaks.

A leak fails the test that made it: a task or thread that is still there when its test is over, a
socket that was never closed, an exception that nobody looked at.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector, web
from hypothesis import settings

from tests.clock import ManualClock
from tests.processes import ServerProcess, server_process as run_server_process
from tests.stage import Stage

# Debug mode is where asyncio checks what it otherwise trusts, such as a call from a wrong thread.
LOOPS = {
    "asyncio": ("asyncio", {"debug": True, "use_uvloop": False}),
    "uvloop": ("asyncio", {"debug": True, "use_uvloop": True}),
}

# In debug mode whatever a loop makes keeps the stack it was made in. Of three frames the last is,
# mostly, the test's or ours. Of all, which is what C code takes, most are pytest's, and to take
# them was half of what a test cost.
STACK_DEPTH = 3
asyncio.constants.DEBUG_STACK_DEPTH = STACK_DEPTH
traceback.extract_stack.__defaults__ = (None, STACK_DEPTH)

# Seconds that what is already ending may take to end.
GRACE = 0.25

# How long one example takes says how busy the machine is, nothing else.
settings.register_profile("aioqueue", parent=settings.default, deadline=None)
settings.load_profile("aioqueue")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let CI insist that every test runs."""
    parser.addoption("--no-skips", action="store_true", help="fail if any test was skipped")


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marks mean, and let asyncio not log how busy the machine is."""
    # Its warnings are of callbacks that took long; a test that counts log lines would count them.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    config.addinivalue_line(
        "markers", "one_loop: run on asyncio only: the loop makes no difference"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each async test on each loop."""
    if "anyio_backend" in metafunc.fixturenames:
        one = metafunc.definition.get_closest_marker("one_loop")
        metafunc.parametrize("anyio_backend", ["asyncio"] if one else list(LOOPS), indirect=True)


def pytest_collection_finish() -> None:
    """Keep what was imported out of the collections to come, which then take no time at all."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail for a skip if CI asked for that."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("no_skips") and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Tell why a run without a failed test has failed."""
    if config.getoption("no_skips") and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("--no-skips: a skipped test fails the run", red=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    """Raise a warning at the end of the teardown it came up in.

    Most are about something left open. Raised on the spot, it would stay open, and uvloop's
    `close()`, where such a warning comes from, would wait for it without end.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The loop of an async test, as anyio's plugin wants it."""
    return LOOPS[request.param]


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set up first, so that it looks last: the loop is closed, and its own threads are gone."""
    before = set(threading.enumerate())
    yield
    if "anyio_backend" in request.fixturenames:
        gc.collect()
        # aiohttp keeps the last thousand apps in a cache; without this each collection would
        # look through all of them again.
        gc.freeze()
    deadline = time.monotonic() + GRACE
    started = set(threading.enumerate()) - before
    for thread in started:
        thread.join(max(0.0, deadline - time.monotonic()))
    if left := [thread for thread in started if thread.is_alive()]:
        pytest.fail(f"threads that outlive the test: {left}", pytrace=False)


@pytest.fixture
async def loop_and_runner() -> AsyncIterator[tuple[Any, Any]]:
    """The loop of an async test, and the task in which anyio runs it and its fixtures."""
    yield asyncio.get_running_loop(), asyncio.current_task()
    # While the loop is there to hear of an exception that a dropped task or future holds.
    gc.collect()


@pytest.fixture(autouse=True)
def no_task_outlives_its_test(
    request: pytest.FixtureRequest, no_thread_outlives_its_test: None
) -> Iterator[None]:
    """Look between the end of all other fixtures and the end of the loop, which would hide it."""
    if "anyio_backend" not in request.fixturenames:
        yield
        return
    loop, runner = request.getfixturevalue("loop_and_runner")
    yield
    if started := asyncio.all_tasks(loop) - {runner}:
        _, left = loop.run_until_complete(asyncio.wait(started, timeout=GRACE))
        if left:
            pytest.fail(f"tasks that outlive the test: {left}", pytrace=False)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that a test moves by hand."""
    return ManualClock()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Serve an app until the test is over.

    `url = await serve(app)`. As in production, a handler is not cancelled when its client leaves
    (under aiohttp's own test server it is), unless by `serve(app, handler_cancellation=True)`.
    """
    async with AsyncExitStack() as stack:

        async def serve(app: web.Application, **runner_options: Any) -> str:
            # A minute, aiohttp's default, is long for a test whose stream does not end.
            runner = web.AppRunner(app, **{"shutdown_timeout": 1.0, **runner_options})
            stack.push_async_callback(runner.cleanup)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return f"http://127.0.0.1:{runner.addresses[0][1]}"

        yield serve


@pytest.fixture
async def http(serve: object) -> AsyncIterator[ClientSession]:
    """A client; it leaves before the server of `serve` stops."""
    # Without a limit of its own: in a crowd it is the server that makes people wait.
    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        yield session


@pytest.fixture
def stage() -> Iterator[Stage]:
    """What the functions of a test play on; what still plays at its end is let go."""
    stage = Stage()
    yield stage
    stage.end_all()


@pytest.fixture
async def server_process(
    free_tcp_port_factory: Callable[[], int],
) -> AsyncIterator[Callable[..., Awaitable[ServerProcess]]]:
    """Run a server in its own process until the test is over.

    `process, url = await server_process("examples/demo.py")`. Further arguments go to its command
    line, `env={...}` to its environment, which tells it its PORT.
    """
    async with AsyncExitStack() as stack:

        async def start(target: Any, *args: str, **options: Any) -> ServerProcess:
            server = run_server_process(target, *args, port=free_tcp_port_factory(), **options)
            return await stack.enter_async_context(server)

        yield start
