"""Processes: how long one takes to start and to be gone, and what it costs while it is idle."""

import asyncio
import os
import re
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import orjson
from attrs import frozen

from benchmarks.contest import Contest, Peer
from benchmarks.load import HOST, Client, Response, fetch, press_together, request_bytes
from benchmarks.process import Server
from benchmarks.report import Column, Target

CANCELS = 10
STARTS = 5
PATIENCE = 30.0

_STREAM = {"Accept": "text/event-stream"}
_WAIT = {"Prefer": "wait=30"}
_LATER = request_bytes("POST", "/when_process", b"{}")
_NOOP = request_bytes("POST", "/noop_process", b"{}", _WAIT)
_ONE = {"AIOQUEUE_MAX_PROCESSES": "1"}


def contests() -> tuple[Contest, ...]:
    """Return the contests."""
    return _cancel(), _start()


# Cancel


def _cancel() -> Contest:
    def stubborn(way: bytes) -> bytes:
        return request_bytes("POST", "/stubborn_process", b'{"way":"%b"}' % way, _STREAM)

    return Contest(
        name="cancel",
        description=f"a job is cancelled at 10 % while another waits for its slot, {CANCELS} times"
        "\na round: one that looks at job.cancelled, one that loops in Python, and one in C that "
        "never lets\ngo of the GIL; alone: there is no other process, so the next one waits until "
        "a new one is there",
        peers=(
            Peer("looks", "heavy", stubborn(b"looks")),
            Peer("python", "heavy", stubborn(b"python")),
            Peer("c_code", "heavy", stubborn(b"c_code")),
            Peer("c_code_alone", "heavy", stubborn(b"c_code"), environ=_ONE),
        ),
        measure=measure_cancel,
        columns=(
            Column("told its client, ms", "told", scale=1000),
            Column("gone, ms", "gone", scale=1000),
            Column("gone, worst, ms", "gone_worst", scale=1000),
            Column("next starts, ms", "next", scale=1000),
            Column("next starts, worst, ms", "next_worst", scale=1000),
        ),
        targets=(
            Target("python", "gone_worst", at_most=0.5),
            Target("c_code", "gone_worst", at_most=0.5),
            Target("c_code", "next_worst", at_most=0.5),
        ),
        guess=10,
        both_cores=True,
    )


@frozen
class CancelRound:
    """Seconds since the DELETE was sent."""

    told: float
    gone: float | None
    """Until the process table no longer has it; None where it stays."""
    gone_worst: float | None
    next: float
    next_worst: float

    def failures(self) -> list[str]:
        """Say what must not be, whatever the speed."""
        slow = max(self.gone_worst or 0, self.next_worst) >= PATIENCE
        return ["the process, or its slot, did not get free"] if slow else []


async def measure_cancel(peer: Peer, server: Server) -> CancelRound:
    """Cancel again and again."""
    await _answer(server, _NOOP)
    seen = [await _cancel_once(peer, server) for _ in range(CANCELS)]
    told, gone, after = zip(*seen, strict=True)
    left = [one for one in gone if one is not None]
    return CancelRound(
        told=statistics.median(told),
        gone=statistics.median(left) if left else None,
        gone_worst=max(left, default=None),
        next=statistics.median(after),
        next_worst=max(after),
    )


async def _cancel_once(peer: Peer, server: Server) -> tuple[float, float | None, float]:
    """Cancel one; answers the seconds until it was told, its process gone, and the next began."""
    hog = Watcher(peer.request)
    await hog.watch(server.port)
    pid, link = await hog.says_who()
    if peer.environ is None:
        await _answer(server, _NOOP)  # so the other process is there
    waiting = orjson.loads(await _answer(server, _LATER))["links"]["self"]
    following = asyncio.create_task(_answer(server, request_bytes("GET", waiting, headers=_WAIT)))
    delete = request_bytes("DELETE", link)
    stays = b'"looks"' in peer.request
    began = time.monotonic()
    deleting = asyncio.create_task(press_together(server.port, delete, 1, PATIENCE))
    gone = None if stays else await _until_gone(pid) - began
    after = orjson.loads(await following)["result"] - began
    await hog.over.wait()
    await deleting
    return hog.over_at - began, gone, after


