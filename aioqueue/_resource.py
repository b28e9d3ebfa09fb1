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

    def all(self, job_id: str) -> orjson.Fragment:
        """All of them, as JSON."""
        job = self.job(job_id)
        return orjson.Fragment(
            f'{{"self":"{job}","events":"{job}/events","result":"{job}/result"}}'
        )


def timestamp(seconds: float | None) -> str | None:
    """A time in UTC with milliseconds, as RFC 3339 writes it."""
    return None if seconds is None else _millisecond(round(seconds * 1000))


@lru_cache(maxsize=256)
def _millisecond(number: int) -> str:
    # A quick job's times are mostly the same, and it has four of them.
    return f"{_second(number // 1000)}.{number % 1000:03d}Z"


@lru_cache(maxsize=64)
def _second(whole: int) -> str:
    # Those of jobs around it mostly fall into the same few seconds.
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


def job_resource(
    snapshot: Snapshot,
    estimate: Estimate,
    links: Links,
    *,
    with_result: bool = True,
    max_event_bytes: int = 1 << 20,
) -> bytes:
    """The job as JSON."""
    record, state = snapshot.record, snapshot.state
    progress, error = snapshot.progress, snapshot.error
    result = snapshot.result if with_result else None
    is_told = result is None or result.is_told(max_event_bytes)
    document: dict[str, Any] = {
        "id": record.id,
        "function": record.function,
        "state": str(state),
        "position": estimate.position,
        "held": state is JobState.QUEUED and estimate.position is None,
        "queue_size": estimate.queue_size,
        "eta": estimate.eta,
        "eta_high": estimate.eta_high,
        "progress": None if progress is None else orjson.Fragment(progress),
        "cancel_requested": snapshot.cancel_requested,
        "created": timestamp(snapshot.created),
        "started": timestamp(snapshot.started),
        "finished": timestamp(snapshot.finished),
        "expires": timestamp(snapshot.expires),
        "result": orjson.Fragment(result.body) if result is not None and is_told else None,
        "error": None if error is None else orjson.Fragment(error),
        "links": links.all(record.id),
    }
    if result is not None and result.truncated:
        document["truncated"] = True
    if result is not None and not is_told:
        document["file"] = result.file
    if state is JobState.CANCELLED:
        document["reason"] = snapshot.reason
    return orjson.dumps(document)
