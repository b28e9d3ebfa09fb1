"""The no-op: what a job costs whose function does nothing."""

import itertools

from attrs import define, frozen

from benchmarks.contest import Contest, Peer
from benchmarks.load import Response, keep_busy, request_bytes
from benchmarks.process import Server
from benchmarks.report import Column, Target

CONNECTIONS = 32
WARM_UP_JOBS = 2_000
# More than the 10,000 results that aioqueue keeps, so that dropping old ones is paid for as well.
JOBS = 20_000
PATIENCE = 120.0

_SSE = request_bytes("POST", "/noop", b"{}", {"Accept": "text/event-stream"})

PEERS = (
    Peer("bare_json", "bare_json", request_bytes("POST", "/noop", b"{}")),
    Peer("bare_sse", "bare_sse", _SSE),
    Peer("readme_sse", "readme_sse", _SSE),
    Peer("aioqueue_sse", "queued", _SSE),
    Peer("aioqueue_wait", "queued", request_bytes("POST", "/noop", b"{}", {"Prefer": "wait=30"})),
)

COLUMNS = (
    Column("jobs/s", "jobs_per_second"),
    Column("server CPU, µs/job", "cpu_per_job"),
    Column("core busy, %", "busy_share", scale=100),
    Column("events/job", "events_per_job", digits=2),
    Column("served", "served"),
)

TARGETS = (
    Target("aioqueue_sse", "jobs_per_second", "bare_sse", at_least=0.8),
    Target("aioqueue_sse", "jobs_per_second", "readme_sse", at_least=1.0),
    Target("aioqueue_wait", "jobs_per_second", "bare_json", at_least=0.6),
    # The first and the last once more in CPU, which other work on the machine disturbs less.
    Target("aioqueue_sse", "cpu_per_job", "bare_sse", at_most=1 / 0.8),
    Target("aioqueue_wait", "cpu_per_job", "bare_json", at_most=1 / 0.6),
)


def contest() -> Contest:
    """Return the contest."""
    return Contest(
        name="overhead",
        description=f"a function that does nothing, {CONNECTIONS} connections, one POST a job, "
        f"{JOBS:,} jobs a round",
        peers=PEERS,
        measure=measure,
        columns=COLUMNS,
        targets=TARGETS,
        guess=2 + JOBS / 5_000,
    )


@frozen
class OverheadRound:
    """What one peer did in one round."""

    jobs: int
    served: int
    jobs_per_second: float
    cpu_per_job: float
    """Microseconds of the server process."""
    busy_share: float
    """CPU time per wall time: far below 1, something else had the core."""
    events_per_job: float

    def failures(self) -> list[str]:
        """Say what must not be, whatever the speed."""
        return [] if self.served == self.jobs else [f"served {self.served:,} of {self.jobs:,}"]


async def measure(peer: Peer, server: Server) -> OverheadRound:
    """Give `server` one job after the other over connections that live on."""
    await _send(peer, server, WARM_UP_JOBS)
    before = await server.account()
    seconds, tally = await _send(peer, server, JOBS)
    after = await server.account()
    cpu = after.cpu - before.cpu
    return OverheadRound(
        jobs=JOBS,
        served=tally.served,
        jobs_per_second=tally.served / seconds,
        cpu_per_job=cpu * 1e6 / JOBS,
        busy_share=cpu / seconds,
        events_per_job=tally.events / JOBS,
    )


@define
class _Tally:
    """Counts responses as they come; keeping them would only fill memory."""

    served_mark: bytes
    served: int = 0
    events: int = 0

    def add(self, response: Response) -> None:
        self.served += self.served_mark in response.raw and response.status == 200
        self.events += response.raw.count(b"\nevent: ")


async def _send(peer: Peer, server: Server, jobs: int) -> tuple[float, _Tally]:
    tally = _Tally(peer.served)
    requests = itertools.repeat(peer.request, jobs)
    seconds = await keep_busy(server.port, requests, CONNECTIONS, tally.add, PATIENCE)
    return seconds, tally
