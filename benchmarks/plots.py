"""The small measurements behind the plots of docs/tuning.md; `drawing` draws them.

Each point is a fresh server on one core, and the load comes from another.  What takes time there
sleeps, so the shapes are those of the settings and not of the machine.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
from attrs import frozen

from benchmarks import drawing, fairness
from benchmarks.load import HOST, Client, Response, request_bytes
from benchmarks.process import Cores, Server, running
from benchmarks.progress import Progress, Step
from benchmarks.servers import tunable

SECONDS = 3.0
"""How long each point is looked at, after as long as it takes to settle."""
WARM_UP = 1.0
LIMITS = (1, 2, 3, 4, 6, 8, 12, 16)
LIMIT_ASKERS = 32
BATCHES = (1, 2, 4, 8, 16, 32, 64)
BATCH_ASKERS = 128
SIZES = (5, 10, 20, 40, 80, 160)
SIZE_LIMIT = 2
OVERLOAD = 1.3
OVERLOAD_SECONDS = 7.0
REMOTE = ("remote", "remote_async")
CALLS = (10, 20, 40, 80, 160, 320)
LOOK_SECONDS = 8.0
PAUSE = 0.005
RULES = ("first_come", "turns", "one_running")


@frozen
class Answer:
    """One job, in seconds of `time.monotonic`, which all processes of the machine share."""

    pressed: float
    started: float
    ended: float
    answered: float


class Asker(Client):
    """Somebody who sends the same request again and again, or once, and notes the times."""

    def __init__(self, request: bytes, *, pause: float | None = 0.0) -> None:
        """Send `request` once connected, and so long after each answer; None is never."""
        self.left = asyncio.Event()
        super().__init__(self.left.set)
        self._request = request
        self._pause = pause
        self._response = Response()
        self._pressed = 0.0
        self.answers: list[Answer] = []
        self.refused = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Press."""
        super().connection_made(transport)
        self._press()

    def data_received(self, data: bytes) -> None:
        """Note the answer, once it is complete."""
        if not self._response.feed(data):
            return
        if self._response.status == 200:
            times = orjson.loads(self._response.body())
            self.answers.append(Answer(self._pressed, *times, time.monotonic()))
        else:
            self.refused += 1
        if self._pause is None:
            self.leave()
        elif not self._pause:
            self._press()
        else:
            asyncio.get_running_loop().call_later(self._pause, self._press)

    def leave(self) -> None:
        """End the connection, and press no more."""
        self.left.set()
        super().leave()

    def _press(self) -> None:
        if self.left.is_set():
            return
        self._response = Response()
        self._pressed = time.monotonic()
        self.send(self._request)


@frozen
class Point:
    """One server, and what is done to it."""

    figure: str
    name: str
    module: str
    environ: Mapping[str, str]
    measure: Callable[[Server], Awaitable[dict[str, Any]]]
    guess: float = 1 + WARM_UP + SECONDS


async def draw(folder: Path, cores: Cores) -> None:
    """Measure all points, print them as JSON, and write a picture of each figure."""
    progress = Progress([Step(f"{p.figure}, {p.name}", p.figure, p.guess) for p in POINTS])
    figures: dict[str, list[dict[str, Any]]] = {}
    for point in POINTS:
        progress.begin()
        async with running(point.module, cores, point.environ) as server:
            figures.setdefault(point.figure, []).append(await point.measure(server))
        progress.end()
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode(), flush=True)
    for path in drawing.draw_all(figures, folder):
        print(f"{path}, {path.stat().st_size / 1e3:.0f} kB")


def _ask(function: str, body: bytes = b"{}") -> bytes:
    return request_bytes("POST", f"/{function}", body, {"Prefer": "wait=60"})


async def _press_on(
    server: Server, request: bytes, askers: int, seconds: float = SECONDS, pause: float = 0.0
) -> list[Answer]:
    """Keep the queue of `request` filled; return what was answered after the warm-up."""
    loop = asyncio.get_running_loop()
    crowd = [Asker(request, pause=pause) for _ in range(askers)]
    try:
        for asker in crowd:
            await loop.create_connection(lambda asker=asker: asker, HOST, server.port)
        await asyncio.sleep(WARM_UP)
        began = time.monotonic()
        await asyncio.sleep(seconds)
        ended = time.monotonic()
    finally:
        for asker in crowd:
            asker.leave()
    refused = sum(asker.refused for asker in crowd)
    if refused:
        raise ConnectionError(f"{refused} requests were refused")
    answers = [answer for asker in crowd for answer in asker.answers]
    return [answer for answer in answers if began < answer.answered <= ended]


def _summary(answers: Sequence[Answer], seconds: float = SECONDS) -> dict[str, float]:
    """Return jobs per second, and what a typical one waited and ran."""
    return {
        "jobs_per_second": len(answers) / seconds,
        "waited": _median(answer.started - answer.pressed for answer in answers),
        "ran": _median(answer.ended - answer.started for answer in answers),
    }


def _median(figures: Iterable[float]) -> float:
    return statistics.median(list(figures) or [0.0])


