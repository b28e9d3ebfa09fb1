"""Who is there, and what becomes of a job when nobody is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import aioqueue
from aioqueue._errors import Refused
from aioqueue._listeners import Listener, Listeners, Place
from tests.inside import STREAM, Shop, Socket, until
from tests.sse_client import read_events


class Attendance:
    """An engine that only writes down who is listened to."""

    def __init__(self) -> None:
        self.calls: list[tuple[set[str], float | None]] = []

    async def attend(self, job_ids: list[str], seconds: float | None) -> None:
        if job_ids:
            self.calls.append((set(job_ids), seconds))

    def new_calls(self) -> list[tuple[set[str], float | None]]:
        calls, self.calls = self.calls, []
        return calls


class Guest(Listener):
    """Who waits for jobs, and notes in a list when woken."""

    def __init__(self, jobs: tuple[str, ...], woken: list[Listener]) -> None:
        super().__init__(Socket(), jobs)
        self._woken = woken

    def wake(self) -> None:
        """Note it."""
        self._woken.append(self)


class Room:
    """Listeners, and a few of them inside."""

    def __init__(self, max_open: int = 100) -> None:
        self.engine = Attendance()
        self.listeners = Listeners(self.engine, max_open)
        self.woken: list[Listener] = []

    def enter(self, *jobs: str, kind: type[Guest] = Guest) -> tuple[Place, Listener]:
        place = self.listeners.place()
        listener = place.listener = kind(jobs, self.woken)
        return place, listener


# Places


def test_places_are_counted() -> None:
    """No more than so many are open; the next is refused, until one of them leaves."""
    room = Room(max_open=2)
    place, _ = room.enter("a")
    room.enter("b")
    assert len(room.listeners) == 2
    with pytest.raises(Refused) as refused:
        room.listeners.place()
    assert refused.value.problem.code == "too_many_streams"
    assert refused.value.problem.status == 503
    assert refused.value.retry_after >= 1

    place.leave()
    room.enter("c")
    assert len(room.listeners) == 2


def test_places_of_one_client() -> None:
    """No more than so many are one client's; others, and who has no name, are not held to it."""
    room = Room()
    room.listeners = Listeners(room.engine, 100, 2)
    mine = [room.listeners.place("ann") for _ in range(2)]
    with pytest.raises(Refused) as refused:
        room.listeners.place("ann")
    assert (refused.value.problem.code, refused.value.problem.status) == ("quota_exceeded", 429)
    assert refused.value.retry_after >= 1
    assert len(room.listeners) == 2
    for client in ("bob", "bob", None, None, None):
        room.listeners.place(client)

    mine[0].leave()
    again = room.listeners.place("ann")
    with pytest.raises(Refused):
        room.listeners.place("ann")
    for place in (again, mine[1]):
        place.leave()
    assert "ann" not in room.listeners._of_client


def test_a_lost_connection_is_not_counted() -> None:
    """Who comes back has a place before the old connection is found closed, but not two."""
    room = Room()
    room.listeners = Listeners(room.engine, 100, 1)
    place = room.listeners.place("ann")
    place.listener = Guest(("a",), room.woken)
    with pytest.raises(Refused, match="a stream open already"):
        room.listeners.place("ann")
    place.listener.request.closed = True
    room.listeners.place("ann")
    with pytest.raises(Refused):
        room.listeners.place("ann")
    place.leave()
    with pytest.raises(Refused):
        room.listeners.place("ann")


def test_a_place_is_free_after_an_exception() -> None:
    """However a connection ends, its place is free."""
    room = Room(max_open=1)
    with pytest.raises(ZeroDivisionError), room.listeners.place():
        raise ZeroDivisionError
    assert len(room.listeners) == 0


# Ticks


async def test_who_left_is_woken() -> None:
    """A closed socket is seen at the next tick: its handler is woken, the others are not."""
    room = Room()
    _, gone = room.enter("a")
    _, here = room.enter("b")
    await room.listeners.tick(0.0)
    assert room.woken == []
    gone.request.closed = True
    await room.listeners.tick(1.0)
    assert room.woken == [gone]
    assert gone.dropped
    assert not here.dropped


