"""Processes that are killed at random moments, and what is left of that: nothing.

    python -m tests.storm --kills 1000 --seed 1

Clients start jobs of all kinds in two processes, which are killed from outside, by a DELETE or by a
time limit.  At the end each job must have exactly one end, and the server must have no process,
thread, file descriptor, file or shared memory that it did not have before.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import random
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import attrs
from aiohttp import web

import aioqueue
from aioqueue._eventlog import ended
from aioqueue._job import BEGINNING
from aioqueue.web import _RUNTIME
from tests import heavy
from tests.quick import start_quickly

CLIENTS = 5
PROCESSES = 2
PATIENCE = 60
TERMINAL = ("succeeded", "failed", "cancelled")

HOGS = (*heavy.HOGS, heavy.with_files, heavy.polite, heavy.give_what_there_is)
BATCHES = (heavy.batch_spin, heavy.batch_look)
BRIEF: Mapping[Any, Mapping[str, Any]] = {
    heavy.echo: {"text": "x" * 100_000},
    heavy.double: {"text": "x" * 300_000},
    heavy.say: {"text": "a"},
    heavy.count: {"to": 500, "width": 2000},
    heavy.burn: {"seconds": 0.1},
    heavy.end_by: {"how": "SIGSEGV"},
}

ENVIRONMENT = "AIOQUEUE_TEST_STORM"
"""The variable by which processes are known as ours, whoever their parent is."""


@attrs.frozen
class Belongings:
    """What a process has."""

    threads: int
    descriptors: Sequence[str]
    processes: Sequence[str]
    shared_memory: frozenset[str]
    files: Sequence[str]

    @classmethod
    def now(cls, token: str, directory: Path) -> Belongings:
        """What this one has."""
        return cls(
            threading.active_count(),
            sorted(_descriptors()),
            sorted(command for pid, command in _processes(token)),
            frozenset(os.listdir("/dev/shm")),
            sorted(str(path) for path in directory.rglob("*")),
        )


def _descriptors() -> Iterator[str]:
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            kind = os.readlink(f"/proc/self/fd/{number}")
            yield kind.partition(":")[0] if ":" in kind else kind  # a pipe like any other pipe


def _processes(token: str) -> Iterator[tuple[int, str]]:
    """Every process that has begun in this one, or in one that did."""
    tracker = multiprocessing.resource_tracker._resource_tracker._pid
    known = os.getpid(), tracker, multiprocessing.forkserver._forkserver._forkserver_pid
    mark = f"{ENVIRONMENT}={token}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        pid = int(path.name)
        with suppress(OSError):
            is_ours = mark in (path / "environ").read_bytes()
            state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            is_dead_child = state == "Z" and int(parent) == os.getpid()
            if pid not in known and (is_ours or is_dead_child):
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()[-60:]
                yield pid, command or "a zombie"


class Storm:
    """Clients, and what they do to their jobs."""

    def __init__(self, kills: int, seed: int, directory: Path, token: str) -> None:
        self.wanted = kills
        self.kills: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.processes: set[str] = set()
        """Those that were seen at work."""
        self.wrong: list[str] = []
        self._random = random.Random(seed)
        self._directory = directory
        self._token = token
        self._jobs: dict[str, str] = {}
        self._told: Counter[str] = Counter()

    def app(self) -> web.Application:
        """The app, with and without time limits."""
        app = web.Application(client_max_size=1 << 20)
        for function in (*HOGS, *BATCHES, *BRIEF):
            for time_limit in (None, 0.15):
                queued = aioqueue.queued(
                    name=f"{function.__name__}-{time_limit}",
                    executor="process",
                    concurrency_limit=None,
                    time_limit=time_limit,
                    kill_timeout=0.15,
                    **({"batch": True, "batch_timeout": 0.02} if function in BATCHES else {}),
                )(function)
                app.router.add_post(f"/{queued.name}", queued)
        aioqueue.setup(
            app,
            max_processes=PROCESSES,
            max_jobs_per_process=20,
            drain_timeout=0,
            result_ttl=86_400,  # the jobs are judged at the end
            max_results=100_000,
            on_finish=lambda job: self._told.update([job.id]),
            spool_dir=self._directory,
        )
        return app

    async def blow(self) -> None:
        """Serve the app, and let the storm go over it."""
        runner = web.AppRunner(self.app(), shutdown_timeout=1)
        await runner.setup()
        (runtime,) = runner.app[_RUNTIME]
        self._engine = runtime._engine
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with aiohttp.ClientSession() as self._http:
                async with asyncio.TaskGroup() as group:
                    for _ in range(CLIENTS):
                        group.create_task(self._be_a_client())
                    group.create_task(self._tell())
                await self._judge()
        finally:
            await runner.cleanup()

    # What clients do

    async def _be_a_client(self) -> None:
        while self.kills.total() < self.wanted:
            limited = self._random.random() < 0.25
            where = self._directory / f"job-{secrets.token_hex(4)}"
            function = self._random.choice(HOGS + BATCHES)
            body: Any = {"where": str(where)}
            if self._random.random() < 0.2:
                function = self._random.choice(list(BRIEF))
                body = BRIEF[function]
            job_id = await self._start(f"{function.__name__}-{0.15 if limited else None}", body)
            if function not in BRIEF or self._random.random() < 0.5:
                await self._choose_a_moment(job_id, where)
                await self._end(job_id)
            await self._has_ended(job_id)
            if where.exists():
                self.processes.add(where.read_text().split()[0])

    async def _start(self, name: str, body: Any) -> str:
        async with self._http.post(f"{self._url}/{name}", json=body) as response:
            assert response.status == 202, await response.text()
            job_id: str = (await response.json())["id"]
        self._jobs[job_id] = name
        return job_id

    async def _choose_a_moment(self, job_id: str, where: Path) -> None:
        """While it waits, while it begins, or while it runs."""
        chance = self._random.random()
        while not (state := (await self._engine.get(job_id)).state).terminal:
            if chance < 0.1 or (chance < 0.2 and state == "running") or where.exists():
                break
            await asyncio.sleep(0.005)
        await asyncio.sleep(self._random.random() ** 2 * 0.2)

    async def _end(self, job_id: str) -> None:
        if self._random.random() < 0.5:
            await self._kill_somebody()
            with suppress(TimeoutError):  # it may be another one that was hit
                await asyncio.wait_for(ended(self._engine, [job_id]), self._random.random() * 0.1)
        state = (await self._engine.get(job_id)).state
        if state.terminal:
            return
        self.kills["DELETE"] += state == "running"
        async with self._http.delete(f"{self._url}/queue/jobs/{job_id}") as response:
            assert response.status in (200, 202), await response.text()

    async def _kill_somebody(self) -> None:
        """As the system does, whose memory is full: in whatever state the process is."""
        found = await asyncio.to_thread(lambda: [pid for pid, _ in _processes(self._token)])
        if found:
            with suppress(ProcessLookupError):
                os.kill(self._random.choice(found), signal.SIGKILL)
                self.kills["SIGKILL"] += 1

    async def _has_ended(self, job_id: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await ended(self._engine, [job_id])
        except TimeoutError:
            self.wrong.append(f"{self._jobs[job_id]} did not end")
            raise
        error = (await self._engine.get(job_id)).error
        self.kills["time limit"] += error is not None and b"job_timeout" in error

    async def _tell(self) -> None:
        begun = time.monotonic()
        while self.kills.total() < self.wanted:
            _say(f"{self.kills.total():5} of {self.wanted} kills, {len(self._jobs)} jobs, "
                 f"{time.monotonic() - begun:.0f} s")  # fmt: skip
            await asyncio.sleep(1)

    # What has become of the jobs

    async def _judge(self) -> None:
        for name in ("echo-None", "burn-None"):  # it works as ever
            # The last to be killed may have been idle, and be found dead by a job they are given.
            for _ in range(3):
                job_id = await self._start(name, BRIEF[getattr(heavy, name.partition("-")[0])])
                await self._has_ended(job_id)
                snapshot = await self._engine.get(job_id)
                if b"worker_lost" not in (snapshot.error or b""):
                    break
            if snapshot.state != "succeeded":
                self.wrong.append(f"{name} failed after the storm")
        await asyncio.sleep(0.1)  # the hooks are told beside the queue
        for job_id, name in self._jobs.items():
            page = await self._engine.events(job_id, BEGINNING)
            types = [event.type for event in page.events]
            if types.count(types[-1]) != 1 or [one in TERMINAL for one in types].count(True) != 1:
                self.wrong.append(f"{name} has the events {types[-5:]}")
            if self._told[job_id] != 1:
                self.wrong.append(f"{name}: its hook was told {self._told[job_id]} times")
            code = page.events[-1].data.partition(b'"code":"')[2].partition(b'"')[0].decode()
            self.ends[f"{types[-1]} {code}".strip()] += 1


def _say(text: str) -> None:
    print(f"\r{text}", end="" if sys.stdout.isatty() else "\n", flush=True)


async def _run(storm: Storm) -> None:
    async with asyncio.timeout(10 + storm.wanted * 3):
        await storm.blow()


def main(kills: int, seed: int) -> int:
    """Answers how much was wrong."""
    token = os.environ[ENVIRONMENT] = secrets.token_hex(8)
    logging.getLogger("aioqueue").addHandler(logging.NullHandler())
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="storm-") as name:
        multiprocessing.util.get_temp_dir()  # not ours, so not in there
        directory = Path(name)
        os.environ["TMPDIR"] = tempfile.tempdir = name
        asyncio.run(_run(Storm(1, seed, directory, token)))  # what is only started once
        for path in directory.glob("job-*"):
            path.unlink()
        before = Belongings.now(token, directory)
        storm = Storm(kills, seed, directory, token)
        asyncio.run(_run(storm))
        for path in directory.glob("job-*"):  # they are of the functions themselves
            path.unlink()
        after = Belongings.now(token, directory)
        faults += storm.wrong
        for field in attrs.fields(Belongings):
            had, has = getattr(before, field.name), getattr(after, field.name)
            if had != has:
                faults.append(f"{field.name}: {had} before, {has} after")
    print(f"\nkills: {dict(storm.kills)}, {len(storm.processes)} processes seen at work")
    print(f"ends of {storm.ends.total()} jobs: {dict(storm.ends)}\n{after}")
    print("\n".join(["wrong:", *faults]) if faults else "nothing is left, each job has one end")
    return len(faults)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="take processes from a fork server")
    arguments = parser.parse_args()
    if arguments.quick:
        start_quickly()
    sys.exit(min(1, main(arguments.kills, arguments.seed)))
