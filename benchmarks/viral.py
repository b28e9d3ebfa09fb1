"""The viral minute: everybody presses at the same moment, and the function is slow."""

import statistics
from functools import partial
from pathlib import Path

from attrs import evolve, frozen

from benchmarks.checks import count_out_of_order, count_risen, jobs_of
from benchmarks.contest import Contest, Peer
from benchmarks.load import NUMBER, Response, User, find, press_together, request_bytes
from benchmarks.process import Server
from benchmarks.report import Column, Target
from benchmarks.servers import _work

OTHERS_PATIENCE = 120.0
OTHERS_USERS = 1_000
"""A larger crowd is too much for others."""
OTHERS_SMALL = 200
"""From more users on their turns take minutes, so that one has to do."""

SOMAXCONN = Path("/proc/sys/net/core/somaxconn")

_PRESS = request_bytes("POST", "/sleepy", b"{}", {"Accept": "text/event-stream"})

# What Gradio's own page does: it joins in a session of its own, then reads that session's events.
_SESSION = b"session-" + NUMBER
_JOIN = b'{"data":[],"fn_index":1,"session_hash":"%b"}' % _SESSION
_JOIN_REQUEST = request_bytes("POST", "/gradio_api/queue/join", _JOIN)
_COMPLETED = b'"process_completed"'


def _session_events(request: bytes, _response: Response) -> bytes:
    session = find(request, b'"session_hash":"')
    return request_bytes("GET", f"/gradio_api/queue/data?session_hash={session}")


PEERS = (
    Peer("floor", "floor", _PRESS),
    Peer("by_hand", "by_hand", _PRESS),
    Peer("aioqueue", "queued", _PRESS, tells_position=True),
)
OTHERS = (
    # The same protocol, spoken to both: a stream's end tells nobody anything there.
    Peer(
        "aioqueue_gradio",
        "queued_gradio",
        _JOIN_REQUEST,
        follow=_session_events,
        last=_COMPLETED,
        event=b"data: {",
    ),
    Peer(
        "gradio",
        "gradio",
        _JOIN_REQUEST,
        follow=_session_events,
        last=_COMPLETED,
        event=b"data: {",
        home="gradio",
        patience=OTHERS_PATIENCE,
    ),
)

COLUMNS = (
    Column("makespan, s", "makespan", digits=2),
    Column("server CPU, s", "cpu", digits=2),
    Column("server CPU, µs/user", "cpu_per_user"),
    Column("events/user, mean", "events_mean", digits=1),
    Column("events/user, max", "events_max"),
    Column("first byte p50, ms", "first_byte_p50", scale=1e3),
    Column("first byte p99, ms", "first_byte_p99", scale=1e3),
    Column("first byte max, ms", "first_byte_max", scale=1e3),
    Column("connected max, ms", "connected_max", scale=1e3),
    Column("peak memory, MB", "peak_rss", digits=1, scale=1e-6),
    Column("served", "served"),
    Column("running at once, max", "peak_running"),
    Column("users whose position rose", "positions_risen"),
    Column("jobs checked for order", "order_checked"),
    Column("jobs started out of order", "out_of_order"),
)

# In a small crowd a few milliseconds of start-up decide; the targets are for 1,000 and more.
TARGET_USERS = 1_000

TARGETS = (
    Target("aioqueue", "makespan", "floor", at_most=1.10),
    Target("aioqueue", "makespan", "by_hand", at_most=1.0),
    Target("aioqueue", "cpu_per_user", "by_hand", at_most=1.0),
    Target("aioqueue", "first_byte_p99", "floor", at_most=1.15),
    Target("aioqueue", "events_mean", at_most=12, digits=1),
    Target("aioqueue", "served_share", at_least=1.0),
    # How many times as long, and as much CPU, another takes; there is no target for that.
    Target("gradio", "makespan", "aioqueue_gradio"),
    Target("gradio", "cpu_per_user", "aioqueue_gradio"),
)


def contest(users: int) -> Contest:
    """Return the contest for so many users."""
    return Contest(
        name=f"viral {users:,}",
        description=f"{users:,} users press at once, a function that sleeps "
        f"{_work.SECONDS * 1e3:.0f} ms, limit {_work.LIMIT}; "
        f"ideal {ideal(users):.2f} s{_backlog_note(users)}",
        peers=[*PEERS, *_others(users)],
        measure=partial(measure, users=users),
        columns=COLUMNS,
        targets=[target for target in TARGETS if users >= TARGET_USERS or not target.wants],
        guess=2 + 1.3 * ideal(users),
    )


