"""Functions in processes: whatever they do, and whatever is done to them, their jobs end once."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, web

import aioqueue
from aioqueue import ConfigurationError, JobCancelled, QueuedFunction
from aioqueue._batch import Batch
from aioqueue._job import Attempt, JobRecord
from aioqueue._payload import pack
from aioqueue._process import Process, ProcessCall
from aioqueue._process_main import process_main
from aioqueue._processes import ProcessExecutor
from aioqueue._running import Job
from tests import heavy
from tests.inside import STREAM, Shop, make_app
from tests.processes import ROOT, ServerProcess
from tests.quick import start_quickly
from tests.sse_client import read_events
from tests.stage import PATIENCE, Work, new_job, until

pytestmark = pytest.mark.one_loop
"""What is on either side of a process is the same on any loop, and starting one takes time."""


def in_process(function: Callable[..., Any], **options: Any) -> QueuedFunction[..., Any]:
    """The function, queued, for a process."""
    return aioqueue.queued(name="work", executor="process", **options)(function)


def is_dead(pid: int) -> bool:
    """Whether a process that is not our child has ended; nobody may have buried it here."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def pids_of(where: Path) -> list[int]:
    """Wait until a function runs; answers its process and those it has started."""
    await until_file(where)
    return [int(pid) for pid in where.read_text().split()]


async def until_file(path: Path) -> None:
    """Wait for a file, and leave the processor to who makes it."""
    await until_slowly(path.exists)


async def until_slowly(condition: Callable[[], Any]) -> None:
    """Wait for something that another process does, and leave it the processor."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.002)


Open = Callable[..., Awaitable[Shop]]


@pytest.fixture
async def shop(serve: Any, http: ClientSession, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Serve functions that run in processes; the first is `work`."""
    start_quickly(monkeypatch)

    async def open(
        function: Callable[..., Any], *others: Any, options: Any = None, **settings: Any
    ) -> Shop:
        queued = in_process(function, **(options or {}))
        return await Shop().sells(queued, *others, **settings).open(serve, http)

    return open


async def result(shop: Shop, *arguments: Any, **named: Any) -> Any:
    """The result of a job from code."""
    function: Any = shop.inside.runtime.functions["work"].function
    return await (await function.submit(*arguments, **named)).result()


async def cancel(shop: Shop, job_id: str) -> None:
    """Cancel a job, as a client does."""
    async with shop.http.delete(shop.job(job_id)) as response:
        assert response.status in (200, 202)


async def error_of(shop: Shop, job_id: str) -> Any:
    """The problem that a failed job ended with."""
    assert await shop.inside.ended(job_id) == "failed"
    async with shop.http.get(shop.job(job_id)) as response:
        return (await response.json())["error"]


async def slot_is_free(shop: Shop) -> None:
    """Wait until nothing runs any more."""
    await until_slowly(lambda: not shop.inside.runtime._scheduler._active)


# What goes in and out


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
async def test_arguments_and_results(shop: Open, size: int) -> None:
    """Arguments of a megabyte and results of ten go through."""
    open_shop = await shop(heavy.double)

    assert await result(open_shop, "x" * size) == "x" * size * 10


async def test_the_job(shop: Open) -> None:
    """The function sees the job it runs for, as in a thread."""
    open_shop = await shop(
        heavy.describe,
        options={"slots": ["cuda:0"]},
        owner=lambda request: "ann",
        metadata=lambda request: {"plan": "free"},
    )
    job_id = await open_shop.submit()

    assert await open_shop.inside.ended(job_id) == "succeeded"
    async with open_shop.http.get(open_shop.job(job_id)) as response:
        assert (await response.json())["result"] == {
            "id": job_id,
            "owner": "ann",
            "metadata": {"plan": "free"},
            "slot": "cuda:0",
            "attempt": 1,
        }


async def test_the_app_is_not_there(shop: Open) -> None:
    """Whoever looks for the application is told what to do instead."""
    assert "process_initializer" in await result(await shop(heavy.ask_for_the_app))


