"""The no-op: what a job costs whose function does nothing."""

import itertools
from functools import partial

from attrs import define, frozen

from benchmarks import wrk
from benchmarks.contest import Contest, Peer
from benchmarks.load import Response, find, keep_busy, request_bytes
from benchmarks.process import Server
from benchmarks.report import Column, Target

CONNECTIONS = 32
# More than the 10,000 results that aioqueue keeps, so that dropping old ones is paid for as well.
JOBS = 20_000
WARM_UP = 0.1
"""Of as many jobs as are measured."""
PATIENCE = 120.0

_SSE = request_bytes("POST", "/noop", b"{}", {"Accept": "text/event-stream"})
_JSON = request_bytes("POST", "/noop", b"{}")
_WAIT = request_bytes("POST", "/noop", b"{}", {"Prefer": "wait=30"})
_LATER = request_bytes("POST", "/noop", b"{}", {"Prefer": "respond-async"})
_GRADIO = request_bytes("POST", "/gradio_api/call/noop", b'{"data":[]}')


def _events(_request: bytes, response: Response) -> bytes:
    """Ask for the events of a job that was answered with 202."""
    return request_bytes("GET", find(response.raw, b'"events":"'))


def _gradio_events(_request: bytes, response: Response) -> bytes:
    return request_bytes("GET", "/gradio_api/call/noop/" + find(response.raw, b'"event_id":"'))


PEERS = (
    Peer("bare_json", "bare_json", _JSON),
    Peer("bare_sse", "bare_sse", _SSE),
    Peer("bare_202", "bare_sse", request_bytes("POST", "/later", b"{}"), follow=_events),
    Peer("readme_sse", "readme_sse", _SSE),
    Peer("aioqueue_sse", "queued", _SSE),
    Peer("aioqueue_wait", "queued", _WAIT),
    Peer("aioqueue_202", "queued", _LATER, follow=_events),
    Peer("mosec", "mosec", _JSON, home="mosec"),
    Peer("litserve", "litserve", _JSON, home="litserve", jobs=4_000),
    Peer(
        "gradio",
        "gradio",
        _GRADIO,
        follow=_gradio_events,
        event=b"event: ",
        home="gradio",
        jobs=500,
    ),
)

COLUMNS = (
    Column("jobs/s", "jobs_per_second"),
    Column("server CPU, µs/job", "cpu_per_job"),
    Column("core busy, %", "busy_share", scale=100),
    Column("events/job", "events_per_job", digits=2),
    Column("peak memory, MB", "peak_rss", digits=1, scale=1e-6),
    Column("wrk, jobs/s", "by_wrk"),
    Column("served", "served"),
)

TARGETS = (
    Target("aioqueue_sse", "jobs_per_second", "bare_sse", at_least=0.8),
    Target("aioqueue_sse", "jobs_per_second", "readme_sse", at_least=1.0),
    Target("aioqueue_wait", "jobs_per_second", "bare_json", at_least=0.6),
    Target("aioqueue_sse", "jobs_per_second", "gradio", at_least=45),
    # The cost of a request more; there is no target for that.
    Target("aioqueue_202", "jobs_per_second", "bare_202"),
    Target("aioqueue_wait", "jobs_per_second", "mosec"),
    Target("aioqueue_wait", "jobs_per_second", "litserve"),
    # What wrk says of the first and the third, as the load generator is our own.
    Target("aioqueue_sse", "by_wrk", "bare_sse", at_least=0.8),
    Target("aioqueue_wait", "by_wrk", "bare_json", at_least=0.6),
    # The first and the third once more in CPU, which other work on the machine disturbs less.
    Target("aioqueue_sse", "cpu_per_job", "bare_sse", at_most=1 / 0.8),
    Target("aioqueue_wait", "cpu_per_job", "bare_json", at_most=1 / 0.6),
)


def contest(jobs: int = JOBS, *, with_wrk: bool = True) -> Contest:
    """Return the contest of so many jobs a round."""
    return Contest(
        name="overhead",
        description=f"a function that does nothing, {CONNECTIONS} connections, one POST a job "
        "(with 202 one GET more),\n"
        f"{jobs:,} jobs a round, {_fewer()}; {_second_opinion(with_wrk)}",
        peers=PEERS,
        measure=partial(measure, jobs=jobs, with_wrk=with_wrk and wrk.is_there()),
        columns=COLUMNS,
        targets=TARGETS,
        guess=2 + jobs / 4_000 + (wrk.SECONDS if with_wrk else 0),
    )


def _fewer() -> str:
    """Say who gets fewer jobs."""
    return ", ".join(f"{peer.jobs:,} for {peer.name}" for peer in PEERS if peer.jobs)


def _second_opinion(with_wrk: bool) -> str:
    """Say whether wrk has one."""
    if not with_wrk:
        return "without wrk"
    if wrk.is_there():
        return f"then wrk for {wrk.SECONDS} s"
    return "without wrk, which is not installed: make system-deps"


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
    peak_rss: int
    """Bytes; of somebody else's server the sum over its processes."""
    by_wrk: float | None
    """Jobs per second as wrk sees them; None where it can't, or is not installed."""

    def failures(self) -> list[str]:
        """Say what must not be, whatever the speed."""
        return [] if self.served == self.jobs else [f"served {self.served:,} of {self.jobs:,}"]


async def measure(peer: Peer, server: Server, jobs: int, with_wrk: bool) -> OverheadRound:
    """Give `server` one job after the other over connections that live on."""
    jobs = min(jobs, peer.jobs or jobs)
    await _send(peer, server, round(jobs * WARM_UP))
    before = await server.account()
    seconds, tally = await _send(peer, server, jobs)
    after = await server.account()
    cpu = after.cpu - before.cpu
    by_wrk = None
    if with_wrk and peer.follow is None:  # it sends the same request again and again
        by_wrk = await wrk.requests_per_second(server.port, peer.request, CONNECTIONS)
    return OverheadRound(
        jobs=jobs,
        served=tally.served,
        jobs_per_second=tally.served / seconds,
        cpu_per_job=cpu * 1e6 / jobs,
        busy_share=cpu / seconds,
        events_per_job=tally.events / jobs,
        peak_rss=after.peak_rss,
        by_wrk=by_wrk,
    )


@define
class _Tally:
    """Counts responses as they come; keeping them would only fill memory."""

    peer: Peer
    served: int = 0
    events: int = 0

    def add(self, response: Response) -> None:
        self.served += self.peer.served in response.raw and response.status == 200
        self.events += response.raw.count(self.peer.event)


async def _send(peer: Peer, server: Server, jobs: int) -> tuple[float, _Tally]:
    tally = _Tally(peer)
    requests = itertools.repeat(peer.request, jobs)
    seconds = await keep_busy(server.port, requests, CONNECTIONS, tally.add, PATIENCE, peer.follow)
    return seconds, tally
