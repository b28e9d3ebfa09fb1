"""What a run leaves behind: all rounds as JSON, the targets at a glance, and tables in Markdown."""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import attrs
import orjson

from benchmarks.contest import Outcome
from benchmarks.peers import Peers
from benchmarks.process import Cores
from benchmarks.report import Column, Target, align, figures_rows, target_rows, versions

Document = Mapping[str, Any]


def document(outcomes: Sequence[Outcome], cores: Cores, peers: Peers) -> Document:
    """Return a whole run, with all that its tables are made of."""
    return {
        "versions": versions() | peers.versions,
        "missing": peers.missing,
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        "cores": attrs.asdict(cores),
        "contests": [_contest(outcome) for outcome in outcomes],
    }


def as_json(run: Document) -> bytes:
    """Return it as it is written down."""
    return orjson.dumps(run, option=orjson.OPT_INDENT_2)


def _contest(outcome: Outcome) -> dict[str, Any]:
    contest = outcome.contest
    return {
        "name": contest.name,
        "description": contest.description,
        "columns": [attrs.asdict(column) for column in contest.columns],
        "targets": [attrs.asdict(target) for target in contest.targets],
        "failures": list(outcome.failures()),
        "rounds": {
            peer: [_figures(one) for one in rounds] for peer, rounds in outcome.results.items()
        },
    }


def _figures(one: Any) -> dict[str, Any]:
    """Return the fields of a round, and what it makes of them."""
    made = {
        name: getattr(one, name)
        for name, value in vars(type(one)).items()
        if isinstance(value, property)
    }
    return attrs.asdict(one) | made


# At a glance


def closing(run: Document) -> str:
    """Return each target with what was reached, and who was missing."""
    parts = [_targets(run), f"Versions: {_versions(run)}"]
    parts += [f"Missing: {name} ({why})" for name, why in run["missing"].items()]
    failures = [f"{one['name']}: {line}" for one in run["contests"] for line in one["failures"]]
    parts += [f"FAILED: {failure}" for failure in failures]
    return "\n".join(parts)


def _targets(run: Document) -> str:
    rows = [
        (contest["name"], *row)
        for contest in run["contests"]
        for row in target_rows(_targets_of(contest), _rounds_of(contest))
        if row[2]
    ]
    if not rows:
        return "There was no target to be met."
    met = sum(row[-1] == "met" for row in rows)
    return f"{align(rows)}\n\n{met} of {len(rows)} targets met.\n"


def _versions(run: Document) -> str:
    return ", ".join(f"{name} {version}" for name, version in run["versions"].items())


def _columns_of(contest: Document) -> list[Column]:
    return [Column(**column) for column in contest["columns"]]


def _targets_of(contest: Document) -> list[Target]:
    return [Target(**target) for target in contest["targets"]]


def _rounds_of(contest: Document) -> dict[str, list[SimpleNamespace]]:
    return {
        peer: [SimpleNamespace(**one) for one in rounds]
        for peer, rounds in contest["rounds"].items()
    }


# Markdown


def markdown(run: Document) -> str:
    """Return the tables of a run, for docs/performance.md."""
    parts = [f"{_versions(run)}; {run['machine']['system']}, {run['machine']['cores']} cores."]
    parts += [f"Missing: {name} ({why})." for name, why in run["missing"].items()]
    for contest in run["contests"]:
        parts += _section(contest)
    return "\n\n".join(parts) + "\n"


def _section(contest: Document) -> Iterator[str]:
    rounds = _rounds_of(contest)
    most = max(map(len, rounds.values()))
    yield f"### {contest['name']}"
    described = " ".join(contest["description"].split())
    yield f"{described[0].upper()}{described[1:]}. Rounds: {most}; the median, and lowest..highest."
    yield _table(figures_rows(_columns_of(contest), rounds))
    if rows := target_rows(_targets_of(contest), rounds):
        yield _table([("target", "reached", "wanted", ""), *rows])
    for failure in contest["failures"]:
        yield f"**Failed:** {failure}."


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *others = rows
    lines = [head, ["---", *("---:" for _ in head[1:])], *others]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
