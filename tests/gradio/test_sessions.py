"""Sessions: whose they are, what they remember, and that they are forgotten."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aioqueue.gradio import _sessions
from aioqueue.gradio._sessions import Session, Sessions
from tests.stage import a_while

pytestmark = pytest.mark.one_loop

A_FUNCTION: Any = object()


class Ear:
    """A stream that remembers what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def join(self, job_id: str, exposed: Any) -> None:
        """Tell of one more job."""
        assert exposed is A_FUNCTION
        self.heard.append(f"join {job_id}")

    def cancel(self, job_id: str) -> None:
        """Tell that a job is cancelled."""
        self.heard.append(f"cancel {job_id}")


class Jobs:
    """What is known of jobs."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)
        self.asked: list[str] = []

    async def find(self, job_id: str) -> object | None:
        """A job, if it is known."""
        self.asked.append(job_id)
        return job_id if job_id in self.known else None


def joined(*job_ids: str) -> Session:
    """A session with these jobs."""
    session = Session()
    for job_id in job_ids:
        session.join(job_id, A_FUNCTION)
    return session


# One session


def test_every_stream_hears() -> None:
    """All streams of a session hear of its jobs, until they close."""
    session, one, other = joined("a"), Ear(), Ear()
    session.streams |= {one, other}
    session.join("b", A_FUNCTION)
    session.close(one, 1.0)
    session.join("c", A_FUNCTION)
    session.cancel("b")
    assert one.heard == ["join b"]
    assert other.heard == ["join b", "join c", "cancel b"]
    assert list(session.jobs) == ["a", "b", "c"]


def test_told() -> None:
    """A job that was told to its end is no longer the session's, nor is its cancel."""
    session = joined("a", "b")
    session.cancel("a")
    session.cancel("a")
    session.cancel("b")
    assert session.cancelled == ["a", "b"]
    session.told("a")
    session.told("a")
    session.told("never there")
    assert (list(session.jobs), session.cancelled) == (["b"], ["b"])


def test_pause() -> None:
    """Who joins right after a close waits until its client has heard of that."""
    session, ear = Session(), Ear()
    assert session.pause(0.0) == 0.0
    session.close(ear, 100.0)
    assert session.pause(100.0) == pytest.approx(0.25)
    assert session.pause(100.2) == pytest.approx(0.05)
    assert session.pause(100.25) == pytest.approx(0.0)
    assert session.pause(200.0) == 0.0


# All of them


def test_owners() -> None:
    """The same name of another owner is another session, and nobody's is one more."""
    sessions = Sessions(Jobs().find)
    mine = sessions.open("me", "name")
    assert sessions.open("me", "name") is mine
    assert sessions.find("me", "name") is mine
    assert sessions.find("you", "name") is None
    assert sessions.find(None, "name") is None
    assert sessions.find("me", "other") is None
    assert sessions.open("you", "name") is not mine
    assert sessions.open(None, "name") is not mine
    assert len(sessions._sessions) == 3


async def test_empty_ones_go() -> None:
    """A session without jobs and streams is forgotten, once its last close was heard of."""
    sessions = Sessions(Jobs().find)
    session, ear = sessions.open(None, "name"), Ear()
    session.streams.add(ear)
    await sessions.tick(100.0)
    assert sessions.find(None, "name") is session
    session.close(ear, 100.0)
    await sessions.tick(100.02)
    assert sessions.find(None, "name") is session
    await sessions.tick(101.0)
    assert sessions.find(None, "name") is None


async def test_jobs_that_nobody_asked_for() -> None:
    """Jobs that the engine has forgotten are forgotten here, the others stay in their order."""
    jobs = Jobs("a", "b", "c")
    sessions = Sessions(jobs.find)
    session = sessions.open(None, "name")
    for job_id in "abc":
        session.join(job_id, A_FUNCTION)
    session.cancel("a")
    await sessions.tick(1.0)
    assert list(session.jobs) == ["a", "b", "c"]
    assert jobs.asked == ["a"]
    jobs.known -= {"a"}
    await sessions.tick(2.0)
    assert (list(session.jobs), session.cancelled) == (["b", "c"], [])
    jobs.known.clear()
    await sessions.tick(3.0)
    assert sessions.find(None, "name") is None


async def test_a_stream_tells_of_what_is_gone() -> None:
    """While there is a stream it is the one to tell that a job is gone."""
    sessions = Sessions(Jobs().find)
    session, ear = sessions.open(None, "name"), Ear()
    session.join("a", A_FUNCTION)
    session.streams.add(ear)
    await sessions.tick(1.0)
    assert list(session.jobs) == ["a"]
    assert sessions.find(None, "name") is session


async def test_many() -> None:
    """A thousand sessions are looked at in turn, a few at a time, and leave nothing."""
    jobs = Jobs(*(f"job{number}" for number in range(1000)))
    sessions = Sessions(jobs.find)
    for number in range(1000):
        sessions.open("me", f"name{number}").join(f"job{number}", A_FUNCTION)
    rounds = 1000 // _sessions._LOOKS
    for now in range(rounds):
        await sessions.tick(float(now))
    assert sorted(jobs.asked) == sorted(jobs.known)
    assert len(sessions._sessions) == 1000
    jobs.known.clear()
    for now in range(rounds):
        await sessions.tick(1000.0 + now)
    assert not sessions._sessions


async def test_a_crowd() -> None:
    """However fast sessions come and go, what is left of them stays in proportion to that."""
    sessions = Sessions(Jobs().find)
    for now in range(50):
        for number in range(1000):
            sessions.open(None, f"name{now}-{number}")
        await sessions.tick(float(now))
    assert len(sessions._sessions) < 10 * 1000
    for now in range(50, 100):
        await sessions.tick(float(now))
    assert not sessions._sessions


async def test_a_join_while_it_is_looked_at() -> None:
    """A job that joins a session while a tick looks at it is not lost."""
    answered = asyncio.Event()

    async def find(job_id: str) -> object | None:
        await answered.wait()
        return None

    sessions = Sessions(find)
    session = sessions.open(None, "name")
    session.join("a", A_FUNCTION)
    tick = asyncio.create_task(sessions.tick(1.0))
    await a_while()
    found = sessions.open(None, "name")
    found.join("b", A_FUNCTION)
    answered.set()
    await tick
    assert found is session
    assert sessions.find(None, "name") is session
    assert list(session.jobs) == ["b"]
