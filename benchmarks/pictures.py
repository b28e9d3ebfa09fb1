"""Pictures of a run: what each side reached, and how far its rounds lie apart."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.drawing import BLUE, GREY, ORANGE, WIDTH

LINE = 0.28
"""Inches of height that one side takes."""

SHOWN: Mapping[str, Sequence[tuple[str, str, float]]] = {
    "overhead": [("jobs_per_second", "jobs/s", 1.0), ("cpu_per_job", "server CPU, µs/job", 1.0)],
    "viral": [("makespan", "seconds until all are served", 1.0), ("cpu", "server CPU, s", 1.0)],
    "waiting": [
        ("bytes_per_stream", "kB a stream", 1e-3),
        ("cpu_share", "% of a core", 100.0),
    ],
    "growth": [("enqueue", "µs to enqueue", 1e6), ("claim", "µs to claim", 1e6)],
    "lag": [("p50", "median answer, ms", 1e3), ("p99", "99th percentile, ms", 1e3)],
}
"""By the first word of a contest's name: two figures, what they are called, and their scale."""


def draw_all(run: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    """Write a picture of each contest that has one; yield each as soon as it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for contest in run["contests"]:
        shown = SHOWN.get(contest["name"].split()[0])
        if shown is None:
            continue
        height = 0.9 + LINE * len(contest["rounds"])
        figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
        for axes, (name, title, scale) in zip(figure.subplots(1, 2), shown, strict=True):
            _bars(axes, contest["rounds"], name, title, scale)
        path = folder / f"performance-{contest['name'].replace(' ', '-').replace(',', '')}.svg"
        figure.savefig(path, metadata={"Date": None})
        yield path


def _bars(
    axes: Axes,
    rounds: Mapping[str, Sequence[Mapping[str, Any]]],
    name: str,
    title: str,
    scale: float,
) -> None:
    """Draw the median of each side, ours in blue, and a line from the lowest to the highest."""
    for y, (peer, done) in enumerate(reversed(rounds.items())):
        figures = [one[name] * scale for one in done]
        middle = statistics.median(figures)
        axes.barh(y, middle, color=BLUE if "aioqueue" in peer else GREY, alpha=0.7)
        axes.plot([min(figures), max(figures)], [y, y], color=ORANGE, marker="")
        text = f" {middle:,.0f}" if middle >= 100 else f" {middle:.3g}"
        axes.annotate(text, (max(middle, *figures), y), va="center")
    axes.set_yticks(range(len(rounds)), list(reversed(rounds)))
    axes.set_title(title)
    axes.margins(x=0.2)
    axes.set_xlim(left=0)
