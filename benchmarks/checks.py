"""What a crowd saw, read after the fact: positions that only fall, and first come first served."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import orjson

from benchmarks.load import Response, keep_busy, request_bytes

CONNECTIONS = 32
PATIENCE = 120.0


def parse_events(body: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the data of each event of a stream with LF and one line of data."""
    for block in body.split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
        if b"event" in fields:
            yield fields[b"event"].decode(), orjson.loads(fields[b"data"])


def count_risen(bodies: list[bytes]) -> int:
    """Return how many users saw their position rise at least once."""
    return sum(_rises(body) for body in bodies)


async def jobs_of(bodies: list[bytes], port: int) -> list[dict[str, Any]]:
    """Fetch the job of each stream, as the server remembers it."""
    jobs: list[dict[str, Any]] = []

    def add(response: Response) -> None:
        """Keep the job; one whose record was dropped already cannot be judged."""
        if response.status == 200:
            jobs.append(orjson.loads(response.body()))

    requests = (request_bytes("GET", _state(body)["links"]["self"]) for body in bodies)
    await keep_busy(port, requests, CONNECTIONS, add, PATIENCE)
    return jobs


def count_out_of_order(jobs: list[dict[str, Any]]) -> int:
    """Return how many jobs started before one that was created earlier.

    The times are UTC in milliseconds, so text compares as time does; jobs of the same millisecond
    may start in any order.
    """
    count = 0
    latest_start = latest_start_before = ""
    created = ""
    for job in sorted(jobs, key=lambda job: job["created"]):
        if job["created"] != created:
            created, latest_start_before = job["created"], latest_start
        count += job["started"] < latest_start_before
        latest_start = max(latest_start, job["started"])
    return count


def _state(body: bytes) -> dict[str, Any]:
    """Return the state that opens a stream."""
    name, data = next(parse_events(body), ("", {}))
    if name != "state":
        raise ValueError(f"a stream that does not open with its state: {body[:500]!r}")
    return data


def _rises(body: bytes) -> bool:
    positions = [
        data["position"]
        for name, data in parse_events(body)
        if name in ("state", "position") and data["position"] is not None
    ]
    return any(later > earlier for earlier, later in pairwise(positions))