async def test_generator(shop: Open) -> None:
    """All that a generator yields arrives, in order, however slow its reader is."""
    open_shop = await shop(heavy.count)
    body = {"to": 3000, "width": 300}
    async with await open_shop.post(body=body, **STREAM) as response:
        events = read_events(response)
        await anext(events)
        await until(lambda: not open_shop.inside.runtime._scheduler._active)  # it has not waited
        outputs = [event.data["data"] async for event in events if event.event == "output"]

    assert outputs == [str(number).rjust(300) for number in range(3000)]


@pytest.mark.parametrize("kind", ["ours", "theirs"])
async def test_tqdm(shop: Open, kind: str) -> None:
    """A bar in a process is the progress of its job."""
    open_shop = await shop(heavy.bars, options={"track_tqdm": kind == "theirs"})
    job_id = await open_shop.submit(body={"kind": kind})

    assert await open_shop.inside.ended(job_id) == "succeeded"
    async with open_shop.http.get(open_shop.job(job_id)) as response:
        progress = (await response.json())["progress"]
    assert (progress["step"], progress["total"], progress["message"]) == (4, 4, "pages")


async def log_lines(shop: Shop, job_id: str) -> list[str]:
    """What a job's clients are told of its log."""
    page = await shop.inside.engine.events(job_id, aioqueue._job.BEGINNING)
    return [event.data.decode() for event in page.events if event.type == "log"]


async def test_logs(shop: Open, caplog: pytest.LogCaptureFixture) -> None:
    """What it says to logging is in the server's log, and where that is wanted in its job's."""
    open_shop = await shop(heavy.say, options={"capture_logs": True})
    job_id = await open_shop.submit(body={"text": "a"})
    await open_shop.inside.ended(job_id)

    (record,) = [one for one in caplog.records if one.name == "tests.heavy"]
    assert (record.getMessage(), record.levelname) == ("logged a", "WARNING")
    assert record.process != os.getpid()
    assert ["logged a" in line for line in await log_lines(open_shop, job_id)] == [True]


async def test_logs_below_the_level(shop: Open, caplog: pytest.LogCaptureFixture) -> None:
    """The levels of the server's loggers count in its processes, too."""
    logger = logging.getLogger("tests.heavy")
    logger.setLevel(logging.ERROR)
    try:
        open_shop = await shop(heavy.say)
        await result(open_shop, "a")
    finally:
        logger.setLevel(logging.NOTSET)

    assert not [one for one in caplog.records if one.name == "tests.heavy"]


async def test_logs_of_a_job_before(shop: Open, caplog: pytest.LogCaptureFixture) -> None:
    """What a thread says that a job has left behind is not told to the clients of the next."""
    options = {"concurrency_id": "one", "executor": "process", "capture_logs": True}
    second = aioqueue.queued(name="second", **options)(heavy.let_it_be_said)
    open_shop = await shop(heavy.say_later, second, options={"concurrency_id": "one"})
    await open_shop.inside.ended(await open_shop.submit(body={"text": "a secret"}))
    job_id = await open_shop.submit("second")
    await open_shop.inside.ended(job_id)

    assert "logged a secret" in caplog.messages
    assert await log_lines(open_shop, job_id) == []


async def test_many_jobs_on_few_processes(shop: Open) -> None:
    """Twenty jobs share two processes, and each has its own result."""
    open_shop = await shop(heavy.echo, options={"concurrency_limit": None}, max_processes=2)
    async with asyncio.timeout(PATIENCE):
        results = await asyncio.gather(*(result(open_shop, str(n)) for n in range(20)))

    assert results == [str(n) for n in range(20)]
    assert open_shop.inside.runtime._processes.capacity == 2


# Being cancelled

POLITE = {"kill_timeout": 20.0}
"""So that only what is asked for can have ended it."""


