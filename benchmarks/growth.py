"""Growth: what a verb of the engine takes when 1,000 wait, and when 100,000 do."""

import math

import orjson
from attrs import frozen

from benchmarks.contest import Contest, Peer
from benchmarks.load import press_together, request_bytes
from benchmarks.process import Server
from benchmarks.report import Column, Target
from benchmarks.servers import growing

PEOPLE = {"1k": 1_000, "10k": 10_000, "100k": 100_000}
PATIENCE = 120.0
DRAINED = 0.01
"""Of as many people a line is drained, in virtual time."""
VERBS = ("enqueue", "position", "cancel", "claim")
LOGARITHMIC = math.log(100_000) / math.log(1_000)
"""How many times as many steps O(log n) allows in the longest line as in the shortest."""

PEERS = tuple(Peer(f"waiting_{size}", "growing", b"%d" % people) for size, people in PEOPLE.items())


def contest() -> Contest:
    """Return the contest."""
    return Contest(
        name="growth",
        description="the verbs of the memory engine in lines of three lengths; calls: of "
        "functions of aioqueue;\ncompared: how often places in line were; messages: positions "
        f"told until a line of a hundredth\nis empty, {growing.SECONDS} s a job, without a budget",
        peers=PEERS,
        measure=measure,
        columns=(
            *(Column(f"{verb}, µs", verb, digits=1, scale=1e6) for verb in VERBS),
            *(Column(f"{verb}, calls", f"{verb}_calls", digits=1) for verb in VERBS),
            *(Column(f"{verb}, compared", f"{verb}_compared", digits=1) for verb in VERBS),
            Column("messages/user", "messages", digits=2),
            Column("of what O(n log n) allows", "messages_of_bound", digits=2),
        ),
        targets=(
            *(Target("waiting_100k", verb, "waiting_1k", at_most=2.0) for verb in VERBS),
            *(
                Target("waiting_100k", f"{verb}_steps", "waiting_1k", at_most=LOGARITHMIC)
                for verb in VERBS
            ),
            Target("waiting_100k", "messages_of_bound", at_most=1.0),
        ),
        guess=8,
    )


@frozen
class GrowthRound:
    """What each verb took in one round, and a drain."""

    people: int
    enqueue: float
    """Seconds, the median; the same for all verbs."""
    enqueue_calls: float
    enqueue_compared: float
    position: float
    position_calls: float
    position_compared: float
    cancel: float
    cancel_calls: float
    cancel_compared: float
    claim: float
    claim_calls: float
    claim_compared: float
    messages: float
    """Positions that a user was told while the line was drained."""

    @property
    def messages_of_bound(self) -> float:
        """The same by what news after each tenth of the time left come to: O(n log n) in all."""
        seconds = self.people * DRAINED * growing.SECONDS
        return self.messages / (11 + 10 * math.log(max(1.0, seconds)))

    @property
    def enqueue_steps(self) -> float:
        """Calls and comparisons."""
        return self.enqueue_calls + self.enqueue_compared

    @property
    def position_steps(self) -> float:
        """Calls and comparisons."""
        return self.position_calls + self.position_compared

    @property
    def cancel_steps(self) -> float:
        """Calls and comparisons."""
        return self.cancel_calls + self.cancel_compared

    @property
    def claim_steps(self) -> float:
        """Calls and comparisons."""
        return self.claim_calls + self.claim_compared

    def failures(self) -> list[str]:
        """Nothing here can fail."""
        return []


async def measure(peer: Peer, server: Server) -> GrowthRound:
    """Let the server do all of it in its process."""
    people = int(peer.request)
    taken = await _ask(server, f"/verbs?people={people}")
    drained = round(people * DRAINED)
    told = (await _ask(server, f"/drain?people={drained}"))["messages"]
    return GrowthRound(people=people, **taken, messages=told / drained)


async def _ask(server: Server, target: str) -> dict[str, float]:
    _, (user,) = await press_together(server.port, request_bytes("GET", target), 1, PATIENCE)
    if user.response.status != 200:
        raise ConnectionError(f"GET {target} was answered {bytes(user.response.raw[:500])!r}")
    answer: dict[str, float] = orjson.loads(user.response.body())
    return answer
