"""The session's stream: what it says, in which order, and that it loses nothing in any."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from aioqueue._job import Content, Demand, JobState, Outcome
from aioqueue._positions import Estimator, Positions
from aioqueue._settings import Settings
from aioqueue.gradio._messages import terminal
from aioqueue.gradio._sessions import Session
from aioqueue.gradio._streams import SessionStream, Source
from tests.clock import ManualClock
from tests.gradio.visitor import Message, kinds_of, messages_of
from tests.inside import Paper, Socket, Worker
from tests.stage import a_while, until


class Page(Paper):
    """What is written on a session's stream."""

    @property
    def messages(self) -> list[Message]:
        """What was written so far."""
        return messages_of(self.body)

    def of(self, job_id: str) -> list[Message]:
        """What it says of a job."""
        return [message for message in self.messages if message["event_id"] == job_id]


def far(verb: Any) -> Any:
    """A verb whose answer comes later."""

    async def later(*arguments: Any) -> Any:
        await a_while(1)
        answer = await verb(*arguments)
        await a_while(1)
        return answer

    return later


class Exposed:
    """A function with one output."""

    outputs = (Any,)
    yields = True


class Desk:
    """A session, with the hands of a worker and of a client."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.engine = worker.engine
        self.session = Session()
        self.streams: list[SessionStream] = []
        self.papers: list[Page] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.exposed: Any = Exposed()
        estimator = Estimator(self.engine, {"queue": 100}, {"function": Demand("loop")})
        self.positions = Positions(self.engine, estimator, 100)
        self.source = Source(self.engine, estimator, self.positions, Settings())

    @classmethod
    async def make(cls, limit: int | None = 1, **retention: Any) -> Desk:
        """One whose queue runs so many at once."""
        return cls(await Worker(ManualClock()).open(limit, **retention))

    def be_far(self) -> None:
        """Let what is asked of the engine take its time, as if it were on another machine."""
        for verb in ("get", "events", "ahead", "stats"):
            setattr(self.engine, verb, far(getattr(self.engine, verb)))

    def look_up_slowly(self) -> tuple[asyncio.Event, asyncio.Event]:
        """Let the next look at a job be known, and wait until it may be answered."""
        asked, answered = asyncio.Event(), asyncio.Event()
        get = self.engine.get

        async def get_slowly(job_id: str) -> Any:
            asked.set()
            await answered.wait()
            return await get(job_id)

        self.engine.get = get_slowly  # type: ignore[method-assign]
        return asked, answered

    async def join(self, job_id: str) -> None:
        """Submit a job of the session's."""
        await self.worker.enqueue(job_id)
        self.session.join(job_id, self.exposed)

    def open(self) -> Page:
        """Open a stream; answers what is written on it."""
        request: Any = Socket()
        stream = SessionStream(request, self.session, self.source, "files/")
        paper: Any = Page()
        stream.response = paper
        self.streams.append(stream)
        self.papers.append(paper)
        self.tasks.append(asyncio.create_task(stream.serve()))
        return paper

    async def cancel(self, job_id: str) -> None:
        """Cancel a job, as the route does."""
        if job_id in self.session.jobs:
            self.session.cancel(job_id)
        await self.engine.cancel(job_id, "client")

    async def end(self, job_id: str, state: JobState = JobState.SUCCEEDED) -> None:
        """Let a running job end."""
        outcome = Outcome(job_id, state, Content(b"[1,2]"))
        await self.worker.engine.settle(self.worker.claims.pop(job_id), [outcome])

    def linger_is_over(self) -> None:
        """Let every stream that has nothing to say have waited long enough."""
        for stream in self.streams:
            if stream._timer is not None:
                stream._timer.cancel()
                stream._linger_no_longer()

    def hang_up(self, index: int = -1) -> None:
        """The client leaves, and a tick sees it."""
        self.papers[index].torn = True
        self.papers[index].free.set()
        self.streams[index].drop()

    async def close(self) -> None:
        """Let all streams come to their ends."""
        for paper in self.papers:
            paper.free.set()
        await a_while()
        self.linger_is_over()
        await asyncio.wait_for(asyncio.gather(*self.tasks), 5)


