"""A job that was submitted from code, and the door it went through."""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import attrs
import orjson
from aiohttp import web

from ._checks import is_priority
from ._convert import JSON
from ._errors import AioqueueError, JobFailed, Problem
from ._job import Content, JobState, Snapshot
from ._spool import in_thread

__all__ = ["Door", "JobHandle", "SubmitOptions"]

R_co = TypeVar("R_co", covariant=True)


@attrs.frozen(slots=True)
class SubmitOptions:
    """What a submit from code says of its job; unset means that of the job around it."""

    owner: str | None = None
    client: str | None = None
    priority: float | None = attrs.field(default=None)
    metadata: Any = None

    @priority.validator
    def _check(self, attribute: object, value: object) -> None:
        if value is not None and not is_priority(value):
            raise ValueError(f"options(priority={value!r}): priority must be a number, or None")


class Door(Protocol):
    """How a started app takes jobs of one function."""

    def serves(self, app: web.Application) -> bool:
        """Whether this is the door of that app, or of one above it."""

    def answer(self, request: web.Request, subject: Any) -> Coroutine[Any, Any, web.StreamResponse]:
        """Answer a request to the function's route."""

    async def submit(
        self, arguments: Mapping[str, Any], subject: Any, options: SubmitOptions
    ) -> str:
        """Enqueue a job from code, and answer its id.

        Raises:
            TypeError: the arguments have no JSON form, or are not what the function takes.
        """

    def events(self, job_id: str) -> AsyncIterator[Mapping[str, Any]]:
        """The events of a job."""

    async def settled(self, job_id: str) -> Snapshot:
        """The job, once it has ended."""

    async def get(self, job_id: str) -> Snapshot:
        """The job as it stands."""

    async def cancel(self, job_id: str) -> Snapshot:
        """Cancel the job."""


class JobHandle(Generic[R_co]):
    """A submitted job.

    Attributes:
        id: the job's id, good for the HTTP routes too.
    """

    def __init__(self, door: Door, job_id: str, returns: Any) -> None:
        self.id = job_id
        self._door = door
        self._returns = returns

    async def result(self) -> R_co:
        """Wait for the result, given the type that the function's annotation says.

        A file is its path, and is there as long as the job is kept.

        Raises:
            JobFailed: the job failed or was cancelled.
            AioqueueError: it was a generator's, and the log did not hold all that it yielded.
        """
        snapshot = await self._door.settled(self.id)
        if snapshot.state is not JobState.SUCCEEDED:
            problem = snapshot.error or _cancelled(snapshot.reason).to_json()
            raise JobFailed(orjson.loads(problem), snapshot.state.value)
        result = snapshot.result or Content(b"null")
        if result.path is not None:
            path = Path(result.path)
            if result.is_file:
                return typing.cast(R_co, path)
            result = attrs.evolve(result, path=None, body=await in_thread(path.read_bytes))
        if not result.is_value:
            return typing.cast(R_co, result.body)
        if result.truncated:
            raise AioqueueError(
                f"job {self.id} yielded more than its log holds: take its outputs from events() "
                "as they come, or raise max_log_events or max_log_bytes."
            )
        value = orjson.loads(result.body)
        if self._returns in (Any, None, inspect.Signature.empty):
            return typing.cast(R_co, value)
        return typing.cast(R_co, JSON.structure(value, self._returns))

    def events(self) -> AsyncIterator[Mapping[str, Any]]:
        """Each event of the job as it comes, until the terminal one.

        They are the dicts that a client gets as JSON: ``started``, ``output``, ``log``,
        ``progress`` (the newest only, ten a second at most), and how it ended.
        """
        return self._door.events(self.id)

    async def state(self) -> str:
        """``queued``, ``running``, ``succeeded``, ``failed`` or ``cancelled``."""
        return (await self._door.get(self.id)).state.value

    async def cancel(self) -> str:
        """Cancel the job, and answer the state it is then in."""
        return (await self._door.cancel(self.id)).state.value

    def __repr__(self) -> str:
        return f"<JobHandle {self.id}>"


def _cancelled(reason: str | None) -> Problem:
    if reason == "shutdown":
        return Problem.of("lost_on_shutdown", "The server shut down before the job ended.")
    return Problem.of("job_cancelled", f"The job was cancelled ({reason or 'by itself'}).")
