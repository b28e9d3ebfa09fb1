"""Bars of tqdm's as the progress of the jobs around them, and as ordinary bars elsewhere."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest
import tqdm

import aioqueue
from aioqueue._outbox import Progress
from aioqueue._running import CURRENT, Job
from tests.inside import make_app
from tests.stage import PATIENCE, Stage, new_job

METHODS = tqdm.tqdm.display, tqdm.tqdm.update, tqdm.tqdm.close


@pytest.fixture(autouse=True)
def no_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tqdm starts no thread of its own."""
    monkeypatch.setattr(tqdm.tqdm, "monitor_interval", 0)


def inside(job: Job, call: Callable[[], Any]) -> Any:
    """Call something as the function of a job."""
    context = copy_context()
    context.run(CURRENT.set, job)
    return context.run(call)


def noted(job: Job) -> Progress | None:
    """What a job said last about how far it is."""
    notes: dict[str, Progress] = job._outbox.notes  # type: ignore[attr-defined]
    return notes.get(job.id)


def bar(*arguments: Any, kind: Any = None, **options: Any) -> Any:
    """A bar of ours that is shown at each step, to nobody."""
    options = {"file": io.StringIO(), "mininterval": 0, **options}
    return (kind or aioqueue.tqdm)(*arguments, **options)