async def test_attendance_is_renewed() -> None:
    """While somebody is there the engine hears so, in good time and not at each tick."""
    room = Room()
    room.enter("a", "b")
    heard = []
    for second in range(61):
        await room.listeners.tick(float(second))
        heard += [(second, jobs, seconds) for jobs, seconds in room.engine.new_calls()]
    assert [second for second, _, _ in heard] == [0, 15, 30, 45, 60]
    assert all(jobs == {"a", "b"} and seconds == 30.0 for _, jobs, seconds in heard)


async def test_the_last_to_leave() -> None:
    """The engine hears that nobody is there when the last one has left, once."""
    room = Room()
    one, _ = room.enter("a", "b")
    two, _ = room.enter("b")
    await room.listeners.tick(0.0)
    room.engine.new_calls()
    one.leave()
    await room.listeners.tick(1.0)
    assert room.engine.new_calls() == [({"a"}, 0.0)]
    two.leave()
    await room.listeners.tick(2.0)
    assert room.engine.new_calls() == [({"b"}, 0.0)]
    await room.listeners.tick(3.0)
    assert room.engine.new_calls() == []


async def test_who_is_dropped_hears_nothing() -> None:
    """Somebody whose socket is closed does not count as there, even before he has gone."""
    room = Room()
    one, _ = room.enter("a")
    _, ghost = room.enter("a")
    await room.listeners.tick(0.0)
    room.engine.new_calls()
    ghost.request.closed = True
    one.leave()
    await room.listeners.tick(1.0)
    assert room.engine.new_calls() == [({"a"}, 0.0)]


async def test_back_before_the_tick() -> None:
    """Somebody who left and is back by the next tick was never away."""
    room = Room()
    one, _ = room.enter("a")
    await room.listeners.tick(0.0)
    room.engine.new_calls()
    one.leave()
    room.enter("a")
    await room.listeners.tick(1.0)
    assert room.engine.new_calls() == [({"a"}, 30.0)]


async def test_others_have_turns_meanwhile() -> None:
    """A sweep of many lets the loop do other things; it sees who leaves or joins meanwhile."""
    room = Room(max_open=1000)
    places = [room.enter(f"{number}")[0] for number in range(1000)]
    sweep = asyncio.create_task(room.listeners.tick(0.0))
    turns = 0
    while not sweep.done():
        await asyncio.sleep(0)
        turns += 1
        if turns == 2:
            places[0].leave()  # looked at before
            places[999].leave()  # not yet
            room.enter("1000")

    assert 5 <= turns <= 100
    *renewed, unheard = room.engine.new_calls()
    assert set.union(*(jobs for jobs, _ in renewed)) == {str(number) for number in range(999)}
    assert {seconds for _, seconds in renewed} == {30.0}
    assert unheard == ({"0", "999"}, 0.0)
    await room.listeners.tick(1.0)
    assert room.engine.new_calls() == [({"1000"}, 30.0)]


async def test_one_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """A connection that fails at a tick is dropped and logged; the others have their tick."""
    room = Room()
    ticks: list[float] = []

    class Broken(Guest):
        async def tick(self, now: float) -> None:
            raise ZeroDivisionError

    class Fine(Guest):
        async def tick(self, now: float) -> None:
            ticks.append(now)

    _, broken = room.enter("a", kind=Broken)
    room.enter("b", kind=Fine)
    for second in (0.0, 1.0):
        await room.listeners.tick(second)
    assert ticks == [0.0, 1.0]
    assert broken.dropped
    assert broken in room.woken
    assert caplog.records[0].exc_info[0] is ZeroDivisionError
    assert room.engine.calls == [({"a", "b"}, 30.0)]


def test_drop_all() -> None:
    """At the end everybody is woken; one who has no job yet has nothing to be woken from."""
    room = Room()
    _, one = room.enter("a")
    _, two = room.enter("b")
    with room.listeners.place():
        room.listeners.drop_all()
    assert room.woken == [one, two]


# Attached and detached, over sockets


