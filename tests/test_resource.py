"""The job as clients see it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aioqueue._admission import Estimate
from aioqueue._job import Content, JobRecord, JobState, Snapshot
from aioqueue._resource import Links, job_resource, timestamp

JOB = "pZ3kq0vX7cYwR1mB2nT5aQ"
NOTHING = Estimate(None, None, None, None)
NOW = 1_795_448_666.101


def resource(
    estimate: Estimate = NOTHING, *, with_result: bool = True, **fields: Any
) -> dict[str, Any]:
    """The JSON of a job with these fields."""
    record = JobRecord(id=JOB, function="generate", queue="queue", payload=b"secret", owner="ada")
    snapshot = Snapshot(record=record, **{"state": JobState.QUEUED, "created": NOW, **fields})
    body = job_resource(snapshot, estimate, Links("/queue"), with_result=with_result)
    return json.loads(body)


def test_fields() -> None:
    """A waiting job has all the fields, in the order people read, and nothing of its inputs."""
    document = resource(Estimate(3, 7, 12.4, 20.1))
    assert list(document.items()) == [
        ("id", JOB),
        ("function", "generate"),
        ("state", "queued"),
        ("position", 3),
        ("held", False),
        ("queue_size", 7),
        ("eta", 12.4),
        ("eta_high", 20.1),
        ("progress", None),
        ("cancel_requested", False),
        ("created", "2026-11-23T15:44:26.101Z"),
        ("started", None),
        ("finished", None),
        ("expires", None),
        ("result", None),
        ("error", None),
        (
            "links",
            {
                "self": f"/queue/jobs/{JOB}",
                "events": f"/queue/jobs/{JOB}/events",
                "result": f"/queue/jobs/{JOB}/result",
            },
        ),
    ]


def test_held() -> None:
    """A job that waits beside the line says so; one that does not wait is not held."""
    assert resource(NOTHING)["held"] is True
    assert resource(NOTHING, state=JobState.RUNNING)["held"] is False


def test_running() -> None:
    """A running job says since when, how far it is and whether it was asked to end."""
    document = resource(
        state=JobState.RUNNING,
        started=NOW + 1,
        cancel_requested=True,
        progress=b'{"progress":0.4,"step":4}',
    )
    assert document["state"] == "running"
    assert document["started"] == "2026-11-23T15:44:27.101Z"
    assert document["cancel_requested"] is True
    assert document["progress"] == {"progress": 0.4, "step": 4}


def test_succeeded() -> None:
    """An ended job has its result, and says until when it is kept."""
    fields = {"finished": NOW + 2, "expires": NOW + 602, "result": Content(b'{"text":"\\u00e9"}')}
    document = resource(state=JobState.SUCCEEDED, **fields)
    assert document["result"] == {"text": "é"}
    assert document["finished"] == "2026-11-23T15:44:28.101Z"
    assert document["expires"] == "2026-11-23T15:54:28.101Z"
    assert "file" not in document
    assert "reason" not in document


def test_result_left_out() -> None:
    """A state event leaves the result to the terminal event, a file too."""
    for result in (Content(b"1"), Content(b"\x89PNG", "image/png", "a.png")):
        document = resource(state=JobState.SUCCEEDED, result=result, with_result=False)
        assert document["result"] is None
        assert "file" not in document


def test_file() -> None:
    """Bytes are described, and fetched by themselves."""
    document = resource(
        state=JobState.SUCCEEDED, result=Content(b"\x89PNG", "image/png", "cat.png")
    )
    assert document["result"] is None
    assert document["file"] == {"content_type": "image/png", "size": 4, "name": "cat.png"}


def test_failed() -> None:
    """A failed job has its problem document."""
    document = resource(state=JobState.FAILED, error=b'{"status":500,"code":"job_failed"}')
    assert document["error"] == {"status": 500, "code": "job_failed"}
    assert document["result"] is None


@pytest.mark.parametrize("reason", ["client", "disconnect", "shutdown"])
def test_cancelled(reason: str) -> None:
    """A cancelled job says why."""
    assert resource(state=JobState.CANCELLED, reason=reason)["reason"] == reason


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, None),
        (0.0, "1970-01-01T00:00:00.000Z"),
        (0.0004, "1970-01-01T00:00:00.000Z"),
        (0.9996, "1970-01-01T00:00:01.000Z"),
        (59.9999, "1970-01-01T00:01:00.000Z"),
        (951_782_400.05, "2000-02-29T00:00:00.050Z"),
        (NOW, "2026-11-23T15:44:26.101Z"),
    ],
)
def test_timestamp(seconds: float | None, text: str | None) -> None:
    """Times are UTC with milliseconds, rounded; never a second with a thousand of them."""
    assert timestamp(seconds) == text


@pytest.mark.parametrize("prefix", ["/queue", "/api/v1/jobs-of-mine"])
def test_links(prefix: str) -> None:
    """Links are absolute paths below the prefix."""
    links = Links(prefix)
    assert links.job("a") == f"{prefix}/jobs/a"
    assert links.events("a") == f"{prefix}/jobs/a/events"
    assert links.result("a") == f"{prefix}/jobs/a/result"
