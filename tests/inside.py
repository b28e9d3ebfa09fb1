"""What only a test does: move an app's time by hand, and do a worker's work behind its back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import orjson
from aiohttp import ClientResponse, ClientSession, web

import aioqueue
from aioqueue import JobHandle
from aioqueue._eventlog import Reader
from aioqueue._job import (
    BEGINNING,
    AdmissionLimits,
    Claim,
    Content,
    Demand,
    Emission,
    JobRecord,
    JobState,
    Outcome,
    QueuePolicy,
)
from aioqueue._scheduler import Scheduler
from aioqueue.engines.base import Retention
from aioqueue.engines.memory import MemoryEngine
from aioqueue.web import _RUNTIME
from tests.clock import ManualClock
from tests.sse_client import read_events
from tests.stage import until

STREAM = {"Accept": "text/event-stream"}


def make_app(*functions: Any, **settings: Any) -> web.Application:
    """An app with a POST route for each function; what still runs at its end is cancelled."""
    app = web.Application()
    for function in functions:
        app.router.add_post(f"/{function.name}", function)
    aioqueue.setup(app, **{"drain_timeout": 0, **settings})
    return app


def scheduler_of(app: web.Application) -> Scheduler:
    """The scheduler of a started app."""
    (runtime,) = app[_RUNTIME]
    return runtime._scheduler


async def states(handles: Sequence[JobHandle[Any]]) -> list[str]:
    """The states of jobs, in order."""
    return [await handle.state() for handle in handles]


class Inside:
    """A started app whose time stands still until ``pass_time``."""

    def __init__(self, app: web.Application) -> None:
        (runtime,) = app[_RUNTIME]
        self.runtime = runtime
        self.engine = runtime._engine
        self.listeners = runtime._listeners
        self._passed = 0.0
        runtime._ticker.cancel()
        start = self.engine._clock()
        self.engine._clock = lambda: start + self._passed

    def now(self) -> float:
        """The time of the loop, with what has passed by hand."""
        return asyncio.get_running_loop().time() + self._passed

    async def tick(self) -> None:
        """What the app does once a second."""
        now = self.now()
        for tick in self.runtime.ticks:
            await tick(now)

    async def pass_time(self, seconds: float, *, step: float = 1.0) -> None:
        """Let seconds pass, with a tick for each."""
        end = self._passed + seconds
        while self._passed < end:
            self._passed = min(end, self._passed + step)
            await self.tick()

    async def have_left(self, count: int = 1) -> None:
        """Wait until so many of the clients that wait have left, and a tick has seen it."""
        before = len(self.listeners)
        places = self.listeners._places
        # One that has something to write notices by itself.
        await until(
            lambda: before - len(places) + sum(place.listener.is_gone for place in places) >= count
        )
        await self.tick()
        await until(lambda: len(self.listeners) <= before - count)

    async def ended(self, job_id: str) -> str:
        """Wait until a job has ended, and answer its state."""
        with Reader(self.engine, {job_id: BEGINNING}) as reader:
            while reader.cursors:
                await reader.wait()
                await reader.read()
        return await self.state(job_id)

    async def state(self, job_id: str) -> str:
        """Where the job is in its life."""
        return (await self.engine.get(job_id)).state.value

    async def say(self, job_id: str, *values: Any, kind: str = "output") -> None:
        """Append events to a running job, as if its function had said something."""
        claim = self.runtime._scheduler._active[job_id].claim
        emissions = [Emission(kind, orjson.dumps({"data": value})) for value in values]
        await self.engine.emit(claim, job_id, emissions)


class Shop:
    """A served app whose functions can wait for ``end``, seen by a client and from the inside."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.url = ""
        self.app: web.Application
        self.http: ClientSession
        self.inside: Inside

    def sells(self, *functions: Any, **settings: Any) -> Shop:
        """Have these functions; answers itself."""
        self.app = make_app(*functions, **settings)
        return self

    async def open(self, serve: Any, http: ClientSession, **options: Any) -> Shop:
        """Serve them; answers itself."""
        self.http = http
        self.url = await serve(self.app, **options)
        self.inside = Inside(self.app)
        return self

    async def post(
        self, prefer: str = "", name: str = "work", body: Any = None, **headers: str
    ) -> ClientResponse:
        """Start a job."""
        if prefer:
            headers["Prefer"] = prefer
        return await self.http.post(f"{self.url}/{name}", json=body or {}, headers=headers)

    async def wait(
        self, prefer: str, name: str = "work", body: Any = None, **headers: str
    ) -> asyncio.Task[ClientResponse]:
        """Start one in the background; answers from when its client waits."""
        task = asyncio.create_task(self.post(prefer, name, body, **headers))
        await self.listening(len(self.inside.listeners) + 1)
        return task

    async def listening(self, count: int = 1) -> None:
        """Wait until so many clients wait."""
        await until(lambda: len(self.inside.listeners) >= count)

    async def submit(self, name: str = "work", body: Any = None) -> str:
        """Start one; answers its id."""
        async with await self.post("", name, body) as response:
            assert response.status == 202, await response.text()
            job_id: str = (await response.json())["id"]
            return job_id

    async def stream(
        self, name: str = "work", body: Any = None, **headers: str
    ) -> tuple[ClientResponse, str]:
        """Start one with a stream, and read its first event; answers its id too."""
        response = await self.post("", name, body, **STREAM, **headers)
        assert response.status == 200, await response.text()
        event = await anext(read_events(response))
        return response, event.data["job"]

    async def leave(self, *responses: ClientResponse) -> None:
        """Hang up, and wait until the server knows."""
        for response in responses:
            response.close()
        await self.inside.have_left(len(responses))

    def job(self, job_id: str, below: str = "") -> str:
        """The address of a job, or of something below it."""
        return f"{self.url}/queue/jobs/{job_id}{below}"