async def _until_gone(pid: int) -> float:
    """Wait until the process table has it no more, not even as a zombie; answers when that was."""
    end = time.monotonic() + PATIENCE
    while (now := time.monotonic()) < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        await asyncio.sleep(0.001)
    return now


class Watcher(Client):
    """Somebody who follows a job."""

    _WHO = re.compile(rb'"message":"(\d+)"')
    _LINK = re.compile(rb'"self":"([^"]+)"')

    def __init__(self, request: bytes) -> None:
        """Send `request` once connected."""
        self.over = asyncio.Event()
        self.over_at = 0.0
        super().__init__(self.over.set)
        self._request = request
        self._response = Response()
        self._came: Callable[[], None] = lambda: None

    async def watch(self, port: int) -> None:
        """Connect."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, HOST, port)

    async def says_who(self) -> tuple[int, str]:
        """Wait until it says in which process it runs; answers that, and where the job is."""
        who = asyncio.get_running_loop().create_future()

        def look() -> None:
            found = self._WHO.search(self._response.raw)
            if found and not who.done():
                who.set_result(int(found[1]))

        self._came = look
        look()
        async with asyncio.timeout(PATIENCE):
            pid = await who
        link = self._LINK.search(self._response.raw)
        assert link is not None
        return pid, link[1].decode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        super().connection_made(transport)
        self.send(self._request)

    def data_received(self, data: bytes) -> None:
        """Note what came, and when the end did."""
        is_over = self._response.feed(data)
        self._came()
        if is_over:
            self.over_at = time.monotonic()
            self.leave()


# Start, and memory


def _start() -> Contest:
    return Contest(
        name="a process",
        description="how long the app takes to start with its processes, and one process that "
        "replaces a killed\none, the server's modules included; and what an idle one holds "
        "(PSS: what is shared is divided)",
        peers=(
            Peer("one_process", "heavy", _NOOP, environ=_ONE),
            Peer("two_processes", "heavy", _NOOP),
        ),
        measure=measure_start,
        columns=(
            Column("app starts in, ms", "app", scale=1000),
            Column("a new process, ms", "replaced", scale=1000),
            Column("RSS, MB", "rss", digits=1, scale=1e-6),
            Column("PSS, MB", "pss", digits=1, scale=1e-6),
        ),
        targets=(),
        guess=5,
        both_cores=True,
    )


@frozen
class StartRound:
    """Seconds, and bytes."""

    app: float
    replaced: float | None
    """Until a job is served whose process was killed while it was idle; None with two."""
    rss: int | None
    pss: int | None

    def failures(self) -> list[str]:
        """Say what must not be, whatever the speed."""
        return []


async def measure_start(peer: Peer, server: Server) -> StartRound:
    """Look at an idle process; then kill it, and see how long a new one takes."""
    app = float(await fetch(server.port, "/started"))
    pid = int(await _answer(server, _NOOP))
    memory = _memory(pid)
    replaced = []
    for _ in range(STARTS if peer.environ else 0):
        os.kill(int(await _answer(server, _NOOP)), signal.SIGKILL)
        began = time.monotonic()
        await _answer(server, _NOOP)
        replaced.append(time.monotonic() - began)
    return StartRound(
        app=app,
        replaced=statistics.median(replaced) if replaced else None,
        rss=memory.get("Rss"),
        pss=memory.get("Pss"),
    )


def _memory(pid: int) -> dict[str, int]:
    """Return the bytes of a process by kind; none where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return {}
    return {name: int(kb) * 1024 for name, kb in re.findall(r"^(\w+): +(\d+) kB$", text, re.M)}


async def _answer(server: Server, request: bytes) -> bytes:
    """Return what a request is answered, such as the bare result of a job."""
    _, (user,) = await press_together(server.port, request, 1, PATIENCE)
    if user.finished is None or user.response.status not in (200, 202):
        raise ConnectionError(f"a request was answered {bytes(user.response.raw)!r}")
    return user.response.body()
