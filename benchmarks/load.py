"""The load generator: as little Python as possible between a socket and a clock.

It has one core and so has the server; whatever it spends beyond that of the server it measures
itself instead. So requests are prepared bytes, and a response is parsed no further than to its end.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from typing import cast

HOST = "127.0.0.1"
NUMBER = b"#######"
"""Stands in a request for the number of the user who sends it, and is as long."""


def request_bytes(
    method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> bytes:
    """Return an HTTP/1.1 request, ready to be sent any number of times."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Response:
    """One response, put together from pieces that may be cut anywhere."""

    __slots__ = ("_chunked", "_next", "raw")

    def __init__(self) -> None:
        self.raw = bytearray()
        self._chunked: bool | None = None  # None until the head is complete
        self._next = 0  # where the next chunk, or else the end of the response, is to be

    def feed(self, data: bytes) -> bool:
        """Take what arrived; true when the response is complete."""
        raw = self.raw
        raw += data
        if self._chunked is None:
            self._read_head()
        if not self._chunked:
            return self._chunked is False and len(raw) >= self._next
        while self._next < len(raw):
            line_end = raw.find(b"\r\n", self._next)
            if line_end < 0:
                return False
            size = int(raw[self._next : line_end], 16)
            if size == 0:  # the last chunk, and the empty line after it (aiohttp sends no trailers)
                return len(raw) >= line_end + 4
            self._next = line_end + 2 + size + 2
        return False

    def _read_head(self) -> None:
        """Find out how the end of the response will be known, once the head is there."""
        head_end = self.raw.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self.raw[:head_end]).lower()
        self._next = head_end + 4
        self._chunked = b"\r\ntransfer-encoding: chunked" in head
        if not self._chunked:
            _, found, rest = head.partition(b"\r\ncontent-length: ")
            if not found:
                raise ValueError(f"a response of unknown length: {head!r}")
            self._next += int(rest.split(b"\r\n", 1)[0])

    @property
    def status(self) -> int:
        """Return the status code, 0 where there is none."""
        return int(self.raw[9:12] or b"0")

    def body(self) -> bytes:
        """Return what has arrived of the body, without the framing of chunks."""
        _, _, rest = bytes(self.raw).partition(b"\r\n\r\n")
        if not self._chunked:
            return rest
        pieces, position = [], 0
        while (line_end := rest.find(b"\r\n", position)) >= 0:
            size = int(rest[position:line_end], 16)
            pieces.append(rest[line_end + 2 : line_end + 2 + size])
            position = line_end + 2 + size + 2
        return b"".join(pieces)


def find(raw: bytes | bytearray, before: bytes) -> str:
    """Return what stands there between these bytes and the next quotation mark."""
    start = raw.index(before) + len(before)
    return raw[start : raw.index(b'"', start)].decode()


Follow = Callable[[bytes, Response], bytes]
"""Makes the second request, where events are asked for apart, of the first and its answer."""


class Client(asyncio.Protocol):
    """One connection, and who is to know when it has ended."""

    def __init__(self, on_leave: Callable[[], None]) -> None:
        """Call `on_leave` when the connection has ended, for whatever reason."""
        self._on_leave = on_leave
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; uvloop's is none of asyncio's classes, hence the cast."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave."""
        self._on_leave()

    def send(self, request: bytes) -> None:
        """Send a request."""
        assert self._transport is not None
        self._transport.write(request)

    def leave(self) -> None:
        """End the connection, if there is one."""
        if self._transport is not None:
            self._transport.abort()


