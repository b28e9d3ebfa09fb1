"""Heavy work: what a function that holds the GIL does to others, in a thread and in a process."""

import asyncio
import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from attrs import frozen

from benchmarks import killing
from benchmarks.contest import Contest, Peer
from benchmarks.load import (
    Client,
    Countdown,
    Response,
    connect,
    keep_busy,
    press_together,
    request_bytes,
)
from benchmarks.process import Server
from benchmarks.report import Column, Target

LOOKS_PER_SECOND = 200
LOOK_SECONDS = 5.0
CONNECTIONS = 50
NOOP_JOBS = 2_000
ONE_BY_ONE = 300
CRUNCH_JOBS = 40
CRUNCH_MILLISECONDS = 50
PATIENCE = 60.0

_PLAIN = request_bytes("GET", "/plain")
_HOG = b'{"seconds":%.1f}' % (LOOK_SECONDS + 1)
_WAIT = {"Prefer": "wait=60"}


def contests() -> tuple[Contest, ...]:
    """Return the contests."""
    return _route(), _noop(), _crunch(), *killing.contests()


# A plain route beside a hog


def _route() -> Contest:
    return Contest(
        name="a plain route",
        description=f"looked at {LOOKS_PER_SECOND} times a second for {LOOK_SECONDS:.0f} s, "
        "however long the answers take, while one job\ncomputes in Python, and while none does; "
        "the server and its processes have both cores",
        peers=(
            Peer("nothing_runs", "heavy", b""),
            Peer("hog_process", "heavy", _post("/hog_process", _HOG)),
            Peer("hog_thread", "heavy", _post("/hog_thread", _HOG)),
        ),
        measure=measure_route,
        columns=(
            Column("p50, ms", "p50", digits=2, scale=1000),
            Column("p99, ms", "p99", digits=2, scale=1000),
            Column("worst, ms", "worst", digits=1, scale=1000),
            Column("answered", "answered"),
        ),
        targets=(
            Target("hog_process", "p50", "nothing_runs"),
            Target("hog_process", "p99", "nothing_runs", at_most=3.0),
            Target("hog_thread", "p99", "nothing_runs"),
        ),
        guess=LOOK_SECONDS + 5,
        both_cores=True,
    )


@frozen
class RouteRound:
    """What a plain route did meanwhile."""

    answered: int
    p50: float
    p99: float
    worst: float
    hog_ran: bool
    """Whether the hog did not end before the last look."""

    def failures(self) -> list[str]:
        """Say what must not be, whatever the speed."""
        expected = round(LOOKS_PER_SECOND * LOOK_SECONDS)
        missing = [f"{self.answered:,} of {expected:,}"] if self.answered != expected else []
        return missing + ([] if self.hog_ran else ["the hog ended too early"])