async def test_a_polite_function(shop: Open, tmp_path: Path) -> None:
    """One that looks at its job ends by itself, and its process takes the next job."""
    open_shop = await shop(heavy.polite, options=POLITE)
    for name in ("a", "b"):
        job_id = await open_shop.submit(body={"where": str(tmp_path / name)})
        await pids_of(tmp_path / name)
        await cancel(open_shop, job_id)
        assert await open_shop.inside.ended(job_id) == "cancelled"
        await slot_is_free(open_shop)

    assert await pids_of(tmp_path / "a") == await pids_of(tmp_path / "b")


async def test_a_value_in_time(shop: Open, tmp_path: Path) -> None:
    """A value that a cancelled function still gives back counts."""
    open_shop = await shop(heavy.give_what_there_is, options=POLITE)
    job_id = await open_shop.submit(body={"where": str(tmp_path / "a")})
    await pids_of(tmp_path / "a")
    await cancel(open_shop, job_id)

    assert await open_shop.inside.ended(job_id) == "succeeded"


@pytest.mark.parametrize("function", [heavy.spin, heavy.sleep, heavy.spin_and_yield, heavy.linger])
async def test_an_interrupted_function(
    shop: Open, tmp_path: Path, function: Callable[..., Any]
) -> None:
    """One that does not look is interrupted: its ``finally`` runs, and its process goes."""
    open_shop = await shop(function, options={"kill_timeout": 3.0})
    job_id = await open_shop.submit(body={"where": str(tmp_path / "a")})
    (pid,) = await pids_of(tmp_path / "a")
    await cancel(open_shop, job_id)

    assert await open_shop.inside.ended(job_id) == "cancelled"
    assert (tmp_path / "a.cleaned").exists()
    await slot_is_free(open_shop)
    assert is_dead(pid)


@pytest.mark.parametrize(
    ("function", "how"),
    [(hog, "cancel") for hog in heavy.HOGS]
    + [(hog, "time limit") for hog in (heavy.spin, heavy.native)],
)
async def test_a_hog(shop: Open, tmp_path: Path, function: Callable[..., Any], how: str) -> None:
    """Whatever a function does, it and all it has started are gone soon, and its slot is free."""
    options = {"time_limit": 1.5} if how == "time limit" else {}
    open_shop = await shop(function, options=options, cancel_timeout=20)
    job_id = await open_shop.submit(body={"where": str(tmp_path / "a")})
    pids = await pids_of(tmp_path / "a")
    if how == "cancel":
        begun = time.monotonic()
        await cancel(open_shop, job_id)
        assert await open_shop.inside.ended(job_id) == "cancelled"
    else:
        assert (await error_of(open_shop, job_id))["code"] == "job_timeout"
        begun = time.monotonic()
    await slot_is_free(open_shop)
    await until_slowly(lambda: all(is_dead(pid) for pid in pids))

    print(f"{function.__name__} by {how}: {time.monotonic() - begun:.3f} s")
    assert time.monotonic() - begun < 5  # 0.5 where the machine has nothing else to do


async def test_the_next_job_after_a_hog(shop: Open, tmp_path: Path) -> None:
    """A process that had to be killed is replaced, for who has waited behind it."""
    open_shop = await shop(heavy.native)
    first = await open_shop.submit(body={"where": str(tmp_path / "a")})
    second = await open_shop.submit(body={"where": str(tmp_path / "b")})
    (pid,) = await pids_of(tmp_path / "a")
    await cancel(open_shop, first)

    assert await pids_of(tmp_path / "b") != [pid]
    await cancel(open_shop, second)
    assert await open_shop.inside.ended(second) == "cancelled"


