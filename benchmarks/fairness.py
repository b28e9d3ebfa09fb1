"""Starvation: one greedy client with a thousand jobs, and twenty others with one each."""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

from attrs import frozen

from benchmarks.contest import Contest, Peer
from benchmarks.load import Countdown, User, connect, request_bytes
from benchmarks.process import Server
from benchmarks.report import Column, Target
from benchmarks.servers import _work
from benchmarks.servers.fair import LIMIT

GREEDY_JOBS = 1_000
OTHERS = 20
PATIENCE = 90.0
REFUSED = 429

PEERS = tuple(
    Peer(name, "fair", name.encode())
    for name in ("first_come", "turns", "one_running", "few_queued")
)

COLUMNS = (
    Column("others, started, median, ms", "others_started", scale=1e3),
    Column("others, started, worst, ms", "others_started_worst", scale=1e3),
    Column("others, result, median, ms", "others_result", scale=1e3),
    Column("others, result, worst, ms", "others_result_worst", scale=1e3),
    Column("greedy, started, median, ms", "greedy_started", scale=1e3),
    Column("greedy, started, worst, ms", "greedy_started_worst", scale=1e3),
    Column("greedy, result, median, ms", "greedy_result", scale=1e3),
    Column("greedy, result, worst, ms", "greedy_result_worst", scale=1e3),
    Column("all served after, s", "makespan", digits=2),
    Column("greedy jobs refused", "refused"),
    Column("jobs served", "served"),
    Column("jobs lost", "lost"),
    Column("running at once, max", "peak_running"),
)

TARGETS = (
    Target("turns", "others_started_worst", "first_come", at_most=0.1),
    Target("one_running", "others_started_worst", "first_come", at_most=0.1),
    Target("few_queued", "others_started_worst", "first_come", at_most=0.1),
    # Turns are free: the same work, in another order.
    Target("turns", "makespan", "first_come", at_most=1.05),
)


def contest() -> Contest:
    """Return the contest."""
    return Contest(
        name="fairness",
        description=f"a greedy client presses {GREEDY_JOBS:,} times, then {OTHERS} others once "
        f"each; a function that sleeps {_work.SECONDS * 1e3:.0f} ms, limit {LIMIT}; "
        "waits since one's own press",
        peers=PEERS,
        measure=measure,
        columns=COLUMNS,
        targets=TARGETS,
        guess=4 + GREEDY_JOBS * _work.SECONDS / LIMIT,
    )


@frozen
class FairnessRound:
    """What one rule did to both kinds of clients; waits are seconds since one's own press."""

    others_started: float
    others_started_worst: float
    others_result: float
    others_result_worst: float
    greedy_started: float
    greedy_started_worst: float
    greedy_result: float
    greedy_result_worst: float
    makespan: float
    """From the first press to the last result."""
    refused: int
    """Jobs of the greedy client that a cap kept out."""
    others_refused: int
    served: int
    lost: int
    """Jobs that were neither refused nor served."""
    peak_running: int

    def failures(self) -> list[str]:
        """Say what must not be, whatever the speed."""
        failures = []
        if self.lost:
            failures.append(f"{self.lost} jobs were lost")
        if self.others_refused:
            failures.append(f"{self.others_refused} of the others were refused")
        if self.peak_running > LIMIT:
            failures.append(f"ran {self.peak_running} at once, the limit is {LIMIT}")
        return failures


class Watcher(User):
    """Somebody who also notes when his job has started."""

    def __init__(
        self, request: bytes, on_leave: Callable[[], None], on_answer: Callable[[], None]
    ) -> None:
        """Call `on_answer` at the first byte."""
        super().__init__(request, on_leave)
        self._on_answer = on_answer
        self.started: float | None = None

    def data_received(self, data: bytes) -> None:
        """Note it."""
        if self.first_byte is None:
            self._on_answer()
        super().data_received(data)
        if self.started is None and b"event: started\n" in self.response.raw:
            self.started = time.perf_counter()

    @property
    def is_served(self) -> bool:
        """Whether the result came."""
        return self.finished is not None and b"event: succeeded\n" in self.response.raw


async def measure(peer: Peer, server: Server) -> FairnessRound:
    """Let the greedy client press, then the others, and watch until the last has the result."""
    greedy, others = await press(server.port, peer.request.decode())
    everybody = [*greedy, *others]
    served = [user for user in everybody if user.is_served]
    refused = [user for user in greedy if user.response.status == REFUSED]
    others_refused = [user for user in others if user.response.status == REFUSED]
    return FairnessRound(
        **_waits("others", others),
        **_waits("greedy", greedy),
        makespan=max((user.finished or 0.0 for user in served), default=0.0)
        - min(user.connected or 0.0 for user in greedy),
        refused=len(refused),
        others_refused=len(others_refused),
        served=len(served),
        lost=len(everybody) - len(served) - len(refused) - len(others_refused),
        peak_running=(await server.account()).peak_running,
    )


async def press(port: int, function: str) -> tuple[list[Watcher], list[Watcher]]:
    """Press as the greedy client, as the others once that is answered, and wait for all."""
    answered = Countdown(GREEDY_JOBS)
    greedy, crowd = _send(port, function, ["greedy"] * GREEDY_JOBS, answered)
    async with asyncio.timeout(PATIENCE):
        await answered.over.wait()
    others, few = _send(port, function, [f"other {i}" for i in range(OTHERS)], Countdown(OTHERS))
    await asyncio.gather(crowd, few)
    return greedy, others


def _send(
    port: int, function: str, clients: Sequence[str], answered: Countdown
) -> tuple[list[Watcher], asyncio.Task[float]]:
    """Let a job of each of these clients be sent; return them and what ends when all have left."""
    gone = Countdown(len(clients))
    users = []
    for client in clients:
        headers = {"Accept": "text/event-stream", "X-Client": client}
        request = request_bytes("POST", f"/{function}", b"{}", headers)
        users.append(Watcher(request, gone.step, answered.step))
    return users, asyncio.create_task(connect(port, users, gone, PATIENCE))


def _waits(name: str, users: Sequence[Watcher]) -> dict[str, float]:
    """Return the median and the worst wait of those who were let in, as fields of a round."""
    waits = {
        "started": list(since_press(users, "started")),
        "result": list(since_press(users, "finished")),
    }
    fields = {}
    for what, seconds in waits.items():
        fields[f"{name}_{what}"] = statistics.median(seconds or [PATIENCE])
        fields[f"{name}_{what}_worst"] = max(seconds, default=PATIENCE)
    return fields


def since_press(users: Sequence[Watcher], what: str) -> Iterator[float]:
    """Yield the seconds from the press of each served user to what he noted."""
    for user in users:
        if user.is_served:
            yield (getattr(user, what) or user.finished) - user.connected
