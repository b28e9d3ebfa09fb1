"""The command line: ``python -m benchmarks [SCENARIO]``; ``--help`` lists them."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
import uvloop

from benchmarks import eta, results
from benchmarks.contest import Contest, Outcome
from benchmarks.peers import Peers
from benchmarks.process import Cores, ServerFailed, pin_load, raise_file_limit
from benchmarks.progress import Progress
from benchmarks.report import versions
from benchmarks.scenarios import CROWDS, homes_of, peers_of, quick, scenarios

SCENARIOS = scenarios()
ALL = [contest for contests in SCENARIOS.values() for contest in contests]


def main() -> int:
    """Do what the command line asks for; 1 if something failed, a missed target is no failure."""
    options = parse_arguments()
    if options.scenario == "eta":
        eta.report(options.json, options.plots)
        return 0
    if options.scenario == "table":
        print(results.markdown(orjson.loads(options.file.read_bytes())), end="")
        return 0
    contests = chosen_contests(options)
    if not contests and options.scenario != "plots":
        print("None of these peers takes part in this scenario.", file=sys.stderr)
        return 2
    # A terminated run must end its server as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(contests, options)
    except ServerFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


def run(contests: Sequence[Contest], options: argparse.Namespace) -> int:
    """Set up what the contests need, play them, and write down what came of them."""
    peers = Peers.set_up(homes_of(contests))  # before this process has but one core
    contests = [contest.without(peers.missing) for contest in contests]
    contests = [contest for contest in contests if contest.peers]
    cores = Cores.of_this_machine()
    pin_load(cores)
    raise_file_limit()
    found = versions() | peers.versions
    print(", ".join(f"{name} {version}" for name, version in found.items()))
    print(cores, flush=True)
    if options.scenario == "plots":
        return draw_plots(options.plots, cores)
    outcomes = uvloop.run(play(contests, options.rounds, cores))
    done = results.document(outcomes, cores, peers)
    print(f"\nTargets\n\n{results.closing(done)}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_bytes(results.as_json(done))
    print(f"All rounds are in {options.json}.")
    if not options.quick:
        draw_pictures(done, options.plots)
    given_up = len(outcomes) < len(contests)
    return int(given_up or any(any(outcome.failures()) for outcome in outcomes))


def parse_arguments() -> argparse.Namespace:
    """Return the options, with the defaults of the quick or of the full run filled in."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure aioqueue against its peers."
    )
    parser.add_argument(
        "scenario",
        nargs="?",
        choices=[*SCENARIOS, "eta", "plots", "table", "all"],
        default="all",
        help="what to measure; table prints the tables of FILE in Markdown",
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="of --json")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="in under three minutes what they allow, without servers of others",
    )
    parser.add_argument("--users", type=numbers, metavar="N[,N]", help="users of the viral minute")
    parser.add_argument("--rounds", type=int, metavar="K", help="rounds of each contest")
    parser.add_argument(
        "--peers",
        type=peers,
        default=peers_of(ALL),
        metavar="NAME[,NAME]",
        help=", ".join(peers_of(ALL)),
    )
    parser.add_argument(
        "--plots", type=Path, metavar="FOLDER", default="build", help="write pictures to FOLDER"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write all rounds to FILE (build/SCENARIO.json)",
    )
    options = parser.parse_args()
    if (options.scenario == "table") != (options.file is not None):
        parser.error("a FILE goes with table, and with nothing else")
    options.rounds = options.rounds or (3 if options.quick else 5)
    name = "quick" if options.quick else options.scenario
    if options.scenario != "eta":
        options.json = options.json or Path("build", f"{name}.json")
    return options


def numbers(text: str) -> list[int]:
    """Read numbers with commas between them."""
    return [int(part) for part in text.split(",")]


def peers(text: str) -> list[str]:
    """Read names of peers with commas between them."""
    names = text.split(",")
    if unknown := set(names) - set(peers_of(ALL)):
        raise argparse.ArgumentTypeError(f"no such peer: {', '.join(sorted(unknown))}")
    return names


def chosen_contests(options: argparse.Namespace) -> list[Contest]:
    """Return the contests that the options ask for and that have a peer left."""
    if options.quick and options.scenario == "all":
        contests = quick(options.users or (1_000,))
    else:
        found = scenarios(options.users or CROWDS)
        everything = [contest for contests in found.values() for contest in contests]
        contests = everything if options.scenario == "all" else found.get(options.scenario, [])
    if options.quick:
        contests = [contest.without(homes_of(contests)) for contest in contests]
    contests = [contest.between(options.peers) for contest in contests]
    return [contest for contest in contests if contest.peers]


def draw_plots(folder: Path, cores: Cores) -> int:
    """Measure what the plots of the guide to tuning show, and draw them into `folder`."""
    from benchmarks import plots  # needs matplotlib, which the rest does without

    uvloop.run(plots.draw(folder, cores))
    return 0


def draw_pictures(done: results.Document, folder: Path) -> None:
    """Draw what came of a run, where matplotlib is."""
    try:
        from benchmarks import pictures
    except ImportError:
        print("There are no pictures: matplotlib is missing (pip install 'aiohttp-queue[bench]').")
        return
    for path in pictures.draw_all(done, folder):
        print(f"Drawn: {path}")


async def play(contests: Sequence[Contest], rounds: int, cores: Cores) -> list[Outcome]:
    """Play one contest after the other and print what came of each as soon as it is over.

    Where a server of ours fails, its contest is given up, and not what was measured before.
    """
    # Not by KeyboardInterrupt: in a callback uvloop takes that for a broken connection.
    task = asyncio.current_task()
    assert task is not None
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, task.cancel)
    progress = Progress([step for contest in contests for step in contest.steps(rounds)])
    outcomes = []
    for contest in contests:
        try:
            outcomes.append(await contest.play(rounds, cores, progress))
        except ServerFailed as error:
            print(f"\n{contest.name} was given up: {error}", file=sys.stderr)
            progress.skip(contest.steps(rounds))
            continue
        progress.clear()
        print(f"\n{outcomes[-1]}", flush=True)
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