async def test_what_a_killed_function_leaves(shop: Open, tmp_path: Path) -> None:
    """The temporary files of a killed function are gone, and so is its job's directory."""
    open_shop = await shop(heavy.with_files)
    job_id = await open_shop.submit(body={"where": str(tmp_path / "a")})
    await pids_of(tmp_path / "a")
    files = [Path(line) for line in (tmp_path / "a.files").read_text().splitlines()]
    assert all(file.exists() for file in files)
    await cancel(open_shop, job_id)
    await open_shop.inside.ended(job_id)
    await slot_is_free(open_shop)

    # Nothing of the process's, and nothing of the job's; its successor has a directory of its own.
    temporary, directory = files
    await until_slowly(lambda: not (temporary.parent.exists() or directory.exists()))


async def test_one_job_of_a_batch(shop: Open, tmp_path: Path) -> None:
    """A job of a batch that is cancelled is seen by the function, which goes on for the others."""
    open_shop = await shop(
        heavy.batch_look,
        options={"batch": True, "max_batch_size": 2, "batch_timeout": 20, **POLITE},
    )
    ids = [await open_shop.submit(body={"where": str(tmp_path / name)}) for name in "ab"]
    await pids_of(tmp_path / "b")
    await cancel(open_shop, ids[0])

    assert [await open_shop.inside.ended(one) for one in ids] == ["cancelled", "succeeded"]
    async with open_shop.http.get(open_shop.job(ids[1], "/result")) as response:
        assert await response.json() is False


async def test_a_whole_batch(shop: Open, tmp_path: Path) -> None:
    """When all jobs of a batch are cancelled its process ends."""
    open_shop = await shop(
        heavy.batch_spin, options={"batch": True, "max_batch_size": 2, "batch_timeout": 20}
    )
    ids = [await open_shop.submit(body={"where": str(tmp_path / name)}) for name in "ab"]
    (pid,) = await pids_of(tmp_path / "b")
    for job_id in ids:
        await cancel(open_shop, job_id)

    assert [await open_shop.inside.ended(one) for one in ids] == ["cancelled", "cancelled"]
    await slot_is_free(open_shop)
    assert is_dead(pid)


