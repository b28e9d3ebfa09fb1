"""A started app: everything wired together, one tick a second, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs
import orjson
from aiohttp import web

from ._answers import Answers, content_response
from ._bodies import BodyReader
from ._calls import Calls
from ._capture import start_capturing, stop_capturing
from ._errors import AioqueueError, ConfigurationError
from ._eventlog import ended, follow
from ._executors import Executor, LoopExecutor, ThreadExecutor
from ._gate import Gate, Handler
from ._handle import SubmitOptions
from ._hooks import Hooks
from ._job import Snapshot, event_data
from ._listeners import Listeners
from ._outbox import OutboxBounds
from ._outcomes import found
from ._positions import Estimator, Positions
from ._process_main import process_main, refuse_what_is_not_found
from ._processes import ProcessExecutor, cpus
from ._registry import Registered, by_name, policies, slot_names, sub_apps, workers
from ._resource import Links
from ._responses import content_of
from ._routes import JobRoutes
from ._running import CURRENT, current_job
from ._scheduler import Scheduler
from ._settings import Settings
from ._spool import Spool
from ._sse import Streams
from ._standstill import Waits
from ._submit import Submitter
from .engines.base import Engine, Retention

__all__ = ["Door", "Runtime"]

logger = logging.getLogger("aioqueue")

_TICK = 1.0

Tick = Callable[[float], Awaitable[None]]
"""Something about time, which is told the loop's."""


