"""The same calls to Gradio's server and to ours print the same, but for what is listed here.

What clients see of Gradio's is in `recorded`; `python -m tests.gradio.record` records it anew.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.gradio.differences import DIFFERENCES
from tests.gradio.playing import PROGRAMS, RECORDED, missing, play_all
from tests.processes import server_process

THEIRS = {client: json.loads((RECORDED / f"{client}.json").read_text()) for client in PROGRAMS}
TWINS = [(client, scenario) for client in PROGRAMS for scenario in THEIRS[client]]
NOTHING = "<nothing>"


@pytest.fixture(scope="module")
def ours(free_tcp_port_factory: Callable[[], int]) -> dict[str, dict[str, Any]]:
    """What all clients see of our server; each has one of its own, and they play at once."""

    async def play(client: str) -> dict[str, Any]:
        if missing(client):
            return {}
        port = free_tcp_port_factory()
        async with server_process("tests.gradio.queued_app", port=port) as server:
            return await play_all(client, server.url, server.url)

    async def play_at_once() -> list[dict[str, Any]]:
        return await asyncio.gather(*map(play, PROGRAMS))

    return dict(zip(PROGRAMS, asyncio.run(play_at_once()), strict=True))


def differences(theirs: Any, ours: Any, path: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The places where two documents differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in theirs | ours:
            pair = theirs.get(key, NOTHING), ours.get(key, NOTHING)
            yield from differences(*pair, f"{path}/{key}")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for index, pair in enumerate(zip(theirs, ours, strict=True)):
            yield from differences(*pair, f"{path}/{index}")
    elif json.dumps(theirs) != json.dumps(ours):  # which tells 1 from 1.0 and from true
        yield path, (theirs, ours)


@pytest.mark.parametrize(("client", "scenario"), TWINS)
def test_twins(ours: Any, client: str, scenario: str) -> None:
    """What a client prints of ours differs as listed from what it prints of Gradio's, or not."""
    if reason := missing(client):
        pytest.skip(reason)
    path = f"{client}/{scenario}"
    pair = THEIRS[client][scenario], ours[client].get(scenario, NOTHING)

    assert dict(differences(*pair, path)) == {
        place: listed
        for places in DIFFERENCES.values()
        for place, listed in places.items()
        if f"{place}/".startswith(f"{path}/")
    }


def test_nothing_else_is_listed() -> None:
    """Each listed difference is about a scenario that was recorded, and is listed once."""
    listed = [place for places in DIFFERENCES.values() for place in places]

    assert len(listed) == len(set(listed))
    assert {tuple(place.split("/")[:2]) for place in listed} <= set(TWINS)