def _limit(limit: int) -> Point:
    async def measure(server: Server) -> dict[str, Any]:
        answers = await _press_on(server, _ask("shared"), LIMIT_ASKERS)
        return {"limit": limit, **_summary(answers)}

    return Point(
        "concurrency_limit", f"{limit}", "tunable", {"BENCHMARK_LIMIT": f"{limit}"}, measure
    )


def _batch(size: int) -> Point:
    async def measure(server: Server) -> dict[str, Any]:
        answers = await _press_on(server, _ask("batched", b'{"inputs":1}'), BATCH_ASKERS)
        # One call ends, and the next begins: what the queue itself takes in between.
        calls = sorted({(answer.started, answer.ended) for answer in answers})
        between = _median(later[0] - earlier[1] for earlier, later in pairwise(calls))
        return {"size": size, **_summary(answers), "between_calls": between}

    return Point("max_batch_size", f"{size}", "tunable", {"BENCHMARK_BATCH": f"{size}"}, measure)


def _size(size: int) -> Point:
    async def measure(server: Server) -> dict[str, Any]:
        crowd, began = await _arrive(server, _ask("steady"))
        answers = [answer for asker in crowd for answer in asker.answers]
        waits = [answer.started - answer.pressed for answer in answers]
        took = max(answer.ended for answer in answers) - began
        return {
            "size": size,
            "seconds_per_job": tunable.STEADY / SIZE_LIMIT,
            "arrived_per_second": len(crowd) / OVERLOAD_SECONDS,
            "served_per_second": len(answers) / took,
            "refused_per_second": sum(asker.refused for asker in crowd) / OVERLOAD_SECONDS,
            "waited": _median(waits),
            "waited_longest": max(waits),
        }

    environ = {"BENCHMARK_LIMIT": f"{SIZE_LIMIT}", "AIOQUEUE_MAX_SIZE": f"{size}"}
    return Point("max_size", f"{size}", "tunable", environ, measure, guess=OVERLOAD_SECONDS + 3)


async def _arrive(server: Server, request: bytes) -> tuple[list[Asker], float]:
    """Let people come at random moments, more than can be served, until all are answered."""
    loop = asyncio.get_running_loop()
    rate = OVERLOAD * SIZE_LIMIT / tunable.STEADY
    moments = random.Random(1)  # the same for every size
    crowd: list[Asker] = []
    began = at = time.monotonic()
    while (at := at + moments.expovariate(rate)) < began + OVERLOAD_SECONDS:
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        asker = Asker(request, pause=None)
        crowd.append(asker)
        await loop.create_connection(lambda asker=asker: asker, HOST, server.port)
    async with asyncio.timeout(60):
        await asyncio.gather(*(asker.left.wait() for asker in crowd))
    return crowd, began


def _calls(figure: str, function: str, limit: int, **environ: str) -> Point:
    async def measure(server: Server) -> dict[str, Any]:
        before = await server.account()
        answers = await _press_on(server, _ask(function), limit + 16)
        after = await server.account()
        return {
            "function": function,
            "limit": limit,
            **_summary(answers),
            "bytes_per_call": (after.peak_rss - before.peak_rss) / limit,
        }

    environ["BENCHMARK_LIMIT"] = f"{limit}"
    return Point(figure, f"{function} {limit}", "tunable", environ, measure)


def _look(function: str | None) -> Point:
    """Look at another route while the function computes."""

    async def measure(server: Server) -> dict[str, Any]:
        askers, request = (8, _ask(function)) if function else (0, b"")
        work = asyncio.create_task(_press_on(server, request, askers, LOOK_SECONDS))
        await asyncio.sleep(WARM_UP / 2)
        looks = request_bytes("GET", "/plain")
        answers = await _press_on(server, looks, 1, LOOK_SECONDS - WARM_UP, pause=PAUSE)
        took = [answer.answered - answer.pressed for answer in answers]
        took.sort()
        found = {
            "function": function,
            "looks": len(took),
            "p50": took[len(took) // 2],
            "p95": took[len(took) * 95 // 100],
            "worst": took[-1],
        }
        return found | _summary(await work, LOOK_SECONDS)

    environ = {"BENCHMARK_LIMIT": "4"}
    return Point("other_routes", f"{function}", "tunable", environ, measure, guess=10)


def _rule(rule: str) -> Point:
    async def measure(server: Server) -> dict[str, Any]:
        greedy, others = await fairness.press(server.port, rule)
        return {
            "rule": rule,
            "greedy": sorted(fairness.since_press(greedy, "started")),
            "others": sorted(fairness.since_press(others, "started")),
        }

    return Point("fair", rule, "fair", {}, measure, guess=9)


POINTS = (
    *map(_limit, LIMITS),
    *map(_batch, BATCHES),
    *map(_size, SIZES),
    *(_calls("threads_async", name, limit) for limit in CALLS for name in REMOTE),
    *(_calls("memory", name, CALLS[-1], AIOQUEUE_MAX_THREADS="1000") for name in REMOTE),
    *map(_look, (None, "compute", "compute_async")),
    *map(_rule, RULES),
)
