"""Pictures of what `plots` has measured, for readers in light and in dark: ink on white paper.

``python -m benchmarks.drawing FOLDER < numbers.json`` draws again without measuring again.
"""

import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import orjson
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

# Of Okabe and Ito's colours, which people tell apart however they see colour; the orange is a
# little darker than theirs, so that one can read what is written in it.
BLUE, ORANGE, GREY = "#0072B2", "#BF5200", "#666666"
WIDTH, HEIGHT = 7.6, 3.0

mpl.rcParams.update(
    {
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GREY,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "xtick.labelcolor": "black",
        "ytick.labelcolor": "black",
        "lines.linewidth": 1.8,
        "lines.markersize": 4.5,
        "lines.marker": "o",
        "svg.hashsalt": "aioqueue",  # the same numbers make the same file
    }
)

Rows = Sequence[Mapping[str, Any]]


def draw_all(figures: Mapping[str, Rows], folder: Path) -> Iterator[Path]:
    """Write the pictures; yield each as soon as it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained", facecolor="white")
        draw(figure, figures)
        for axes in figure.axes:
            if axes.get_ylabel():
                axes.set_ylim(0, axes.get_ylim()[1] * 1.05)  # room for what is written above
        path = folder / f"tuning-{name}.svg"
        figure.savefig(path, metadata={"Date": None})
        yield path


def concurrency_limit(figure: Figure, figures: Mapping[str, Rows]) -> None:
    """More at once, until what they share is used up; from there on only longer runs."""
    rows = figures["concurrency_limit"]
    limits = _column(rows, "limit")
    left, right = figure.subplots(1, 2)
    rates = _column(rows, "jobs_per_second")
    _axes(left, "Throughput", "concurrency_limit, jobs at once", "jobs/s", limits)
    left.plot(limits, rates, color=BLUE)
    _write(left, (limits[0], rates[0]), f"{rates[0]:.0f}", (8, 0), va="center")
    for limit in (4, limits[-1]):
        rate = rates[limits.index(limit)]
        _write(left, (limit, rate), f"{rate:.0f}", (0, 6), ha="center")

    waited, ran = _column(rows, "waited"), _column(rows, "ran")
    total = [one + other for one, other in zip(waited, ran, strict=True)]
    _axes(
        right, "Median time until the result", "concurrency_limit, jobs at once", "seconds", limits
    )
    right.fill_between(limits, 0, ran, color=ORANGE, alpha=0.6, linewidth=0)
    right.fill_between(limits, ran, total, color=BLUE, alpha=0.3, linewidth=0)
    right.plot(limits, total, color=BLUE)
    right.plot(limits, ran, color=ORANGE)
    _write(right, (limits[-1], ran[-1] / 2), "running", (8, 0), ORANGE, va="center")
    _write(right, (limits[-1], ran[-1] + waited[-1] / 2), "in line", (8, 0), BLUE, va="center")


def max_batch_size(figure: Figure, figures: Mapping[str, Rows]) -> None:
    """Larger batches: many times the jobs, until a call takes noticeably longer."""
    rows = figures["max_batch_size"]
    sizes = _column(rows, "size")
    left, right = figure.subplots(1, 2)
    rates = _column(rows, "jobs_per_second")
    calls = [seconds * 1e3 for seconds in _column(rows, "ran")]
    _axes(
        left,
        "Throughput, one call at a time",
        "max_batch_size, jobs per call",
        "jobs/s",
        sizes,
        doubling=True,
    )
    left.plot(sizes, rates, color=BLUE)
    _axes(
        right,
        "How long one call takes",
        "max_batch_size, jobs per call",
        "ms",
        sizes,
        doubling=True,
    )
    right.plot(sizes, calls, color=ORANGE)
    for axes, figures_there in ((left, rates), (right, calls)):
        axes.margins(x=0.12)
        for point in zip(sizes, figures_there, strict=True):
            _write(axes, point, f"{point[1]:.0f}", (-3, 4), ha="right")


def max_size(figure: Figure, figures: Mapping[str, Rows]) -> None:
    """A shorter line: shorter waits and more refusals, and as much work done."""
    rows = figures["max_size"]
    sizes = _column(rows, "size")
    left, right = figure.subplots(1, 2)
    _axes(left, "Longest wait", "max_size, jobs in line", "seconds", sizes[2:])
    rule = [size * rows[0]["seconds_per_job"] for size in (0, sizes[-1])]
    left.plot([0, sizes[-1]], rule, color=GREY, linestyle=":", marker="")
    left.plot(sizes, _column(rows, "waited_longest"), color=BLUE, linestyle="")
    _write(left, (sizes[-1] / 2, rule[1] / 2), "max_size × 20 ms ÷ 2", (8, -8), GREY, va="center")
    title = f"What becomes of {rows[0]['arrived_per_second']:.0f} requests/s, for 7 s"
    _axes(right, title, "max_size, jobs in line", "requests/s", sizes[2:])
    _line(right, sizes, _column(rows, "served_per_second"), "served", BLUE)
    _line(right, sizes, _column(rows, "refused_per_second"), "refused", ORANGE)


def threads_async(figure: Figure, figures: Mapping[str, Rows]) -> None:
    """Waiting is cheap on the loop; computing there stops everybody."""
    left, right = figure.subplots(1, 2)
    rows = figures["threads_async"]
    limits = sorted({row["limit"] for row in rows})
    _axes(
        left, "A function that waits 0.5 s", "concurrency_limit, jobs at once", "jobs/s", limits[2:]
    )
    for function, name, colour in (
        ("remote", "def,\n40 threads", ORANGE),
        ("remote_async", "async def", BLUE),
    ):
        rates = [row["jobs_per_second"] for row in rows if row["function"] == function]
        _line(left, limits, rates, name, colour)

    names = {None: "nothing runs", "compute": "def", "compute_async": "async def"}
    colours = {None: GREY, "compute": ORANGE, "compute_async": BLUE}
    looks = list(reversed(figures["other_routes"]))
    right.set_title("Another route, while 4 jobs compute")
    right.set_yticks(range(len(looks)), [names[row["function"]] for row in looks])
    right.set_xlabel("ms until it answers: median, and 95 of 100")
    for y, row in enumerate(looks):
        middle, most = row["p50"] * 1e3, row["p95"] * 1e3
        right.plot([middle, most], [y, y], color=colours[row["function"]])
        _write(right, (most, y), " and ".join(map(_short, (middle, most))), (8, 0), va="center")
    right.set_xlim(0, right.get_xlim()[1] * 1.3)
    right.set_ylim(-0.5, len(looks) - 0.5)


def fair(figure: Figure, figures: Mapping[str, Rows]) -> None:
    """Who waits how long: one with a thousand jobs, and twenty with one each."""
    rows = list(reversed(figures["fair"]))
    figure.set_figheight(2.6)
    axes = figure.subplots()
    axes.set_title("A client with 1,000 jobs comes first, then 20 others come")
    names = {
        "first_come": "first come,\nfirst served",
        "turns": "client_key",
        "one_running": "client_key,\nmax_running_per_client=1",
    }
    axes.set_yticks(range(len(rows)), [names[row["rule"]] for row in rows])
    axes.set_xlabel("seconds from the request until its job starts")
    for y, row in enumerate(rows):
        greedy, others = row["greedy"], row["others"]
        axes.plot([greedy[0], greedy[-1]], [y, y], color=GREY, marker="", linewidth=5, alpha=0.35)
        axes.plot(others, [y] * len(others), color=ORANGE, linestyle="", alpha=0.6)
        middle = statistics.median(others)
        name = f"20 others, one job each: median {middle:.2f} s"
        _write(axes, (middle, y), name, (0, 7), ORANGE, ha="right" if middle > 1 else "left")
        if y == len(rows) - 1:
            _write(axes, (greedy[-1], y), "one client with 1,000 jobs", (8, 0), va="center")
    axes.set_xlim(left=0)
    axes.set_ylim(-0.5, len(rows) - 0.4)


def _column(rows: Rows, name: str) -> list[Any]:
    return [row[name] for row in rows]


def _short(figure: float) -> str:
    return f"{figure:.0f}" if figure >= 10 else f"{figure:.1f}"


def _axes(
    axes: Axes, title: str, x: str, y: str, ticks: Sequence[float], *, doubling: bool = False
) -> None:
    """Set up axes for what `y` becomes of a setting."""
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if doubling:
        axes.set_xscale("log", base=2)
    axes.set_xticks(ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _line(axes: Axes, xs: Sequence[float], ys: Sequence[float], name: str, colour: str) -> None:
    """Draw a line, with its name at its end."""
    axes.plot(xs, ys, color=colour)
    _write(axes, (xs[-1], ys[-1]), name, (8, 0), colour, va="center")


def _write(
    axes: Axes,
    point: tuple[float, float],
    text: str,
    offset: tuple[float, float],
    colour: str = "black",
    **alignment: str,
) -> None:
    """Write beside a point; the offset is in points."""
    axes.annotate(text, point, offset, textcoords="offset points", color=colour, **alignment)


PICTURES: Mapping[str, Callable[[Figure, Mapping[str, Rows]], None]] = {
    "concurrency-limit": concurrency_limit,
    "max-batch-size": max_batch_size,
    "max-size": max_size,
    "threads-async": threads_async,
    "fair": fair,
}

if __name__ == "__main__":
    for drawn in draw_all(orjson.loads(sys.stdin.buffer.read()), Path(sys.argv[1])):
        print(drawn)
