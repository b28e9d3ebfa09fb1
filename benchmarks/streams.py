"""Tokens: how long one takes from the function that yields it to the socket of its reader."""

import re
import time
from collections.abc import Callable
from functools import partial

from attrs import frozen

from benchmarks.contest import Contest, Peer
from benchmarks.load import Client, Countdown, connect, request_bytes
from benchmarks.process import Server
from benchmarks.report import Column, Target

TOKENS = 1_000
PATIENCE = 120.0
_TOKEN = re.compile(rb'"data":\[(\d+),(\d+),([0-9.]+)\]\}\n')
_PAUSES = {1: 0.002, 100: 0.02}
"""Seconds between two tokens: 500 or 5,000 tokens a second in all."""


def contest(streams: int) -> Contest:
    """Return the contest of so many generators at once."""
    return Contest(
        name=f"tokens of {streams}",
        description=f"{streams} generators at once, {TOKENS:,} tokens each, "
        f"{streams / _PAUSES[streams]:,.0f} tokens a second; seconds from yield to socket",
        peers=(
            Peer("def", "streams", b"/tokens"),
            Peer("async_def", "streams", b"/tokens_on_the_loop"),
        ),
        measure=partial(measure, streams=streams),
        columns=(
            Column("p50, ms", "p50", digits=2, scale=1000),
            Column("p99, ms", "p99", digits=2, scale=1000),
            Column("worst, ms", "worst", digits=1, scale=1000),
            Column("server CPU, µs/token", "cpu_per_token"),
            Column("tokens", "tokens"),
        ),
        targets=(
            Target("def", "p50", at_most=0.020),
            Target("def", "p99", at_most=0.100),
            Target("async_def", "p50", at_most=0.020),
            Target("async_def", "p99", at_most=0.100),
        ),
        guess=3 + TOKENS * _PAUSES[streams],
    )


@frozen
class TokenRound:
    """What one kind of generator did in one round."""

    streams: int
    tokens: int
    wrong: int
    """Tokens that came twice, out of order, or on somebody else's stream."""
    p50: float
    p99: float
    worst: float
    cpu_per_token: float
    """Microseconds of the server process."""

    def failures(self) -> list[str]:
        """Say what must not be, whatever the speed."""
        expected = self.streams * TOKENS
        lost = [f"{self.tokens:,} of {expected:,} tokens came"] if self.tokens != expected else []
        return lost + ([f"{self.wrong:,} tokens were wrong"] if self.wrong else [])


class Reader(Client):
    """Somebody who reads tokens, and notes how old each is."""

    def __init__(self, stream: int, request: bytes, on_leave: Callable[[], None]) -> None:
        """Send `request` once connected."""
        super().__init__(on_leave)
        self._stream = stream
        self._request = request
        self._rest = b""
        self.next = 0
        self.wrong = 0
        self.ages: list[float] = []

    def connection_made(self, transport: object) -> None:
        """Ask."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self.send(self._request)

    def data_received(self, data: bytes) -> None:
        """Note the tokens in what came.  An event is written whole, so chunks never cut one."""
        now = time.monotonic()
        self._rest += data
        cut = self._rest.rfind(b"\n\n") + 1
        for stream, number, born in _TOKEN.findall(self._rest, 0, cut):
            self.wrong += int(stream) != self._stream or int(number) != self.next
            self.next += 1
            self.ages.append(now - float(born))
        is_over = b"event: succeeded" in self._rest
        self._rest = self._rest[cut:]
        if is_over:
            self.leave()


async def measure(peer: Peer, server: Server, streams: int) -> TokenRound:
    """Read `streams` generators to their ends."""
    path = peer.request.decode()
    gone = Countdown(streams)
    readers = []
    for stream in range(streams):
        body = b'{"stream":%d,"count":%d,"pause":%r}' % (stream, TOKENS, _PAUSES[streams])
        request = request_bytes("POST", path, body, {"Accept": "text/event-stream"})
        readers.append(Reader(stream, request, gone.step))
    before = await server.account()
    await connect(server.port, readers, gone, PATIENCE)
    after = await server.account()
    ages = sorted(age for reader in readers for age in reader.ages) or [PATIENCE]
    return TokenRound(
        streams=streams,
        tokens=len(ages),
        wrong=sum(reader.wrong for reader in readers),
        p50=ages[len(ages) // 2],
        p99=ages[len(ages) * 99 // 100],
        worst=ages[-1],
        cpu_per_token=(after.cpu - before.cpu) * 1e6 / len(ages),
    )
