"""The app of `real_app.py` without Gradio, for the same clients: `python queued_app.py`.

PORT says where it listens.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from aiohttp import web

import aioqueue
import aioqueue.gradio
from aioqueue import Job, JobError, Upload


@aioqueue.queued
def add(a: float, b: float = 2) -> float:
    """Add two numbers."""
    return a + b


@aioqueue.queued
def greet(name: str, loud: bool = False) -> str:
    """Greet somebody."""
    greeting = f"Hello, {name}!"
    return greeting.upper() if loud else greeting


@aioqueue.queued
def divide(number: int, by: int) -> tuple[int, int]:
    """Divide, with a remainder."""
    return divmod(number, by)


@aioqueue.queued
def nothing() -> None:
    """Do nothing."""


@aioqueue.queued
def echo_json(value: dict) -> dict:
    """Give a value back."""
    return value


@aioqueue.queued
def choose(colour: Literal["red", "green"]) -> str:
    """Choose one of two colours."""
    return f"You chose {colour}."


@aioqueue.queued
def half(number: int) -> float:
    """Halve a whole number."""
    return number / 2


@aioqueue.queued
def spell(word: str) -> Iterator[str]:
    """Spell a word, letter by letter."""
    for end in range(1, len(word) + 1):
        yield word[:end]


@aioqueue.queued
def grow() -> Iterator[dict]:
    """Change a value step by step, in all ways that a value can change."""
    yield {"items": [0], "n": 0}
    yield {"items": [0, 1], "n": 1}
    yield {"items": [1], "n": 1, "words": {"last": "he"}}
    yield {"items": [1], "n": 1, "words": {"last": "hello", "all": [None, True]}}
    yield {"items": [1], "n": 1, "words": {"last": "hello", "all": [None, True]}}
    yield {"items": "none"}


@aioqueue.queued
def broken(message: str) -> str:
    """Fail, with words for the caller."""
    raise JobError(message)


@aioqueue.queued
def broken_midway() -> Iterator[int]:
    """Fail after two values."""
    yield 1
    yield 2
    raise JobError("The third is missing.")


@aioqueue.queued
def notes(job: Job = aioqueue.JOB) -> str:
    """Say something on the way."""
    job.log("The picture is small.")
    job.log("The picture is dark.", "warning")
    return "done"


@aioqueue.queued
def steps(count: int, job: Job = aioqueue.JOB) -> str:
    """Work in steps."""
    for step in range(count):
        job.progress(step, count, f"step {step}")
        time.sleep(0.3)
    return "done"


running = 0


@aioqueue.queued(concurrency_limit=3)
async def crowded(number: int) -> str:
    """Tell how many of these run at once."""
    global running
    running += 1
    at_once = running
    await asyncio.sleep(0.02)
    running -= 1
    return f"{number}/{at_once}"


@aioqueue.queued(concurrency_id="gate", on_disconnect="cancel")
async def slow(seconds: float) -> str:
    """Hold up all that goes through the gate for some time."""
    await asyncio.sleep(seconds)
    return f"waited {seconds} s"


gate = asyncio.Event()


@aioqueue.queued(concurrency_id="gate")
async def hold() -> str:
    """Hold it up until somebody calls `release`."""
    gate.clear()
    await gate.wait()
    return "released"


@aioqueue.queued(concurrency_id="gate", max_size=2)
async def go_through(name: str) -> str:
    """Go through the gate, where two may wait."""
    return f"{name} went through"


@aioqueue.queued
async def release() -> None:
    """Let the one that holds up the others end."""
    gate.set()


@aioqueue.queued(batch=True, max_batch_size=4, concurrency_id="gate")
def lengths(words: list[str]) -> list[str]:
    """Measure words, all that wait at once."""
    return [f"{word}: {len(word)}, {len(words)} at once" for word in words]


@aioqueue.queued
def shout(file: Upload, job: Job = aioqueue.JOB) -> Path:
    """Make a text file loud."""
    loud = job.directory / "loud.txt"
    loud.write_text(file.path.read_text().upper())
    return loud


@aioqueue.queued
def join_files(files: list[Upload]) -> str:
    """Put text files together."""
    return "".join(file.path.read_text() for file in files)


@aioqueue.queued
def wave() -> str:
    """Have another name for clients."""
    return "o/"


@aioqueue.queued
def secret() -> str:
    """Be no business of theirs."""
    return "You should not have seen this."


app = web.Application()
aioqueue.setup(
    app,
    functions=[
        *(add, greet, divide, nothing, echo_json, choose, half, spell, grow, broken),
        *(broken_midway, notes, steps, crowded, slow, hold, go_through, release, lengths),
        *(shout, join_files, wave, secret),
    ],
)
aioqueue.gradio.setup(app, api_names={"wave": "hello", "secret": False})

if __name__ == "__main__":
    aioqueue.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)
