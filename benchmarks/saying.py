"""Progress: what a million of them from a thread do to everybody else."""

import asyncio
import re

from attrs import frozen

from benchmarks.contest import Contest, Peer
from benchmarks.load import fetch, press_together, request_bytes
from benchmarks.process import Server
from benchmarks.report import Column, Target

CALLS = 1_000_000
LOOKS = 200
PAUSE = 0.005
PATIENCE = 120.0

_PLAIN = request_bytes("GET", "/plain")
_STREAM = {"Accept": "text/event-stream"}


def contest() -> Contest:
    """Return the contest."""
    body = b'{"to":%d}'
    return Contest(
        name="progress",
        description=f"a plain route, while a thread calls job.progress {CALLS:,} times, while one "
        "is as busy without it, and while nothing runs",
        peers=(
            Peer("nothing_runs", "streams", b""),
            Peer(
                "busy_thread",
                "streams",
                request_bytes("POST", "/spin", body % (CALLS * 8), _STREAM),
            ),
            Peer(
                "progress_thread", "streams", request_bytes("POST", "/count", body % CALLS, _STREAM)
            ),
        ),
        measure=measure,
        columns=(
            Column("p50 of the route, ms", "p50", digits=2, scale=1000),
            Column("p99 of the route, ms", "p99", digits=2, scale=1000),
            Column("looks", "looks"),
            Column("µs a call", "call", digits=2),
            Column("progress events", "events"),
            Column("memory grew by, kB", "grew", scale=1 / 1024),
        ),
        # Some thirty looks have no 99th percentile to speak of.
        targets=(Target("progress_thread", "p50", "busy_thread", at_most=1.2),),
        guess=4,
    )


@frozen
class SayingRound:
    """What a plain route did meanwhile."""

    looks: int
    p50: float
    p99: float
    call: float | None
    """Microseconds of one call, by the function's own watch."""
    events: int | None
    grew: int
    """Bytes that the peak of the resident memory rose."""

    def failures(self) -> list[str]:
        """Say what must not be, whatever the speed."""
        return [] if self.looks else ["the route did not answer"]


async def measure(peer: Peer, server: Server) -> SayingRound:
    """Look at the plain route until the thread has ended."""
    for _ in range(LOOKS):
        await fetch(server.port, "/plain")
    before = await server.account()
    work = None
    if peer.request:
        work = asyncio.create_task(press_together(server.port, peer.request, 1, PATIENCE))
        await asyncio.sleep(0.1)
    ages = []
    while len(ages) < LOOKS and not (work and work.done()):
        began, (looker,) = await press_together(server.port, _PLAIN, 1, PATIENCE)
        ages.append((looker.finished or began + PATIENCE) - began)
        await asyncio.sleep(PAUSE)
    ages.sort()
    call = events = None
    if work is not None:
        _, (user,) = await work
        raw = bytes(user.response.raw)
        events = raw.count(b"event: progress")
        if found := re.search(rb'"result":([0-9.e-]+)', raw):
            call = float(found[1])
    after = await server.account()
    return SayingRound(
        looks=len(ages),
        p50=ages[len(ages) // 2],
        p99=ages[len(ages) * 99 // 100],
        call=call,
        events=events,
        grew=after.peak_rss - before.peak_rss,
    )
