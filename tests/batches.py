"""Batch functions that a test conducts, and what it does with them."""

from __future__ import annotations

from typing import Any

from aiohttp import web

import aioqueue
from aioqueue import JobFailed, JobHandle, QueuedFunction
from tests.inside import scheduler_of
from tests.stage import Stage

Function = QueuedFunction[..., Any]


def on_the_loop(stage: Stage, name: str = "f", **options: Any) -> Function:
    """An ``async def`` batch function, two jobs at most, that plays the part of its numbers."""

    @aioqueue.queued(name=name, batch=True, **{"max_batch_size": 2, **options})
    async def function(numbers: list[int]) -> list[Any]:
        return await stage.play(tuple(numbers))

    return function


def in_a_thread(stage: Stage, name: str = "f", **options: Any) -> Function:
    """The same as a ``def`` function."""

    @aioqueue.queued(name=name, batch=True, **{"max_batch_size": 2, **options})
    def function(numbers: list[int]) -> list[Any]:
        return stage.play_in_thread(tuple(numbers))

    return function


KINDS = [on_the_loop, in_a_thread]


def engine_of(app: web.Application) -> Any:
    """Its engine."""
    return scheduler_of(app)._engine


async def line_up(app: web.Application, function: Function, *values: Any) -> list[JobHandle[Any]]:
    """Submit jobs that wait for each other, then let them start; a tuple has several arguments."""
    await engine_of(app).set_limit(function.name, 0)
    handles = [
        await function.submit(*value if isinstance(value, tuple) else (value,)) for value in values
    ]
    await engine_of(app).set_limit(function.name, None)
    return handles


async def ends(handles: list[JobHandle[Any]]) -> list[Any]:
    """The results of jobs, or the code of the problem of those that have none."""

    async def end(handle: JobHandle[Any]) -> Any:
        try:
            return await handle.result()
        except JobFailed as failed:
            return failed.problem["code"]

    return [await end(handle) for handle in handles]


async def events(handle: JobHandle[Any], *fields: str) -> list[Any]:
    """A job's events, without progress: each its type and those of these fields that it has."""
    return [
        (event["type"], *(event[field] for field in fields if field in event))
        async for event in handle.events()
        if event["type"] != "progress"
    ]
