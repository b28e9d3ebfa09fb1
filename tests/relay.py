"""A network between client and server that can be cut."""

from __future__ import annotations

import asyncio


def port_of(url: str) -> int:
    """The port in an address."""
    return int(url.rsplit(":", 1)[1])


class Relay:
    """Passes everything on, until it is told otherwise."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.swallow_answer = False
        self.withhold = False

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Drop every connection."""
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            there_reader, there = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, there}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, there))
                group.create_task(self._copy(there_reader, writer, is_answer=True))
        except* OSError:
            pass
        finally:
            self._open -= {writer, there}
            writer.transport.abort()
            there.transport.abort()

    async def _copy(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        is_answer: bool = False,
    ) -> None:
        while data := await reader.read(65536):
            if is_answer and self.swallow_answer:
                self.swallow_answer = False
                break
            if is_answer and self.withhold and b"Content-Type: text/event-stream" in data:
                await reader.read()  # until the client gives up
                break
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