@attrs.define
class Socket:
    """A transport and the request it came with, as far as a listener looks at them."""

    closed: bool = False

    @property
    def transport(self) -> Socket:
        return self

    @property
    def protocol(self) -> Socket:
        return self

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


class Paper:
    """Stands for the response of a stream: it keeps what is written, and can be slow to take it."""

    def __init__(self) -> None:
        self.body = b""
        self.writes = 0
        self.ended = False
        self.torn = False
        self.free = asyncio.Event()
        self.free.set()

    async def prepare(self, request: Any) -> None:
        """Begin."""

    def settle_in(self, request: Any) -> None:
        """Get ready for a long life."""

    async def write(self, data: bytes) -> None:
        """Take something, when there is room for it."""
        assert not self.ended
        self.writes += 1
        self.body += data
        await self.free.wait()
        if self.torn:
            raise ConnectionResetError

    async def write_eof(self, data: bytes) -> None:
        """Take the last of it."""
        await self.write(data)
        self.ended = True

    async def push(self, data: bytes) -> bool:
        """Take something now, or not at all."""
        if self.torn:
            raise ConnectionResetError
        if not self.free.is_set() or self.ended:
            return False
        self.body += data
        return True

    def unsent(self) -> tuple[int, int]:
        """How many bytes the client has taken, and how many it has yet to take."""
        return len(self.body), 0 if self.free.is_set() else 1


class Worker:
    """A memory engine with one queue, and the hands of a worker."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.engine = MemoryEngine(clock or ManualClock())
        self.claims: dict[str, Claim] = {}

    async def open(self, limit: int | None = 1, **retention: Any) -> Worker:
        """Get ready; answers itself."""
        policy = QueuePolicy(concurrency_limit=limit)
        await self.engine.open({"queue": policy}, Retention(**retention))
        return self

    async def enqueue(self, *job_ids: str, **fields: Any) -> None:
        """Enqueue jobs."""
        for job_id in job_ids:
            record = JobRecord(id=job_id, function="function", queue="queue", **fields)
            assert (await self.engine.enqueue(record, limits=AdmissionLimits())).job_id == job_id

    async def claim(self) -> list[str]:
        """Start what may start; answers the ids."""
        demands = {"function": Demand("loop")}
        reply = await self.engine.claim("worker", "queue", demands, {"loop": 1_000_000})
        started = {claim.attempts[0].record.id: claim for claim in reply.claims}
        self.claims |= started
        return list(started)

    async def say(self, job_id: str, *values: Any) -> None:
        """Append an output for each value."""
        emissions = [Emission("output", orjson.dumps({"data": value})) for value in values]
        await self.engine.emit(self.claims[job_id], job_id, emissions)

    async def end(self, job_id: str, result: Any = None) -> None:
        """Let a running job succeed."""
        content = Content(orjson.dumps(result))
        outcome = Outcome(job_id, JobState.SUCCEEDED, content)
        await self.engine.settle(self.claims.pop(job_id), [outcome])
