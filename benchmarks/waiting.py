"""Waiting: what a long line of open streams costs, while it moves and while nothing does."""

import asyncio
import resource
import time
from collections.abc import Callable, Mapping
from functools import partial

from attrs import frozen

from benchmarks.contest import Contest, Peer
from benchmarks.load import HOST, Client, press_together, request_bytes
from benchmarks.process import Server
from benchmarks.report import Column, Target
from benchmarks.servers import waiting as served

SECONDS = {"1k": 15.0, "10k": 60.0}
"""How long a line is looked at: for one heartbeat of each stream, or four."""
GLANCE = {"1k": 2.0}
"""The same where it is only about memory."""
WAVE = 500
"""How many connect at once; this is not about the rush."""
PATIENCE = 60.0
SPARE_FILES = 200

USERS = {"1k": 1_000, "10k": 10_000}
_STREAM = {"Accept": "text/event-stream"}
_MOVING = request_bytes("POST", "/moving", b"{}", _STREAM)
_STILL = request_bytes("POST", "/still", b"{}", _STREAM)
_STUCK = request_bytes("POST", "/stuck", b'{"seconds":1e6}', _STREAM)
_FIRST = request_bytes("POST", "/stuck", b'{"seconds":0.05}', _STREAM)
_QUIET = {"AIOQUEUE_MAX_UPDATES_PER_SECOND": "1"}

PEERS = tuple(
    peer
    for size in USERS
    for peer in (
        Peer(f"live_{size}", "waiting", _MOVING),
        Peer(f"quiet_{size}", "waiting", _MOVING, environ=_QUIET),
        Peer(f"still_{size}", "waiting", _STILL),
        Peer(f"stuck_{size}", "waiting", _STUCK),
        Peer(f"bare_{size}", "bare_waiting", _STILL),
        Peer(f"readme_{size}", "readme_waiting", _STILL),
    )
)
QUICK = ("still_1k", "bare_1k", "readme_1k")
"""Who shows what a stream takes of memory."""

COLUMNS = (
    Column("users", "users"),
    Column("core, %", "cpu_share", digits=2, scale=100),
    Column("CPU, µs/user/s", "cpu_per_user_second", digits=1),
    Column("updates/user", "updates", digits=2),
    Column("updates/s", "updates_per_second"),
    Column("jobs ended", "ended"),
    Column("kB/stream", "bytes_per_stream", digits=1, scale=1e-3),
)

TARGETS = (
    Target("still_10k", "cpu_share", at_most=0.02),
    Target("stuck_10k", "cpu_share", at_most=0.02),
    Target("live_10k", "cpu_per_user_second", "live_1k", at_most=2.0),
    Target("still_1k", "bytes_per_stream", "bare_1k", at_most=1.1),
    Target("still_10k", "bytes_per_stream", "bare_10k", at_most=1.1),
    Target("still_10k", "bytes_per_stream", "readme_10k"),
    # The share of the updates: what is above 1.
    Target("live_1k", "cpu_share", "quiet_1k"),
    Target("live_10k", "cpu_share", "quiet_10k"),
)


def contest() -> Contest:
    """Return the contest."""
    return _contest(SECONDS)


def quick() -> Contest:
    """Return the part of it that is about memory, with a small crowd."""
    return _contest(GLANCE).between(QUICK)


def _contest(seconds: Mapping[str, float]) -> Contest:
    return Contest(
        name="waiting",
        description=f"streams that wait, looked at for {_for_so_long(seconds)} s; live: the line "
        f"moves, a job takes\n{served.SECONDS} s, limit {served.LIMIT}, who is served joins again; "
        "quiet: the same with one position update a second for all; still: nothing moves and "
        "nobody knows how long;\nstuck: nothing moves, and times left are known; bare: "
        f"hand-framed, without a queue; readme: the same with aiohttp-sse{_files_note()}",
        peers=PEERS,
        measure=partial(measure, seconds=seconds),
        columns=COLUMNS,
        targets=TARGETS,
        guess=max(seconds.values()) + 5,
        most_rounds=3,
    )