def make_shop(**settings: Any) -> Shop:
    """A shop where functions differ in what becomes of their jobs when nobody is there."""
    shop = Shop()

    @aioqueue.queued
    async def work() -> None:
        await shop.end.wait()

    @aioqueue.queued(on_disconnect="keep")
    async def keep() -> None:
        await shop.end.wait()

    @aioqueue.queued(on_disconnect="cancel")
    async def drop() -> None:
        await shop.end.wait()

    @aioqueue.queued(on_disconnect=100)
    async def patient() -> None:
        await shop.end.wait()

    return shop.sells(work, keep, drop, patient, **settings)


@pytest.fixture
async def shop(serve, http) -> Shop:
    """A shop whose time stands still."""
    return await make_shop().open(serve, http)


async def test_abandoned_stream(shop: Shop) -> None:
    """A waiting job whose only client left the stream is cancelled after its grace, not before."""
    running, _ = await shop.stream()
    response, job_id = await shop.stream()
    await shop.leave(response)
    await shop.inside.pass_time(29)
    assert await shop.inside.state(job_id) == "queued"
    await shop.inside.pass_time(3)
    assert await shop.inside.state(job_id) == "cancelled"
    assert (await shop.inside.engine.get(job_id)).reason == "disconnect"
    running.close()


async def test_abandoned_wait(shop: Shop) -> None:
    """A waiting job whose only client left while it waited is cancelled after its grace."""
    running, _ = await shop.stream()
    waiting = await shop.wait("wait=60")
    *_, place = shop.inside.listeners._places
    (job_id,) = place.listener.jobs
    waiting.cancel()
    await shop.inside.have_left()
    await shop.inside.pass_time(29)
    assert await shop.inside.state(job_id) == "queued"
    await shop.inside.pass_time(3)
    assert await shop.inside.state(job_id) == "cancelled"
    running.close()


async def test_abandoned_while_it_runs(shop: Shop) -> None:
    """A running job whose client left is asked to end, and ends as cancelled by disconnect."""
    response, job_id = await shop.stream()
    assert await shop.inside.state(job_id) == "running"
    await shop.leave(response)
    await shop.inside.pass_time(29)
    assert not (await shop.inside.engine.get(job_id)).cancel_requested
    await shop.inside.pass_time(3)
    assert await shop.inside.ended(job_id) == "cancelled"
    assert (await shop.inside.engine.get(job_id)).reason == "disconnect"


async def test_listened_to_for_an_hour(shop: Shop) -> None:
    """However long it takes, a job lives while its client is there."""
    response, job_id = await shop.stream()
    await shop.inside.pass_time(3600, step=5)
    assert await shop.inside.state(job_id) == "running"
    shop.end.set()
    *_, last = [event.event async for event in read_events(response)]
    assert last == "succeeded"


async def test_accepted_is_detached(shop: Shop) -> None:
    """A job that was answered with 202 needs nobody."""
    response = await shop.post()
    assert response.status == 202
    job_id = (await response.json())["id"]
    await shop.inside.pass_time(3600, step=5)
    assert await shop.inside.state(job_id) == "running"


async def test_wait_that_ends_in_202_detaches(shop: Shop) -> None:
    """A wait that was too short has its 202, so the job needs nobody from then on."""
    response = await shop.post("wait=0")
    assert response.status == 202
    job_id = (await response.json())["id"]
    await shop.inside.pass_time(120)
    assert await shop.inside.state(job_id) == "running"


