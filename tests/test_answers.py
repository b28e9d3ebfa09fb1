"""Jobs as HTTP responses."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp.test_utils import make_mocked_request

from aioqueue._admission import Estimate
from aioqueue._answers import Answers, not_found
from aioqueue._job import Content, JobRecord, JobState, Snapshot
from aioqueue._resource import Links

JOB = "pZ3kq0vX7cYwR1mB2nT5aQ"


class Oracle:
    """Says of every job what it was told to say."""

    def __init__(self, eta: float | None = None) -> None:
        self.eta = eta

    async def estimate(self, snapshot: Snapshot) -> Estimate:
        return Estimate(3, 7, self.eta, self.eta)


def answers(eta: float | None = None) -> Answers:
    """Answers where a result is so many seconds away."""
    return Answers(Oracle(eta), Links("/queue"))


def job(state: JobState = JobState.QUEUED, **fields: Any) -> Snapshot:
    """A job in some state."""
    record = JobRecord(id=JOB, function="work", queue="work")
    return Snapshot(record=record, state=state, created=0.0, **fields)


async def result(content: Content) -> Any:
    """The answer with this result."""
    return await answers().result(job(JobState.SUCCEEDED, result=content))


# The job


async def test_accepted() -> None:
    """202 says how the job stands and where to look, by absolute paths, and is not stored."""
    response = await answers(12.2).accepted(job())
    assert response.status == 202
    assert response.headers["Location"] == f"/queue/jobs/{JOB}"
    link = f'</queue/jobs/{JOB}/events>; rel="monitor"; type="text/event-stream"'
    assert response.headers["Link"] == link
    assert response.headers["Retry-After"] == "13"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Type"].partition(";")[0] == "application/json"
    document = json.loads(response.body)
    assert (document["id"], document["position"], document["eta"]) == (JOB, 3, 12.2)


@pytest.mark.parametrize(
    ("eta", "seconds"), [(None, "1"), (0.0, "1"), (0.2, "1"), (1.5, "2"), (29.0, "29"), (1e6, "30")]
)
async def test_when_to_poll(eta: float | None, seconds: str) -> None:
    """Whoever polls is told to come when there is something, and at least twice a minute."""
    assert (await answers(eta).job(job())).headers["Retry-After"] == seconds


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
async def test_nothing_to_poll_for(state: JobState) -> None:
    """An ended job is 200, and no reason to come again."""
    response = await answers().job(job(state))
    assert response.status == 200
    assert "Retry-After" not in response.headers


# Its result


async def test_result() -> None:
    """A result is sent as it is, and says where it can be had again."""
    response = await result(Content(b'{"text":1}'))
    assert response.status == 200
    assert response.body == b'{"text":1}'
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Content-Location"] == f"/queue/jobs/{JOB}/result"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Disposition" not in response.headers


async def test_problem_of_a_failed_job() -> None:
    """A failed job's problem is sent as it is stored, with its own status."""
    response: Any = await answers().result(
        job(JobState.FAILED, error=b'{"status":422,"code":"job_failed"}')
    )
    assert response.status == 422
    assert response.headers["Content-Type"].partition(";")[0] == "application/problem+json"
    assert response.body == b'{"status":422,"code":"job_failed"}'
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        ("client", 409, "job_cancelled"),
        ("disconnect", 409, "job_cancelled"),
        ("shutdown", 503, "lost_on_shutdown"),
    ],
)
async def test_problem_of_a_cancelled_job(reason: str, status: int, code: str) -> None:
    """A cancelled job's problem says who did it: its client, or the server."""
    response: Any = await answers().result(job(JobState.CANCELLED, reason=reason))
    document = json.loads(response.body)
    assert (response.status, document["status"], document["code"]) == (status, status, code)


# Bytes


@pytest.mark.parametrize(
    ("content_type", "shown"),
    [
        ("image/png", True),
        ("audio/wav", True),
        ("video/mp4", True),
        ("text/plain; charset=utf-8", True),
        ("TEXT/PLAIN", True),
        ("image/svg+xml", False),
        ("image/svg+xml; charset=utf-8", False),
        ("Image/SVG+xml", False),
        ("text/html", False),
        ("application/pdf", False),
        ("application/octet-stream", False),
        ("text/plain-and-more", False),
    ],
)
async def test_what_a_browser_may_show(content_type: str, shown: bool) -> None:
    """What could run in the app's own origin is a download, and all of it is in a sandbox."""
    response = await result(Content(b"x", content_type))
    assert response.headers.get("Content-Disposition") == (None if shown else "attachment")
    assert response.headers["Content-Security-Policy"] == "sandbox"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Type"] == content_type


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("cat.png", "cat.png"),
        ("my cat-2_b.png", "my cat-2_b.png"),
        ('a"b\\c.png', "a_b_c.png"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("größe.png", "gr__e.png"),
        ("猫.png", "_.png"),
        ("a\r\nX-Evil: 1.png", "a__X-Evil_ 1.png"),
        ("a;b%.png", "a_b_.png"),
    ],
)
async def test_names_of_files(name: str, plain: str) -> None:
    """A file's name is a header: plain letters for old readers, the exact name for all others."""
    header = (await result(Content(b"x", "image/png", name))).headers["Content-Disposition"]
    start, _, exact = header.partition("; filename*=UTF-8''")
    assert start == f'inline; filename="{plain}"'
    assert header.isascii()
    assert header.isprintable()
    assert unquote(exact) == ("" if plain == name else name)


async def test_name_that_is_no_text() -> None:
    """A name with half a character in it is sent without it, and does no harm."""
    header = (await result(Content(b"x", "text/html", "a\udcff.html"))).headers[
        "Content-Disposition"
    ]
    assert header == "attachment; filename=\"a_.html\"; filename*=UTF-8''a%3F.html"


# Nothing


def test_not_found() -> None:
    """The answer for an unknown job names only what was asked for."""
    response = not_found(make_mocked_request("GET", "/queue/jobs/abc"))
    document = json.loads(response.body)
    assert response.status == 404
    assert (document["code"], document["instance"]) == ("not_found", "/queue/jobs/abc")
    assert response.headers["Cache-Control"] == "no-store"
