"""HTTP over a bare socket, for requests that no client library would send."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import orjson
from multidict import CIMultiDict
from yarl import URL

JSON = b"Content-Type: application/json"

# Seconds for whatever should come at once; a server that lingers takes ten.
PATIENCE = 5


def raw(method: str, target: str, *headers: bytes, body: bytes = b"", length: int = -1) -> bytes:
    """A request as it is on the wire; `length` announces a body of another size."""
    size = len(body) if length < 0 else length
    lines = [f"{method} {target} HTTP/1.1".encode(), b"Host: localhost", *headers]
    if not any(line.lower().startswith(b"transfer-encoding:") for line in headers):
        lines.append(b"Content-Length: %d" % size)
    return b"\r\n".join([*lines, b"", body])


def chunked(*chunks: bytes) -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


class Answer(NamedTuple):
    status: int
    headers: CIMultiDict[str]
    body: bytes

    def json(self) -> Any:
        """The body, which must be JSON."""
        return orjson.loads(self.body)


class Connection:
    """One socket to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        """Put bytes on the wire."""
        self._writer.write(data)

    async def answer(self) -> Answer:
        """The next answer, which must say how long it is."""
        async with asyncio.timeout(PATIENCE):
            head = await self._reader.readuntil(b"\r\n\r\n")
            status, *lines = head.decode().rstrip().split("\r\n")
            headers = CIMultiDict(line.split(": ", 1) for line in lines)
            body = await self._reader.readexactly(int(headers.get("Content-Length", 0)))
        return Answer(int(status.split()[1]), headers, body)

    async def rest(self) -> bytes:
        """What comes until the server closes the connection, which it must do at once."""
        data = b""
        async with asyncio.timeout(PATIENCE):
            # Where bytes of ours were never read, the end is a reset.
            with contextlib.suppress(ConnectionResetError):
                while chunk := await self._reader.read(65536):
                    data += chunk
        return data


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Connection]:
    """A connection to the server of that URL."""
    parts = URL(url)
    reader, writer = await asyncio.open_connection(parts.host, parts.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(url: str, request: bytes) -> Answer:
    """The answer to one request on a connection of its own."""
    async with connect(url) as connection:
        connection.send(request)
        return await connection.answer()
