"""The hooks that are told of ended jobs: webhooks, billing, audit."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import orjson

from ._active import Local
from ._job import Snapshot
from ._registry import Registered
from ._running import CURRENT
from ._settings import OnFinish
from .engines.base import Engine

__all__ = ["FinishedJob", "Hooks"]

logger = logging.getLogger("aioqueue")

HOOK_SECONDS = 30.0
"""How long a hook may take.  Without a bound, one that hangs would pile up job after job."""


@attrs.frozen(slots=True)
class FinishedJob:
    """A job that has ended, as an ``on_finish`` hook is given it.

    Attributes:
        app: the aiohttp (sub-)application the job came through.
    """

    _snapshot: Snapshot
    app: Any

    @property
    def id(self) -> str:
        """The job's id."""
        return self._snapshot.record.id

    @property
    def function(self) -> str:
        """The name of its function."""
        return self._snapshot.record.function

    @property
    def owner(self) -> str | None:
        """Whose job it was, as the ``owner`` hook said."""
        return self._snapshot.record.owner

    @property
    def metadata(self) -> Any:
        """What the ``metadata`` hook returned, or None."""
        return _loads(self._snapshot.record.metadata)

    @property
    def state(self) -> str:
        """``"succeeded"``, ``"failed"`` or ``"cancelled"``."""
        return self._snapshot.state.value

    @property
    def result(self) -> Any:
        """What it returned; bytes where that was no JSON, a Path where it is a file.

        None if it did not succeed.  What lies on disk for its size is read each time.
        """
        content = self._snapshot.result
        if content is None:
            return None
        path = None if content.path is None else Path(content.path)
        if content.is_file:
            return path
        body = content.body if path is None else path.read_bytes()
        return orjson.loads(body) if content.is_value else body

    @property
    def error(self) -> Mapping[str, Any] | None:
        """The problem document (RFC 9457) of a failed job."""
        problem: Mapping[str, Any] | None = _loads(self._snapshot.error)
        return problem

    @property
    def reason(self) -> str | None:
        """Why it was cancelled: ``"client"``, ``"disconnect"`` or ``"shutdown"``."""
        return self._snapshot.reason

    @property
    def created(self) -> float:
        """When it was accepted, in seconds since the epoch."""
        return self._snapshot.created

    @property
    def started(self) -> float | None:
        """When it began to run; None if it never did."""
        return self._snapshot.started

    @property
    def finished(self) -> float:
        """When it ended."""
        assert self._snapshot.finished is not None
        return self._snapshot.finished

    def __repr__(self) -> str:
        return f"<FinishedJob {self.id} {self.function} {self.state}>"


def _loads(text: bytes | None) -> Any:
    return None if text is None else orjson.loads(text)


class Hooks:
    """Tells the hooks, each in a task of its own; what goes wrong there is logged and no more.

    Args:
        engine: what knows how a job has ended.
        functions: by name, with their hooks.
    """

    def __init__(self, engine: Engine, functions: Mapping[str, Registered]) -> None:
        self._engine = engine
        self._any = any(function.on_finish for function in functions.values())
        self._functions = functions
        self._tasks: set[asyncio.Task[None]] = set()

    async def ended(self, job_id: str, local: Local) -> None:
        """A job has ended: tell whoever wants to know.  A gated request is none."""
        if not self._any or local.gate is not None:
            return
        snapshot = await self._engine.get(job_id)
        if snapshot is None:
            logger.error("a job was forgotten before its on_finish hook: max_results is too small")
            return
        hooks = self._functions[snapshot.record.function].on_finish
        if hooks:
            telling = self._tell(hooks, FinishedJob(snapshot, local.app))
            context = local.context.copy()
            context.run(CURRENT.set, None)  # it may have been submitted by a job
            task = asyncio.get_running_loop().create_task(telling, context=context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _tell(self, hooks: Sequence[OnFinish], job: FinishedJob) -> None:
        for hook in hooks:
            try:
                async with asyncio.timeout(HOOK_SECONDS):
                    answer = hook(job)
                    if inspect.isawaitable(answer):
                        await answer
            except BaseException as error:  # SystemExit too: a hook never ends the server
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                logger.error("the on_finish hook %r failed", hook, exc_info=error)

    async def close(self) -> None:
        """Wait until every hook has been told everything."""
        if self._tasks:
            await asyncio.wait(self._tasks)
