"""Which contests there are, by the scenario one asks for."""

from collections.abc import Mapping, Sequence

from attrs import evolve

from benchmarks import (
    batches,
    fairness,
    growth,
    heavy,
    lag,
    overhead,
    saying,
    streams,
    viral,
    waiting,
)
from benchmarks.contest import Contest

CROWDS = (200, 1_000, 5_000, 10_000)
QUICK_JOBS = 10_000
NOT_QUICK = {"bare_202", "aioqueue_202"}
"""Peers without a target, which a quick run does without."""


def scenarios(crowds: Sequence[int] = CROWDS) -> Mapping[str, Sequence[Contest]]:
    """Return the contests of each scenario."""
    return {
        "overhead": [overhead.contest()],
        "viral": [viral.contest(users) for users in crowds],
        "waiting": [waiting.contest()],
        "growth": [growth.contest()],
        "functions": [
            streams.contest(1),
            streams.contest(100),
            batches.contest(20),
            batches.contest(100),
            saying.contest(),
        ],
        "lag": [lag.contest()],
        "heavy": heavy.contests(),
        "fairness": [fairness.contest()],
    }


def quick(crowds: Sequence[int] = (1_000,)) -> Sequence[Contest]:
    """Return what a few minutes allow: the targets that they can judge, without other servers."""
    few = overhead.contest(QUICK_JOBS, with_wrk=False)
    contests = [
        few.between([peer.name for peer in few.peers if peer.name not in NOT_QUICK]),
        *(viral.contest(users) for users in crowds),
        *(
            evolve(contest, most_rounds=1)
            for contest in (waiting.quick(), growth.contest(), batches.contest(20))
        ),
    ]
    return [contest.without(homes_of(contests)) for contest in contests]


def homes_of(contests: Sequence[Contest]) -> list[str]:
    """Return the environments that these contests need."""
    homes = [peer.home for contest in contests for peer in contest.peers]
    return list(dict.fromkeys(home for home in homes if home is not None))


def peers_of(contests: Sequence[Contest]) -> list[str]:
    """Return the names of all who take part."""
    return list(dict.fromkeys(peer.name for contest in contests for peer in contest.peers))
