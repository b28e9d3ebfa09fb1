"""From a job's log to the messages of Gradio's clients: each field is one they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest

from aioqueue._errors import JobError, Problem
from aioqueue._eventlog import Reader
from aioqueue._job import BEGINNING, Content, Emission, JobState, Outcome
from aioqueue._outbox import Progress
from aioqueue._outcomes import failed as failed_outcome
from aioqueue.gradio._messages import JobMessages, Message, encoded, estimation, failed, terminal
from tests.clock import ManualClock
from tests.gradio.visitor import kinds_of
from tests.inside import Worker

pytestmark = pytest.mark.one_loop


@attrs.frozen
class Exposed:
    """A function with so many outputs."""

    outputs: tuple[Any, ...] = (Any,)
    yields: bool = False


class Tale:
    """One job, and what is told of it."""

    def __init__(self, worker: Worker, exposed: Any) -> None:
        self.worker = worker
        self.reader = Reader(worker.engine, {"job": BEGINNING}).__enter__()
        self.messages = JobMessages(exposed, "job", worker.engine, "http://here/file=")

    @classmethod
    async def begin(cls, count: int = 1, yields: bool = False, **retention: Any) -> Tale:
        """A job that has started, of a function with so many outputs."""
        worker = await Worker(ManualClock()).open(**retention)
        await worker.enqueue("job")
        await worker.claim()
        return cls(worker, Exposed((Any,) * count, yields))

    async def say(self, kind: str, fields: Any, *, durable: bool = True) -> None:
        """Let the job say something."""
        emission = Emission(kind, orjson.dumps(fields), durable)
        await self.worker.engine.emit(self.worker.claims["job"], "job", [emission])

    async def end(self, result: Any = None, **outcome: Any) -> None:
        """Let the job end, by default with a result."""
        content = result if isinstance(result, Content) else Content(orjson.dumps(result))
        outcome = outcome or {"state": JobState.SUCCEEDED, "result": content}
        claim = self.worker.claims.pop("job")
        await self.worker.engine.settle(claim, [Outcome("job", **outcome)])

    async def told(self) -> list[Message]:
        """The messages that are new."""
        pages = await self.reader.read()
        messages = [message for _, page in pages async for message in self.messages.of(page)]
        assert all(message["event_id"] == "job" for message in messages)
        return messages

    async def last(self) -> Message:
        """The end."""
        *others, end = await self.told()
        assert terminal(end)
        assert not any(map(terminal, others))
        return end


def values(*data: Any, going_on: bool = False) -> Message:
    """The message that has these values."""
    kind = "process_generating" if going_on else "process_completed"
    output = {"data": list(data), "is_generating": going_on}
    return {"msg": kind, "event_id": "job", "output": output, "success": True}


# One by one


def test_estimation() -> None:
    """A rank counts from nought; who is held beside the line has none."""
    expected = {"msg": "estimation", "event_id": "job", "queue_size": 7}
    assert estimation("job", 3, 7, 1.5) == {**expected, "rank": 2, "rank_eta": 1.5}
    assert estimation("job", None, 7, None) == {**expected, "rank": None, "rank_eta": None}


def test_failed() -> None:
    """Beside an error stands nothing that the Python client does not know."""
    assert failed("job", "no") == {
        "msg": "process_completed",
        "event_id": "job",
        "output": {"error": "no", "duration": 10, "visible": True, "title": "Error"},
        "success": False,
    }


async def test_starts() -> None:
    """A start comes with the time it will likely take, once that is known."""
    tale = await Tale.begin()
    assert await tale.told() == [{"msg": "process_starts", "event_id": "job", "eta": None}]
    tale.worker.engine._clock.advance(4)
    await tale.end()
    await tale.worker.enqueue("next")
    await tale.worker.claim()
    tale.reader.follow("next")
    await tale.reader.read()
    page = await tale.worker.engine.events("next", BEGINNING)
    assert page is not None
    messages = JobMessages(Exposed(), "next", tale.worker.engine, "")  # type: ignore[arg-type]
    assert [one async for one in messages.of(page)] == [
        {"msg": "process_starts", "event_id": "next", "eta": 4.0}
    ]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", "info"),
        ("info", "info"),
        ("warning", "warning"),
        ("success", "success"),
        ("error", "error"),
        ("critical", "error"),
        ("of my own", "error"),
    ],
)
async def test_log(level: str, expected: str) -> None:
    """A line has a level that clients know, whatever the function calls it."""
    tale = await Tale.begin()
    await tale.say("log", {"level": level, "message": "two\nlines"})
    assert (await tale.told())[1:] == [
        {
            "msg": "log",
            "event_id": "job",
            "log": "two\nlines",
            "level": expected,
            "title": expected.title(),
            "duration": 10,
            "visible": True,
        }
    ]


@pytest.mark.parametrize(
    ("progress", "index", "length", "share"),
    [
        (Progress(0.25), None, None, 0.25),
        (Progress(None, 1, 4), 1, 4, None),
        (Progress(None, 3), 3, None, None),
        (Progress(None, 0, 0), 0, 0, None),
        (Progress(7.5), None, None, 1.0),
    ],
)
async def test_progress(progress: Progress, index: Any, length: Any, share: Any) -> None:
    """Progress is either steps or a share, never both."""
    tale = await Tale.begin()
    await tale.told()
    await tale.worker.engine.emit(
        tale.worker.claims["job"], "job", [progress._replace(message="step").emission()]
    )
    assert await tale.told() == [
        {
            "msg": "progress",
            "event_id": "job",
            "progress_data": [
                {
                    "index": index,
                    "length": length,
                    "unit": "steps",
                    "progress": share,
                    "desc": "step",
                }
            ],
        }
    ]


async def test_in_order() -> None:
    """What was said comes as it was said; how far the job is now comes last, and before its end."""
    tale = await Tale.begin()
    await tale.say("log", {"level": "info", "message": "1"})
    await tale.say("output", {"data": 2})
    await tale.say("log", {"level": "info", "message": "3"})
    await tale.say(
        "progress", {"step": None, "total": None, "progress": 1, "message": ""}, durable=False
    )
    assert kinds_of(await tale.told()) == [
        "process_starts",
        "log",
        "process_generating",
        "log",
        "progress",
    ]
    await tale.end()
    assert kinds_of(await tale.told()) == ["process_completed"]
    assert await tale.told() == []


async def test_what_clients_do_not_know() -> None:
    """An event of another kind is not told: it would end the job for the Python client."""
    tale = await Tale.begin()
    await tale.say("something", {"new": True})
    assert kinds_of(await tale.told()) == ["process_starts"]


# Results


@pytest.mark.parametrize(
    ("count", "result", "expected"),
    [
        (1, 3, [3]),
        (1, None, [None]),
        (1, [1, 2], [[1, 2]]),
        (1, {"error": "mine"}, [{"error": "mine"}]),
        (2, [1, [2]], [1, [2]]),
        (2, [None, None], [None, None]),
        (0, None, []),
        (0, "ignored", []),
    ],
)
async def test_result(count: int, result: Any, expected: Any) -> None:
    """A result is the list of what each output gets."""
    tale = await Tale.begin(count)
    await tale.end(result)
    assert await tale.last() == values(*expected)


@pytest.mark.parametrize("result", [None, 3, "ab", [1], [1, 2, 3], {"a": 1, "b": 2}])
async def test_a_result_of_another_length(result: Any) -> None:
    """What is not as many values as were promised is a failure, which says so."""
    tale = await Tale.begin(2)
    await tale.end(result)
    end = await tale.last()
    assert end == failed("job", "The function did not give back 2 values, as its annotation says.")


async def test_no_result() -> None:
    """A job that ended with nothing has null."""
    tale = await Tale.begin()
    await tale.end(state=JobState.SUCCEEDED)
    assert await tale.last() == values(None)


async def test_a_large_result(tmp_path: Path) -> None:
    """A result that lies in a file for its size is read; if it is gone, the job says so."""
    path = tmp_path / "result"
    path.write_bytes(orjson.dumps(["x" * 1000]))
    content = Content(path=str(path), file_size=1004)
    tale = await Tale.begin()
    await tale.end(content)
    assert await tale.last() == values(["x" * 1000])
    tale = await Tale.begin()
    await tale.end(content)
    path.unlink()
    assert await tale.last() == failed("job", "The file that was the result is no longer there.")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("cat.png", "job/cat.png"),
        (None, "job/result"),
        ("ä b?#%.png", "job/%C3%A4%20b%3F%23%25.png"),
    ],
)
async def test_a_file(name: str | None, path: str) -> None:
    """A result that is a file is where clients can get it, and what it is."""
    content = Content(
        content_type="image/png", name=name, path="/nowhere", file_size=7, is_file=True
    )
    tale = await Tale.begin()
    await tale.end(content)
    assert await tale.last() == values(
        {
            "path": f"job/{name or 'result'}",
            "url": f"http://here/file={path}",
            "orig_name": name or "result",
            "size": 7,
            "mime_type": "image/png",
            "is_stream": False,
            "meta": {"_type": "gradio.FileData"},
        }
    )


async def test_bytes() -> None:
    """Bytes are a file, too; where two things were promised, one file is a failure."""
    content = Content(b"abc", "application/octet-stream")
    tale = await Tale.begin()
    await tale.end(content)
    (told,) = (await tale.last())["output"]["data"]
    assert (told["path"], told["size"]) == ("job/result", 3)
    tale = await Tale.begin(2)
    await tale.end(content)
    assert not (await tale.last())["success"]


# Generators


async def test_outputs() -> None:
    """Each output comes with its full values, and the end repeats the last ones."""
    tale = await Tale.begin(yields=True)
    await tale.say("output", {"data": "a"})
    await tale.say("output", {"data": "ab"})
    assert (await tale.told())[1:] == [values("a", going_on=True), values("ab", going_on=True)]
    await tale.end(["a", "ab"])
    assert await tale.last() == values("ab")


async def test_outputs_of_several_places() -> None:
    """A tuple that is yielded fills all outputs; what is none is told when the function ends."""
    tale = await Tale.begin(2, yields=True)
    await tale.say("output", {"data": [1, "a"]})
    await tale.say("output", {"data": [2]})
    await tale.say("output", {"data": [3, "c"]})
    assert [one["msg"] for one in await tale.told()] == ["process_starts", "process_generating"]
    await tale.end([[1, "a"], [2], [3, "c"]])
    *_, end = await tale.told()
    assert not end["success"]
    assert "2 values" in end["output"]["error"]


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_nothing_yielded(count: int) -> None:
    """A generator that has yielded nothing ends with a null for each output."""
    tale = await Tale.begin(count, yields=True)
    await tale.end([])
    assert await tale.last() == values(*[None] * count)


async def test_yielding_nothing() -> None:
    """A generator may yield null, and that is its last value then."""
    tale = await Tale.begin(yields=True)
    await tale.say("output", {"data": 1})
    await tale.say("output", {"data": None})
    await tale.end([1, None])
    assert await tale.last() == values(None)


async def test_a_generator_that_nobody_heard() -> None:
    """Who knows only the result gets its last value; of a result that was not kept null."""
    for result, expected in ((Content(b"[1,2]"), 2), (Content(b"null", truncated=True), None)):
        tale = await Tale.begin(yields=True)
        await tale.end(result)
        assert await tale.last() == values(expected)


async def test_a_log_that_did_not_keep_all() -> None:
    """Where the log has forgotten the first outputs, the last one is still the result."""
    tale = await Tale.begin(yields=True, max_log_events=2)
    for value in range(5):
        await tale.say("output", {"data": value})
    assert await tale.told() == [values(3, going_on=True), values(4, going_on=True)]
    await tale.end(Content(b"null", truncated=True))
    assert await tale.last() == values(4)


# Failures


async def test_failure() -> None:
    """A failure says what its author wrote for the client."""
    tale = await Tale.begin()
    error = failed_outcome("job", "f", JobError("No text in it."))
    await tale.end(state=error.state, error=error.error)
    assert await tale.last() == failed("job", "No text in it.")


async def test_private_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Any other exception stays with the server: the client gets the id to look for."""
    tale = await Tale.begin()
    error = failed_outcome("job", "f", ValueError("the password is 1234"))
    await tale.end(state=error.state, error=error.error)
    text = (await tale.last())["output"]["error"]
    assert "1234" not in text
    assert "Traceback" not in text
    assert "1234" in caplog.text
    assert text.split()[-1].rstrip(".") in caplog.text


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("client", "Job cancelled"),
        ("disconnect", "Job cancelled"),
        (None, "Job cancelled"),
        ("shutdown", "The server shut down before the job ended."),
    ],
)
async def test_cancelled(reason: str | None, text: str) -> None:
    """A cancel is a failure for clients, which says who is to blame."""
    tale = await Tale.begin()
    await tale.end(state=JobState.CANCELLED, reason=reason)
    assert await tale.last() == failed("job", text)


