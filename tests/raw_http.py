"""A connection on which a test sends and sees every byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from yarl import URL


class RawResponse:
    """What a server answers: its head at once, its body as it comes."""

    def __init__(self, head: bytes, reader: asyncio.StreamReader) -> None:
        status, *lines = head.decode("latin-1").splitlines()
        self.status = int(status.split()[1])
        self.headers = [tuple(line.split(": ", 1)) for line in lines if line]
        self.reader = reader

    def header(self, name: str) -> list[str]:
        """The values of all lines with this name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    async def rest(self) -> bytes:
        """All bytes until the server closes the connection."""
        return await self.reader.read()


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the host of this address, closed at the end whatever is left in it."""
    host = URL(url)
    reader, writer = await asyncio.open_connection(host.host, host.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def raw_http(
    url: str, method: str = "GET", *, body: str = "", version: str = "1.0", **headers: str
) -> AsyncIterator[RawResponse]:
    """Send one request; HTTP/1.0, where a body comes without a frame, unless told otherwise."""
    if body:
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    request = [f"{method} {URL(url).raw_path_qs} HTTP/{version}", "Host: here", *lines, "", body]
    async with connection(url) as (reader, writer):
        writer.write("\r\n".join(request).encode())
        yield RawResponse(await reader.readuntil(b"\r\n\r\n"), reader)
