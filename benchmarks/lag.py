"""Lag: how long a plain route takes to answer while forty threads work."""

import asyncio
import itertools

from attrs import frozen

from benchmarks.contest import Contest, Peer
from benchmarks.heavy import LOOKS_PER_SECOND, Looks
from benchmarks.load import Response, keep_busy, request_bytes
from benchmarks.process import Server
from benchmarks.report import Column, Target
from benchmarks.servers.lag import SECONDS, THREADS

LOOK_SECONDS = 5.0
PATIENCE = 60.0

PEERS = (
    Peer("nobody_works", "lag", b""),
    *(
        Peer(name, "lag", request_bytes("POST", f"/{name}", b"{}", {"Prefer": "wait=60"}))
        for name in ("sleeps_by_hand", "sleeps", "computes_by_hand", "computes")
    ),
)


def contest() -> Contest:
    """Return the contest."""
    return Contest(
        name="lag",
        description=f"a plain route, looked at {LOOKS_PER_SECOND} times a second for "
        f"{LOOK_SECONDS:.0f} s, while {THREADS} clients keep {THREADS}\nthreads busy with jobs of "
        f"{SECONDS * 1e3:.0f} ms that sleep or compute in Python, in a queue and by hand",
        peers=PEERS,
        measure=measure,
        columns=(
            Column("p50, ms", "p50", digits=2, scale=1e3),
            Column("p99, ms", "p99", digits=2, scale=1e3),
            Column("worst, ms", "worst", digits=1, scale=1e3),
            Column("jobs/s", "jobs_per_second"),
            Column("looks", "looks"),
        ),
        # The interpreter's lock is everybody's; what a queue adds is what there is to judge.
        targets=(
            Target("sleeps", "p50", "sleeps_by_hand"),
            Target("sleeps", "p99", "sleeps_by_hand"),
            Target("computes", "p50", "computes_by_hand"),
            Target("computes", "p99", "computes_by_hand"),
            Target("sleeps", "jobs_per_second", "sleeps_by_hand"),
        ),
        guess=LOOK_SECONDS + 4,
    )


@frozen
class LagRound:
    """What a plain route did meanwhile."""

    looks: int
    p50: float
    p99: float
    worst: float
    jobs_per_second: float | None

    def failures(self) -> list[str]:
        """Say what must not be, whatever the speed."""
        return [] if self.looks else ["the route did not answer"]


async def measure(peer: Peer, server: Server) -> LagRound:
    """Look at the plain route while the threads work."""
    looks = Looks(server.port)
    await looks.take(seconds=1.0)  # the first are slower
    done, goes_on = 0, True

    def count(response: Response) -> None:
        nonlocal done
        done += peer.served in response.raw

    requests = itertools.takewhile(lambda _: goes_on, itertools.repeat(peer.request))
    work = None
    if peer.request:
        work = asyncio.create_task(keep_busy(server.port, requests, THREADS, count, PATIENCE))
        await asyncio.sleep(1.0)  # until all threads are there
    looks.ages.clear()
    before = done
    await looks.take(LOOK_SECONDS)
    jobs_per_second = (done - before) / LOOK_SECONDS if work else None
    await looks.finish()
    goes_on = False
    if work is not None:
        await work
    ages = sorted(looks.ages) or [PATIENCE]
    return LagRound(
        looks=len(looks.ages),
        p50=ages[len(ages) // 2],
        p99=ages[len(ages) * 99 // 100],
        worst=ages[-1],
        jobs_per_second=jobs_per_second,
    )
