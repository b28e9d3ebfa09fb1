"""What functions say to logging goes to the clients of their own jobs, as text and no more."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiohttp import web

import aioqueue
from aioqueue._capture import _HANDLER
from tests.inside import make_app
from tests.stage import PATIENCE

logger = logging.getLogger("app.models")


@pytest.fixture(autouse=True)
def everything_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    """The root logger takes records of all levels."""
    caplog.set_level(logging.DEBUG)


@contextmanager
def bare_root() -> Iterator[logging.Logger]:
    """The root logger without the handlers of pytest, which raise."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        yield root
    finally:
        root.handlers = handlers


async def lines_of(handle: Any) -> list[tuple[str, str]]:
    """The level and text of all that a job said."""
    events = [event async for event in handle.events()]
    assert events[-1]["type"] == "succeeded"
    return [(event["level"], event["message"]) for event in events if event["type"] == "log"]


async def said_by(function: Any, *arguments: Any) -> list[tuple[str, str]]:
    """The level and text of all that a job of a function says."""
    return await lines_of(await function.submit(*arguments))


async def test_each_job_gets_its_own_records(serve) -> None:
    """Threads and tasks that log at once, and what they call, are heard by their own clients."""
    turn = threading.Barrier(3)
    meet = asyncio.Barrier(3)

    @aioqueue.queued(capture_logs=True, concurrency_limit=3)
    def in_a_thread(name: str) -> None:
        for number in range(10):
            turn.wait(PATIENCE)
            logger.info("%s %d", name, number)

    @aioqueue.queued(capture_logs=True, concurrency_limit=3)
    async def on_the_loop(name: str) -> None:
        for number in range(10):
            await meet.wait()
            await asyncio.create_task(asyncio.to_thread(logger.info, "%s %d", name, number))

    await serve(make_app(in_a_thread, on_the_loop))
    names = ["a", "b", "c", "d", "e", "f"]
    handles = [await in_a_thread.submit(name) for name in names[:3]]
    handles += [await on_the_loop.submit(name) for name in names[3:]]
    logger.info("nobody's")

    heard = await asyncio.gather(*map(lines_of, handles))
    assert heard == [[("info", f"{name} {number}") for number in range(10)] for name in names]


@pytest.mark.one_loop
async def test_text_and_level(serve) -> None:
    """The text with its arguments, the level in lower case; a traceback stays with the server."""

    @aioqueue.queued(capture_logs=True)
    def function() -> None:
        logger.debug("a %s", {"b": 1})
        logging.warning("from the %(root)s", {"root": "root logger"})
        logger.log(21, "half \ud800")
        try:
            raise ValueError("swordfish")
        except ValueError:
            logger.exception("it failed", stack_info=True)

    with bare_root():  # pytest could not show the half letter
        await serve(make_app(function))
        said = await said_by(function)

    assert said == [
        ("debug", "a {'b': 1}"),
        ("warning", "from the root logger"),
        ("level 21", "half ?"),
        ("error", "it failed"),
    ]


@pytest.mark.one_loop
async def test_what_is_not_captured(serve) -> None:
    """Our own log, a job that did not ask, a quiet logger, and one that keeps to itself."""
    quiet, private = logging.getLogger("app.quiet"), logging.getLogger("app.private")
    quiet.setLevel(logging.ERROR)
    private.propagate = False

    def talk() -> None:
        logging.getLogger("aioqueue").error("for the server")
        quiet.info("quiet")
        private.error("private")
        logger.info("heard")

    captures = aioqueue.queued(capture_logs=True, name="captures")(talk)
    does_not = aioqueue.queued(name="does_not")(talk)
    await serve(make_app(captures, does_not))

    assert await said_by(captures) == [("info", "heard")]
    assert await said_by(does_not) == []


@pytest.mark.one_loop
async def test_a_batch_says_it_to_all(serve) -> None:
    """What a batch function logs goes to each of its jobs."""

    @aioqueue.queued(capture_logs=True, batch=True, max_batch_size=2, batch_timeout=60)
    def function(names: list[str]) -> list[str]:
        logger.info("%d at once", len(names))
        return names

    await serve(make_app(function))
    handles = [await function.submit(name) for name in "ab"]

    assert await asyncio.gather(*map(lines_of, handles)) == [[("info", "2 at once")]] * 2


@pytest.mark.one_loop
async def test_wrong_arguments(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that can't be formatted is logging's to complain about; the function goes on."""
    monkeypatch.setattr(sys, "stderr", stderr := io.StringIO())

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @aioqueue.queued(capture_logs=True)
    def function() -> None:
        logger.info("%d and %d", 1)
        logger.info(Broken())
        logger.info("on")

    with bare_root():
        await serve(make_app(function))
        assert await said_by(function) == [("info", "on")]
    assert "not enough arguments for format string" in stderr.getvalue()


async def test_a_log_without_room(serve) -> None:
    """Logging never waits: what the job's log has no room for is counted, and the rest is kept."""

    @aioqueue.queued(capture_logs=True)
    async def function() -> None:
        for number in range(10):
            logger.info("%d", number)

    await serve(make_app(function, max_log_events=4))

    assert (await said_by(function))[-1] == ("warning", "6 lines were dropped here.")


@pytest.mark.one_loop
async def test_the_handler_comes_and_goes(serve) -> None:
    """It is there once while an app with a function that captures runs, and only then."""

    @aioqueue.queued(capture_logs=True)
    def captures() -> None:
        logger.info("captures")

    @aioqueue.queued
    def does_not() -> None:
        logger.info("does not")

    async def app_with(function: Any) -> web.Application:
        app = make_app(function)
        await serve(app)
        return app

    async def end(app: web.Application) -> None:
        await app.shutdown()
        await app.cleanup()

    with bare_root() as root:
        await app_with(does_not)
        assert root.handlers == []
        first, second = await app_with(captures), await app_with(captures)
        assert root.handlers == [_HANDLER]
        await end(first)
        assert root.handlers == [_HANDLER]
        assert await said_by(captures) == [("info", "captures")]
        await end(second)
        assert root.handlers == []


async def test_the_servers_own_log_is_still_printed(
    serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """In an app that never configured logging, warnings are printed as they are without us."""

    @aioqueue.queued(capture_logs=True)
    async def warn() -> None:
        logger.warning("the disk is full")

    with bare_root() as root:
        await serve(make_app(warn))
        assert root.handlers == [_HANDLER]
        assert await said_by(warn) == [("warning", "the disk is full")]
        assert "the disk is full" in capsys.readouterr().err
        root.addHandler(logging.NullHandler())
        await said_by(warn)
        assert "the disk is full" not in capsys.readouterr().err