class User(Client):
    """Somebody who connects, presses once, watches until the end and leaves."""

    def __init__(
        self,
        request: bytes,
        on_leave: Callable[[], None],
        follow: Follow | None = None,
        last: bytes | None = None,
    ) -> None:
        """Send `request`, and what follows; all times are those of `time.perf_counter`.

        What has `last` in it is all this user waits for, else the end of the response.
        """
        super().__init__(on_leave)
        self._request = request
        self._follow = follow
        self._last = last
        self.response = Response()
        self.connected: float | None = None
        self.first_byte: float | None = None
        self.finished: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Press."""
        super().connection_made(transport)
        self.connected = time.perf_counter()
        self.send(self._request)

    def data_received(self, data: bytes) -> None:
        """Note the first byte and the last."""
        if self.first_byte is None:
            self.first_byte = time.perf_counter()
        is_complete = self.response.feed(data)
        if not is_complete and (self._last is None or self._last not in self.response.raw):
            return
        if self._follow is not None and self.response.status == 200:
            events, self._follow = self._follow(self._request, self.response), None
            self.response = Response()
            self.send(events)
            return
        self.finished = time.perf_counter()
        self.leave()


class Regular(Client):
    """Somebody who sends the next request as soon as the last one is answered."""

    def __init__(
        self,
        requests: Iterator[bytes],
        on_response: Callable[[Response], None],
        on_leave: Callable[[], None],
        follow: Follow | None = None,
    ) -> None:
        """Share `requests` with other regulars, and leave when none is left."""
        super().__init__(on_leave)
        self._follow = follow
        self._follows = False  # whether the response to come is that to the second request
        self._requests = requests
        self._on_response = on_response
        self._response = Response()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        super().connection_made(transport)
        self._send_next()

    def data_received(self, data: bytes) -> None:
        """Go on to the next request at the end of a response."""
        response = self._response
        if not response.feed(data):
            return
        self._response = Response()
        if self._follow is not None and not self._follows and response.status < 300:
            self._follows = True
            self.send(self._follow(self._request, response))
            return
        self._follows = False
        self._on_response(response)
        self._send_next()

    def _send_next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.leave()
        else:
            self._request = request
            self.send(request)


async def press_together(
    port: int,
    request: bytes,
    count: int,
    seconds: float,
    follow: Follow | None = None,
    last: bytes | None = None,
) -> tuple[float, list[User]]:
    """Let `count` users press in the same instant; return that instant and what they saw.

    Whoever is not served after `seconds` is sent away.
    """
    gone = Countdown(count)
    users = [
        User(request.replace(NUMBER, b"%07d" % number), gone.step, follow, last)
        for number in range(count)
    ]
    return await connect(port, users, gone, seconds), users


async def keep_busy(
    port: int,
    requests: Iterator[bytes],
    connections: int,
    on_response: Callable[[Response], None],
    seconds: float,
    follow: Follow | None = None,
) -> float:
    """Send `requests` over `connections` that live on; return the seconds that took."""
    gone = Countdown(connections)
    clients = [Regular(requests, on_response, gone.step, follow) for _ in range(connections)]
    began = await connect(port, clients, gone, seconds)
    return time.perf_counter() - began


async def fetch(port: int, path: str) -> bytes:
    """Return the body that a GET of `path` answers."""
    _, (user,) = await press_together(port, request_bytes("GET", path), 1, seconds=30)
    if user.finished is None or user.response.status != 200:
        raise ConnectionError(f"GET {path} was answered {bytes(user.response.raw)!r}")
    return user.response.body()


class Countdown:
    """Knows when everybody has left."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.over = asyncio.Event()

    def step(self) -> None:
        """Note that somebody left."""
        self._left -= 1
        if not self._left:
            self.over.set()


async def connect(port: int, clients: Sequence[Client], gone: Countdown, seconds: float) -> float:
    """Connect all `clients` at once and wait until they have left; return when that began."""
    loop = asyncio.get_running_loop()

    async def one(client: Client) -> None:
        await loop.create_connection(lambda: client, HOST, port)

    gc.collect()
    gc.disable()  # a collection would look like a slow server
    began = time.perf_counter()
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*map(one, clients))
            await gone.over.wait()
    except TimeoutError:
        for client in clients:
            client.leave()
    finally:
        gc.enable()
    return began