# Dying


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("exit", "with exit code 3"),
        ("zero", "with exit code 0"),
        ("SIGSEGV", "by SIGSEGV"),
        ("SIGKILL", "by SIGKILL"),
    ],
)
async def test_a_process_that_dies(
    shop: Open, how: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that dies fails its job, which says how, and the next job has another."""
    open_shop = await shop(heavy.end_by)
    error = await error_of(open_shop, await open_shop.submit(body={"how": how}))

    assert (error["code"], error["status"]) == ("worker_lost", 500)
    assert told in error["detail"]
    assert f"work: its process ended unexpectedly, {told}" in caplog.messages
    error = await error_of(open_shop, await open_shop.submit(body={"how": "Strange"}))
    assert error["code"] == "job_failed"


@pytest.mark.parametrize("how", ["Strange", "SystemExit", "KeyboardInterrupt"])
async def test_a_function_that_raises(
    shop: Open, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Any exception fails its job alone, with its traceback in the server's log."""
    open_shop = await shop(heavy.end_by)
    error = await error_of(open_shop, await open_shop.submit(body={"how": how}))

    assert error["code"] == "job_failed"
    assert "private" not in str(error)
    (record,) = [one for one in caplog.records if error["error_id"] in one.getMessage()]
    assert how in logging.Formatter().format(record)


async def test_a_process_that_hangs_up(shop: Open) -> None:
    """A function that closes the pipe fails its job, and its process is ended."""
    open_shop = await shop(heavy.close_the_pipe)
    error = await error_of(open_shop, await open_shop.submit())

    assert error["code"] == "worker_lost"


async def test_killed_from_outside(shop: Open, tmp_path: Path) -> None:
    """What the system kills for its memory fails alone: the other process does not notice."""
    open_shop = await shop(
        heavy.give_what_there_is, options={"concurrency_limit": 2, **POLITE}, max_processes=2
    )
    ids = [await open_shop.submit(body={"where": str(tmp_path / name)}) for name in "ab"]
    pids = [(await pids_of(tmp_path / name))[0] for name in "ab"]
    os.kill(pids[0], signal.SIGKILL)

    assert (await error_of(open_shop, ids[0]))["code"] == "worker_lost"
    assert await open_shop.inside.state(ids[1]) == "running"
    await cancel(open_shop, ids[1])
    assert await open_shop.inside.ended(ids[1]) == "succeeded"


# Their life


async def test_they_stay(shop: Open) -> None:
    """A process takes one job after the other, and was made ready once."""
    open_shop = await shop(heavy.who, process_initializer=heavy.load)
    seen = [await result(open_shop) for _ in range(5)]

    assert seen == [[seen[0][0], 1]] * 5


async def test_they_are_replaced(shop: Open) -> None:
    """After max_jobs_per_process calls a process is replaced by a new one, made ready again."""
    open_shop = await shop(heavy.who, max_jobs_per_process=2, process_initializer=heavy.load)
    seen = [await result(open_shop) for _ in range(5)]

    pids = [pid for pid, _ in seen]
    assert pids == [pids[0]] * 2 + [pids[2]] * 2 + [pids[4]]
    assert len(set(pids)) == 3
    assert {loaded for _, loaded in seen} == {1}


async def test_as_many_as_can_run(shop: Open) -> None:
    """As many start with the app as can be at work at once, and no more."""
    open_shop = await shop(heavy.echo, options={"concurrency_limit": 1}, max_processes=3)

    assert len(open_shop.inside.runtime._processes._threads) == 1


@pytest.mark.parametrize(
    ("initializer", "told"),
    [
        (heavy.fail_to_load, "RuntimeError: no such model"),
        (heavy.leave_at_once, "it ended as it started, with exit code 7"),
    ],
)
async def test_an_initializer_that_fails(
    shop: Open, initializer: Callable[[], None], told: str
) -> None:
    """An app whose processes can't start does not start, and says why."""
    with pytest.raises(ConfigurationError, match=told):
        await shop(heavy.echo, process_initializer=initializer)


async def test_an_initializer_that_cannot_be_sent(shop: Open) -> None:
    """An initializer has to be found in a process, too."""
    with pytest.raises(ConfigurationError, match="top level of a module"):
        await shop(heavy.echo, process_initializer=lambda: None)


async def test_a_function_that_cannot_be_found(serve: Any) -> None:
    """A function has to be where its name says, or the app does not start."""

    def nested() -> None: ...

    for function in (nested, lambda: None):
        with pytest.raises(ConfigurationError, match="top level of a module"):
            await serve(make_app(in_process(function)))


async def on_the_loop() -> None:
    """A coroutine function."""


async def handler(request: web.Request) -> None:
    """A handler."""


def with_request(request: web.Request) -> None:
    """A handler that could not await."""


def method(self: Any, text: str) -> None:
    """A method."""


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (on_the_loop, "leave out executor='process'"),
        (handler, "leave out executor='process'"),
        (with_request, "neither the request nor self"),
        (method, "neither the request nor self"),
    ],
)
def test_what_can_run_in_no_process(function: Callable[..., Any], told: str) -> None:
    """What needs the loop, the request or its object is refused when it is decorated."""
    with pytest.raises(ConfigurationError, match=told):
        in_process(function)


async def test_nothing_stays_behind(
    http: ClientSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """When an app has stopped there is no process of it, whatever they did; a look at threads."""
    start_quickly(monkeypatch)
    app = make_app(in_process(heavy.native, concurrency_limit=2), max_processes=2)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/work"
        for name in "ab":
            async with http.post(url, json={"where": str(tmp_path / name)}) as response:
                assert response.status == 202
        pids = [(await pids_of(tmp_path / name))[0] for name in "ab"]
    finally:
        await runner.cleanup()

    assert all(is_dead(pid) for pid in pids)


# Without an app around it


Make = Callable[..., ProcessExecutor]


@pytest.fixture
async def processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Make]:
    """`processes(2, initializer=…)` makes an executor, which is closed when the test is over."""
    start_quickly(monkeypatch)
    made: list[ProcessExecutor] = []

    def make(count: int = 1, **options: Any) -> ProcessExecutor:
        folder = tmp_path.joinpath
        made.append(ProcessExecutor(count, process_main, folder=folder, **options))
        return made[-1]

    yield make
    for executor in made:
        await executor.close()


