"""A server of files in and out: `python -m tests.servers.files aiohttp|aioqueue`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

from aiohttp import web

import aioqueue
from aioqueue import Body, Job, Upload

MiB = 1 << 20


@aioqueue.queued
def back(file: Upload) -> Path:
    """Give a form's file back."""
    return file.path


@aioqueue.queued
def whole(data: Annotated[Upload, Body]) -> int:
    """Take a whole body."""
    return data.size


@aioqueue.queued
def in_memory(data: Annotated[bytes, Body]) -> int:
    """Take a whole body into memory."""
    return len(data)


@aioqueue.queued
def made(size: int, job: Job = aioqueue.JOB) -> Path:
    """Write a file."""
    path = job.directory / "made"
    with path.open("wb") as file:
        for _ in range(size // MiB):
            file.write(b"x" * MiB)
    return path


@aioqueue.queued
async def tiny() -> int:
    """Do nothing."""
    return 1


@aioqueue.queued
def held(file: Upload) -> None:
    """Hold a file for longer than any test takes."""
    time.sleep(60)


app = web.Application(client_max_size=1 << 30)
for function in (back, whole, in_memory, made, tiny, held):
    app.router.add_post(f"/{function.name}", function)
aioqueue.setup(app, drain_timeout=0)

if __name__ == "__main__":
    run_app = aioqueue.run_app if sys.argv[1] == "aioqueue" else web.run_app
    run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)
