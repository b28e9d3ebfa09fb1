"""A job's log, in the messages that Gradio's clients understand.

They are those of the session stream, but for outputs, which have their full values here: what
changed since the last one is the session's business.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from .._job import Content, JobState, Snapshot
from .._spool import in_thread
from .._upload import base_name
from ..engines.base import Engine, EventPage
from ._catalogue import Exposed
from ._types import FILE_META

__all__ = ["JobMessages", "Message", "encoded", "estimation", "failed", "terminal"]

Message = dict[str, Any]

_LEVELS = {"debug": "info", "info": "info", "warning": "warning", "success": "success"}
"""What clients know of how important a line is; what is in no list is an error's."""

_SHOWN_SECONDS = 10

_LARGE = 64 << 10
"""How many bytes of JSON are no longer looked at."""


def estimation(
    job_id: str, position: int | None, queue_size: int | None, eta: float | None
) -> Message:
    """Where a waiting job is; without a position it is held beside the line."""
    return {
        "msg": "estimation",
        "event_id": job_id,
        "rank": None if position is None else position - 1,
        "queue_size": queue_size,
        "rank_eta": eta,
    }


def failed(job_id: str, text: str) -> Message:
    """The end of a job that has no result.  No other field may stand beside the error."""
    error = {"error": text, "duration": _SHOWN_SECONDS, "visible": True, "title": "Error"}
    return {"msg": "process_completed", "event_id": job_id, "output": error, "success": False}


def encoded(value: Any) -> bytes:
    """A message, or part of one, as JSON.

    What orjson has written of a result is too deep for it with a message around it.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def terminal(message: Message) -> bool:
    """Whether nothing follows a message of a job."""
    return bool(message["msg"] == "process_completed")


class JobMessages:
    """The messages of one job.

    Args:
        exposed: its function.
        job_id: the job.
        engine: what keeps it.
        files: what the URL of a result that is a file begins with.
    """

    __slots__ = ("_engine", "_exposed", "_files", "_id", "_is_wrong", "_values")

    def __init__(self, exposed: Exposed, job_id: str, engine: Engine, files: str) -> None:
        self._exposed = exposed
        self._id = job_id
        self._engine = engine
        self._files = files
        self._values: list[Any] | None = None  # what it has put out last
        self._is_wrong = False  # whether an output had not as many values as were promised

    async def of(self, page: EventPage) -> AsyncIterator[Message]:
        """What a page of the log says; after an end nothing more."""
        for event in page.events:
            fields = orjson.loads(event.data)
            if event.type == "started":
                yield self._message("process_starts", eta=fields["eta"])
            elif event.type == "log":
                yield self._log(fields["level"], fields["message"])
            elif event.type == "output":
                values = self._places(fields["data"])
                self._is_wrong = self._is_wrong or values is None
                if not self._is_wrong:  # else that is told at the end, while the function goes on
                    self._values = values
                    output = {"data": values, "is_generating": True}
                    yield self._message("process_generating", output=output, success=True)
        if page.progress is not None:
            yield self._message("progress", progress_data=[_tracker(orjson.loads(page.progress))])
        if page.ended:
            yield await self._end()

    def _message(self, kind: str, **fields: Any) -> Message:
        return {"msg": kind, "event_id": self._id, **fields}

    def _log(self, level: str, text: str) -> Message:
        level = _LEVELS.get(level, "error")
        return self._message(
            "log",
            log=text,
            level=level,
            title=level.title(),
            duration=_SHOWN_SECONDS,
            visible=True,
        )

    async def _end(self) -> Message:
        """How it ended."""
        snapshot = await self._engine.get(self._id)
        if snapshot is None:
            return failed(self._id, "The job has ended and is no longer kept.")
        if snapshot.state is JobState.SUCCEEDED:
            try:
                values = await self._results(snapshot.result or Content(b"null"))
            except OSError:
                return failed(self._id, "The file that was the result is no longer there.")
            if values is None or self._is_wrong:
                return self._mismatch()
            output = {"data": values, "is_generating": False}
            return self._message("process_completed", output=output, success=True)
        return failed(self._id, _why(snapshot))

    async def _results(self, result: Content) -> list[Any] | None:
        """The values of all outputs; None if they are not as many as were promised."""
        if not result.is_value:
            return self._places(self._file(result))
        nothing = [None] * len(self._exposed.outputs)
        if self._exposed.yields and self._values is not None:
            return self._values
        body = result.body
        if result.path is not None:
            body = await in_thread(Path(result.path).read_bytes)
        if len(body) > _LARGE and len(self._exposed.outputs) == 1 and not self._exposed.yields:
            return [orjson.Fragment(body)]  # to be taken apart and put together again takes seconds
        value = orjson.loads(body)
        if not self._exposed.yields:
            return self._places(value)
        return self._places(value[-1]) if value else nothing

    def _places(self, value: Any) -> list[Any] | None:
        """What each output gets of a value."""
        count = len(self._exposed.outputs)
        if count == 1:
            return [value]
        if count == 0:
            return []
        return value if isinstance(value, list) and len(value) == count else None

    def _mismatch(self) -> Message:
        count = len(self._exposed.outputs)
        return failed(
            self._id, f"The function did not give back {count} values, as its annotation says."
        )

    def _file(self, result: Content) -> dict[str, Any]:
        """A result that is a file: where it is, for clients that get it by themselves or not."""
        name = base_name(result.name or "") or "result"
        path = f"{self._id}/{name}"
        return {
            "path": path,
            "url": self._files + quote(path),
            "orig_name": name,
            "size": result.size,
            "mime_type": result.content_type,
            "is_stream": False,
            "meta": FILE_META,
        }


def _tracker(progress: dict[str, Any]) -> dict[str, Any]:
    """How far a function is, as one of Gradio's trackers, of which it may have several."""
    steps = progress["step"] is not None
    return {
        "index": progress["step"],
        "length": progress["total"],
        "unit": "steps",
        "progress": None if steps else progress["progress"],
        "desc": progress["message"],
    }


def _why(snapshot: Snapshot) -> str:
    """Why a job has no result, for the person who waited for it."""
    if snapshot.error is not None:
        return str(orjson.loads(snapshot.error)["detail"])
    if snapshot.reason == "shutdown":
        return "The server shut down before the job ended."
    return "Job cancelled"