async def test_failure_after_outputs() -> None:
    """What was put out before a failure is told, and does not stand for a result."""
    tale = await Tale.begin(yields=True)
    await tale.say("output", {"data": 1})
    problem = Problem.of("job_failed", "no more")
    await tale.end(state=JobState.FAILED, error=problem.to_json())
    assert (await tale.told())[1:] == [values(1, going_on=True), failed("job", "no more")]


async def test_forgotten() -> None:
    """A job whose end nobody knows any more has ended."""
    tale = await Tale.begin()
    await tale.end(3)
    pages = await tale.reader.read()
    tale.worker.engine._clock.advance(601)
    await tale.worker.engine.reap()
    messages = [message for _, page in pages async for message in tale.messages.of(page)]
    assert messages[-1] == failed("job", "The job has ended and is no longer kept.")


# As JSON


@pytest.mark.parametrize("depth", [1, 250, 254, 260])
def test_encoded(depth: int) -> None:
    """A value is encoded on one line, however deep a result may be."""
    value: Any = 'a\n"\u2028☃'
    for _ in range(depth):
        value = [value] if depth > 100 else {"a": [value, 1.5, None, True]}
    data = encoded(value)
    assert b"\n" not in data
    assert b" " not in data
    assert orjson.loads(data) == value


async def test_a_result_as_it_is_stored() -> None:
    """A large result is told as it is stored: to take it apart would stop everybody else."""
    tale = await Tale.begin(1, max_event_bytes=1 << 20)
    text = "x" * (100 << 10)
    await tale.end({"text": text})
    end = await tale.last()
    assert isinstance(end["output"]["data"][0], orjson.Fragment)
    assert orjson.loads(encoded(end))["output"]["data"] == [{"text": text}]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "..\\..\\b", "..", None])
async def test_name_of_a_result(name: str | None) -> None:
    """The name that a function gave its file is one name, and leads nowhere else."""
    tale = await Tale.begin(1)
    await tale.end(Content(b"1", "application/octet-stream", name))
    (file,) = (await tale.last())["output"]["data"]
    assert file["path"].startswith("job/")
    assert file["path"].count("/") == 1
    assert file["orig_name"] in ("passwd", "b", "result")
