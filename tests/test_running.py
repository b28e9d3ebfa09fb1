"""The running job as the function sees it, and where it can be had."""

from __future__ import annotations

import asyncio
import inspect
import threading
from contextvars import copy_context

import pytest

import aioqueue
from aioqueue._running import CURRENT, Job, current_job
from tests import stage
from tests.inside import make_app


def new_job(**fields: object) -> Job:
    """The second attempt at a job named "abc"."""
    return stage.new_job("abc", attempt=2, app="the app", **fields)


def test_job_says_what_it_is() -> None:
    """A job knows its id, attempt, owner, metadata and app."""
    job = new_job(owner="ada", metadata=b'{"plan":"free"}')

    assert (job.id, job.attempt, job.owner, job.app) == ("abc", 2, "ada", "the app")
    assert job.metadata == {"plan": "free"}
    assert repr(job) == "<Job abc attempt=2 cancelled=False>"


def test_nobodys_job() -> None:
    """Without hooks there is no owner and no metadata."""
    job = new_job()

    assert job.owner is None
    assert job.metadata is None


def test_metadata_is_the_functions_own() -> None:
    """What a function does to the metadata it was given stays with it."""
    job = new_job(metadata=b"[1]")
    job.metadata.append(2)

    assert job.metadata == [1]


def test_cancelled_job() -> None:
    """A job that was cancelled says so, and raises on request what no ``except Exception`` eats."""
    job = new_job()
    job.raise_if_cancelled()
    job.cancel()

    assert job.cancelled
    assert not issubclass(aioqueue.JobCancelled, Exception)
    with pytest.raises(aioqueue.JobCancelled, match="job abc was cancelled"):
        job.raise_if_cancelled()


def test_no_job_is_running() -> None:
    """Outside a function there is no current job, and the error says how threads get one."""
    with pytest.raises(aioqueue.AioqueueError, match=r"copy_context\(\)\.run"):
        current_job()


def test_current_job_is_that_of_the_context() -> None:
    """Each context has its own job."""
    one, other = new_job(), new_job()
    contexts = copy_context(), copy_context()
    for job, context in zip((one, other), contexts, strict=True):
        context.run(CURRENT.set, job)

    assert [context.run(current_job) for context in contexts] == [one, other]


async def test_job_as_a_parameter(serve, http) -> None:
    """A function gets its job by annotation or default, and code below it gets the same one."""

    @aioqueue.queued
    def by_annotation(text: str, job: aioqueue.Job) -> list[bool]:
        return [job is aioqueue.current_job()]

    @aioqueue.queued
    async def by_default(text: str, job=aioqueue.JOB) -> list[bool]:
        below = await asyncio.create_task(asyncio.to_thread(aioqueue.current_job))
        return [job is aioqueue.current_job(), job is below]

    @aioqueue.queued
    def in_a_thread_of_its_own(text: str, job: aioqueue.Job = aioqueue.JOB) -> list[bool]:
        seen: list[bool] = []
        context = copy_context()
        for run in (lambda call: call(), lambda call: context.run(call)):
            thread = threading.Thread(target=run, args=[lambda: seen.append(is_it(job))])
            thread.start()
            thread.join()
        return seen

    def is_it(job: aioqueue.Job) -> bool:
        try:
            return aioqueue.current_job() is job
        except aioqueue.AioqueueError:
            return False

    functions = by_annotation, by_default, in_a_thread_of_its_own
    url = await serve(make_app(*functions))
    results = []
    for function in functions:
        headers = {"Prefer": "wait=10"}
        async with http.post(
            f"{url}/{function.name}", json={"text": "x"}, headers=headers
        ) as response:
            results.append(await response.json())

    assert results == [[True], [True, True], [False, True]]


def test_public_names_of_a_job() -> None:
    """A job offers what DESIGN promises to users, and one door for the scheduler."""
    public = {name for name, _ in inspect.getmembers(Job) if not name.startswith("_")}

    assert public == {
        "app",
        "attempt",
        "cancel",
        "cancelled",
        "id",
        "log",
        "metadata",
        "owner",
        "progress",
        "raise_if_cancelled",
    }