@pytest.mark.parametrize("how", ["events", "many", "long-poll", "key", "key-wait"])
async def test_back_in_time(shop: Shop, how: str) -> None:
    """Each way back to a job keeps it, from the very moment, for as long as one stays."""
    running, _ = await shop.stream()
    key = {"Idempotency-Key": "sixteen-characters"}
    response, job_id = await shop.stream(**key)
    await shop.leave(response)
    await shop.inside.pass_time(29)
    before = len(shop.inside.listeners)
    match how:
        case "events":
            back = shop.http.get(f"{shop.url}/queue/jobs/{job_id}/events")
        case "many":
            back = shop.http.get(f"{shop.url}/queue/events?job={job_id}")
        case "long-poll":
            url = f"{shop.url}/queue/jobs/{job_id}"
            back = shop.http.get(url, headers={"Prefer": "wait=60"})
        case "key":
            back = shop.http.post(f"{shop.url}/work", json={}, headers={**STREAM, **key})
        case "key-wait":
            headers = {"Prefer": "wait=60", **key}
            back = shop.http.post(f"{shop.url}/work", json={}, headers=headers)
    task = asyncio.create_task(back.__aenter__())
    await until(lambda: len(shop.inside.listeners) > before)
    # The grace is over before the next tick, and its slot comes free in that second.
    shop.inside._passed += 4
    await shop.inside.runtime._scheduler.tick()
    await shop.inside.pass_time(100)
    assert await shop.inside.state(job_id) == "queued"

    task.cancel() if not task.done() else task.result().close()
    await shop.inside.have_left()
    await shop.inside.pass_time(32)
    assert await shop.inside.state(job_id) == "cancelled"
    running.close()


async def test_accepted_later_detaches(shop: Shop) -> None:
    """A retry of the key that is answered with 202 detaches the job, whatever began it."""
    running, _ = await shop.stream()
    key = {"Idempotency-Key": "sixteen-characters"}
    response, job_id = await shop.stream(**key)
    again = await shop.post(**key)
    assert again.status == 202
    assert (await again.json())["id"] == job_id
    await shop.leave(response)
    await shop.inside.pass_time(120)
    assert await shop.inside.state(job_id) == "queued"
    running.close()


async def test_policies(shop: Shop) -> None:
    """A function says how long its abandoned jobs live: for ever, not at all, or a time."""
    jobs = {name: await shop.stream(name) for name in ("keep", "drop", "patient")}
    ids = {name: job_id for name, (_, job_id) in jobs.items()}
    await shop.leave(*(response for response, _ in jobs.values()))
    await shop.inside.pass_time(2)
    assert await shop.inside.ended(ids["drop"]) == "cancelled"
    await shop.inside.pass_time(90)
    assert await shop.inside.state(ids["patient"]) == "running"
    await shop.inside.pass_time(20)
    assert await shop.inside.ended(ids["patient"]) == "cancelled"
    await shop.inside.pass_time(3600, step=5)
    assert await shop.inside.state(ids["keep"]) == "running"


@pytest.mark.parametrize(("on_disconnect", "seconds"), [("keep", None), ("cancel", 0), (5, 5)])
async def test_policy_of_the_app(
    serve, http, on_disconnect: str | int, seconds: int | None
) -> None:
    """The app's setting holds for functions that say nothing."""
    shop = await make_shop(on_disconnect=on_disconnect).open(serve, http)
    response, job_id = await shop.stream()
    await shop.leave(response)
    await shop.inside.pass_time(600 if seconds is None else max(0, seconds - 1))
    assert await shop.inside.state(job_id) == "running"
    if seconds is not None:
        await shop.inside.pass_time(3)
        assert await shop.inside.ended(job_id) == "cancelled"


async def test_one_of_two_leaves(shop: Shop) -> None:
    """While one of two is still there the job lives; when he leaves too, the grace begins."""
    response, job_id = await shop.stream("drop")
    other = await shop.http.get(f"{shop.url}/queue/jobs/{job_id}/events")
    await shop.leave(response)
    await shop.inside.pass_time(60)
    assert await shop.inside.state(job_id) == "running"
    await shop.leave(other)
    await shop.inside.pass_time(2)
    assert await shop.inside.ended(job_id) == "cancelled"


@pytest.mark.parametrize("handler_cancellation", [False, True])
async def test_handler_cancellation(serve, http, handler_cancellation: bool) -> None:
    """Whether aiohttp cancels handlers makes no difference to what becomes of a job."""
    shop = await make_shop().open(serve, http, handler_cancellation=handler_cancellation)
    response, job_id = await shop.stream()
    await shop.leave(response)
    await shop.inside.pass_time(29)
    assert await shop.inside.state(job_id) == "running"
    await shop.inside.pass_time(3)
    assert await shop.inside.ended(job_id) == "cancelled"
