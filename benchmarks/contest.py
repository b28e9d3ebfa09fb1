"""A contest: peers that do the same work in turns, round after round."""

import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Protocol

from attrs import AttrsInstance, evolve, frozen

from benchmarks.process import Cores, Server, running
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

    def steps(self, rounds: int) -> list[Step]:
        """Return the turns in their order: A B C, A B C, and so on."""
        return [
            Step(
                f"{self.name}, round {i} of {rounds}: {peer.name}",
                (self.name, peer.name),
                self.guess,
            )
            for i in range(1, rounds + 1)
            for peer in self.peers
        ]

    def between(self, names: Sequence[str]) -> "Contest":
        """Return this contest without the peers that are not named."""
        return evolve(self, peers=[peer for peer in self.peers if peer.name in names])

    async def play(self, rounds: int, cores: Cores, progress: Progress) -> "Outcome":
        """Let each peer have its turn in each round, every turn with a fresh server."""
        results: dict[str, list[Round]] = {peer.name: [] for peer in self.peers}
        for _ in range(rounds):
            for peer in self.peers:
                progress.begin()
                async with running(peer.module, cores, peer.environ) as server:
                    results[peer.name].append(await self.measure(peer, server))
                    complaints = server.complaints()
                progress.end()
                if complaints:
                    print(f"{peer.name} complained:\n{complaints}", file=sys.stderr)
        return Outcome(self, results)


@frozen
class Outcome:
    """What came of a contest."""

    contest: Contest
    results: Mapping[str, Sequence[Round]]
    """The rounds of each peer."""

    def failures(self) -> Iterator[str]:
        """Say what must not be, whatever the speed."""
        for peer, rounds in self.results.items():
            for i, one in enumerate(rounds, 1):
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
