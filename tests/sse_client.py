"""Reads Server-Sent Events as a browser does, by the rules of the WHATWG's HTML standard."""

from __future__ import annotations

import codecs
import json
import re
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
from aiohttp import ClientResponse


@attrs.frozen
class ServerSentEvent:
    event: str
    data: Any
    id: str
    """The last id that the stream has sent, which need not be in this event."""
    comments: tuple[str, ...] = ()
    """Since the event before this one; a ping is a comment."""
    retry: int | None = None
    """Milliseconds, if the stream has set them since the event before this one."""


class EventParser:
    """Turns bytes, cut anywhere, into events; what follows the last blank line stays inside."""

    def __init__(self, decode: Callable[[str], Any] = json.loads) -> None:
        self._decode_data = decode
        self._decode_bytes = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        self._line = ""
        self._ended_with_cr = False
        self._id = ""
        self._event = ""
        self._data: list[str] = []
        self._comments: list[str] = []
        self._retry: int | None = None

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Answer the events that these bytes complete."""
        text = self._decode_bytes(chunk)
        if not text:
            return []
        # A CR ends its line at once; should an LF follow, in whichever chunk, it is the same end.
        if self._ended_with_cr:
            text = text.removeprefix("\n")
        self._ended_with_cr = text.endswith("\r")
        *lines, self._line = re.split("\r\n|\r|\n", self._line + text)
        return [event for line in lines if (event := self._read(line))]

    def _read(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "":
                self._comments.append(value)
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if re.fullmatch("[0-9]+", value):
                self._retry = int(value)
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        name, self._event = self._event or "message", ""
        if not self._data:
            return None
        data, self._data = "\n".join(self._data), []
        comments, self._comments = tuple(self._comments), []
        retry, self._retry = self._retry, None
        return ServerSentEvent(name, self._decode_data(data), self._id, comments, retry)


class EventStream:
    """The events of one response.

    No async generator: that would be over after a `wait_for` around one of its events timed out.
    """

    def __init__(self, response: ClientResponse, parser: EventParser) -> None:
        self._response = response
        self._parser = parser
        self._events: deque[ServerSentEvent] = deque()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> ServerSentEvent:
        while not self._events:
            chunk = await self._response.content.readany()
            if not chunk:
                raise StopAsyncIteration
            self._events.extend(self._parser.feed(chunk))
        return self._events.popleft()


def read_events(response: ClientResponse, decode: Callable[[str], Any] = json.loads) -> EventStream:
    """Read the events of a response.

    `async for event in read_events(response): ...`. Their data is JSON unless `decode` says
    otherwise (`str` leaves it as it came).
    """
    assert response.content_type == "text/event-stream", response
    return EventStream(response, EventParser(decode))
