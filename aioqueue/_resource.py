"""The job as clients see it: one JSON object, the same in every answer and ``state`` event."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import attrs
import orjson

from ._admission import Estimate
from ._job import JobState, Snapshot

__all__ = ["Links", "job_resource", "timestamp"]

_MILLISECONDS = [f".{number:03d}Z" for number in range(1000)]
"""How timestamps end: each job has four, and to format them was most of what its JSON cost."""


@attrs.frozen(slots=True)
class Links:
    """Where the routes of a job are: path-absolute, so they survive any proxy that keeps paths."""

    prefix: str

    def job(self, job_id: str) -> str:
        """The job itself."""
        return f"{self.prefix}/jobs/{job_id}"

    def events(self, job_id: str) -> str:
        """Its event stream."""
        return f"{self.prefix}/jobs/{job_id}/events"

    def result(self, job_id: str) -> str:
        """Its bare result."""
        return f"{self.prefix}/jobs/{job_id}/result"


def timestamp(seconds: float | None) -> str | None:
    """A time in UTC with milliseconds, as RFC 3339 writes it."""
    if seconds is None:
        return None
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return _second(whole) + _MILLISECONDS[milliseconds]


@lru_cache(maxsize=64)
def _second(whole: int) -> str:
    # A job's times, and those of jobs around it, mostly fall into the same few seconds.
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


def _raw(json: bytes | None) -> Any:
    return None if json is None else orjson.Fragment(json)


def job_resource(
    snapshot: Snapshot,
    estimate: Estimate,
    links: Links,
    *,
    with_result: bool = True,
    max_event_bytes: int = 1 << 20,
) -> bytes:
    """The job as JSON."""
    job_id = snapshot.record.id
    result = snapshot.result if with_result else None
    is_told = result is None or result.is_told(max_event_bytes)
    document: dict[str, Any] = {
        "id": job_id,
        "function": snapshot.record.function,
        "state": str(snapshot.state),
        "position": estimate.position,
        "held": snapshot.state is JobState.QUEUED and estimate.position is None,
        "queue_size": estimate.queue_size,
        "eta": estimate.eta,
        "eta_high": estimate.eta_high,
        "progress": _raw(snapshot.progress),
        "cancel_requested": snapshot.cancel_requested,
        "created": timestamp(snapshot.created),
        "started": timestamp(snapshot.started),
        "finished": timestamp(snapshot.finished),
        "expires": timestamp(snapshot.expires),
        "result": _raw(result.body) if result is not None and is_told else None,
        "error": _raw(snapshot.error),
        "links": {
            "self": links.job(job_id),
            "events": links.events(job_id),
            "result": links.result(job_id),
        },
    }
    if result is not None and result.truncated:
        document["truncated"] = True
    if result is not None and not is_told:
        document["file"] = result.file
    if snapshot.state is JobState.CANCELLED:
        document["reason"] = snapshot.reason
    return orjson.dumps(document)
