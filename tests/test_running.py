"""The running job as the function sees it, and where it can be had."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from contextvars import copy_context
from pathlib import Path
from typing import Any

import orjson
import pytest

import aioqueue
from aioqueue._batch import Batch, BatchMismatch
from aioqueue._encoding import NoJsonForm
from aioqueue._outbox import Progress
from aioqueue._running import CURRENT, Job, capture, current_job, outputs_of
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
        "directory",
        "id",
        "log",
        "metadata",
        "owner",
        "progress",
        "raise_if_cancelled",
        "slot",
    }


# What a job says


def said(job: Job) -> list[Any]:
    """What a job has said: the job's id, the kind, the fields."""
    return [
        (job_id, emission.type, orjson.loads(emission.fields))
        for job_id, emission in job._outbox.said  # type: ignore[attr-defined]
    ]


def notes(job: Job) -> dict[str, Progress]:
    """What was said last about how far it is, by job."""
    noted: dict[str, Progress] = job._outbox.notes  # type: ignore[attr-defined]
    return noted


class Scalar:
    """A number as numpy and torch have them."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        return f"Scalar({self.value})"


class Double(float):
    """Numpy's float64 is one of these, and JSON does not know it."""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0.4,), Progress(0.4)),
        ((1,), Progress(1)),
        ((4, 10, "denoise"), Progress(None, 4, 10, "denoise")),
        ((0.5, None, "half"), Progress(0.5, message="half")),
        ((Scalar(0.5),), Progress(0.5)),
        ((Scalar(1.0), Scalar(2.0)), Progress(None, 1.0, 2.0)),
        ((Double(1), Double(2)), Progress(None, 1.0, 2.0)),
        ((2**64, 2**65), Progress(None, 2.0**64, 2.0**65)),
        ((True, 2), Progress(None, 1, 2)),
        ((0.5, None, Path("a")), Progress(0.5, message="a")),
    ],
    ids=repr,
)
def test_progress(arguments: Any, expected: Progress) -> None:
    """A share, or steps of a total, of any kind of number; it can always be sent."""
    job = new_job()
    job.progress(*arguments)

    assert notes(job) == {"abc": expected}
    assert orjson.loads(notes(job)["abc"].emission().fields)["progress"] is not None


@pytest.mark.parametrize("arguments", [(None,), ("half",), ([],), (1, object()), (10**400, 1)])
def test_progress_that_is_no_number(arguments: Any) -> None:
    """It is the function that hears of it, where the mistake is."""
    job = new_job()
    with pytest.raises((TypeError, ValueError, OverflowError)):
        job.progress(*arguments)

    assert not notes(job)


def test_progress_of_a_cancelled_job() -> None:
    """``progress`` is a way out of a cancelled function; ``log`` is not, its last words are."""
    job = new_job()
    job.cancel()
    with pytest.raises(aioqueue.JobCancelled):
        job.progress(0.5)
    job.log("cleaning up")

    assert not notes(job)
    assert said(job) == [("abc", "log", {"level": "info", "message": "cleaning up"})]


def test_log() -> None:
    """A line has a text, whatever it was made from, and a level."""
    job = new_job()
    job.log("a")
    job.log(ValueError("b"), level="error")
    job.log("c\ud800", "mine")

    assert [fields for *_, fields in said(job)] == [
        {"level": "info", "message": "a"},
        {"level": "error", "message": "b"},
        {"level": "mine", "message": "c?"},
    ]


def test_captured_lines() -> None:
    """What was logged is said only where the function asked for it, and waits for no room."""
    job = new_job()
    job._outbox.wait_for_room = None  # type: ignore[assignment, method-assign]
    capture(job, "not asked for", "info")
    job._captures_logs = True
    capture(job, "asked for", "info")

    assert [fields["message"] for *_, fields in said(job)] == ["asked for"]


def test_outputs() -> None:
    """What a generator yields is numbered from 0; nothing is put out for a cancelled job."""
    job = new_job()
    outputs = [*outputs_of(job, {"a": 1}), *outputs_of(job, None)]

    assert [(job_id, one.type, one.fields, one.durable) for job_id, one in outputs] == [
        ("abc", "output", b'{"index":0,"data":{"a":1}}', True),
        ("abc", "output", b'{"index":1,"data":null}', True),
    ]
    with pytest.raises(NoJsonForm):
        outputs_of(job, object())
    job.cancel()
    with pytest.raises(aioqueue.JobCancelled):
        outputs_of(job, 1)


# A batch


def new_batch(*records: dict[str, Any]) -> Batch:
    """A batch of jobs "0", "1", …, whose jobs share an outbox."""
    jobs = [stage.new_job(str(n), app="the app", **record) for n, record in enumerate(records)]
    for job in jobs:
        job._outbox = jobs[0]._outbox
    return Batch(jobs)