@pytest.fixture
async def desk() -> Any:
    """A desk whose queue runs one job at once; all its streams end with the test."""
    desk = await Desk.make()
    yield desk
    for index, task in enumerate(desk.tasks):
        if not task.done():
            desk.hang_up(index)
    with suppress(ConnectionError):
        await asyncio.gather(*desk.tasks)


# The order of what is said


async def test_order(desk: Desk) -> None:
    """First where a job is, then what happens, then its end, the close, and the end of it all."""
    await desk.join("a")
    paper = desk.open()
    await a_while()
    await desk.worker.claim()
    await desk.worker.say("a", 1, 2)
    await desk.end("a")
    await desk.close()

    assert kinds_of(paper.messages) == [
        "estimation",
        "process_starts",
        "process_generating",
        "process_generating",
        "process_completed",
        "close_stream",
    ]
    assert paper.messages[0] == {
        "msg": "estimation",
        "event_id": "a",
        "rank": 0,
        "queue_size": 1,
        "rank_eta": None,
    }
    assert paper.messages[-1] == {"msg": "close_stream", "event_id": None}
    assert paper.ended


async def test_who_need_not_wait(desk: Desk) -> None:
    """A job that runs already, or has ended, is told as one that is next."""
    await desk.join("a")
    await desk.worker.claim()
    paper = desk.open()
    await a_while()
    await desk.end("a")
    late = desk.open()
    await desk.close()

    for messages in (paper.of("a"), late.of("a")):
        assert kinds_of(messages) == ["estimation", "process_starts", "process_completed"]
        assert (messages[0]["rank"], messages[0]["queue_size"]) == (0, 1)


async def test_ranks(desk: Desk) -> None:
    """Whoever waits is told his rank among those who wait, and again when it has changed."""
    for job_id in "abc":
        await desk.join(job_id)
    await desk.worker.claim()
    paper = desk.open()
    await a_while()
    assert [paper.of(job_id)[0]["rank"] for job_id in "abc"] == [0, 0, 1]
    assert [paper.of(job_id)[0]["queue_size"] for job_id in "abc"] == [1, 2, 2]

    await desk.end("a")
    await desk.worker.claim()
    await a_while()
    desk.engine._clock.advance(60)
    await desk.positions.tick(asyncio.get_running_loop().time() + 60)
    assert kinds_of(paper.of("b")) == ["estimation", "process_starts"]
    (first, second) = paper.of("c")
    assert (first["rank"], second["rank"], second["queue_size"]) == (1, 0, 1)


async def test_no_rank_after_the_end(desk: Desk) -> None:
    """Of a job that was told to its end nobody works out the rank any more."""
    await desk.join("a")
    paper = desk.open()
    await a_while()
    await desk.cancel("a")
    await a_while()
    (waiting,) = desk.positions._due
    assert waiting.listener is None
    assert kinds_of(paper.of("a")) == ["estimation", "process_completed"]


async def test_interleaved(desk: Desk) -> None:
    """What jobs say is told in its order, each with the job's name and with changes of its own."""
    desk = await Desk.make(limit=None)
    await desk.join("a")
    await desk.join("b")
    await desk.worker.claim()
    paper = desk.open()
    await a_while()
    for value in ("x", "xy"):
        for job_id in "ab":
            await desk.worker.say(job_id, value + job_id)
            await a_while()
    await desk.end("b")
    await desk.end("a")
    await desk.close()

    generating = [one for one in paper.messages if one["msg"] == "process_generating"]
    assert [(one["event_id"], one["output"]["data"]) for one in generating] == [
        ("a", ["xa"]),
        ("b", ["xb"]),
        ("a", [[["replace", [], "xya"]]]),
        ("b", [[["replace", [], "xyb"]]]),
    ]
    ends = [one for one in paper.messages if terminal(one)]
    assert [(one["event_id"], one["output"]["data"]) for one in ends] == [
        ("b", ["xyb"]),
        ("a", ["xya"]),
    ]


# Joining, lingering, closing


