"""Errors and problem documents: the words that clients and programs rely on."""

from __future__ import annotations

import ast
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given, strategies as st

import aioqueue
from aioqueue._errors import _CATALOGUE, JobError, JobFailed, Problem, Refused

# What each code means on the wire; a code never changes its status.
STATUS = {
    "bad_request": 400,
    "invalid_json": 400,
    "idempotency_key_invalid": 400,
    "cross_site": 403,
    "not_found": 404,
    "body_timeout": 408,
    "job_cancelled": 409,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "invalid_arguments": 422,
    "idempotency_key_reused": 422,
    "quota_exceeded": 429,
    "internal_error": 500,
    "job_failed": 500,
    "result_not_serializable": 500,
    "result_too_large": 500,
    "worker_lost": 500,
    "engine_unavailable": 503,
    "lost_on_shutdown": 503,
    "queue_full": 503,
    "queue_timeout": 503,
    "shutting_down": 503,
    "too_many_streams": 503,
    "job_timeout": 504,
}


@pytest.mark.parametrize(("code", "status"), STATUS.items())
def test_a_code_has_its_status(code: str, status: int) -> None:
    """A problem is made of its code: status and title come with it, and HTTP knows the status."""
    problem = Problem.of(code, "What happened.")

    assert problem.status == HTTPStatus(status)
    assert problem.title[0].isupper()
    assert not problem.title.endswith(".")


def _codes_in(path: Path) -> set[str]:
    """The codes that a module makes problems of."""
    return {
        node.args[0].value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (node.func.attr, getattr(node.func.value, "id", "")) == ("of", "Problem")
        and isinstance(node.args[0], ast.Constant)
    }


def test_no_code_is_made_up() -> None:
    """Every code in the package is in the catalogue, where it has a status."""
    used = set().union(*map(_codes_in, Path(aioqueue.__file__).parent.rglob("*.py")))

    assert len(used) > 10
    assert used <= _CATALOGUE.keys()


def test_a_document() -> None:
    """The members stand as RFC 9457 lists them; `code` and what is the problem's own follow."""
    problem = Problem.of("queue_full", "It is full.", queue_size=3, eta=None)

    assert problem.to_json("/work") == (
        b'{"type":"urn:aioqueue:problem:queue-full","title":"The queue is full","status":503,'
        b'"detail":"It is full.","instance":"/work","code":"queue_full","queue_size":3,"eta":null}'
    )
    assert list(orjson.loads(problem.to_json())) == [
        *["type", "title", "status", "detail", "code", "queue_size", "eta"]
    ]


def test_a_status_of_its_own() -> None:
    """A failed job may have another status than its code, and the document says the same one."""
    problem = Problem.of("job_failed", "No such picture.", status=404)

    assert problem.status == orjson.loads(problem.to_json())["status"] == 404


@given(st.text(st.characters()))
@example("caf\udce9")
def test_any_detail_is_json(detail: str) -> None:
    """A text with anything in it, lone surrogates too, never keeps a problem from being told."""
    said = orjson.loads(Problem.of("job_failed", detail).to_json())["detail"]

    assert said == detail.encode(errors="replace").decode()
    assert len(said) == len(detail)


@pytest.mark.parametrize("status", [400, 422, 599])
def test_job_error(status: int) -> None:
    """A function's own error has a text for its client, and a status."""
    error = JobError("No text in it.", status=status)

    assert (str(error), error.detail, error.status) == ("No text in it.",) * 2 + (status,)
    assert JobError("x").status == 500


@pytest.mark.parametrize("status", [0, 200, 399, 600])
def test_job_error_that_is_none(status: int) -> None:
    """An error can't say that all is well."""
    with pytest.raises(ValueError, match=f"status must be 400 to 599, not {status}"):
        JobError("x", status=status)


def test_what_exceptions_carry() -> None:
    """Code that submits sees the same problem as a client, and its text in the traceback."""
    refused = Refused(Problem.of("queue_full", "It is full."), 7)
    failed = JobFailed({"code": "job_failed", "detail": "It failed."}, "failed")

    assert (str(refused), refused.problem.code, refused.retry_after) == (
        *("It is full.", "queue_full", 7),
    )
    assert (str(failed), failed.problem["code"], failed.state) == (
        *("It failed.", "job_failed", "failed"),
    )


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (aioqueue.AioqueueError, Exception),
        (aioqueue.ConfigurationError, aioqueue.AioqueueError),
        (aioqueue.ConfigurationError, ValueError),
        (aioqueue.Refused, aioqueue.AioqueueError),
        (aioqueue.JobFailed, aioqueue.AioqueueError),
        (aioqueue.JobError, Exception),
        (aioqueue.JobCancelled, BaseException),
    ],
)
def test_what_catches_what(kind: Any, base: Any) -> None:
    """One class catches all of ours; what a function raises, or is thrown, is not among them."""
    assert issubclass(kind, base)
    assert not issubclass(aioqueue.JobCancelled, Exception)
    assert not issubclass(aioqueue.JobError, aioqueue.AioqueueError)
