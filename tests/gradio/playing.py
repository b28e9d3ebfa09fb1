"""Runs the programs of the clients, and gathers what they print."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RECORDED = FOLDER / "recorded"

PROGRAMS = {
    "python": (sys.executable, FOLDER / "client.py"),
    "javascript": ("node", FOLDER / "client.mjs"),
    "curl": (sys.executable, FOLDER / "curl.py"),
}
"""The command of each client."""

_OF_CLIENTS = (
    *("predict", "shapes", "iterate", "crowd", "two_clients", "progress", "logs", "errors"),
    *("validation", "files", "batch", "view_api", "many", "cancel_waiting", "cancel_running"),
)
TOGETHER = {
    "python": _OF_CLIENTS,
    "javascript": _OF_CLIENTS,
    "curl": ("call", "call_by_name", "failures", "late", "files"),
}
"""The scenarios that one process can play, one after the other."""


def missing(client: str) -> str | None:
    """What this machine lacks to run a client, and how to get it."""
    if client != "javascript":
        return None
    if shutil.which("node") is None:
        return "Node is not installed: make system-deps"
    if not (FOLDER / "node_modules" / "@gradio" / "client").exists():
        return (
            "@gradio/client is not installed: make test does it, with the npm of make system-deps"
        )
    return None


@asynccontextmanager
async def program(client: str, url: str, *scenarios: str) -> AsyncIterator[Process]:
    """A client that plays these scenarios; it is killed if it has not ended by then."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAMS[client], url, *scenarios, stdout=PIPE, stderr=PIPE, limit=1 << 20
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def play(client: str, url: str, *scenarios: str) -> dict[str, Any]:
    """Play scenarios with a client; answers what it printed, by scenario."""
    async with program(client, url, *scenarios) as process:
        output, complaints = await process.communicate()
    assert process.returncode == 0, f"{client}: {complaints.decode()}"
    return dict(_document(line, url) for line in output.splitlines())


async def play_first(client: str, url: str, scenario: str) -> Any:
    """Play a scenario with a client that is killed (SIGKILL) as soon as it has printed it."""
    async with program(client, url, scenario) as process:
        assert process.stdout
        if not (line := await process.stdout.readline()):
            _, complaints = await process.communicate()
            raise AssertionError(f"{client}: {complaints.decode()}")
        return _document(line, url)[1]


async def play_all(client: str, url: str, url_of_narrow: str) -> dict[str, Any]:
    """All that a client prints of a server; how narrow its queue is may need another."""
    told = await play(client, url, *TOGETHER[client])
    told |= await play(client, url_of_narrow, "queue_full")
    if client != "curl":
        # With Gradio's server it waits for ever for the one that runs.
        told["cancel_sibling"] = await play_first(client, url, "cancel_sibling")
        await play_first(client, url, "held")
        told |= await play(client, url, "back")
    return told


def _document(line: bytes, url: str) -> tuple[str, Any]:
    """A scenario and what was printed of it, without what each server has another of."""
    text = line.decode().replace(url, "http://server")
    text = re.sub(r"(?<=error id )[0-9a-f]{8}", "…", text)
    said = json.loads(text)
    return said["scenario"], said["document"]