async def test_join_while_it_is_open(desk: Desk) -> None:
    """A job that joins while the stream is open is told on it, from its beginning."""
    await desk.join("a")
    paper = desk.open()
    await a_while()
    await desk.join("b")
    await desk.worker.claim()
    await desk.end("a")
    await desk.worker.claim()
    await desk.end("b")
    await desk.close()

    assert kinds_of(paper.of("b")) == ["estimation", "process_starts", "process_completed"]
    assert kinds_of(paper.messages).count("close_stream") == 1


async def test_join_while_it_lingers(desk: Desk) -> None:
    """A job that joins while the stream has nothing to say keeps it open."""
    await desk.join("a")
    await desk.worker.claim()
    paper = desk.open()
    await desk.end("a")
    await a_while()
    (stream,) = desk.streams
    timer = stream._timer
    assert timer is not None
    stream.reader.wake()
    await a_while()
    assert stream._timer is timer

    await desk.join("b")
    await a_while()
    assert stream._timer is None
    assert timer.cancelled()
    await desk.worker.claim()
    await desk.end("b")
    await a_while()
    assert "close_stream" not in kinds_of(paper.messages)
    await desk.close()
    assert kinds_of(paper.messages).count("close_stream") == 1


async def test_join_in_the_moment_of_the_close(desk: Desk) -> None:
    """A job that joins when the time to linger is just over is told before the close."""
    await desk.join("a")
    await desk.worker.claim()
    paper = desk.open()
    await desk.end("a")
    await a_while()
    desk.linger_is_over()
    await desk.join("b")
    await desk.worker.claim()
    await a_while()
    assert kinds_of(paper.of("b")) == ["estimation", "process_starts"]
    assert "close_stream" not in kinds_of(paper.messages)
    await desk.end("b")
    await a_while()
    assert kinds_of(paper.messages)[-1] == "process_completed"
    await desk.close()
    assert kinds_of(paper.messages)[-1] == "close_stream"


async def test_join_while_it_reads(desk: Desk) -> None:
    """A job that joins and starts while the stream reads is told from its place on."""
    paper = desk.open()
    await a_while()
    asked, answered = asyncio.Event(), asyncio.Event()
    events = desk.engine.events

    async def events_slowly(job_id: str, after: Any) -> Any:
        asked.set()
        await answered.wait()
        return await events(job_id, after)

    desk.engine.events = events_slowly  # type: ignore[method-assign]
    await desk.join("a")
    await asked.wait()
    await desk.join("b")
    await desk.worker.claim()
    await desk.end("a")
    await desk.worker.claim()
    await desk.end("b")
    answered.set()
    await desk.close()
    for job_id in "ab":
        told = kinds_of(paper.of(job_id))
        assert told == ["estimation", "process_starts", "process_completed"]


async def test_who_leaves_while_it_lingers(desk: Desk) -> None:
    """A client that leaves takes all of the stream along, also while there is nothing to say."""
    await desk.join("a")
    await desk.worker.claim()
    desk.open()
    await desk.end("a")
    await a_while()
    (stream,) = desk.streams
    timer = stream._timer
    assert timer is not None
    desk.hang_up()
    await until(lambda: desk.tasks[0].done())
    assert timer.cancelled()
    assert not desk.session.streams


async def test_the_linger_ends_while_the_client_is_slow(desk: Desk) -> None:
    """A stream whose last words were taken slowly closes all the same."""
    await desk.join("a")
    await desk.worker.claim()
    paper = desk.open()
    await a_while()
    paper.free.clear()
    await desk.end("a")
    await a_while()
    desk.linger_is_over()
    await a_while()
    paper.free.set()
    await until(lambda: desk.tasks[0].done())
    assert kinds_of(paper.messages)[-2:] == ["process_completed", "close_stream"]


async def test_a_cancel_while_the_client_is_slow(desk: Desk) -> None:
    """A job that goes on is told as cancelled as soon as its client reads again."""
    await desk.join("a")
    await desk.worker.claim()
    paper = desk.open()
    await a_while()
    paper.free.clear()
    await desk.worker.say("a", 1)
    await a_while()
    await desk.cancel("a")
    paper.free.set()
    await a_while()
    assert kinds_of(paper.of("a"))[-1] == "process_completed"
    assert paper.of("a")[-1]["output"]["error"] == "Job cancelled"