async def measure_route(peer: Peer, server: Server) -> RouteRound:
    """Look at the plain route while the hog runs."""
    looks = Looks(server.port)
    await looks.take(seconds=1.0)  # the first are slower
    looks.ages.clear()
    hog = None
    if peer.request:
        hog = killing.Watcher(peer.request)
        await hog.watch(server.port)
        await hog.says_who()
    count = await looks.take(LOOK_SECONDS)
    hog_ran = hog is None or not hog.over.is_set()
    await looks.finish()
    if hog is not None:
        hog.leave()
    ages = sorted(looks.ages) or [PATIENCE]
    return RouteRound(
        answered=min(len(looks.ages), count),
        p50=ages[len(ages) // 2],
        p99=ages[len(ages) * 99 // 100],
        worst=ages[-1],
        hog_ran=hog_ran,
    )


class Looks:
    """Looks at the plain route at its own pace: a slow answer makes no later look wait."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._gone = Countdown(CONNECTIONS)
        self._free: list[_Looker] = []
        self._pressed: deque[float] = deque()  # by whom, when there was no connection
        self._lookers: Sequence[_Looker] = ()
        self._life: asyncio.Task[float] | None = None
        self._all_answered = asyncio.Event()
        self.ages: list[float] = []

    async def take(self, seconds: float) -> int:
        """Look for so long; answers how often."""
        if self._life is None:
            self._lookers = [_Looker(self._is_free, self._gone.step) for _ in range(CONNECTIONS)]
            self._life = asyncio.create_task(
                connect(self._port, self._lookers, self._gone, PATIENCE)
            )
        loop = asyncio.get_running_loop()
        began, count = loop.time(), round(LOOKS_PER_SECOND * seconds)
        for number in range(count):
            await asyncio.sleep(began + number / LOOKS_PER_SECOND - loop.time())
            self._pressed.append(time.perf_counter())
            if self._free:
                self._free.pop().look(self._pressed.popleft())
        return count

    def _is_free(self, looker: "_Looker", age: float | None) -> None:
        if age is not None:
            self.ages.append(age)
        if self._pressed:
            looker.look(self._pressed.popleft())
        else:
            self._free.append(looker)
            if len(self._free) == CONNECTIONS:
                self._all_answered.set()

    async def finish(self) -> None:
        """Wait for the answers that are still to come, and leave."""
        self._all_answered.clear()
        if len(self._free) < CONNECTIONS:
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE / 2):
                    await self._all_answered.wait()
        for looker in self._lookers:
            looker.leave()
        if self._life is not None:
            await self._life


class _Looker(Client):
    """One connection of those that look."""

    def __init__(
        self, on_free: Callable[["_Looker", float | None], None], on_leave: Callable[[], None]
    ) -> None:
        super().__init__(on_leave)
        self._on_free = on_free
        self._response = Response()
        self._pressed = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be there."""
        super().connection_made(transport)
        self._on_free(self, None)

    def look(self, pressed: float) -> None:
        """Ask, for somebody who has pressed then."""
        self._pressed = pressed
        self._response = Response()
        self.send(_PLAIN)

    def data_received(self, data: bytes) -> None:
        """Note how old the answer is."""
        if self._response.feed(data):
            self._on_free(self, time.perf_counter() - self._pressed)


# What a job costs, and what a second core brings


def _noop() -> Contest:
    return Contest(
        name="no-op",
        description=f"a function that does nothing; {ONE_BY_ONE} jobs one after the other, then "
        f"{NOOP_JOBS:,} over 32 connections",
        peers=(
            Peer("noop_loop", "heavy", _post("/noop_loop", b"{}", _WAIT), b"200 OK"),
            Peer("noop_thread", "heavy", _post("/noop_thread", b"{}", _WAIT), b"200 OK"),
            Peer("noop_process", "heavy", _post("/noop_process", b"{}", _WAIT), b"200 OK"),
        ),
        measure=measure_noop,
        columns=(
            Column("one alone, p50, ms", "alone", digits=2, scale=1000),
            Column("jobs/s", "jobs_per_second"),
            Column("served", "served"),
        ),
        targets=(
            Target("noop_process", "alone", "noop_thread"),
            Target("noop_process", "jobs_per_second", "noop_thread"),
        ),
        guess=8,
        both_cores=True,
    )


def _crunch() -> Contest:
    body = b'{"milliseconds":%d}' % CRUNCH_MILLISECONDS
    return Contest(
        name="Python that computes",
        description=f"{CRUNCH_JOBS} jobs that need {CRUNCH_MILLISECONDS} ms of CPU each, two at "
        "once, on two cores",
        peers=(
            Peer("crunch_thread", "heavy", _post("/crunch_thread", body, _WAIT)),
            Peer("crunch_process", "heavy", _post("/crunch_process", body, _WAIT)),
        ),
        measure=measure_crunch,
        columns=(
            Column("jobs/s", "jobs_per_second", digits=1),
            Column("served", "served"),
        ),
        targets=(Target("crunch_process", "jobs_per_second", "crunch_thread"),),
        guess=5,
        both_cores=True,
    )


@frozen
class JobsRound:
    """How many jobs were done in what time."""

    jobs: int
    served: int
    jobs_per_second: float
    alone: float | None = None
    """Seconds from the request to the result, with nothing else going on."""

    def failures(self) -> list[str]:
        """Say what must not be, whatever the speed."""
        return [] if self.served == self.jobs else [f"served {self.served:,} of {self.jobs:,}"]


async def measure_noop(peer: Peer, server: Server) -> JobsRound:
    """Send some jobs one by one, then many."""
    alone = []
    for _ in range(ONE_BY_ONE):
        began, (user,) = await press_together(server.port, peer.request, 1, PATIENCE)
        alone.append((user.finished or began + PATIENCE) - (user.connected or began))
    served, seconds = await _send(peer, server, NOOP_JOBS, connections=32)
    return JobsRound(NOOP_JOBS, served, served / seconds, statistics.median(alone))


async def measure_crunch(peer: Peer, server: Server) -> JobsRound:
    """Keep the queue full."""
    await _send(peer, server, 4, connections=4)
    served, seconds = await _send(peer, server, CRUNCH_JOBS, connections=4)
    return JobsRound(CRUNCH_JOBS, served, served / seconds)


async def _send(peer: Peer, server: Server, jobs: int, connections: int) -> tuple[int, float]:
    """Send so many jobs; answers how many were served, and the seconds that took."""
    served = 0

    def count(response: Response) -> None:
        nonlocal served
        served += peer.served in response.raw

    requests = itertools.repeat(peer.request, jobs)
    seconds = await keep_busy(server.port, requests, connections, count, PATIENCE)
    return served, seconds


def _post(path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    return request_bytes("POST", path, body, headers or {"Accept": "text/event-stream"})
