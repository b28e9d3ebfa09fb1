"""Batches: a model that takes as long for eight as for one, behind a queue and called by hand."""

from functools import partial

from attrs import frozen

from benchmarks.contest import Contest, Peer
from benchmarks.load import fetch, press_together, request_bytes
from benchmarks.process import Server
from benchmarks.report import Column, Target

JOBS = 400
BATCH = 8
PATIENCE = 60.0


def contest(milliseconds: int) -> Contest:
    """Return the contest with calls of so many milliseconds."""
    body = b'{"milliseconds":%d}' % milliseconds
    request = request_bytes("POST", "/batched", body, {"Prefer": "wait=60"})
    return Contest(
        name=f"batches of {milliseconds} ms",
        description=f"{JOBS} jobs at once, a call takes {milliseconds} ms for up to {BATCH}",
        peers=(Peer("by_hand", "streams", b""), Peer("aioqueue_batches", "streams", request)),
        measure=partial(measure, milliseconds=milliseconds),
        columns=(Column("jobs/s", "jobs_per_second"), Column("served", "served")),
        targets=(Target("aioqueue_batches", "jobs_per_second", "by_hand", at_least=0.95),),
        guess=3 + JOBS / BATCH * milliseconds / 1000,
    )


@frozen
class BatchRound:
    """What one side did in one round."""

    served: int
    jobs_per_second: float

    def failures(self) -> list[str]:
        """Say what must not be, whatever the speed."""
        return [] if self.served == JOBS else [f"served {self.served} of {JOBS}"]


async def measure(peer: Peer, server: Server, milliseconds: int) -> BatchRound:
    """Answer all jobs: by hand in one request that calls the model with full batches."""
    if not peer.request:
        query = f"calls={JOBS // BATCH}&milliseconds={milliseconds}"
        request = request_bytes("GET", f"/by_hand?{query}")
        began, (user,) = await press_together(server.port, request, 1, PATIENCE)
        seconds = (user.finished or began + PATIENCE) - began
        return BatchRound(JOBS if user.response.status == 200 else 0, JOBS / seconds)
    await fetch(server.port, "/plain")
    began, crowd = await press_together(server.port, peer.request, JOBS, PATIENCE)
    served = [user for user in crowd if user.finished and peer.served in user.response.raw]
    seconds = max((user.finished or 0.0 for user in served), default=began + PATIENCE) - began
    return BatchRound(len(served), len(served) / seconds)