def start(
    executor: ProcessExecutor,
    job: Job,
    function: Any = heavy.who,
    began: Callable[[], None] = lambda: None,
    **arguments: Any,
) -> Any:
    """Start a call; await it for its end."""
    payload = pack(orjson.dumps(arguments), {}, {})
    jobs = job.jobs if isinstance(job, Batch) else (job,)
    records = [JobRecord(id=one.id, function="work", queue="work", payload=payload) for one in jobs]
    call = ProcessCall(
        reference=f"tests.heavy:{function.__name__}",
        attempts=[Attempt(record, 1) for record in records],
        directories=[None for _ in jobs],
        is_batch=isinstance(job, Batch),
        tracks_tqdm=False,
        slot=None,
        kill_timeout=0.3,
    )
    work = Work(job, begin=began)
    executor.hold(job)
    executor.start(call, work)
    return work


async def test_its_time_counts_from_when_a_process_has_it(processes: Make, tmp_path: Path) -> None:
    """While a process starts, the time of the job that waits for it does not run."""
    executor = processes(initializer=partial(heavy.load_when, str(tmp_path / "go")))
    began: list[float] = []
    task = start(executor, new_job(), began=lambda: began.append(time.monotonic()))
    await until_file(tmp_path / "go.asked")
    assert began == []

    (tmp_path / "go").touch()
    assert (await task).error is None
    assert len(began) == 1


async def test_a_mate_that_is_cancelled_while_a_process_starts(
    processes: Make, tmp_path: Path
) -> None:
    """The function sees it, as it would have later."""
    executor = processes(initializer=partial(heavy.load_when, str(tmp_path / "go")))
    batch = Batch([new_job("a"), new_job("b")])
    task = start(executor, batch, heavy.batch_look, where=str(tmp_path / "a"))
    await until_file(tmp_path / "go.asked")
    executor.drop(batch, batch.jobs[0])
    (tmp_path / "go").touch()

    assert [content.body for content in (await task).value] == [b"true", b"false"]


async def test_what_works_at_the_end_may_clean_up(processes: Make, tmp_path: Path) -> None:
    """At a close a function has its ``kill_timeout``, and its ``finally`` runs."""
    executor = processes()
    task = start(executor, new_job(), heavy.spin, where=str(tmp_path / "a"))
    await pids_of(tmp_path / "a")
    await executor.close()

    assert type((await task).error) is JobCancelled
    assert (tmp_path / "a.cleaned").exists()


async def test_a_fork_of_the_server(spawned: ProcessExecutor, monkeypatch: Any) -> None:
    """What a fork of the server does at its exit is nothing to the processes of the server."""
    pid = os.getpid()
    (process,) = {one for one in gc.get_objects() if isinstance(one, Process) and one.usable}
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    process.kill()
    monkeypatch.undo()

    assert process.usable


async def test_cancel_while_its_process_starts(processes: Make, tmp_path: Path) -> None:
    """A job that waits for a process is cancelled at once, and does not run then."""
    executor = processes(initializer=partial(heavy.load_when, str(tmp_path / "go")))
    job = new_job()
    task = start(executor, job, heavy.spin, where=str(tmp_path / "a"))
    await until_file(tmp_path / "go.asked")
    executor.interrupt(job)

    assert type((await task).error) is JobCancelled
    assert executor.free == 1
    (tmp_path / "go").touch()
    assert (await start(executor, new_job("next"))).error is None
    assert not (tmp_path / "a").exists()