class Runtime:
    """What runs in one process for one root application, from its start to its end.

    Args:
        app: the root application.
        settings: its settings.
        engine: what stores its jobs.
        registered: its functions and gates.
    """

    def __init__(
        self,
        app: web.Application,
        settings: Settings,
        engine: Engine,
        registered: Sequence[Registered],
    ) -> None:
        self.app = app
        self.settings = settings
        self._engine = engine
        self.functions = by_name(registered)
        self._policies = policies(registered, settings)
        executors: dict[str, Executor] = {
            "loop": LoopExecutor(settings.max_tasks),
            "thread": ThreadExecutor(settings.max_threads),
        }
        self._spool = Spool(settings.spool_dir, settings.max_spool_bytes)
        self._processes = _processes(registered, settings, self._spool)
        if self._processes is not None:
            executors["process"] = self._processes
        self._captures = any(one.capture_logs for one in registered)
        self._tracking = _tracking(registered)
        self._hooks = Hooks(engine, self.functions)
        self._scheduler = Scheduler(
            engine,
            self.functions,
            executors,
            app=app,
            node=secrets.token_hex(4),
            max_result_bytes=settings.max_result_bytes,
            content_of=content_of,
            spool=self._spool,
            bounds=OutboxBounds(settings.max_log_events, settings.max_log_bytes),
            on_end=self._hooks.ended,
            slots=slot_names(registered),
        )
        capacities = {name: executor.capacity for name, executor in executors.items()}
        demands = {one.name: one.demand for one in registered}
        estimator = Estimator(engine, workers(registered, capacities), demands)
        self._positions = Positions(engine, estimator, settings.max_updates_per_second)
        links = Links(settings.public_path + settings.path)
        streams = Streams(engine, estimator, self._positions, settings, links)
        self._listeners = Listeners(engine, settings.max_streams, settings.max_streams_per_client)
        self._bodies = BodyReader(settings.body_timeout)
        answers = Answers(estimator, links, settings.max_event_bytes)
        self.submitter = Submitter(
            engine=engine,
            scheduler=self._scheduler,
            listeners=self._listeners,
            estimator=estimator,
            streams=streams,
            bodies=self._bodies,
            answers=answers,
            spool=self._spool,
            settings=settings,
            links=links,
            queues=tuple(self._policies),
        )
        self.calls = Calls(
            app=app,
            scheduler=self._scheduler,
            submitter=self.submitter,
            spool=self._spool,
            policies=self._policies,
        )
        self._gate = Gate(
            scheduler=self._scheduler, listeners=self._listeners, submitter=self.submitter
        )
        self.routes = JobRoutes(
            engine=engine,
            scheduler=self._scheduler,
            listeners=self._listeners,
            estimator=estimator,
            streams=streams,
            answers=answers,
            settings=settings,
            functions=self.functions,
        )
        self.ticks: list[Tick] = [
            self._listeners.tick,
            lambda _now: self._scheduler.tick(),
            self._positions.tick,
        ]
        """What happens once a second, in this order; adapters add what is theirs."""
        self._ticker: asyncio.Task[None] | None = None
        self._waits = Waits(self._scheduler, self._policies)

    # Life

    async def start(self) -> None:
        """Open the engine and begin to work."""
        settings = self.settings
        retention = Retention(
            max_log_events=settings.max_log_events,
            max_log_bytes=settings.max_log_bytes,
            max_event_bytes=settings.max_event_bytes,
            result_ttl=settings.result_ttl,
            max_results=settings.max_results,
            max_result_bytes=settings.max_result_bytes,
        )
        await self._spool.open()
        await self._engine.open(self._policies, retention)
        if self._processes is not None:
            try:
                await self._processes.open(self._most_calls())
            except BaseException:
                await self._spool.close()
                raise
        if self._captures:
            start_capturing()
        if self._tracking is not None:
            self._tracking.start_tracking()
        await self._scheduler.start()
        self._ticker = asyncio.create_task(self._tick(), name="aioqueue-tick")

    def _most_calls(self) -> int:
        """How many calls to processes there may be at once, by the limits of their queues."""
        queues = {one.queue for one in self.functions.values() if one.demand.capacity == "process"}
        limits = [self._policies[queue].concurrency_limit for queue in queues]
        return sum(sys.maxsize if limit is None else limit for limit in limits)

    async def _tick(self) -> None:
        """What is about time happens here, once a second, for everybody."""
        time = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(_TICK)
            for tick in self.ticks:
                try:
                    await tick(time())
                except Exception:
                    logger.exception("a tick failed; the next one comes in a second")

    async def drain(self) -> None:
        """Take no more, let what runs end for a while, and end every stream."""
        self._bodies.abort()
        await self._scheduler.drain(self.settings.drain_timeout)
        # Every job has its terminal event now, so every stream ends by itself; who is left over
        # follows jobs that live elsewhere.
        await asyncio.sleep(0)
        self._listeners.drop_all()

    async def stop(self) -> None:
        """Let everything go."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.wait([self._ticker])
        await self._scheduler.close()
        await self._hooks.close()
        await self._engine.close()
        await self._spool.close()
        if self._captures:
            stop_capturing()
        if self._tracking is not None:
            self._tracking.stop_tracking()

    # Doors

    def door(self, registered: Registered) -> Door:
        """How requests and code reach a function."""
        return Door(self, registered)

    def pass_through(
        self, registered: Registered, request: web.Request, handler: Handler
    ) -> Coroutine[Any, Any, web.StreamResponse]:
        """Run a handler when it is its request's turn."""
        return self._gate.answer(registered, request, handler)

    # From code

    async def get(self, job_id: str) -> Snapshot:
        """The job as it stands."""
        snapshot = await self._engine.get(job_id)
        if snapshot is None:
            raise AioqueueError(f"job {job_id} has ended, and is no longer kept")
        return snapshot

    async def settled(self, job_id: str) -> Snapshot:
        """The job, once it has ended."""
        snapshot = await self.get(job_id)
        if snapshot.state.terminal:
            return snapshot
        with self._wait_inside(snapshot):
            await ended(self._engine, [job_id])
        return await self.get(job_id)

    def _wait_inside(self, snapshot: Snapshot) -> AbstractContextManager[None]:
        """Note, where a job waits for another one, that it does."""
        around = CURRENT.get(None)
        if around is None or not self._scheduler.runs(around.id):
            return nullcontext()
        return self._waits.wait(around.id, snapshot.record)

    async def events(self, job_id: str) -> AsyncIterator[Mapping[str, Any]]:
        """The events of a job."""
        with self._wait_inside(await self.get(job_id)):
            async for page in follow(self._engine, job_id):
                for event in page.events:
                    yield orjson.loads(event.data)
                if page.progress is not None:
                    yield orjson.loads(event_data(job_id, "progress", page.progress))

    async def cancel(self, job_id: str) -> Snapshot:
        """Cancel a job."""
        snapshot = await self._scheduler.cancel(job_id, "client")
        return snapshot if snapshot is not None else await self.get(job_id)