async def test_nothing_to_say(desk: Desk) -> None:
    """A stream of a session that waits for nothing lingers, and closes."""
    paper = desk.open()
    await a_while()
    assert not paper.messages
    await desk.close()
    assert kinds_of(paper.messages) == ["close_stream"]


async def test_two_streams(desk: Desk) -> None:
    """Two streams of a session tell the same, and each its own end."""
    await desk.join("a")
    first, second = desk.open(), desk.open()
    await a_while()
    await desk.worker.claim()
    await desk.join("b")
    await a_while()
    await desk.cancel("b")
    await desk.end("a")
    await desk.close()

    assert first.messages == second.messages
    assert first.ended
    assert second.ended
    assert not desk.session.streams


async def test_one_of_two_streams_ends(desk: Desk) -> None:
    """Where one of two streams has closed, the other goes on."""
    await desk.join("a")
    first, second = desk.open(), desk.open()
    await a_while()
    desk.hang_up(0)
    await a_while()
    assert desk.session.streams == {desk.streams[1]}
    await desk.worker.claim()
    await desk.end("a")
    await desk.close()

    assert kinds_of(first.messages) == ["estimation"]
    assert kinds_of(second.of("a")) == ["estimation", "process_starts", "process_completed"]


# Cancelling


async def test_cancelled_at_once(desk: Desk) -> None:
    """A cancel ends a job for its client though it goes on, and nothing more is told of it."""
    await desk.join("a")
    await desk.worker.claim()
    paper = desk.open()
    await a_while()
    await desk.cancel("a")
    await a_while()
    *_, end = paper.of("a")
    assert (end["success"], end["output"]["error"]) == (False, "Job cancelled")
    await desk.worker.say("a", "going on")
    await desk.end("a")
    await desk.close()
    assert paper.of("a")[-1] == end
    assert not desk.session.jobs
    assert not desk.session.cancelled


async def test_cancelled_while_its_end_is_told(desk: Desk) -> None:
    """A job that is cancelled while its end is looked up is told once."""
    await desk.join("a")
    await desk.worker.claim()
    paper = desk.open()
    await a_while()
    asked, answered = desk.look_up_slowly()
    await desk.end("a")
    await asked.wait()
    await desk.cancel("a")
    answered.set()
    await desk.close()
    assert kinds_of(paper.messages) == [
        "estimation",
        "process_starts",
        "process_completed",
        "close_stream",
    ]


async def test_cancelled_before_its_place_is_told(desk: Desk) -> None:
    """A job that joins and is cancelled while another one's place is looked up has its own."""
    paper = desk.open()
    await a_while()
    asked, answered = desk.look_up_slowly()
    await desk.join("a")
    await asked.wait()
    await desk.join("b")
    await desk.cancel("b")
    answered.set()
    await a_while()
    assert kinds_of(paper.of("b")) == ["estimation", "process_completed"]
    await desk.cancel("a")


async def test_cancelled_before_the_stream(desk: Desk) -> None:
    """A job that was cancelled before anybody listened is told so to the one who comes."""
    await desk.join("a")
    await desk.worker.claim()
    await desk.cancel("a")
    paper = desk.open()
    await desk.close()
    assert kinds_of(paper.of("a")) == ["estimation", "process_completed"]
    assert paper.of("a")[-1]["output"]["error"] == "Job cancelled"
    assert not desk.session.cancelled


async def test_cancelled_twice(desk: Desk) -> None:
    """A job that is cancelled twice is told once, and nothing of it is kept."""
    await desk.join("a")
    await desk.worker.claim()
    await desk.cancel("a")
    await desk.cancel("a")
    paper = desk.open()
    await desk.close()
    assert kinds_of(paper.of("a")) == ["estimation", "process_completed"]
    assert not desk.session.cancelled


