"""The real clients where no twin can tell: what happens inside, and what Gradio's does not do."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest
from aiohttp import web

import aioqueue
import aioqueue.gradio
from aioqueue import Job
from tests.gradio.playing import FOLDER, missing
from tests.stage import Stage, until

CLIENTS = ["python", "javascript"]

PRELUDES = {
    "python": """
import json, sys, threading, time
from concurrent.futures import CancelledError
from gradio_client import Client

client = Client(sys.argv[1], verbose=False, analytics_enabled=False)

def submit(argument, until=None, name="play"):
    job = client.submit(argument, api_name="/" + name)
    while until and job.status().code.value != until:
        assert not job.done(), outcome(job)
        time.sleep(0.01)
    return job

def outcome(job):
    try:
        return job.result(20)
    except (Exception, CancelledError) as error:
        return f"{type(error).__name__}: {error}"

def say(value):
    print(json.dumps(value), flush=True)

def stay():
    threading.Event().wait()
""",
    "javascript": """
import { Client } from "@gradio/client";

const client = await Client.connect(process.argv.at(-1), { events: ["data", "status"] });

function submit(argument, name = "play") {
  const job = client.submit("/" + name, [argument]);
  return new Promise((told) => {
    const submitted = { cancel: job.cancel, outcome: follow(job, () => told(submitted)) };
  });
}

async function follow(job, begins) {
  let outcome = null;
  for await (const event of job) {
    if (event.size !== undefined) begins();
    if (event.type === "data") outcome = event.data[0];
    if (event.stage === "error") outcome = `Error: ${event.message}`;
  }
  return outcome;
}

const say = (value) => console.log(JSON.stringify(value));
const stay = () => new Promise((resolve) => setTimeout(resolve, 1e6));
""",
}
COMMANDS = {
    "python": (sys.executable, "-c"),
    "javascript": ("node", "--input-type=module", "--eval"),
}


class Program:
    """A program that uses a client, and says something now and then."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def hear(self) -> Any:
        """What it says next."""
        assert self.process.stdout
        async with asyncio.timeout(20):
            line = await self.process.stdout.readline()
        assert line, "the program has ended"
        return orjson.loads(line)

    async def end(self) -> int:
        """Wait until it has ended by itself; answers with what code."""
        async with asyncio.timeout(20):
            return await self.process.wait()


Run = Callable[[str, str, dict[str, str]], Awaitable[Program]]


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """Run programs with a client; those that have not ended are killed."""
    started: list[Process] = []

    async def run(client: str, url: str, sources: dict[str, str]) -> Program:
        if reason := missing(client):
            pytest.skip(reason)
        source = PRELUDES[client] + sources[client]
        # Node looks for packages where the program stands.
        process = await asyncio.create_subprocess_exec(
            *COMMANDS[client], source, url, cwd=FOLDER, stdout=PIPE
        )
        started.append(process)
        return Program(process)

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def app_of(*functions: Any, **settings: Any) -> web.Application:
    """An app that Gradio's clients can use."""
    app = web.Application()
    aioqueue.setup(app, functions=functions, **{"drain_timeout": 0, **settings})
    aioqueue.gradio.setup(app)
    return app


def player(stage: Stage, **options: Any) -> Any:
    """A function that plays a part on a stage."""

    @aioqueue.queued(**options)
    async def play(part: str) -> str:
        await stage.play(part)
        return f"{part} was played"

    return play


@pytest.mark.parametrize("client", CLIENTS)
async def test_killed(serve: Any, stage: Stage, run: Run, client: str) -> None:
    """What a killed client has left is cancelled, and another that comes is served."""
    url = await serve(app_of(player(stage), on_disconnect="cancel"))
    leave_two = {
        "python": """
jobs = submit("running", "PROCESSING"), submit("waiting", "IN_QUEUE")
say("submitted")
stay()
""",
        "javascript": """
await submit("running");
await submit("waiting");
say("submitted");
await stay();
""",
    }
    submit_one = {
        "python": "say(outcome(submit('next')))",
        "javascript": "say(await (await submit('next')).outcome);",
    }
    program = await run(client, url, leave_two)
    await program.hear()
    program.process.kill()
    await until(lambda: not stage.running["running"])
    stage.end("next")

    assert await (await run(client, url, submit_one)).hear() == "next was played"
    assert stage.begun == ["running", "next"]


