"""How jobs end, as values: results with a JSON form, and what of an exception is public."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any

import attrs
import orjson
import pytest
from aiohttp import web

from aioqueue._errors import JobCancelled, JobError
from aioqueue._executors import Ended
from aioqueue._job import Content, JobState, Outcome
from aioqueue._outcomes import content_of, outcomes_of
from tests.stage import new_job


@attrs.frozen
class Word:
    text: str
    boxes: list[Any] = attrs.field(factory=list)


@dataclass
class Page:
    number: int
    words: list[Word]


class Colour(Enum):
    RED = "red"


def outcome(value: Any = None, error: BaseException | None = None, most: int = 1000) -> Outcome:
    """The outcome of a function named "ocr"."""
    (only,) = outcomes_of(new_job("abc"), "ocr", Ended(value, error), most, content_of)
    return only


def problem(of: Outcome) -> dict[str, Any]:
    """The problem document of a failed job."""
    assert of.state is JobState.FAILED
    assert of.error is not None
    document: dict[str, Any] = orjson.loads(of.error)
    return document


# Values


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ([1, 2.5, "é", True], [1, 2.5, "é", True]),
        (("a", "b"), ["a", "b"]),
        (Word("hi", [Word("deep")]), {"text": "hi", "boxes": [{"text": "deep", "boxes": []}]}),
        (Page(1, [Word("hi")]), {"number": 1, "words": [{"text": "hi", "boxes": []}]}),
        (
            {1: "a", None: "b", 2.5: Word("hi")},
            {"1": "a", "null": "b", "2.5": {"text": "hi", "boxes": []}},
        ),
        ({"nan": float("nan"), "inf": float("inf")}, {"nan": None, "inf": None}),
        (Colour.RED, "red"),
        (
            [date(2026, 1, 2), datetime(2026, 1, 2, tzinfo=UTC)],
            ["2026-01-02", "2026-01-02T00:00:00+00:00"],
        ),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_values_with_a_json_form(value: object, expected: object) -> None:
    """What JSON can hold is a result: attrs classes, dataclasses and odd keys included."""
    result = outcome(value)

    assert result.state is JobState.SUCCEEDED
    assert result.result is not None
    assert result.result.is_value
    assert json.loads(result.result.body) == expected


@pytest.mark.parametrize(
    "value",
    [{1, 2}, 2**64, object(), "\ud800", {(1, 2): 3}, [[Word(text=b"x")]], {1: {2}}],
    ids=["set", "large", "object", "surrogate", "keys", "nested", "values"],
)
def test_values_without_a_json_form(value: object, caplog: pytest.LogCaptureFixture) -> None:
    """What JSON can't hold fails the job, says why to the client, and is in the log."""
    found = problem(outcome(value))

    assert (found["code"], found["status"]) == ("result_not_serializable", 500)
    assert found["detail"].startswith("ocr gave back something that has no JSON form: ")
    assert found["detail"] in caplog.text


def test_value_that_is_too_deep() -> None:
    """A list in a list in a list … fails its job, and nothing else."""
    value: list[Any] = []
    for _ in range(1000):
        value = [value]

    assert problem(outcome(value))["code"] == "result_not_serializable"


def test_value_that_raises_when_it_is_looked_at() -> None:
    """A result whose own code fails fails its job."""

    @attrs.define
    class Broken:
        text: str

        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("not even a name")

    assert problem(outcome([Broken("x")]))["code"] == "result_not_serializable"


def test_value_that_is_too_large() -> None:
    """A result beyond its bound fails the job; one just within it does not."""
    assert outcome("x" * 98, most=100).state is JobState.SUCCEEDED
    found = problem(outcome("x" * 99, most=100))

    assert (found["code"], found["status"]) == ("result_too_large", 500)
    assert found["detail"] == "The result has 101 bytes; 100 are allowed."