async def test_the_server_ends(desk: Desk) -> None:
    """At the end of the server every job fails with words, and then the stream closes at once."""
    await desk.join("a")
    await desk.join("b")
    await desk.worker.claim()
    paper = desk.open()
    await a_while()
    await desk.engine.cancel("b", "shutdown")
    outcome = Outcome("a", JobState.CANCELLED, reason="shutdown")
    await desk.engine.settle(desk.worker.claims.pop("a"), [outcome])
    await asyncio.sleep(0)
    desk.streams[0].drop()
    await until(lambda: desk.tasks[0].done())
    for job_id in "ab":
        end = paper.of(job_id)[-1]
        assert end["output"]["error"] == "The server shut down before the job ended."
        assert not end["success"]
    assert kinds_of(paper.messages)[-1] == "close_stream"
    assert paper.ended


async def test_the_server_ends_while_the_client_is_slow(desk: Desk) -> None:
    """A client that was behind when the server ended hears the close, too."""
    await desk.join("a")
    await desk.worker.claim()
    paper = desk.open()
    await a_while()
    paper.free.clear()
    await desk.end("a")
    await a_while()
    desk.streams[0].drop()
    await a_while()
    paper.free.set()
    await until(lambda: desk.tasks[0].done())
    assert kinds_of(paper.messages)[-2:] == ["process_completed", "close_stream"]


# What is no longer there


async def test_forgotten(desk: Desk) -> None:
    """A job that is forgotten before it was told ends, with words."""
    await desk.join("a")
    await desk.worker.claim()
    await desk.end("a")
    desk.engine._clock.advance(601)
    await desk.engine.reap()
    paper = desk.open()
    await desk.close()
    _, end = paper.of("a")
    assert end["output"]["error"] == "The job has ended and is no longer kept."
    assert not end["success"]
    assert not desk.session.jobs


async def test_forgotten_at_its_end() -> None:
    """Where one result is kept, all jobs that end at once are told to an end, each once."""
    desk = await Desk.make(limit=None, max_results=1)
    for job_id in "abc":
        await desk.join(job_id)
    await desk.worker.claim()
    paper = desk.open()
    await a_while()
    for job_id in "abc":
        await desk.end(job_id)
    await desk.close()
    for job_id in "abc":
        assert [terminal(one) for one in paper.of(job_id)].count(True) == 1
    assert paper.of("c")[-1]["success"]


# Deep and large values


@pytest.mark.parametrize("depth", [100, 253, 254])
async def test_a_deep_value(desk: Desk, depth: int) -> None:
    """A value as deep as a job may give back is told as it is."""
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    await desk.join("a")
    paper = desk.open()
    await a_while()
    await desk.worker.claim()
    content = b"[" * depth + b'"deep"' + b"]" * depth
    await desk.engine.emit(
        desk.worker.claims["a"], "a", [output_of(content), output_of(content.replace(b"p", b"r"))]
    )
    await desk.end("a")
    await desk.close()
    first = next(one for one in paper.of("a") if one["msg"] == "process_generating")
    assert first["output"]["data"] == [value]
    assert kinds_of(paper.messages)[-2:] == ["process_completed", "close_stream"]


def output_of(data: bytes) -> Any:
    """An output that is this JSON."""
    from aioqueue._job import Emission

    return Emission("output", b'{"data":%b}' % data)


# Any order

ACTS = ["join", "open", "claim", "say", "end", "cancel", "linger", "leave", "hold", "go", "turn"]