def assert_bars_still_work() -> None:
    """Another thread can show a bar: nobody has kept tqdm's lock."""
    thread = threading.Thread(target=lambda: bar(range(1), kind=tqdm.tqdm).refresh(), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


async def progress_of(handle: Any, step: float) -> dict[str, Any]:
    """The fields of the progress event with this step."""
    async for event in handle.events():
        if event["type"] == "progress" and event["step"] == step:
            return {name: event[name] for name in ("progress", "step", "total", "message")}
    raise AssertionError("it ended without having been there")


# aioqueue.tqdm


async def test_progress_of_functions(serve, stage: Stage) -> None:
    """In a ``def`` and an ``async def`` a bar's steps, total and description are the progress."""

    @aioqueue.queued
    def in_a_thread() -> None:
        for page in bar(["a", "b", "c", "d"], desc="pages"):
            if page == "c":
                stage.play_in_thread("thread")

    @aioqueue.queued
    async def on_the_loop() -> None:
        shown = bar(total=8)
        shown.set_description("steps")
        shown.update(6)
        await stage.play("loop")
        shown.close()

    await serve(make_app(in_a_thread, on_the_loop))
    thread, loop = await in_a_thread.submit(), await on_the_loop.submit()

    assert await progress_of(thread, 2) == {
        "progress": 0.5,
        "step": 2,
        "total": 4,
        "message": "pages",
    }
    assert await progress_of(loop, 6) == {
        "progress": 0.75,
        "step": 6,
        "total": 8,
        "message": "steps",
    }
    stage.end("thread", "loop")
    assert (await thread.result(), await loop.result()) == (None, None)


def test_progress_from_first_to_last() -> None:
    """It is told when the bar is made, at each step, and at its end."""
    job, seen = new_job(), []

    def work() -> None:
        for _ in bar(range(3)):
            seen.append(noted(job))

    inside(job, work)

    assert seen == [Progress(None, step, 3, None) for step in range(3)]
    assert noted(job) == Progress(None, 3, 3, None)


def test_nobody_knows_the_total() -> None:
    """Without a total there are steps, and no share."""
    job = new_job()
    inside(job, lambda: bar(iter("abc"), desc="letters").update(2))
    last = noted(job)

    assert last == Progress(None, 2, None, "letters")
    assert last.emission().fields == (
        b'{"progress":null,"step":2,"total":null,"message":"letters"}'
    )


def test_numbers_that_are_not_pythons_own() -> None:
    """Numbers of numpy's are sent as any other; one that can't be sent at all keeps no lock."""

    class Scalar(float):
        pass

    class Odd(int):
        def __float__(self) -> float:
            raise OverflowError

    job = new_job()
    inside(job, lambda: bar(total=Scalar(4)).update(Scalar(1)))
    last = noted(job)
    assert last == Progress(None, 1, 4, None)
    assert b'"progress":0.25' in last.emission().fields
    inside(job, lambda: bar(total=Odd(4)).update(2))
    assert noted(job) == last
    assert_bars_still_work()


def test_nested_bars() -> None:
    """Of nested bars the outermost counts; the one after it has its turn when it is closed."""
    job, seen = new_job(), []

    def work() -> None:
        for _ in bar(range(2), desc="outer"):
            for _ in bar(range(100), desc="inner"):
                pass
            seen.append(noted(job))
        for _ in bar(range(7), desc="next"):
            pass

    inside(job, work)

    assert seen == [Progress(None, 0, 2, "outer"), Progress(None, 1, 2, "outer")]
    assert noted(job) == Progress(None, 7, 7, "next")


def test_bar_that_is_dropped() -> None:
    """A bar that nobody closed and nobody has any more does not stand before the next."""
    job = new_job()

    def work() -> None:
        shown = bar(total=9, desc="first")
        shown.update(1)
        del shown
        bar(total=5, desc="second").update(2)

    inside(job, work)

    assert noted(job) == Progress(None, 2, 5, "second")


def test_bar_outside_of_a_job() -> None:
    """Elsewhere it is an ordinary bar."""
    file = io.StringIO()
    assert list(bar("abc", file=file, desc="letters")) == ["a", "b", "c"]

    assert issubclass(aioqueue.tqdm, tqdm.tqdm)
    assert "letters: 100%" in file.getvalue()
    assert "3/3" in file.getvalue()


@pytest.mark.parametrize("kind", ["ours", "tracked"])
def test_bars_of_others_are_shown_again(kind: str, request: pytest.FixtureRequest) -> None:
    """``tqdm.write`` shows all bars again, in whatever job; a bar stays its maker's progress."""
    makes: Any = aioqueue.tqdm
    if kind == "tracked":
        track(request)
        makes = tqdm.tqdm
    file = io.StringIO()
    one, other = new_job("one"), new_job("other")
    one._tracks_tqdm = other._tracks_tqdm = True
    nobodys = bar(total=3, kind=makes, file=file)
    first = inside(one, lambda: bar(total=10, kind=makes, file=file))
    inside(other, lambda: tqdm.tqdm.write("hello", file=file))
    assert noted(other) is None
    second = inside(other, lambda: bar(total=20, kind=makes, file=file))
    first.update(1)
    inside(other, lambda: second.update(2))
    nobodys.close()

    assert noted(one) == Progress(None, 1, 10, None)
    assert noted(other) == Progress(None, 2, 20, None)
    first.close()
    second.close()


# Cancel


async def test_cancel_ends_the_loop(serve) -> None:
    """A cancelled job raises out of the loop over a bar, and tqdm's lock is free."""
    ends: list[type[BaseException]] = []
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def count() -> None:
        try:
            for number in bar(iter(int, 1)):
                if not begun.is_set():
                    loop.call_soon_threadsafe(begun.set)
                assert number == 0
        except BaseException as error:
            ends.append(type(error))
            raise

    @aioqueue.queued
    def in_a_thread() -> None:
        count()

    await serve(make_app(in_a_thread))
    handle = await in_a_thread.submit()
    await begun.wait()
    await handle.cancel()
    with pytest.raises(aioqueue.JobFailed):
        await handle.result()

    assert ends == [aioqueue.JobCancelled]
    assert await handle.state() == "cancelled"
    assert_bars_still_work()


def test_cancelled_update() -> None:
    """``update`` raises in a cancelled job, after it has counted; ``close`` does not."""
    job = new_job()
    shown = inside(job, lambda: bar(total=3))
    job.cancel()
    with pytest.raises(aioqueue.JobCancelled):
        inside(job, lambda: shown.update(2))
    inside(job, shown.close)

    assert shown.n == 2
    assert_bars_still_work()


# Any bar


def track(request: pytest.FixtureRequest) -> None:
    """Look at every bar until the test is over."""
    from aioqueue import _tqdm

    _tqdm.start_tracking()
    request.addfinalizer(_tqdm.stop_tracking)


async def test_any_bar_of_one_function(serve, stage: Stage) -> None:
    """With ``track_tqdm`` any bar is progress; in a function without it, none is."""

    def work(name: str, total: int, step: int) -> None:
        with bar(total=total, kind=tqdm.tqdm, desc=name) as shown:
            shown.update(step)
            stage.play_in_thread(name)

    tracked = aioqueue.queued(track_tqdm=True, name="tracked", concurrency_limit=2)(work)
    plain = aioqueue.queued(name="plain")(work)
    await serve(make_app(tracked, plain))
    handles = [await tracked.submit("a", 4, 1), await tracked.submit("b", 4, 3)]
    alone = await plain.submit("c", 4, 2)
    await stage.has_begun("a", "b", "c")

    fields = [await progress_of(handles[0], 1), await progress_of(handles[1], 3)]
    assert [(one["progress"], one["message"]) for one in fields] == [(0.25, "a"), (0.75, "b")]
    stage.end("a", "b", "c")
    assert [event["type"] async for event in alone.events()] == ["started", "succeeded"]


async def test_cancel_in_any_bar(serve) -> None:
    """A plain bar in a cancelled job raises, too, and keeps no lock."""
    begun = threading.Event()

    @aioqueue.queued(track_tqdm=True)
    def function() -> None:
        for _ in bar(iter(int, 1), kind=tqdm.tqdm):
            begun.set()

    await serve(make_app(function))
    handle = await function.submit()
    await asyncio.to_thread(begun.wait, PATIENCE)
    await handle.cancel()
    with pytest.raises(aioqueue.JobFailed):
        await handle.result()

    assert_bars_still_work()


@pytest.mark.one_loop
async def test_tqdm_is_itself_again(serve) -> None:
    """Its methods are replaced while an app with such a function runs, and only then."""

    @aioqueue.queued(track_tqdm=True)
    def tracked() -> None: ...

    @aioqueue.queued
    def plain() -> None: ...

    def methods() -> Any:
        return tqdm.tqdm.display, tqdm.tqdm.update, tqdm.tqdm.close

    apps = [make_app(function) for function in (plain, tracked, tracked)]
    await serve(apps[0])
    assert methods() == METHODS
    for app in apps[1:]:
        await serve(app)
    for app in apps[1:]:
        assert not set(methods()) & set(METHODS)
        await app.shutdown()
        await app.cleanup()
    assert methods() == METHODS


# Without tqdm


@pytest.fixture
def no_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if tqdm was not installed."""
    monkeypatch.delitem(sys.modules, "aioqueue._tqdm", raising=False)
    monkeypatch.delattr(aioqueue, "_tqdm", raising=False)
    monkeypatch.setitem(sys.modules, "tqdm.std", None)


@pytest.mark.usefixtures("no_tqdm")
def test_no_tqdm() -> None:
    """Where tqdm is missing, ``aioqueue.tqdm`` says what to install."""
    with pytest.raises(ImportError, match=r"aioqueue\.tqdm needs tqdm: pip install .*\[tqdm\]"):
        _ = aioqueue.tqdm


@pytest.mark.one_loop
@pytest.mark.usefixtures("no_tqdm")
async def test_no_tqdm_to_track(serve) -> None:
    """Where tqdm is missing, an app with ``track_tqdm`` does not start, and says why."""

    @aioqueue.queued(track_tqdm=True)
    def denoise() -> None: ...

    with pytest.raises(
        aioqueue.ConfigurationError, match=r"^denoise has track_tqdm=True.*pip install .*\[tqdm\]"
    ):
        await serve(make_app(denoise))
