"""Refusals, in the forms that each client shows its user."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from aioqueue._errors import Problem, Refused
from aioqueue.gradio._refusals import json_response, refusal_response, wrong_argument


def detail_of(refused: Refused) -> Any:
    """What the answer says."""
    response = refusal_response(refused)
    assert response.status == refused.problem.status
    assert response.content_type == "application/json"
    assert isinstance(response.body, bytes)
    document = orjson.loads(response.body)
    assert list(document) == ["detail"]
    return document["detail"]


def invalid(name: str, message: str) -> dict[str, Any]:
    """One argument that is wrong, as the Python client reads it."""
    return {
        "__type__": "validate",
        "is_valid": False,
        "message": message,
        "parameter_name": name,
    }


@pytest.mark.parametrize(
    "code", ["bad_request", "not_found", "payload_too_large", "queue_full", "internal_error"]
)
def test_text(code: str) -> None:
    """A refusal is a text, which the JavaScript client shows."""
    assert detail_of(Refused(Problem.of(code, "It is so."))) == "It is so."


def test_invalid() -> None:
    """A 422 is a list of objects, one for each argument: a text would be the end of a client."""
    errors = [
        {"field": "a", "expected": "a number", "message": "must be a number"},
        {"field": "", "expected": "", "message": "There are too many"},
    ]
    refused = Refused(Problem.of("invalid_arguments", "a must be a number.", errors=errors))
    assert detail_of(refused) == [
        invalid("a", "must be a number"),
        invalid("", "There are too many"),
    ]


@pytest.mark.parametrize("extensions", [{}, {"errors": []}])
def test_invalid_without_a_list(extensions: Any) -> None:
    """A 422 that names no argument is a list, too."""
    refused = Refused(Problem.of("idempotency_key_reused", "It was used.", **extensions))
    assert detail_of(refused) == [invalid("", "It was used.")]


def test_wrong_argument() -> None:
    """A wrong argument is named in the text, and apart from it."""
    refused = wrong_argument("file", "is no URL")
    assert (refused.problem.status, refused.problem.detail) == (422, "file is no URL.")
    assert detail_of(refused) == [invalid("file", "is no URL")]
    assert wrong_argument("", "There are 3 values").problem.detail == "There are 3 values."


def test_headers() -> None:
    """Nobody keeps an answer, or takes it for something else; a full queue says when to return."""
    full = refusal_response(Refused(Problem.of("queue_full", "full"), retry_after=7))
    plain, other = json_response(b"{}"), json_response(b"{}", 401)
    for response in (full, plain, other):
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert [one.status for one in (full, plain, other)] == [503, 200, 401]
    assert [one.headers.get("Retry-After") for one in (full, plain)] == ["7", None]