class Play:
    """Acts in an order that nobody chose; what the client sees must be right in any."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.jobs: list[str] = []

    async def act(self, act: str, choice: int) -> None:
        """Do one of ``ACTS``, if there is something to do it with."""
        desk, running = self.desk, list(self.desk.worker.claims)
        alive = [index for index, task in enumerate(desk.tasks) if not task.done()]
        if act == "join":
            self.jobs.append(f"job{len(self.jobs)}")
            await desk.join(self.jobs[-1])
        elif act == "open":
            desk.open()
        elif act == "claim":
            await desk.worker.claim()
        elif act == "say" and running:
            await desk.worker.say(running[choice % len(running)], choice)
        elif act == "end" and running:
            await desk.end(running[choice % len(running)])
        elif act == "cancel" and self.jobs:
            await desk.cancel(self.jobs[choice % len(self.jobs)])
        elif act == "linger":
            desk.linger_is_over()
        elif act == "leave" and alive:
            desk.hang_up(alive[choice % len(alive)])
        elif act in ("hold", "go") and alive:
            free = desk.papers[alive[choice % len(alive)]].free
            free.clear() if act == "hold" else free.set()
        elif act == "turn":
            await a_while(choice)

    async def close(self) -> None:
        """Let every job end, and a client hear what was not told yet."""
        desk = self.desk
        while await desk.worker.claim() or desk.worker.claims:
            for job_id in list(desk.worker.claims):
                await desk.end(job_id)
        desk.open()
        await desk.close()

    def check(self) -> None:
        """Every job was told once to its end, on every stream that told of it to the end."""
        told: dict[str, int] = dict.fromkeys(self.jobs, 0)
        for paper in self.desk.papers:
            self.check_paper(paper)
            for job_id in self.jobs:
                told[job_id] += sum(map(terminal, paper.of(job_id)))
        assert all(count >= 1 for count in told.values()), told
        if not self.overlapped:
            assert all(count == 1 for count in told.values()), told
        for stream in self.desk.streams:
            assert stream._timer is None
            if not stream.dropped:
                assert (stream._jobs, stream._last, stream._waiting) == ({}, {}, {})
        session = self.desk.session
        assert (session.jobs, session.cancelled, session.streams) == ({}, [], set())

    overlapped = False

    def check_paper(self, paper: Page) -> None:
        """One stream: each job from its place to its end, then the close, once."""
        kinds = kinds_of(paper.messages)
        assert kinds.count("close_stream") == (0 if paper.torn and not paper.ended else 1) or (
            paper.torn and kinds[-1] == "close_stream"
        )
        if not paper.torn:
            assert paper.ended
            assert kinds[-1] == "close_stream"
        for job_id in self.jobs:
            of_job = paper.of(job_id)
            if of_job:
                assert of_job[0]["msg"] == "estimation"
                assert not any(map(terminal, of_job[:-1]))
                assert paper.torn or terminal(of_job[-1])


async def play(acts: list[tuple[str, int]], limit: int, is_far: bool) -> None:
    """Play these acts, and look at what came of them."""
    desk = await Desk.make(limit)
    if is_far:
        desk.be_far()
    play = Play(desk)
    for act, choice in acts:
        play.overlapped |= sum(not task.done() for task in desk.tasks) > 1
        await play.act(act, choice)
    play.overlapped |= any(not task.done() for task in desk.tasks)
    await play.close()
    play.check()


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 7)), max_size=40),
    st.integers(1, 3),
    st.booleans(),
)
def test_any_order(acts: list[tuple[str, int]], limit: int, is_far: bool) -> None:
    """In whatever order clients join, listen, cancel and leave, no job is lost, or told twice."""
    asyncio.run(play(acts, limit, is_far))


async def test_nobody_is_there() -> None:
    """What ends while nobody reads any more is not taken for told: who comes back hears it."""
    desk = await Desk.make()
    await desk.join("a")
    desk.open()
    await until(lambda: len(desk.papers[0].of("a")) == 1)
    desk.streams[0].request.abort()
    await desk.worker.claim()
    await desk.end("a")
    await until(lambda: not desk.session.streams)
    assert list(desk.session.jobs) == ["a"]
    desk.open()
    await until(lambda: desk.papers[1].of("a") and terminal(desk.papers[1].of("a")[-1]))
    await desk.close()


async def test_a_cancelled_job_that_is_forgotten() -> None:
    """A job that is cancelled and forgotten at once has one end."""
    desk = await Desk.make()
    await desk.join("a")
    desk.open()
    await until(lambda: len(desk.papers[0].of("a")) == 1)
    (stream,) = desk.streams
    stream.cancel("a")
    stream.reader.gone = ("a",)
    stream.reader.wake()
    await until(lambda: len(desk.papers[0].of("a")) > 1)
    await a_while()
    assert [message["msg"] for message in desk.papers[0].of("a")[1:]] == ["process_completed"]
    await desk.close()