def _processes(
    registered: Sequence[Registered], settings: Settings, spool: Spool
) -> ProcessExecutor | None:
    """Where functions run that want a process, if there are any."""
    users = {
        one.name: one.function
        for one in registered
        if one.demand.capacity == "process" and one.function is not None
    }
    if not users:
        return None
    for name, function in users.items():
        refuse_what_is_not_found(name, function.reference, function.__wrapped__)
    return ProcessExecutor(
        settings.max_processes or cpus(),
        process_main,
        references=[function.reference for function in users.values()],
        folder=spool.folder,
        initializer=settings.process_initializer,
        max_jobs=settings.max_jobs_per_process,
    )


def _tracking(registered: Sequence[Registered]) -> Any:
    """What tracks the bars of tqdm's, if a function wants that."""
    trackers = [one.name for one in registered if one.track_tqdm]
    if not trackers:
        return None
    try:
        from . import _tqdm
    except ImportError:
        raise ConfigurationError(
            f"{trackers[0]} has track_tqdm=True, which needs tqdm: pip install "
            "'aiohttp-queue[tqdm]', or tqdm itself"
        ) from None
    return _tqdm


def _answering(handler: Handler, spool: Spool) -> Handler:
    """A handler whose value is sent as a result is, if it is no response."""

    async def answer(request: web.Request) -> web.StreamResponse:
        value: Any = await handler(request)
        if isinstance(value, web.StreamResponse):
            return value
        content = content_of(value)
        if content.is_file:
            within = spool.folder(current_job().id).parent
            content = await spool.in_thread(found, content, within)
        return await content_response(content)

    return answer


@attrs.frozen(slots=True)
class Door:
    """One function of a started app."""

    _runtime: Runtime
    _registered: Registered

    def serves(self, app: web.Application) -> bool:
        """Whether that is the root application, or below it."""
        return app is self._runtime.app or app in sub_apps(self._runtime.app)

    def pass_through(
        self, request: web.Request, handler: Handler
    ) -> Coroutine[Any, Any, web.StreamResponse]:
        """Run a handler when it is its request's turn."""
        return self._runtime.pass_through(self._registered, request, handler)

    def answer(self, request: web.Request, subject: Any) -> Coroutine[Any, Any, web.StreamResponse]:
        """Answer a request to the function's route."""
        function, submitter = self._registered.function, self._runtime.submitter
        assert function is not None
        if function.takes_request and not submitter.wants_stream(request):
            handler = _answering(function.handler(subject), submitter.spool)
            return self.pass_through(request, handler)
        return submitter.answer(self._registered, request, subject)

    async def submit(
        self, arguments: Mapping[str, Any], subject: Any, options: SubmitOptions
    ) -> str:
        """Enqueue a job from code, and answer its id."""
        return await self._runtime.calls.submit(self._registered, arguments, subject, options)

    def events(self, job_id: str) -> AsyncIterator[Mapping[str, Any]]:
        """The events of a job."""
        return self._runtime.events(job_id)

    async def settled(self, job_id: str) -> Snapshot:
        """The job, once it has ended."""
        return await self._runtime.settled(job_id)

    async def get(self, job_id: str) -> Snapshot:
        """The job as it stands."""
        return await self._runtime.get(job_id)

    async def cancel(self, job_id: str) -> Snapshot:
        """Cancel the job."""
        return await self._runtime.cancel(job_id)
