"""The command line: ``python -m benchmarks [SCENARIO]``; ``--help`` lists them."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs
import orjson
import uvloop

from benchmarks import batches, eta, fairness, overhead, saying, streams, viral, waiting
from benchmarks.contest import Contest, Outcome
from benchmarks.process import Cores, ServerFailed, pin_load, raise_file_limit
from benchmarks.progress import Progress
from benchmarks.report import versions

FUNCTIONS = (
    streams.contest(1),
    streams.contest(100),
    batches.contest(20),
    batches.contest(100),
    saying.contest(),
)
PEERS = [
    peer.name
    for peer in (
        *overhead.PEERS,
        *viral.PEERS,
        *fairness.PEERS,
        *waiting.PEERS,
        *(peer for contest in FUNCTIONS for peer in contest.peers),
    )
]


def main() -> int:
    """Run what the command line asks for; 1 if something failed, a missed target is no failure."""
    options = parse_arguments()
    if options.scenario == "eta":
        eta.report(options.json, options.plots)
        return 0
    contests = chosen_contests(options)
    if not contests and options.scenario != "plots":
        print("None of these peers takes part in this scenario.", file=sys.stderr)
        return 2
    # A terminated run must end its server as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cores = Cores.of_this_machine()
    pin_load(cores)
    raise_file_limit()
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    print(cores, flush=True)
    try:
        if options.scenario == "plots":
            return draw_plots(options.plots, cores)
        outcomes = uvloop.run(play(contests, options.rounds, cores))
    except ServerFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        options.json.write_bytes(raw_rounds(outcomes, cores))
    return int(any(any(outcome.failures()) for outcome in outcomes))


SCENARIOS = ["overhead", "viral", "functions", "fairness", "waiting", "eta", "plots", "all"]


def parse_arguments() -> argparse.Namespace:
    """Return the options, with the defaults of the quick or of the full run filled in."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure aioqueue against its peers."
    )
    parser.add_argument("scenario", nargs="?", choices=SCENARIOS, default="all")
    parser.add_argument(
        "--quick", action="store_true", help="3 rounds, 1000 users: less than three minutes"
    )
    parser.add_argument("--users", type=numbers, metavar="N[,N]", help="users of the viral minute")
    parser.add_argument("--rounds", type=int, metavar="K", help="rounds of each contest")
    parser.add_argument(
        "--peers", type=peers, default=PEERS, metavar="NAME[,NAME]", help=", ".join(PEERS)
    )
    parser.add_argument(
        "--plots", type=Path, metavar="FOLDER", default="build", help="write pictures to FOLDER"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw rounds to FILE")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.users = options.users or ([1_000] if options.quick else [1_000, 5_000])
    return options


def numbers(text: str) -> list[int]:
    """Read numbers with commas between them."""
    return [int(part) for part in text.split(",")]


def peers(text: str) -> list[str]:
    """Read names of peers with commas between them."""
    names = text.split(",")
    if unknown := set(names) - set(PEERS):
        raise argparse.ArgumentTypeError(f"no such peer: {', '.join(sorted(unknown))}")
    return names


def chosen_contests(options: argparse.Namespace) -> list[Contest]:
    """Return the contests that the options ask for and that have a peer left."""
    contests = []
    if options.scenario in ("overhead", "all"):
        contests.append(overhead.contest())
    if options.scenario in ("viral", "all"):
        contests += [viral.contest(users) for users in options.users]
    if options.scenario == "functions":
        contests += FUNCTIONS
    if options.scenario == "fairness":
        contests.append(fairness.contest())
    if options.scenario == "waiting":
        contests.append(waiting.contest())
    contests = [contest.between(options.peers) for contest in contests]
    return [contest for contest in contests if contest.peers]


def draw_plots(folder: Path, cores: Cores) -> int:
    """Measure what the plots of the guide to tuning show, and draw them into `folder`."""
    from benchmarks import plots  # needs matplotlib, which the rest does without

    uvloop.run(plots.draw(folder, cores))
    return 0


async def play(contests: Sequence[Contest], rounds: int, cores: Cores) -> list[Outcome]:
    """Play one contest after the other and print what came of each as soon as it is over."""
    progress = Progress([step for contest in contests for step in contest.steps(rounds)])
    outcomes = []
    for contest in contests:
        outcomes.append(await contest.play(rounds, cores, progress))
        progress.clear()
        print(f"\n{outcomes[-1]}", flush=True)
    return outcomes


def raw_rounds(outcomes: Sequence[Outcome], cores: Cores) -> bytes:
    """Return all rounds as JSON."""
    rounds = [
        {"contest": outcome.contest.name, "peer": peer, "round": i, **attrs.asdict(one)}
        for outcome in outcomes
        for peer, done in outcome.results.items()
        for i, one in enumerate(done, 1)
    ]
    document = {"versions": versions(), "cores": attrs.asdict(cores), "rounds": rounds}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


if __name__ == "__main__":
    sys.exit(main())
