"""Whatever is done to an engine in whatever order: it does what the model does.

For the engine in memory, whose verbs are steps: none of them waits for anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from aioqueue._errors import ClaimLost
from aioqueue._job import (
    BEGINNING,
    AdmissionLimits,
    Claim,
    Demand,
    Emission,
    JobRecord,
    JobState,
    Order,
    Outcome,
    QueuePolicy,
)
from aioqueue.engines.base import Retention
from aioqueue.engines.memory import MemoryEngine
from tests.clock import ManualClock
from tests.engines import model
from tests.engines.conformance import names

T = TypeVar("T")

RETENTION = Retention(result_ttl=20, max_results=6)

policies = st.builds(
    QueuePolicy,
    concurrency_limit=st.sampled_from([1, 2, 3, None]),
    order=st.sampled_from(Order),
    priority_step=st.just(3.0),
    max_running_per_client=st.sampled_from([None, 1, 2]),
)
requests = st.fixed_dictionaries(
    {
        "function": st.sampled_from("ab"),
        "client": st.sampled_from(["ann", "ann", "bob", None]),
        "priority": st.integers(-1, 2),
        "grace": st.sampled_from([None, None, 0, 5]),
        "queue_timeout": st.sampled_from([None, None, 4]),
        "retained": st.sampled_from([True, True, False]),
    }
)
queues = st.sampled_from(["q", "q", "q", "plain"])
picks = st.integers(0, 99)
TERMINAL = [state for state in JobState if state.terminal]

ends = st.sampled_from(TERMINAL)


def run(verb: Coroutine[Any, Any, T]) -> T:
    """What a verb answers, which must wait for nothing: that makes it a single step."""
    try:
        verb.send(None)
    except StopIteration as end:
        answer: T = end.value
        return answer
    verb.close()
    raise AssertionError("the verb waited for something in the middle")


class Engine(RuleBasedStateMachine):
    """Does the same to the engine and to the model, and compares what can be seen of both."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.engine = MemoryEngine(self.clock)
        self.ids = map(str, itertools.count(1))
        self.claims: dict[Claim, model.Claim] = {}  # those that are held
        self.lost: list[Claim] = []
        self.first_starts: list[int] = []  # of the plain queue

    @initialize(policy=policies)
    def open(self, policy: QueuePolicy) -> None:
        """Begin with a queue of some kind, and one of the plainest."""
        queues = {"q": policy, "plain": QueuePolicy(concurrency_limit=2)}
        run(self.engine.open(queues, RETENTION))
        self.model = model.Model(queues, RETENTION)

    def teardown(self) -> None:
        """Let go of the engine."""
        run(self.engine.close())

    def pick(self, number: int) -> model.Job:
        """One of the known jobs."""
        return list(self.model.jobs.values())[number % len(self.model.jobs)]

    # What whoever asks does

    @rule(
        queue=queues,
        requests=st.lists(requests, min_size=1, max_size=6),
        limits=st.builds(
            AdmissionLimits,
            max_size=st.sampled_from([None, None, 9]),
            max_queued_per_client=st.sampled_from([None, None, 4]),
            too_long=st.sampled_from([False, False, True]),
        ),
        can_start=st.booleans(),
    )
    def enqueue(
        self,
        queue: str,
        requests: list[dict[str, Any]],
        limits: AdmissionLimits,
        can_start: bool,
    ) -> None:
        """Jobs come."""
        for fields in requests:
            record = JobRecord(id=next(self.ids), queue=queue, **fields)
            foreseen = run(self.engine.ahead_of(record))
            enqueued = run(self.engine.enqueue(record, limits=limits, can_start=can_start))
            if enqueued.outcome == "accepted":
                assert run(self.engine.ahead([record.id])) == [foreseen]

            outcome = self.model.enqueue(record, limits, can_start, self.clock())
            assert (enqueued.outcome, enqueued.queue_size) == outcome

    @precondition(lambda self: self.model.jobs)
    @rule(number=picks, only_queued=st.booleans())
    def cancel(self, number: int, only_queued: bool) -> None:
        """Somebody has had enough of a job."""
        job = self.pick(number)
        snapshot = run(self.engine.cancel(job.record.id, "client", only_queued=only_queued))
        self.model.cancel(job, only_queued, self.clock())

        assert snapshot is not None
        assert (snapshot.state, snapshot.cancel_requested) == (job.state, job.cancel_requested)

    @precondition(lambda self: self.model.jobs)
    @rule(number=picks, seconds=st.sampled_from([None, 0, 0, 3, 30]))
    def attend(self, number: int, seconds: float | None) -> None:
        """Somebody listens, has left, or need not."""
        job = self.pick(number)
        run(self.engine.attend([job.record.id], seconds))
        if job.listened_until is not None and not job.state.terminal:
            job.listened_until = None if seconds is None else self.clock() + seconds

    # What workers do

    @rule(
        queue=queues,
        functions=st.sampled_from(["ab", "ab", "ab", "a", "b"]),
        batch=st.integers(1, 3),
        window=st.sampled_from([0, 0, 2]),
        free=st.sampled_from([0, 1, 4, 4]),
    )
    def claim(self, queue: str, functions: str, batch: int, window: int, free: int) -> None:
        """A worker takes what may start."""
        if queue == "plain":
            functions, batch = "ab", 1
        demands = {name: Demand("loop", batch, window) for name in functions}
        reply = run(self.engine.claim("w", queue, demands, {"loop": free}))
        expected = self.model.queues[queue]
        started, ended, blocked, ready_at = self.model.claim(expected, demands, free, self.clock())

        assert [names(claim).split("+") for claim in reply.claims] == [
            [job.record.id for job in batch] for batch in started
        ]
        assert set(reply.ended) == ended
        assert (reply.blocked, reply.ready_at) == (blocked, ready_at)
        slots = {claim.slot for claim in self.claims if claim.queue == queue}
        for claim, jobs in zip(reply.claims, started, strict=True):
            assert claim.slot == min(set(range(len(slots) + 1)) - slots)
            slots.add(claim.slot)
            assert [attempt.number for attempt in claim.attempts] == [job.attempt for job in jobs]
            assert jobs[0].claim is not None
            self.claims[claim] = jobs[0].claim
        stats = run(self.engine.stats(queue))
        if reply.claims and stats.concurrency_limit is not None:
            assert len(stats.running) <= stats.concurrency_limit
        if queue == "plain":
            first = [job.number for jobs in started for job in jobs if job.attempt == 1]
            self.first_starts += first
            assert self.first_starts == sorted(self.first_starts)

    @precondition(lambda self: self.claims)
    @rule(
        number=picks,
        states=st.lists(st.one_of(st.none(), ends, ends), min_size=3, max_size=3),
        keep=st.sampled_from([False, False, True]),
    )
    def settle(self, number: int, states: list[JobState | None], keep: bool) -> None:
        """Some jobs of a claim end, or all of them."""
        claim = list(self.claims)[number % len(self.claims)]
        held = self.claims[claim]
        ends = {
            job.record.id: state
            for job, state in zip(model.running(held.jobs), states, strict=False)
            if state is not None
        }
        run(self.engine.settle(claim, [Outcome(*end) for end in ends.items()], keep=keep))
        self.model.settle(held, ends, keep, self.clock())
        self.let_go(claim)

    @precondition(lambda self: self.claims)
    @rule(number=picks)
    def release(self, number: int) -> None:
        """A worker gives back what it holds."""
        claim = list(self.claims)[number % len(self.claims)]
        run(self.engine.release(claim))
        self.model.release(self.claims[claim], self.clock())
        self.let_go(claim)

    def let_go(self, claim: Claim) -> None:
        """Remember a claim as lost if its slot is free."""
        held = self.claims[claim]
        if held not in held.queue.claims:
            del self.claims[claim]
            self.lost.append(claim)

    @precondition(lambda self: self.claims)
    @rule(number=picks, durable=st.booleans())
    def emit(self, number: int, durable: bool) -> None:
        """A job says something, unless it has ended."""
        claim = list(self.claims)[number % len(self.claims)]
        held = self.claims[claim]
        job = held.jobs[number % len(held.jobs)]
        emit = self.engine.emit(claim, job.record.id, [Emission("output", b"{}", durable)])
        if job.state is JobState.RUNNING:
            run(emit)
            if durable:
                job.say("output")
        else:
            with pytest.raises(ClaimLost):
                run(emit)

    @precondition(lambda self: self.lost)
    @rule(number=picks, verb=st.sampled_from(["settle", "keep", "emit", "release"]))
    def write_too_late(self, number: int, verb: str) -> None:
        """A worker writes to a claim that it does not hold any more."""
        claim = self.lost[number % len(self.lost)]
        job_id = claim.attempts[number % len(claim.attempts)].record.id
        outcomes = [Outcome(job_id, JobState.FAILED)]
        write = {
            "settle": lambda: self.engine.settle(claim, outcomes),
            "keep": lambda: self.engine.settle(claim, outcomes, keep=True),
            "emit": lambda: self.engine.emit(claim, job_id, [Emission("output", b"{}")]),
            "release": lambda: self.engine.release(claim),
        }[verb]
        with pytest.raises(ClaimLost):
            run(write())

    # What time and operators do

    @rule(seconds=st.integers(1, 8))
    def advance(self, seconds: int) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    @rule()
    def reap(self) -> None:
        """Time does its work: at once, or a second later."""
        now = self.clock()
        waiting = self.model.waiting
        running = [job for job in self.model.jobs.values() if job.state is JobState.RUNNING]
        ended = list(run(self.engine.reap()).ended)

        over, long_over = (
            {
                job.record.id
                for job in waiting
                if job.is_unheard(second) or job.waits_too_long(second)
            }
            for second in (now, now - 1)
        )
        assert long_over <= set(ended) <= over
        for job_id in ended:
            self.model.time_is_over(self.model.jobs[job_id], now)
        for job in running:
            snapshot = run(self.engine.get(job.record.id))
            assert snapshot is not None
            if not job.cancel_requested and job.is_unheard(now):
                assert snapshot.cancel_requested or not job.is_unheard(now - 1)
                job.cancel_requested = snapshot.cancel_requested
        self.model.evict(now)

    @rule(queue=queues, limit=st.sampled_from([None, None, 0, 1, 4]))
    def set_limit(self, queue: str, limit: int | None) -> None:
        """An operator turns a queue up or down."""
        run(self.engine.set_limit(queue, limit))
        expected = self.model.queues[queue]
        expected.limit = expected.policy.concurrency_limit if limit is None else limit

    # What must be true at every moment

    @invariant()
    def every_job_is_where_it_should_be(self) -> None:
        """A job is queued, running or ended, as in the model; what was forgotten is unknown."""
        for job_id, job in self.model.jobs.items():
            snapshot = run(self.engine.get(job_id))
            assert snapshot is not None
            assert (snapshot.state, snapshot.cancel_requested) == (
                job.state,
                job.cancel_requested,
            )
            assert (snapshot.started is None) == (job.claim is None)
            assert (snapshot.finished is not None) == job.state.terminal
        assert run(self.engine.get("0")) is None

    @invariant()
    def every_log_is_a_story(self) -> None:
        """A log is numbered from 1 without gaps, and ends with its only terminal event."""
        for job_id, job in self.model.jobs.items():
            page = run(self.engine.events(job_id, BEGINNING))
            assert page is not None
            numbers = [event.id.number for event in page.events]
            assert numbers == list(range(1, len(numbers) + 1))
            assert len({event.id.attempt for event in page.events}) <= 1
            terminal = [event.type in TERMINAL for event in page.events]
            assert not any(terminal[:-1])
            assert page.ended == any(terminal) == job.state.terminal
            assert [f"{event.id} {event.type}" for event in page.events] == job.log

    @invariant()
    def counts_are_those_of_the_sets(self) -> None:
        """What is counted is there, and what is there is counted."""
        for name, queue in self.model.queues.items():
            stats = run(self.engine.stats(name))
            functions = [job.record.function for job in queue.waiting]
            assert stats.waiting == {each: functions.count(each) for each in set(functions)}
            assert stats.queue_size == len(queue.waiting)
            assert stats.concurrency_limit == queue.limit
            assert sorted(claim.function for claim in stats.running) == sorted(
                claim.jobs[0].record.function for claim in queue.claims
            )

    @invariant()
    def everybody_has_a_place(self) -> None:
        """The places in line are 1, 2, 3… in the model's order; who is not in line has none."""
        for queue in self.model.queues.values():
            places = run(self.engine.ahead([job.record.id for job in queue.line]))
            positions = [None if ahead is None else 1 + sum(ahead.values()) for ahead in places]
            assert positions == list(range(1, len(places) + 1))
        others = [
            job_id
            for job_id, job in self.model.jobs.items()
            if job.state is not JobState.QUEUED or job.held
        ]
        assert run(self.engine.ahead(others)) == [None] * len(others)


Engine.TestCase.settings = settings(max_examples=400, stateful_step_count=50)
TestEngine = Engine.TestCase
