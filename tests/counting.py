"""A server whose work is counted: on a loop and a clock of its own, seen by a client that blocks.

Counts, unlike times, are the same on every machine.  Time stands still, the client waits until the
loop has nothing left to do, and what is counted of function calls are those of the package.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from aiohttp import web

import aioqueue
from aioqueue.web import _RUNTIME
from benchmarks.load import HOST, Response
from tests.stage import PATIENCE

PACKAGE = str(Path(aioqueue.__file__).parent)
AIOHTTP = str(Path(web.__file__).parent)


class _Selector(selectors.DefaultSelector):
    """Says when its loop has nothing to do."""

    def __init__(self) -> None:
        super().__init__()
        self.quiet = threading.Event()

    def select(self, timeout: float | None = None) -> Any:
        """Wait as its loop does."""
        if timeout is None or timeout > 0:
            self.quiet.set()
        try:
            return super().select(timeout)
        finally:
            self.quiet.clear()


class _Loop(asyncio.SelectorEventLoop):
    """Counts what it is asked to do; its time stands still until it is moved."""

    def __init__(self, counts: Counter[str]) -> None:
        self.selector = _Selector()
        self.now: float | None = float(int(time.monotonic()))
        self.counts = counts
        super().__init__(self.selector)

    def time(self) -> float:
        """The time by hand, or at the end the real one."""
        return super().time() if self.now is None else self.now

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Count it, unless it is aiohttp's own: which those are depends on its version."""
        self.counts["tasks"] += not coro.cr_code.co_filename.startswith(AIOHTTP)
        return super().create_task(coro, **options)

    def call_soon(self, *args: Any, **options: Any) -> asyncio.Handle:
        """Count it."""
        self.counts["callbacks"] += 1
        return super().call_soon(*args, **options)

    def call_at(self, *args: Any, **options: Any) -> asyncio.TimerHandle:
        """Count it; call_later comes here too."""
        self.counts["timers"] += 1
        return super().call_at(*args, **options)

    def call_soon_threadsafe(self, *args: Any, **options: Any) -> asyncio.Handle:
        """Count it."""
        self.counts["hand-offs"] += 1
        return super().call_soon_threadsafe(*args, **options)

    def _make_socket_transport(self, *args: Any, **options: Any) -> Any:
        return _Transport(self, *args, **options)


class _Transport(asyncio.selector_events._SelectorSocketTransport):  # type: ignore
    """Counts its writes."""

    def write(self, data: Any) -> None:
        """Count it."""
        self._loop.counts["writes"] += 1
        super().write(data)

    def writelines(self, pieces: Any) -> None:
        """Count it as one, as it is from 3.12 on."""
        self.write(b"".join(pieces))


class Connection:
    """A client that sends a request, and waits for what comes."""

    def __init__(self, sock: socket.socket, settle: Callable[[], None]) -> None:
        self._sock = sock
        self._settle = settle

    def send(self, request: bytes) -> None:
        """Ask."""
        self._response, self._complete = Response(), False
        self._sock.sendall(request)

    def read_some(self) -> Response:
        """What has come so far, at least a byte, when the server has no more to say."""
        data = self._sock.recv(1 << 16)
        assert data, "the server has hung up"
        self._complete = self._response.feed(data)
        self._settle()
        return self._response

    def read(self) -> Response:
        """The whole response."""
        while not self._complete:
            self.read_some()
        return self._response


class CountedServer:
    """A served app, in a thread of its own.

    Args:
        app: the app.
        calls: whether to count calls of functions of the package, which takes its time.
    """

    def __init__(self, app: web.Application, *, calls: bool = True) -> None:
        self._counts: Counter[str] = Counter()
        self._calls: Counter[int] = Counter()  # by thread, as += is no single step
        self._profile = self._count_call if calls else None
        self._ours: dict[CodeType, bool] = {}
        self._loop = _Loop(self._counts)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._sockets: list[socket.socket] = []
        self._app = app

    def __enter__(self) -> CountedServer:
        threading.setprofile(self._profile)  # for the threads of functions
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        threading.setprofile(None)
        for sock in self._sockets:
            sock.close()
        self._loop.now = None
        self._run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    async def _start(self) -> None:
        sys.setprofile(self._profile)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        (runtime,) = self._app[_RUNTIME]
        runtime._ticker.cancel()
        runtime._engine._clock = self._loop.time
        self._runtime = runtime

    # The client

    def connect(self) -> Connection:
        """A connection, which lives as long as the server."""
        sock = socket.create_connection(self._runner.addresses[0], timeout=PATIENCE)
        self._sockets.append(sock)
        return Connection(sock, self.settle)

    def settle(self) -> None:
        """Wait until the loop has done all it has to do.

        It must have shown that it works on what it is waited for: sent a byte, started a function.
        """
        assert self._loop.selector.quiet.wait(PATIENCE)

    def pass_seconds(self, count: int) -> None:
        """Let so many seconds pass, with a tick for each."""
        assert self._loop.now is not None
        for _ in range(count):
            self._loop.now += 1.0
            self._run(self._tick(self._loop.now))
            self.settle()

    async def _tick(self, now: float) -> None:
        for tick in self._runtime.ticks:
            await tick(now)

    # The counts

    def counts(self) -> Counter[str]:
        """What has been done so far."""
        return self._counts + Counter({"calls": self._calls.total()})

    def blocks(self) -> int:
        """How many blocks of memory are in use."""
        gc.collect()
        return sys.getallocatedblocks()

    def _count_call(self, frame: FrameType, event: str, _arg: object) -> None:
        if event != "call":
            return
        code = frame.f_code
        ours = self._ours.get(code)
        if ours is None:
            ours = self._ours[code] = _is_ours(code)
        if ours:
            self._calls[threading.get_ident()] += 1


def _is_ours(code: CodeType) -> bool:
    """Whether it is a function of the package: not a comprehension, which 3.12 does without."""
    name = code.co_filename
    if name.startswith("<attrs generated"):
        return "aioqueue." in name
    return name.startswith(PACKAGE) and not code.co_name.endswith("comp>")