def _for_so_long(seconds: Mapping[str, float]) -> str:
    return " or ".join(f"{each:.0f}" for each in seconds.values())


def _room() -> int:
    """Return how many streams the limit on open files leaves room for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(USERS.values()) if hard == resource.RLIM_INFINITY else hard - SPARE_FILES


def _files_note() -> str:
    """Warn where the machine does not let the whole crowd in."""
    most = max(USERS.values())
    if _room() >= most:
        return ""
    return f"\n(the hard limit on open files leaves room for {_room():,} of {most:,} streams)"


@frozen
class WaitingRound:
    """What a line cost while it was looked at."""

    users: int
    cpu_share: float
    """Of one core."""
    cpu_per_user_second: float
    """Microseconds."""
    updates: float
    """Position updates a user got meanwhile."""
    updates_per_second: float
    """To all together."""
    ended: int
    bytes_per_stream: float
    """Peak of the resident memory, compared with that before anybody came."""
    dropped: int

    def failures(self) -> list[str]:
        """Say what must not be, whatever the speed."""
        return [f"{self.dropped:,} streams were dropped"] if self.dropped else []


class Waiter(Client):
    """Somebody who waits in line, and joins again when served: so the line stays as it is."""

    def __init__(self, request: bytes, on_leave: Callable[[], None]) -> None:
        """Send `request` once connected."""
        super().__init__(on_leave)
        self._request = request
        self._rest = b""
        self.waits = asyncio.Event()
        self.updates = 0
        self.ended = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Press."""
        super().connection_made(transport)
        self.send(self._request)

    def data_received(self, data: bytes) -> None:
        """Count what came.  Nothing is kept but what may be the beginning of an event's line."""
        if not self.waits.is_set() and b"event: state" in data:
            self.waits.set()
        data = self._rest + data
        self.updates += data.count(b"event: position\n")
        self._rest = data[data.rfind(b"\n") + 1 :]
        if data.endswith(b"0\r\n\r\n"):
            self.ended += 1
            self.send(self._request)


async def measure(peer: Peer, server: Server, seconds: Mapping[str, float]) -> WaitingRound:
    """Fill the line, look at it for a while, and leave."""
    size = peer.name.rpartition("_")[2]
    users = min(USERS[size], _room())
    if peer.request == _STUCK:
        await press_together(server.port, _FIRST, 1, PATIENCE)
    empty = await server.account()
    gone: list[None] = []
    line = await _line_up(server.port, peer.request, users, lambda: gone.append(None))
    try:
        before, began = await server.account(), time.perf_counter()
        told, ended = _tally(line)
        await asyncio.sleep(seconds[size])
        after, took = await server.account(), time.perf_counter() - began
        told_after, ended_after = _tally(line)
        dropped = len(gone)
    finally:
        for waiter in line:
            waiter.leave()
    cpu = after.cpu - before.cpu
    return WaitingRound(
        users=users,
        cpu_share=cpu / took,
        cpu_per_user_second=cpu * 1e6 / users / took,
        updates=(told_after - told) / users,
        updates_per_second=(told_after - told) / took,
        ended=ended_after - ended,
        bytes_per_stream=(after.peak_rss - empty.peak_rss) / users,
        dropped=dropped,
    )


async def _line_up(
    port: int, request: bytes, users: int, on_leave: Callable[[], None]
) -> list[Waiter]:
    """Connect them wave by wave, each once the one before it waits."""
    loop = asyncio.get_running_loop()
    line: list[Waiter] = []

    async def one() -> None:
        waiter = Waiter(request, on_leave)
        line.append(waiter)
        await loop.create_connection(lambda: waiter, HOST, port)
        await waiter.waits.wait()

    async with asyncio.timeout(PATIENCE):
        while len(line) < users:
            await asyncio.gather(*(one() for _ in range(min(WAVE, users - len(line)))))
    return line


def _tally(line: list[Waiter]) -> tuple[int, int]:
    """Return how many updates and how many ends they saw so far."""
    return sum(waiter.updates for waiter in line), sum(waiter.ended for waiter in line)