async def test_close_while_a_process_starts(processes: Make, tmp_path: Path) -> None:
    """An initializer that takes its time, or hangs, holds up no shutdown."""
    executor = processes(initializer=partial(heavy.load_when, str(tmp_path / "never")))
    task = start(executor, new_job())
    await until_file(tmp_path / "never.asked")
    async with asyncio.timeout(PATIENCE / 2):
        assert await executor.close()

    assert type((await task).error) is JobCancelled


async def test_a_process_that_cannot_be_replaced(
    processes: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Jobs fail for as long as no process can start, and run when one can."""
    broken = tmp_path / "broken"
    executor = processes(initializer=partial(heavy.fail_if, str(broken)))
    await executor.open(1)
    broken.touch()
    ends = [
        (await start(executor, new_job(str(n)), heavy.end_by, how="SIGKILL")).error
        for n in range(3)
    ]
    assert all(b"worker_lost" in end.problem for end in ends)
    assert b"could not start" in ends[1].problem
    assert "it is broken" in caplog.text
    broken.unlink()

    assert (await start(executor, new_job())).error is None


async def test_cancel_at_any_moment(processes: Make, tmp_path: Path) -> None:
    """A cancel in the step of the start, or in any later one, ends the job and frees the place."""
    executor = processes()
    await executor.open(1)
    for turns in range(40):
        job = new_job(str(turns))
        task = start(executor, job, heavy.echo, text="a")
        for _ in range(turns):
            await asyncio.sleep(0)
        executor.interrupt(job)
        ended = await task
        assert ended.error is None or type(ended.error) is JobCancelled
        assert executor.free == 1


async def test_a_late_kill_hits_nobody(processes: Make) -> None:
    """The kill that a cancel has announced is for its own job, not for the next one."""
    executor = processes()
    await executor.open(1)
    job = new_job()
    ended = await start(executor, job, heavy.who)
    (process,) = [one for one in gc.get_objects() if isinstance(one, Process) and one.usable]
    process.kill(job)

    assert (await start(executor, new_job("next"), heavy.who)).value.body == ended.value.body


async def test_a_process_that_does_not_listen(processes: Make, tmp_path: Path) -> None:
    """However often a process is asked that can't hear, the loop never waits for it."""
    executor = processes()
    await executor.open(1)
    batch = Batch([new_job(str(n)) for n in range(5000)])
    task = start(executor, batch, heavy.batch_native, where=str(tmp_path / "a"))
    await pids_of(tmp_path / "a")
    for job in batch.jobs:
        executor.drop(batch, job)
    executor.interrupt(batch)

    assert type((await task).error) is JobCancelled


async def test_kill_timeout(processes: Make, tmp_path: Path) -> None:
    """A call is killed after its own kill_timeout, not before."""
    executor = processes()
    await executor.open(1)
    job = new_job()
    task = start(executor, job, heavy.native, where=str(tmp_path / "a"))
    await pids_of(tmp_path / "a")
    begun = time.monotonic()
    executor.interrupt(job)
    assert type((await task).error) is JobCancelled

    assert time.monotonic() - begun >= 0.29


async def test_a_spawned_process(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A process of the usual kind: what it prints is in the server's output, and it ends well."""
    initializer, folder = heavy.load_and_take_leave, tmp_path.joinpath
    executor = ProcessExecutor(1, process_main, initializer=initializer, folder=folder)
    try:
        await executor.open(1)
        assert (await start(executor, new_job(), heavy.say, text="a")).value.body == b'"a"'
        ended = await start(executor, new_job(), heavy.who)
        assert orjson.loads(ended.value.body)[1] == 1
    finally:
        assert await executor.close()

    assert capfd.readouterr().out.splitlines() == ["printed a", "goodbye"]


@pytest.fixture
async def spawned(tmp_path: Path) -> AsyncIterator[ProcessExecutor]:
    """One process that starts as they all do."""
    references, folder = ["tests.heavy:who"], tmp_path.joinpath
    executor = ProcessExecutor(1, process_main, references=references, folder=folder)
    await executor.open(1)
    yield executor
    await executor.close()


async def test_killed_while_idle(spawned: ProcessExecutor) -> None:
    """A process that dies while it has nothing to do is replaced, and no job notices."""
    (pid, _) = orjson.loads((await start(spawned, new_job())).value.body)
    os.kill(pid, signal.SIGKILL)
    # With all its threads: the first one may be dead before the others are.
    with suppress(ChildProcessError):  # its thread was still awake, and has buried it
        await until_slowly(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))

    ended = await start(spawned, new_job("next"))
    assert ended.error is None
    assert orjson.loads(ended.value.body)[0] != pid


async def test_signals_for_the_server(spawned: ProcessExecutor, tmp_path: Path) -> None:
    """A Ctrl-C, or a service manager that ends all at once, leaves its processes to the server.

    What a function has started by a fork is ended by a SIGTERM all the same.
    """
    job = new_job()
    task = start(spawned, job, heavy.give_what_there_is, where=str(tmp_path / "a"))
    (pid,) = await pids_of(tmp_path / "a")
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    await asyncio.sleep(0)
    spawned.interrupt(job)
    assert (await task).value.body == b'"what I have"'

    ended = await start(spawned, new_job("next"), heavy.fork_and_terminate)
    assert orjson.loads(ended.value.body) == -signal.SIGTERM


# A real server

App = Callable[..., Awaitable[ServerProcess]]


async def work(http: ClientSession, url: str, function: str, where: Path) -> list[int]:
    """Start a job, and wait until it runs; answers its processes."""
    async with http.post(f"{url}/{function}", json={"where": str(where)}) as response:
        assert response.status == 202
    return await pids_of(where)


@pytest.mark.parametrize("function", ["spin", "native", "with_children"])
async def test_a_server_that_is_told_to_end(
    server_process: App, http: ClientSession, tmp_path: Path, function: str
) -> None:
    """A SIGTERM ends a server in time, whatever runs in its processes, and all of them."""
    server, url = await server_process("tests.heavy_app", env={"TMPDIR": str(tmp_path)}, timeout=30)
    pids = await work(http, url, function, tmp_path / "a")
    server.terminate()
    code = await asyncio.to_thread(server.wait, PATIENCE)

    assert code == 0
    assert all(is_dead(pid) for pid in pids)
    assert not list(tmp_path.glob("aioqueue-*"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere code in C may go on for a while")
async def test_a_server_that_is_killed(
    server_process: App, http: ClientSession, tmp_path: Path
) -> None:
    """A SIGKILL ends a server's processes with it, also in code that holds the GIL.

    And so it does what they have started.
    """
    server, url = await server_process("tests.heavy_app", timeout=30)
    pids = await work(http, url, "with_children", tmp_path / "a")
    pids += await work(http, url, "native", tmp_path / "b")
    server.kill()
    await asyncio.to_thread(server.wait)

    await until_slowly(lambda: all(is_dead(pid) for pid in pids))


NO_GUARD = """
import os
from aiohttp import web
import aioqueue

@aioqueue.queued(executor="process")
def work() -> None: ...

app = web.Application()
app.add_routes([web.post("/work", work)])
aioqueue.setup(app)
aioqueue.run_app(app, port=int(os.environ["PORT"]))
"""


async def test_a_script_without_a_guard(tmp_path: Path, free_tcp_port: int) -> None:
    """A script that starts its server when it is imported is told what to write."""
    script = tmp_path / "script.py"
    script.write_text(NO_GUARD)
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        cwd=ROOT,
        env={**os.environ, "PORT": str(free_tcp_port), "PYTHONPATH": str(ROOT)},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(server.communicate(), PATIENCE)

    assert server.returncode not in (0, None)
    assert 'put run_app(app) under `if __name__ == "__main__":`' in errors.decode()