@pytest.mark.parametrize("path", [None, "/large"])
def test_results_in_memory_that_are_too_large(path: str | None) -> None:
    """Bytes have the bound of values, whatever they are called; a file has another one."""
    content = Content(b"x" * 101, "image/png", "a.png", path=path, file_size=101)

    assert problem(outcome(content, most=100))["code"] == "result_too_large"
    assert outcome(content, most=101).state is JobState.SUCCEEDED
    assert outcome(attrs.evolve(content, is_file=True), most=100).state is JobState.SUCCEEDED


def test_content_is_stored_as_it_is() -> None:
    """What is content already is not encoded again."""
    content = Content(b"\x89PNG", "image/png", "a.png")

    assert content_of(content) is content
    assert outcome(content).result is content


def test_no_numpy() -> None:
    """Results are encoded without importing numpy, which takes long where it is installed."""
    # In a process of its own: here the test tools may have imported it.
    code = (
        "import sys; from aioqueue._outcomes import content_of; content_of({1: [1.5]}); "
        "sys.exit('numpy' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Exceptions


@pytest.mark.parametrize("error", [asyncio.CancelledError(), JobCancelled("enough")])
def test_cancelled(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Both ways out of a cancelled function make the job cancelled, and no noise."""
    assert outcome(error=error) == Outcome("abc", JobState.CANCELLED)
    assert not caplog.records


@pytest.mark.parametrize(
    "error",
    [
        ValueError("the password is swordfish"),
        SystemExit("swordfish"),
        KeyboardInterrupt("swordfish"),
        GeneratorExit("swordfish"),
        StopIteration("swordfish"),
        TimeoutError("swordfish"),
        ConnectionResetError("swordfish"),
    ],
    ids=repr,
)
def test_private_text(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """A client gets an error id and no text; the log has the traceback under the same id."""
    found = problem(outcome(error=error))

    assert (found["code"], found["status"]) == ("job_failed", 500)
    assert b"swordfish" not in orjson.dumps(found)
    assert re.fullmatch("[0-9a-f]{8}", found["error_id"])
    assert found["error_id"] in found["detail"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == f"ocr failed (error id {found['error_id']})"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_error_ids_differ() -> None:
    """Two failures can be told apart."""
    ids = {problem(outcome(error=ValueError()))["error_id"] for _ in range(20)}

    assert len(ids) == 20


@pytest.mark.parametrize(
    ("error", "detail", "status"),
    [
        (JobError("No text in there."), "No text in there.", 500),
        (JobError("No text in there.", status=422), "No text in there.", 422),
        (web.HTTPPaymentRequired(text="Five coins."), "Five coins.", 402),
        (web.HTTPInternalServerError(), "500: Internal Server Error", 500),
        (web.HTTPNotFound(text="", reason="No such page"), "No such page", 404),
    ],
    ids=repr,
)
def test_public_text(
    error: Exception, detail: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The text and status of a JobError, and of aiohttp's own exceptions, are for the client."""
    found = problem(outcome(error=error))

    assert (found["code"], found["detail"], found["status"]) == ("job_failed", detail, status)
    assert "error_id" not in found
    assert not caplog.records


@pytest.mark.parametrize(
    "error",
    [
        JobError("a\ud800b"),
        JobError(ValueError("a?b")),
    ],
    ids=repr,
)
def test_public_text_that_json_cannot_hold(error: Exception) -> None:
    """Half a character from an odd file name, or what is no text, does not lose the job."""
    assert problem(outcome(error=error))["detail"] == "a?b"


def test_what_only_looks_public(caplog: pytest.LogCaptureFixture) -> None:
    """The error of another API's client stays private, though it has a status and a text."""

    class ApiError(Exception):
        status = 403
        text = "swordfish"

    for error in (ApiError(), web.HTTPFound("/swordfish")):
        assert b"swordfish" not in orjson.dumps(problem(outcome(error=error)))
    assert len(caplog.records) == 2
