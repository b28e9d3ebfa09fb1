"""Batches: a model that takes as long for eight as for one, behind a queue and called by hand."""

from attrs import frozen

from benchmarks.contest import Contest, Peer
from benchmarks.load import fetch, press_together, request_bytes
from benchmarks.process import Server
from benchmarks.report import Column, Target

JOBS = 800
BATCH = 8
PATIENCE = 60.0

_REQUEST = request_bytes("POST", "/batched", b'{"inputs":1}', {"Prefer": "wait=60"})


def contest() -> Contest:
    """Return the contest."""
    return Contest(
        name="batches",
        description=f"{JOBS} jobs at once, a call takes 20 ms for up to {BATCH} of them",
        peers=(Peer("by_hand", "streams", b""), Peer("aioqueue_batches", "streams", _REQUEST)),
        measure=measure,
        columns=(Column("jobs/s", "jobs_per_second"), Column("served", "served")),
        targets=(Target("aioqueue_batches", "jobs_per_second", "by_hand", at_least=0.95),),
        guess=3 + JOBS / BATCH * 0.02,
    )


@frozen
class BatchRound:
    """What one side did in one round."""

    served: int
    jobs_per_second: float

    def failures(self) -> list[str]:
        """Say what must not be, whatever the speed."""
        return [] if self.served == JOBS else [f"served {self.served} of {JOBS}"]


async def measure(peer: Peer, server: Server) -> BatchRound:
    """Answer all jobs: by hand in one request that calls the model with full batches."""
    if not peer.request:
        request = request_bytes("GET", f"/by_hand?calls={JOBS // BATCH}")
        began, (user,) = await press_together(server.port, request, 1, PATIENCE)
        seconds = (user.finished or began + PATIENCE) - began
        return BatchRound(JOBS if user.response.status == 200 else 0, JOBS / seconds)
    await fetch(server.port, "/plain")
    began, crowd = await press_together(server.port, peer.request, JOBS, PATIENCE)
    served = [user for user in crowd if user.finished and peer.served in user.response.raw]
    seconds = max((user.finished or 0.0 for user in served), default=began + PATIENCE) - began
    return BatchRound(len(served), len(served) / seconds)