def test_batch_is_cancelled_when_all_are() -> None:
    """One that is left is worth the work."""
    batch = new_batch({}, {})
    batch.jobs[0].cancel()
    assert not batch.cancelled
    batch.raise_if_cancelled()
    batch.jobs[1].cancel()

    assert batch.cancelled
    with pytest.raises(aioqueue.JobCancelled):
        batch.progress(0.5)


def test_job_whose_batch_goes_on() -> None:
    """The progress of a job that was cancelled alone is dropped: raising would end the others."""
    batch = new_batch({}, {})
    one, other = batch.jobs
    one.cancel(goes_on=True)
    one.progress(0.5)
    other.progress(0.5)
    assert one.cancelled
    assert list(notes(batch)) == ["1"]
    batch.cancel()

    for job in (one, other, batch):
        with pytest.raises(aioqueue.JobCancelled):
            job.progress(0.5)


def test_cancelled_batch() -> None:
    """To cancel a batch is to cancel each of its jobs."""
    batch = new_batch({}, {})
    batch.cancel()

    assert batch.cancelled
    assert all(job.cancelled for job in batch.jobs)


@pytest.mark.parametrize(
    ("records", "owner", "metadata"),
    [
        ([{}, {}], None, None),
        ([{"owner": "ada", "metadata": b"[1]"}] * 2, "ada", [1]),
        ([{"owner": "ada"}, {"owner": "bob"}], None, None),
        ([{"owner": "ada", "metadata": b"[1]"}, {"owner": "ada", "metadata": b"[2]"}], "ada", None),
        ([{"owner": "ada"}, {}], None, None),
    ],
)
def test_what_a_batch_has_in_common(records: Any, owner: Any, metadata: Any) -> None:
    """Owner and metadata are those of all its jobs, or None; its id is that of the first."""
    batch = new_batch(*records)

    assert (batch.owner, batch.metadata) == (owner, metadata)
    assert (batch.id, batch.attempt, batch.app) == ("0", 1, "the app")


def test_batch_speaks_to_all_that_live() -> None:
    """Progress and lines go to each job, but to none that was cancelled or has failed."""
    batch = new_batch({}, {}, {}, {})
    batch.jobs[1].cancel()
    batch.errors["2"] = ValueError()
    batch.progress(1, 2, "x")
    batch.log("hello")

    assert notes(batch) == dict.fromkeys("03", Progress(None, 1, 2, "x"))
    assert [(job_id, fields["message"]) for job_id, _, fields in said(batch)] == [
        ("0", "hello"),
        ("3", "hello"),
    ]


def test_outputs_of_a_batch() -> None:
    """A yielded list is an output for each job; an exception in it fails that job for good."""
    batch = new_batch({}, {}, {})
    error = ValueError()
    batch.jobs[0].cancel()

    def outputs(*entries: Any) -> list[Any]:
        return [(job_id, orjson.loads(one.fields)) for job_id, one in outputs_of(batch, entries)]

    assert outputs("a", "b", error) == [("1", {"index": 0, "data": "b"})]
    assert batch.errors == {"2": error}
    assert outputs("c", "d", "e") == [("1", {"index": 1, "data": "d"})]
    assert outputs("f", object(), "g") == []
    assert isinstance(batch.errors["1"], NoJsonForm)
    with pytest.raises(aioqueue.JobCancelled, match="no job of the batch needs the rest"):
        outputs("h", "i", "j")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (["a"], "1"),
        (("a", "b", "c"), "3"),
        ([], "0"),
        ("ab", "a str"),
        (b"ab", "a bytes"),
        ({"a": 1, "b": 2}, "a dict"),
        ({1, 2}, "a set"),
        (None, "a NoneType"),
        (iter([1, 2]), "a list_iterator"),
    ],
)
def test_entries_that_do_not_match(value: Any, found: str) -> None:
    """Anything but a list with one entry a job is an error that says what there was."""
    batch = new_batch({}, {})
    for verb in ("returned", "yielded"):
        with pytest.raises(BatchMismatch) as caught:
            batch.entries_of(value, verb)
        assert str(caught.value) == (
            "a batch function must give back a list with one entry a job, "
            f"and {verb} {found} for 2 jobs"
        )


def test_entries_that_match() -> None:
    """Lists, tuples, and whatever else has a length and an order will do."""
    batch = new_batch({}, {})

    assert batch.entries_of([1, 2], "returned") == [1, 2]
    assert batch.entries_of((1, 2), "returned") == [1, 2]
    assert batch.entries_of(deque([1, 2]), "returned") == [1, 2]
