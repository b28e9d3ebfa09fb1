"""A contest: peers that do the same work in turns, round after round."""

import sys
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol

from attrs import AttrsInstance, evolve, frozen

from benchmarks.load import Follow
from benchmarks.peers import running_peer
from benchmarks.process import Cores, Server, ServerFailed, running
from benchmarks.progress import Progress, Step
from benchmarks.report import Column, Target, figures_table, targets_table


@frozen
class Peer:
    """One side of a comparison."""

    name: str
    module: str
    """The server's module in `benchmarks.servers`."""
    request: bytes
    served: bytes = b'"done"'
    """What the answer to a served request holds, and no other."""
    tells_position: bool = False
    """Whether its events tell positions, so that the order can be checked."""
    environ: Mapping[str, str] | None = None
    """What its server finds in the environment: ``AIOQUEUE_<NAME>`` is a setting."""
    follow: Follow | None = None
    """Where the events are asked for apart: makes that request of the answer to the first."""
    last: bytes | None = None
    """What the last event has in it that somebody waits for; else the response's end is the end."""
    event: bytes = b"\nevent: "
    """What each event has, once."""
    home: str | None = None
    """The environment of somebody else's server, by its name in `benchmarks.peers`."""
    jobs: int | None = None
    """How many jobs do for it, where as many as for the others would take minutes."""
    patience: float | None = None
    """Seconds after which its turn is over, where it may take longer than anybody waits."""
    most_rounds: int | None = None
    """In how many rounds it takes part at most, where its turns take minutes."""

    def plays_in(self, round: int) -> bool:
        """Whether it takes part in that round, from 1."""
        return self.most_rounds is None or round <= self.most_rounds


class Round(AttrsInstance, Protocol):
    """What one peer did in one turn."""

    def failures(self) -> list[str]:
        """Say what must not be, whatever the speed."""
        ...


@frozen
class Contest:
    """One scenario at one size."""

    name: str
    description: str
    peers: Sequence[Peer]
    measure: Callable[[Peer, Server], Awaitable[Round]]
    columns: Sequence[Column]
    targets: Sequence[Target]
    guess: float
    """Seconds that a turn may take."""
    both_cores: bool = False
    """Whether the server may use the core of the load too, for processes of its own."""
    most_rounds: int | None = None
    """How many rounds do, where they take minutes or hardly differ."""

    def steps(self, rounds: int) -> list[Step]:
        """Return the turns in their order: A B C, A B C, and so on."""
        return [
            Step(
                f"{self.name}, round {i} of {len(self._numbers(rounds))}: {peer.name}",
                (self.name, peer.name),
                peer.patience or self.guess,
            )
            for i in self._numbers(rounds)
            for peer in self.peers
            if peer.plays_in(i)
        ]

    def _numbers(self, rounds: int) -> range:
        return range(1, min(rounds, self.most_rounds or rounds) + 1)

    def between(self, names: Sequence[str]) -> "Contest":
        """Return this contest without the peers that are not named."""
        return evolve(self, peers=[peer for peer in self.peers if peer.name in names])

    def without(self, homes: Collection[str | None]) -> "Contest":
        """Return this contest without the peers of these environments."""
        return evolve(self, peers=[peer for peer in self.peers if peer.home not in homes])

    async def play(self, rounds: int, cores: Cores, progress: Progress) -> "Outcome":
        """Let each peer have its turn in each round, every turn with a fresh server."""
        results: dict[str, list[Round]] = {peer.name: [] for peer in self.peers}
        for i in self._numbers(rounds):
            for peer in self.peers:
                if not peer.plays_in(i):
                    continue
                progress.begin()
                try:
                    results[peer.name].append(await self._turn(peer, cores))
                except ServerFailed as error:
                    if peer.home is None:
                        raise
                    print(error, file=sys.stderr)  # and the others go on
                progress.end()
        return Outcome(self, {peer: done for peer, done in results.items() if done})

    async def _turn(self, peer: Peer, cores: Cores) -> Round:
        if peer.home is not None:
            async with running_peer(peer.home, cores) as server:
                return await self.measure(peer, server)
        async with running(peer.module, cores, peer.environ, both_cores=self.both_cores) as server:
            done = await self.measure(peer, server)
            complaints = server.complaints()
        if complaints:
            print(f"{peer.name} complained:\n{complaints}", file=sys.stderr)
        return done


@frozen
class Outcome:
    """What came of a contest."""

    contest: Contest
    results: Mapping[str, Sequence[Round]]
    """The rounds of each peer."""

    def failures(self) -> Iterator[str]:
        """Say what must not be, whatever the speed.  What others can't do is in the table."""
        others = {peer.name for peer in self.contest.peers if peer.home is not None}
        for peer, rounds in self.results.items():
            for i, one in enumerate(rounds, 1):
                if peer not in others:
                    yield from (f"{peer}, round {i}: {failure}" for failure in one.failures())

    def __str__(self) -> str:
        """Return the report."""
        parts = [
            f"{self.contest.name}: {self.contest.description}",
            figures_table(self.contest.columns, self.results),
            targets_table(self.contest.targets, self.results),
            "\n".join(f"FAILED: {failure}" for failure in self.failures()),
        ]
        return "\n\n".join(part for part in parts if part)
