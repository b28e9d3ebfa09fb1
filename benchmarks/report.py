"""Tables, ratios and versions: what a run prints."""

import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

from attrs import frozen

# Our distribution has another name than the package in it.
DISTRIBUTIONS = ("aiohttp", "aiohttp-sse", "uvloop", "orjson", "aiohttp-queue")

Rounds = Mapping[str, Sequence[Any]]
"""The rounds of each peer, in the order they were run: round i of one met round i of the other."""


@frozen
class Spread:
    """The median of some figures, and how far they lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Iterable[float]) -> "Spread":
        """Return the spread of `figures`."""
        ordered = sorted(figures)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])

    def text(self, digits: int, scale: float = 1.0) -> str:
        """Return ``median (low..high)``, or the one figure where they are all alike."""
        median, low, high = (
            f"{figure * scale:,.{digits}f}" for figure in (self.median, self.low, self.high)
        )
        return median if low == high else f"{median} ({low}..{high})"


@frozen
class Target:
    """A figure of one peer, or its ratio to that of another, and what it should be, if anything."""

    peer: str
    figure: str
    against: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    digits: int = 2

    @property
    def wants(self) -> bool:
        """Whether something should be; else the figure is only of interest."""
        return self.at_least is not None or self.at_most is not None

    def row(self, rounds: Rounds) -> tuple[str, ...] | None:
        """Return a row for the report, or None where a peer did not take part."""
        sides = {self.peer, self.against or self.peer}
        if not sides <= rounds.keys() or any(
            getattr(done, self.figure) is None for side in sides for done in rounds[side]
        ):
            return None
        figures = [getattr(done, self.figure) for done in rounds[self.peer]]
        name = f"{self.peer}, {self.figure}"
        if self.against:
            others = [getattr(done, self.figure) for done in rounds[self.against]]
            # Round by round: both sides of a ratio met the same weather.  Who takes minutes for a
            # turn has fewer rounds.
            figures = [ours / theirs for ours, theirs in zip(figures, others, strict=False)]
            name = f"{self.peer} / {self.against}, {self.figure}"
        spread = Spread.of(figures)
        if not self.wants:
            return name, spread.text(self.digits), "", ""
        return name, spread.text(self.digits), self._wanted(), self._verdict(spread.median)

    def _wanted(self) -> str:
        if self.at_least is not None:
            return f"at least {self.at_least:.{self.digits}f}"
        return f"at most {self.at_most:.{self.digits}f}"

    def _verdict(self, figure: float) -> str:
        """Say whether it was met, or by how much it was missed."""
        share = 0.0
        if self.at_least is not None:
            share = 1 - figure / self.at_least
        elif self.at_most is not None:
            share = figure / self.at_most - 1
        return f"MISSED by {share:.1%}" if share > 0 else "met"


@frozen
class Column:
    """How a figure of the rounds is shown."""

    title: str
    figure: str
    digits: int = 0
    scale: float = 1.0


def figures_table(columns: Sequence[Column], rounds: Rounds) -> str:
    """Return a table of all figures of all peers."""
    return align(figures_rows(columns, rounds))


def figures_rows(columns: Sequence[Column], rounds: Rounds) -> Sequence[Sequence[str]]:
    """Return its rows; whichever are more, figures or peers, go down the page."""
    rows = [("", *rounds)]
    for column in columns:
        cells = []
        for done in rounds.values():
            figures = [getattr(one, column.figure) for one in done]
            known = [figure for figure in figures if figure is not None]
            cells.append(Spread.of(known).text(column.digits, column.scale) if known else "-")
        rows.append((column.title, *cells))
    return rows if len(columns) > len(rounds) else list(zip(*rows, strict=True))


def targets_table(targets: Sequence[Target], rounds: Rounds) -> str:
    """Return a table of the targets whose peers took part."""
    return align(target_rows(targets, rounds))


def target_rows(targets: Sequence[Target], rounds: Rounds) -> Sequence[Sequence[str]]:
    """Return its rows: the figure, what was reached and wanted, and whether that is met."""
    return [row for target in targets if (row := target.row(rounds))]


def align(rows: Sequence[Sequence[str]]) -> str:
    """Return `rows` as lines with aligned columns, the first to the left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def versions() -> dict[str, str]:
    """Return the versions of what was measured."""
    found = {"Python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