def _others(users: int) -> list[Peer]:
    """Return what others can be asked to do with such a crowd."""
    if users > OTHERS_USERS:
        return []
    rounds = None if users <= OTHERS_SMALL else 1
    return [evolve(peer, most_rounds=rounds) if peer.home else peer for peer in OTHERS]


def _backlog_note(users: int) -> str:
    """Warn where the kernel's own limit keeps part of the crowd waiting at the door."""
    try:
        backlog = int(SOMAXCONN.read_text())
    except OSError:
        return ""
    if users <= backlog:
        return ""
    return f"\n(net.core.somaxconn is {backlog:,}: some may connect a second late, to any server)"


@frozen
class ViralRound:
    """What one peer did in one round; times are seconds since the users pressed."""

    users: int
    served: int
    served_share: float
    makespan: float
    """Until the last user had the result."""
    cpu: float
    """Seconds of the server process, user and system."""
    cpu_per_user: float
    """Microseconds."""
    events_mean: float
    """Messages a user got."""
    events_max: int
    connected_max: float
    first_byte_p50: float
    first_byte_p99: float
    first_byte_max: float
    peak_rss: int
    """Bytes."""
    peak_running: int | None
    """How many ran at once, as the function itself counts; None where it does not."""
    positions_risen: int | None
    """Users who saw their position rise; None where there are no positions."""
    order_checked: int | None
    """Jobs that the server still remembered after the crowd had left."""
    out_of_order: int | None
    """Jobs of these that started after one created later."""

    def failures(self) -> list[str]:
        """Say what must not be, whatever the speed."""
        failures = []
        if self.served < self.users:
            failures.append(f"served {self.served:,} of {self.users:,}")
        if self.peak_running is not None and self.peak_running > _work.LIMIT:
            failures.append(f"ran {self.peak_running} at once, the limit is {_work.LIMIT}")
        if self.positions_risen:
            failures.append(f"{self.positions_risen:,} users saw their position rise")
        if self.out_of_order:
            failures.append(f"{self.out_of_order:,} jobs started out of order")
        return failures


def ideal(users: int) -> float:
    """Return the seconds that the work alone takes."""
    return users * _work.SECONDS / _work.LIMIT


async def measure(peer: Peer, server: Server, users: int) -> ViralRound:
    """Let `users` press at once and watch until the last has the result."""
    before = await server.account()
    patience = peer.patience or 60 + 5 * ideal(users)
    began, crowd = await press_together(
        server.port, peer.request, users, patience, peer.follow, peer.last
    )
    after = await server.account()

    served = [user for user in crowd if _is_served(user, peer)]
    events = [user.response.raw.count(peer.event) for user in crowd]
    first_bytes = sorted((user.first_byte or began + patience) - began for user in crowd)
    cpu = after.cpu - before.cpu
    risen = order_checked = out_of_order = None
    if peer.tells_position:
        bodies = [user.response.body() for user in served]
        risen = count_risen(bodies)
        jobs = await jobs_of(bodies, server.port)
        order_checked = len(jobs)
        out_of_order = count_out_of_order(jobs)
    return ViralRound(
        users=users,
        served=len(served),
        served_share=len(served) / users,
        makespan=max((user.finished or began for user in served), default=began) - began,
        cpu=cpu,
        cpu_per_user=cpu * 1e6 / users,
        events_mean=statistics.mean(events),
        events_max=max(events),
        connected_max=max((user.connected or began + patience) - began for user in crowd),
        first_byte_p50=first_bytes[len(first_bytes) // 2],
        first_byte_p99=first_bytes[len(first_bytes) * 99 // 100],
        first_byte_max=first_bytes[-1],
        peak_rss=after.peak_rss,
        peak_running=after.peak_running,
        positions_risen=risen,
        order_checked=order_checked,
        out_of_order=out_of_order,
    )


def _is_served(user: User, peer: Peer) -> bool:
    complete = user.finished is not None and user.response.status == 200
    return complete and peer.served in user.response.raw