@pytest.mark.parametrize("client", CLIENTS)
async def test_cancelled(serve: Any, stage: Stage, run: Run, client: str) -> None:
    """Cancelling one that waits and one that runs ends these, and no other of the same client."""
    url = await serve(app_of(player(stage, concurrency_limit=2)))
    sources = {
        "python": """
kept, running = submit("kept", "PROCESSING"), submit("running", "PROCESSING")
waiting = submit("waiting", "IN_QUEUE")
waiting.cancel()
running.cancel()
say([outcome(waiting), outcome(running)])
say([list(waiting), list(running), outcome(submit("next"))])
say(outcome(kept))
""",
        "javascript": """
const [kept, running, waiting] = [
  await submit("kept"), await submit("running"), await submit("waiting")
];
await waiting.cancel();
await running.cancel();
say([await waiting.outcome, await running.outcome]);
say([[], [], await (await submit("next")).outcome]);
say(await kept.outcome);
""",
    }
    error = {"python": "AppError", "javascript": "Error"}[client]
    program = await run(client, url, sources)

    assert await program.hear() == [f"{error}: Job cancelled"] * 2
    assert stage.running == {"kept": 1, "running": 0}
    stage.end("next")
    assert await program.hear() == [[], [], "next was played"]
    stage.end("kept")
    assert await program.hear() == "kept was played"
    assert await program.end() == 0


@pytest.mark.one_loop
async def test_thread_is_cancelled(serve: Any, run: Run) -> None:
    """A `def` that looks at its job notices a cancel, and the next one runs."""
    noticed = []

    @aioqueue.queued
    def play(part: str, job: Job = aioqueue.JOB) -> str:
        while part == "first" and not job.cancelled:
            time.sleep(0.001)
        noticed.append(job.cancelled)
        return part

    sources = {
        "python": """
job = submit("first", "PROCESSING")
job.cancel()
say(outcome(submit("next")))
"""
    }
    url = await serve(app_of(play))

    assert await (await run("python", url, sources)).hear() == "next"
    assert noticed == [True, False]


@pytest.mark.one_loop
@pytest.mark.parametrize("client", CLIENTS)
async def test_many(serve: Any, run: Run, client: str) -> None:
    """Of a hundred jobs at once each has its own result, and no more run than may.

    Of Gradio's own server some get none now and then, where a stream ends and another opens.
    """
    running: set[int] = set()
    most = 0

    @aioqueue.queued(concurrency_limit=3)
    async def play(part: int) -> int:
        nonlocal most
        running.add(part)
        most = max(most, len(running))
        await asyncio.sleep(0.002)
        running.discard(part)
        return part

    sources = {
        "python": "say([outcome(job) for job in [submit(part) for part in range(100)]])",
        "javascript": """
const parts = Array.from({ length: 100 }, (_, part) => part);
say(await Promise.all(parts.map(async (part) => (await submit(part)).outcome)));
""",
    }
    program = await run(client, await serve(app_of(play)), sources)

    assert await program.hear() == list(range(100))
    assert most == 3
    assert await program.end() == 0


@pytest.mark.one_loop
@pytest.mark.parametrize("client", CLIENTS)
async def test_server_stops(server_process: Any, run: Run, client: str) -> None:
    """When the server stops, clients are told what becomes of each job, and end."""
    env = {"AIOQUEUE_DRAIN_TIMEOUT": "0.5"}
    server = await server_process("tests.gradio.queued_app", env=env)
    sources = {
        "python": """
jobs = [submit(30, "PROCESSING", "slow"), submit(30, "IN_QUEUE", "slow")]
say("submitted")
say([outcome(job) for job in jobs])
""",
        "javascript": """
const jobs = [await submit(30, "slow"), await submit(30, "slow")];
say("submitted");
say([await jobs[0].outcome, await jobs[1].outcome]);
""",
    }
    program = await run(client, server.url, sources)
    await program.hear()
    server.process.terminate()

    for told in await program.hear():
        assert "Error: The server" in told
    assert await program.end() == 0


@pytest.mark.one_loop
@pytest.mark.parametrize("client", CLIENTS)
async def test_yielded_values_stay(serve: Any, run: Run, client: str) -> None:
    """What a client has been handed is not changed by what comes after it.

    `@gradio/client` applies an edit inside a value to the very object that it has handed out.
    """
    values = [{"items": [*range(end)]} for end in range(4)]

    @aioqueue.queued
    async def play(part: int) -> AsyncIterator[dict[str, list[int]]]:
        for value in values:
            yield value

    sources = {
        "python": """
jobs = [submit(part) for part in range(20)]
for job in jobs:
    outcome(job)
say([list(job) for job in jobs])
""",
        "javascript": """
const told = [];
for (let part = 0; part < 20; part++) {
  told.push([]);
  for await (const event of client.submit("/play", [part])) {
    if (event.type === "data") told[part].push(structuredClone(event.data[0]));
  }
  told[part].pop(); // the last one comes twice
}
say(told);
""",
    }
    program = await run(client, await serve(app_of(play)), sources)

    assert await program.hear() == [values] * 20
