"""How long a job may have to wait for others is bounded, whatever these others do.

The state machine compares the engine with a model that orders by the same numbers.  Here it is
held to what the numbers are for: promises that whoever waits can check by looking at the line.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import attrs
from hypothesis import settings, strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from aioqueue._job import AdmissionLimits, JobState, Order, QueuePolicy
from tests.engines import model
from tests.engines.test_state_machine import Engine, picks, queues, run

policies = st.builds(
    QueuePolicy,
    concurrency_limit=st.sampled_from([1, 1, 2]),
    order=st.sampled_from([Order.FAIR, Order.FAIR, Order.FAIR, Order.PRIORITY, Order.ARRIVAL]),
    priority_step=st.just(3.0),
    max_running_per_client=st.sampled_from([None, None, 2]),
)
requests = st.fixed_dictionaries(
    {
        "function": st.sampled_from("ab"),
        "client": st.sampled_from(["ann", "ann", "ann", "bob", "bob", "cid", None]),
        "priority": st.integers(-1, 2),
        "queue_timeout": st.sampled_from([None, None, None, 4]),
    }
)


@attrs.define(eq=False)
class Promise:
    """What a job was promised when it joined, and what has come of it.

    In a fair order a turn is one claim of every other client.  A job is so many turns away as its
    client has jobs waiting, with it and with the gaps between them.  Of each other client at most
    ``turns - 1`` claims of later jobs start before it; with those of jobs that wait already, and
    the turn that has begun, at most ``turns + 1``.
    """

    job: model.Job
    turns: int
    overtaken: Counter[str] = attrs.field(factory=Counter)
    preceded: Counter[str] = attrs.field(factory=Counter)


def client_of(job: model.Job) -> str:
    """Whose turn a job takes; without a client it is a client of its own."""
    return job.record.client or f"job {job.record.id}"


class Bounds(Engine):
    """Does what the state machine does, and remembers who came when and who started when."""

    def __init__(self) -> None:
        super().__init__()
        self.promises: dict[str, Promise] = {}
        self.states: dict[str, JobState] = {}  # of these jobs, before the last step
        self.places: defaultdict[str, dict[str, int]] = defaultdict(dict)  # likewise, by queue
        self.gaps: Counter[tuple[str, str]] = Counter()  # in the turns of a client in a queue
        self.given_back: set[str] = set()  # queues that jobs have come back to

    # What these do to a line is nothing.
    attend = emit = reap = write_too_late = None  # type: ignore[assignment]

    @initialize(policy=policies)
    def open(self, policy: QueuePolicy) -> None:
        """Begin with one queue where order matters: few slots, and mostly turns."""
        Engine.open(self, policy=policy)

    def line(self, queue: str) -> dict[str, int]:
        """Who stands in a line, with the places that the engine tells."""
        waiting = [job.record.id for job in self.model.queues[queue].waiting]
        places = zip(waiting, run(self.engine.ahead(waiting)), strict=True)
        return {job_id: 1 + sum(ahead.values()) for job_id, ahead in places if ahead is not None}

    def may_pass(self, late: model.Job, early: model.Job) -> bool:
        """Whether one that came later may get before one that came earlier."""
        policy = self.model.queues[early.record.queue].policy
        match policy.order:
            case Order.ARRIVAL:
                return False
            case Order.FAIR:
                return self.promises[early.record.id].turns > 1
        steps = late.record.priority - early.record.priority
        return late.created - early.created < steps * policy.priority_step

    @rule(queue=queues, requests=st.lists(requests, min_size=1, max_size=6))
    def enqueue(self, queue: str, requests: list[dict[str, Any]]) -> None:
        """Jobs come, and find room."""
        Engine.enqueue(
            self, queue=queue, requests=requests, limits=AdmissionLimits(), can_start=True
        )

    @rule(
        queue=queues,
        batch=st.integers(1, 3),
        window=st.sampled_from([0, 0, 2]),
        free=st.sampled_from([1, 4, 4]),
    )
    def claim(self, queue: str, batch: int, window: int, free: int) -> None:
        """A worker that runs all functions takes what may start."""
        known, waiting = set(self.claims), self.line(queue)
        Engine.claim(self, queue=queue, functions="ab", batch=batch, window=window, free=free)
        for claim, held in self.claims.items():
            if claim not in known:
                assert len(held.jobs) <= batch
                for job in held.jobs:
                    waiting.pop(job.record.id, None)
                self.starts(held.jobs, [self.promises[job_id] for job_id in waiting])

    @precondition(lambda self: self.claims)
    @rule(number=picks, following=st.integers(0, 2))
    def finish(self, number: int, following: int) -> None:
        """All jobs of a claim succeed, and what may start does, some times over."""
        for _ in range(1 + following):
            if self.claims:
                claim = list(self.claims)[number % len(self.claims)]
                Engine.settle(self, number=number, states=[JobState.SUCCEEDED] * 3, keep=False)
                self.claim(queue=claim.queue, batch=1, window=0, free=4)

    def starts(self, batch: list[model.Job], waiting: list[Promise]) -> None:
        """Jobs start, the first of them before all that stand in line."""
        head = batch[0]
        for mate in batch[1:]:
            self.gaps[mate.record.queue, client_of(mate)] += 1
        for promise in waiting:
            if promise.job.state.terminal:
                continue  # its time was over
            overtakes = head.number > promise.job.number
            assert not overtakes or self.may_pass(head, promise.job)
            if head.attempt == 1 and client_of(head) != client_of(promise.job):
                promise.preceded[client_of(head)] += 1
                promise.overtaken[client_of(head)] += overtakes

    @invariant()
    def promises_are_kept(self) -> None:
        """Look at what a step has done, in each queue."""
        for promise in self.promises.values():
            job = promise.job
            was, now = self.states[job.record.id], job.state
            if was is JobState.QUEUED and now.terminal:
                self.gaps[job.record.queue, client_of(job)] += 1
            elif was is JobState.RUNNING and now is JobState.QUEUED:
                self.given_back.add(job.record.queue)
        for name, queue in self.model.queues.items():
            self.whoever_has_come_is_promised_something(queue.waiting)
            line = self.line(name)
            self.caps_are_kept(queue, line)
            self.places_rise_for_a_reason(self.places[name], line)
            self.places[name] = line
            if queue.policy.order is Order.FAIR:
                self.turns_are_kept(name, queue)
        self.states = {job_id: promise.job.state for job_id, promise in self.promises.items()}

    def whoever_has_come_is_promised_something(self, waiting: list[model.Job]) -> None:
        """A job is so many turns away as jobs of its client wait, and gaps are between them."""
        busy = {
            (one.job.record.queue, client_of(one.job))
            for one in self.promises.values()
            if not one.job.state.terminal
        }
        # Once nobody is left who stands behind a gap, or could come back there, it is closed.
        self.gaps = Counter({each: gaps for each, gaps in self.gaps.items() if each in busy})
        for job in sorted(waiting, key=lambda job: job.number):
            if job.record.id not in self.promises:
                turns = self.gaps[job.record.queue, client_of(job)] + sum(
                    client_of(other) == client_of(job) and other.number <= job.number
                    for other in waiting
                )
                self.promises[job.record.id] = Promise(job, turns)

    def caps_are_kept(self, queue: model.Queue, line: dict[str, int]) -> None:
        """No client has more jobs in line and running than it may."""
        cap = queue.policy.max_running_per_client
        running = [job for claim in queue.claims for job in model.running(claim.jobs)]
        admitted = [self.promises[job_id].job for job_id in line] + running
        count = Counter(job.record.client for job in admitted if job.record.client is not None)
        assert cap is None or all(jobs <= cap for jobs in count.values())

    def places_rise_for_a_reason(self, before: dict[str, int], line: dict[str, int]) -> None:
        """Nobody moves back but for those that have just got before him, and were allowed to.

        These are newcomers, jobs that came back, and jobs that were held beside the line.
        """
        entered = line.keys() - before.keys()
        for job_id in line.keys() & before.keys():
            passed_by = [other for other in entered if line[other] < line[job_id]]
            assert line[job_id] <= before[job_id] + len(passed_by)
            for other in passed_by:
                known = other in self.states
                job, early = self.promises[other].job, self.promises[job_id].job
                assert known or self.may_pass(job, early)

    def turns_are_kept(self, name: str, queue: model.Queue) -> None:
        """No other client starts more often before a job than it was told."""
        straight = queue.policy.max_running_per_client is None and name not in self.given_back
        for promise in self.promises.values():
            if promise.job.record.queue == name:
                assert all(jobs < promise.turns for jobs in promise.overtaken.values())
                # What was held or comes back stands before its time, and is one more.
                most = max(promise.preceded.values(), default=0)
                assert not straight or most <= promise.turns + 1


Bounds.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestBounds = Bounds.TestCase
