"""The memory engine with a line of any length: what its verbs take, in time and in steps."""

import random
import statistics
import sys
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from aiohttp import web

import aioqueue
from aioqueue._job import (
    AdmissionLimits,
    Content,
    Demand,
    JobRecord,
    JobState,
    Order,
    Outcome,
    QueuePolicy,
)
from aioqueue._positions import Estimator, Positions, Waiting
from aioqueue.engines.base import Retention
from aioqueue.engines.memory import MemoryEngine
from benchmarks.servers._serving import account, serve

TIMED, COUNTED = 1_000, 100
"""How often each verb is timed, and counted."""
VERBS = ("enqueue", "position", "cancel", "claim")
PACKAGE = str(Path(aioqueue.__file__).parent)
SECONDS = 0.1
"""Of one job in a line that is drained, one after the other."""
NO_BUDGET = 1_000_000_000

_LIMITS = AdmissionLimits()
_DEMANDS = {"function": Demand("thread")}
_FREE = {"thread": 1_000_000}
_DONE = Content(b'"done"')


class Priority(float):
    """A number that counts how often it was compared, and the place in line that is made of it."""

    compared = 0

    def __mul__(self, other: float) -> "Priority":
        return Priority(float(self) * other)

    def __rsub__(self, other: float) -> "Priority":
        return Priority(other - float(self))

    def __lt__(self, other: float) -> bool:
        Priority.compared += 1
        return float(self) < float(other)

    def __gt__(self, other: float) -> bool:
        Priority.compared += 1
        return float(self) > float(other)


class Line:
    """People who wait for one function, in time that passes by hand."""

    def __init__(self, order: Order = Order.ARRIVAL, grace: float | None = 30.0) -> None:
        self.now = 0.0
        self._grace = grace
        self.engine = MemoryEngine(lambda: self.now)
        self._policy = QueuePolicy(concurrency_limit=1, order=order)
        self._joined = 0
        self.waiting: dict[str, None] = {}

    async def open(self, people: int) -> "Line":
        """Let so many people wait."""
        await self.engine.open({"queue": self._policy}, Retention(max_results=1))
        for _ in range(people):
            await self.enqueue(self.newcomer())
        return self

    def newcomer(self) -> JobRecord:
        """Somebody who comes after all others."""
        self._joined += 1
        self.waiting[str(self._joined)] = None
        return JobRecord(
            id=str(self._joined),
            function="function",
            queue="queue",
            grace=self._grace,
            priority=Priority(-self._joined),
        )

    def somebody(self, values: random.Random) -> str:
        """Who stands anywhere in the line."""
        while (name := str(values.randint(1, self._joined))) not in self.waiting:
            pass
        return name

    async def enqueue(self, record: JobRecord) -> object:
        """Join."""
        return await self.engine.enqueue(record, limits=_LIMITS)

    async def claim(self) -> None:
        """Start what may start."""
        reply = await self.engine.claim("worker", "queue", _DEMANDS, _FREE)
        self._running = reply.claims

    async def settle(self) -> list[str]:
        """Let whatever runs end; answers who that is."""
        ended = []
        for claim in self._running:
            job_id = claim.attempts[0].record.id
            await self.engine.settle(claim, [Outcome(job_id, JobState.SUCCEEDED, _DONE)])
            ended.append(job_id)
        return ended


class Meter:
    """What each verb took: seconds, or calls of functions of ours and comparisons of places."""

    def __init__(self, *, counts: bool) -> None:
        self._counts = counts
        self._calls = 0
        self.taken: dict[str, list[tuple[float, float]]] = {verb: [] for verb in VERBS}

    async def take(self, verb: str, work: Awaitable[object]) -> None:
        """Do it, and note what it took."""
        self._calls, Priority.compared = 0, 0
        if self._counts:
            with self._counting():
                await work
            self.taken[verb].append((self._calls, Priority.compared))
            return
        began = time.perf_counter()
        await work
        self.taken[verb].append((time.perf_counter() - began, 0))

    @contextmanager
    def _counting(self) -> Iterator[None]:
        sys.setprofile(self._count)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, _arg: object) -> None:
        self._calls += event == "call" and frame.f_code.co_filename.startswith(PACKAGE)


async def exercise(line: Line, meter: Meter, times: int) -> None:
    """Do each verb so often; the line stays as long as it is."""
    values = random.Random(1)
    for _ in range(times):
        record = line.newcomer()
        await meter.take("enqueue", line.enqueue(record))
        await line.enqueue(line.newcomer())
        await meter.take("position", line.engine.ahead([line.somebody(values)]))
        leaves = line.somebody(values)
        await meter.take("cancel", line.engine.cancel(leaves, "client"))
        await meter.take("claim", line.claim())
        for name in (leaves, *await line.settle()):
            del line.waiting[name]


async def verbs(request: web.Request) -> web.Response:
    """Answer what each verb takes in a line of so many."""
    people = int(request.query["people"])
    timed, counted = Meter(counts=False), Meter(counts=True)
    await exercise(await Line().open(people), timed, TIMED)
    await exercise(await Line(Order.PRIORITY).open(people), counted, COUNTED)
    answer = {}
    for verb in VERBS:
        answer[verb] = statistics.median(seconds for seconds, _ in timed.taken[verb])
        answer[f"{verb}_calls"] = statistics.mean(calls for calls, _ in counted.taken[verb])
        answer[f"{verb}_compared"] = statistics.mean(times for _, times in counted.taken[verb])
    return web.json_response(answer)


class Crowd:
    """Everybody who is told where he is."""

    told = 0

    async def tell(self, _kind: str, _data: bytes) -> bool:
        """Count it."""
        self.told += 1
        return True


async def drain(request: web.Request) -> web.Response:
    """Answer how many positions so many are told until the last has had his turn."""
    # Without a grace: nobody is to say again and again that they still listen.
    line = await Line(grace=None).open(int(request.query["people"]))
    estimator = Estimator(line.engine, {"queue": 1}, _DEMANDS)
    positions = Positions(line.engine, estimator, NO_BUDGET)
    crowd = Crowd()
    waiting = {}
    for name in line.waiting:
        snapshot = await line.engine.get(name)
        assert snapshot is not None
        estimate = await estimator.estimate(snapshot)
        waiting[name] = Waiting(name, "function", "queue", crowd, estimate)
        positions.follow(waiting[name], line.now)
    steps = 0
    while waiting:
        await line.claim()
        steps += 1
        line.now = steps * SECONDS
        for name in await line.settle():
            waiting.pop(name).listener = None
        if steps % round(1 / SECONDS) == 0:
            await positions.tick(line.now)
    return web.json_response({"messages": crowd.told})


app = web.Application()
app.add_routes([web.get(f"/{one.__name__}", one) for one in (verbs, drain, account)])

if __name__ == "__main__":
    serve(app)
