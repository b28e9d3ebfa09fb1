"""Handlers that take the request: in their turn, and otherwise as without a queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp import ClientSession, web

import aioqueue
from aioqueue._gate import _Waiter
from tests.inside import STREAM, Inside, Socket, make_app
from tests.sse_client import read_events
from tests.stage import Stage, until

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def events_of(response: Any) -> list[Any]:
    """The data of all events of a stream."""
    assert response.status == 200, await response.text()
    return [event.data async for event in read_events(response)]


# As handlers


async def test_request_functions_answer_by_themselves(serve, http: ClientSession) -> None:
    """A response is sent as it is, streamed or not; anything else as JSON."""

    @attrs.frozen
    class Word:
        text: str

    @aioqueue.queued
    async def response(request: web.Request) -> web.Response:
        text = await request.text()
        return web.Response(status=201, text=text.upper(), headers={"Own": "header"})

    @aioqueue.queued
    async def streamed(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        async for chunk in request.content.iter_any():
            await answer.write(chunk.upper())
        return answer

    @aioqueue.queued
    async def value(request: web.Request) -> dict[str, Any]:
        return {"body": await request.text(), "word": Word("a")}

    @aioqueue.queued
    async def file(request: web.Request) -> web.FileResponse:
        return web.FileResponse(Path(__file__))

    url = await serve(make_app(response, streamed, value, file))
    # Preferences are wishes, and RFC 7240 allows to ignore them.
    for headers in ({}, {"Prefer": "respond-async"}, {"Prefer": "wait=1"}):
        async with http.post(f"{url}/response", data=b"abc", headers=headers) as answer:
            assert (answer.status, await answer.text()) == (201, "ABC")
            assert answer.headers["Own"] == "header"
            assert "Preference-Applied" not in answer.headers
    async with http.post(f"{url}/streamed", data=b"abc" * 100_000) as answer:
        assert await answer.read() == b"ABC" * 100_000
    async with http.post(f"{url}/value", data=b"abc") as answer:
        assert await answer.json() == {"body": "abc", "word": {"text": "a"}}
    async with http.post(f"{url}/file") as answer:
        assert await answer.text() == Path(__file__).read_text()


async def test_request_functions_wait_their_turn(serve, http: ClientSession, stage: Stage) -> None:
    """They run in the order in which they came, as many as the limit allows."""

    @aioqueue.queued(concurrency_limit=2)
    async def handler(request: web.Request) -> str:
        await stage.play(request.query["n"])
        return request.query["n"]

    app = make_app(handler)
    inside_url = await serve(app)
    inside, answers = Inside(app), []

    async def ask(number: str) -> str:
        async with http.post(f"{inside_url}/handler?n={number}") as response:
            return str(await response.json())

    for number in "12345":
        answers.append(asyncio.create_task(ask(number)))
        await until(lambda: len(inside.listeners) + len(stage.begun) == len(answers))
    await stage.has_begun("1", "2")
    stage.end("2")
    await stage.has_begun("1", "2", "3")
    stage.end("1", "3", "4", "5")

    assert await asyncio.gather(*answers) == list("12345")
    assert stage.begun == list("12345")
    assert stage.most == 2


@pytest.mark.parametrize("cancellation", [False, True])
async def test_client_that_leaves_while_it_waits(
    serve, http: ClientSession, stage: Stage, cancellation: bool
) -> None:
    """Its handler never runs, whether the app asked aiohttp to cancel handlers or not."""

    @aioqueue.queued
    async def handler(request: web.Request) -> str:
        return str(await stage.play(request.query["n"]))

    app = make_app(handler)
    url = await serve(app, handler_cancellation=cancellation)
    inside = Inside(app)
    clients = []
    for number in "123":
        clients.append(asyncio.create_task(http.post(f"{url}/handler?n={number}")))
        await until(lambda: len(inside.listeners) + len(stage.begun) == len(clients))
    clients[1].cancel()
    if cancellation:
        await until(lambda: len(inside.listeners) == 1)
    else:
        await inside.have_left()
    assert (await inside.engine.stats("handler")).queue_size == 1
    stage.end("1", "3", value="done")

    assert [await (await clients[number]).json() for number in (0, 2)] == ["done", "done"]
    assert stage.begun == ["1", "3"]


async def test_client_that_leaves_just_before_its_turn(
    serve, http: ClientSession, stage: Stage
) -> None:
    """If no tick has seen it leave, it is seen when its turn comes."""

    @aioqueue.queued
    async def handler(request: web.Request) -> str:
        return str(await stage.play(request.query["n"]))

    app = make_app(handler)
    url = await serve(app)
    inside = Inside(app)
    clients = []
    for number in "123":
        clients.append(asyncio.create_task(http.post(f"{url}/handler?n={number}")))
        await until(lambda: len(inside.listeners) + len(stage.begun) == len(clients))
    clients[1].cancel()
    places = inside.listeners._places
    await until(lambda: any(place.listener.is_gone for place in places))
    stage.end("1", "3", value="done")

    assert await (await clients[2]).json() == "done"
    assert stage.begun == ["1", "3"]
    assert (await inside.engine.stats("handler")).running == []


async def test_client_that_leaves_while_it_runs(serve, http: ClientSession, stage: Stage) -> None:
    """With handler_cancellation the handler is cancelled, and its slot is free."""

    @aioqueue.queued
    async def handler(request: web.Request) -> str:
        return str(await stage.play(request.query["n"]))

    app = make_app(handler)
    url = await serve(app, handler_cancellation=True)
    first = asyncio.create_task(http.post(f"{url}/handler?n=1"))
    await stage.has_begun("1")
    first.cancel()
    await until(lambda: not stage.running["1"])
    stage.end("2", value="done")

    async with http.post(f"{url}/handler?n=2") as response:
        assert await response.json() == "done"


async def test_request_function_that_fails(
    serve, http: ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """Its exceptions are aiohttp's business, as without a queue, and its slot is free."""

    @aioqueue.queued
    async def handler(request: web.Request) -> str:
        match request.query["how"]:
            case "http":
                raise web.HTTPPaymentRequired(text="Five coins.", headers={"Own": "header"})
            case "any":
                raise ValueError("swordfish")
        return "fine"

    app = make_app(handler)
    url = await serve(app)
    for how, status, text in (
        ("http", 402, "Five coins."),
        ("any", 500, None),
        ("no", 200, '"fine"'),
    ):
        async with http.post(f"{url}/handler?how={how}") as response:
            assert response.status == status
            assert text in (None, await response.text())
    assert (await Inside(app).engine.stats("handler")).running == []


# The same, asked for a stream


async def stream(http: ClientSession, url: str, **options: Any) -> dict[str, Any]:
    """The last event of a job that is started with a stream."""
    async with http.post(url, headers=STREAM, **options) as response:
        events = await events_of(response)
    assert [event["type"] for event in events[:2]] == ["state", "started"]
    return dict(events[-1])


async def test_request_function_as_a_stream(serve, http: ClientSession) -> None:
    """Asked for Server-Sent Events it runs as a job, and what it returns is the result."""

    @aioqueue.queued
    async def handler(request: web.Request) -> Any:
        body = await request.json()
        match request.query["as"]:
            case "value":
                return body
            case "json":
                return web.json_response(body, dumps=lambda value: json.dumps(value, indent=2))
            case "raised":
                raise web.HTTPOk(text=json.dumps(body), content_type="application/json")
            case "elsewhere":
                raise web.HTTPSeeOther("/elsewhere")
            case "empty":
                return web.Response(content_type="application/json")
            case "nothing":
                return web.Response()

    url = await serve(make_app(handler))
    for kind in ("value", "json", "raised"):
        event = await stream(http, f"{url}/handler?as={kind}", json=[1, "ä"])
        assert (event["type"], event["result"]) == ("succeeded", [1, "ä"]), kind
    event = await stream(http, f"{url}/handler?as=empty", json=[])
    assert (event["type"], event["result"]) == ("succeeded", None)
    event = await stream(http, f"{url}/handler?as=nothing", json=[])
    assert event["file"]["size"] == 0
    event = await stream(http, f"{url}/handler?as=elsewhere", json=[])
    assert event["type"] == "succeeded"  # a redirection is no error


@pytest.mark.parametrize("left", [False, True])
async def test_no_way_to_the_client(serve, http: ClientSession, stage: Stage, left: bool) -> None:
    """A handler that writes its own answer fails its job, and never writes into another's."""
    reached: list[str] = []

    @aioqueue.queued
    async def handler(request: web.Request) -> web.StreamResponse:
        reached.append(await request.text())
        await stage.play("write")
        match request.query["how"]:
            case "prepare":
                response = web.StreamResponse()
                await response.prepare(request)
                await response.write(b"swordfish")
            case "unprepared":
                response = web.StreamResponse()
            case "socket":
                response = web.WebSocketResponse()
                await response.prepare(request)
        reached.append("swordfish")
        return response

    @aioqueue.queued
    async def other(request: web.Request) -> str:
        await stage.play("other")
        return "mine"

    stage.end("other")
    app = make_app(handler, other)
    url = await serve(app)
    inside = Inside(app)
    for how in ("prepare", "unprepared", "socket"):
        stage._ends.pop("write", None)
        stage.begun.clear()
        reached.clear()
        response = await http.post(f"{url}/handler?how={how}", headers=STREAM, data=b"body")
        events = read_events(response)
        job_id = (await anext(events)).data["job"]
        await stage.has_begun("write")
        if left:
            response.close()
        stage.end("write")
        async with http.post(f"{url}/other") as answer:
            assert await answer.json() == "mine"

        assert await inside.ended(job_id) == "failed"
        async with http.get(f"{url}/queue/jobs/{job_id}") as answer:
            error = (await answer.json())["error"]
        if how in ("prepare", "unprepared"):
            assert error["detail"].startswith("This function streams its answer."), how
        assert reached[0] == "body"
        response.close()


async def test_no_way_to_the_client_for_a_view(serve, http: ClientSession) -> None:
    """What a View finds in ``self.request`` is the clone too."""

    class View(web.View):
        @aioqueue.queued
        async def post(self) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(self.request)
            return response

    app = make_app()
    app.router.add_view("/view", View)
    event = await stream(http, await serve(app) + "/view")

    assert event["error"]["detail"].startswith("This function streams its answer.")


async def test_file_results(serve, http: ClientSession) -> None:
    """Other bytes are described in the event, and fetched at the result link."""
    picture = bytes(range(256))

    @aioqueue.queued
    async def handler(request: web.Request) -> web.Response:
        headers = {"Content-Type": request.query["type"]}
        if name := request.query.get("name"):
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return web.Response(body=picture, headers=headers)

    url = await serve(make_app(handler))
    for content_type, name, disposition in (
        ("image/png", None, None),
        ("image/png", "cat.png", 'inline; filename="cat.png"'),
        ("image/svg+xml", None, "attachment"),
        ("text/html; charset=utf-8", "a.html", 'attachment; filename="a.html"'),
        ("application/pdf", "a.pdf", 'attachment; filename="a.pdf"'),
    ):
        query = {"type": content_type, **({"name": name} if name else {})}
        event = await stream(http, f"{url}/handler", params=query)
        assert event["type"] == "succeeded"
        assert event["result"] is None
        assert event["file"] == {"content_type": content_type, "size": 256, "name": name}

        async with http.get(f"{url}/queue/jobs/{event['job']}/result") as response:
            assert await response.read() == picture
            assert response.headers["Content-Type"] == content_type
            assert response.headers.get("Content-Disposition") == disposition
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Content-Security-Policy"] == "sandbox"


@pytest.mark.parametrize("how", ["returned", "raised"])
async def test_error_statuses_fail(serve, http: ClientSession, how: str) -> None:
    """A status of 400 or more is a failed job with that status, and its text is public."""

    @aioqueue.queued
    async def handler(request: web.Request) -> web.Response:
        if how == "raised":
            raise web.HTTPUnprocessableEntity(text="No text in there.")
        return web.Response(status=422, text="No text in there.")

    url = await serve(make_app(handler))
    event = await stream(http, f"{url}/handler")

    assert event["type"] == "failed"
    assert (event["error"]["status"], event["error"]["detail"]) == (422, "No text in there.")
    async with http.get(f"{url}/queue/jobs/{event['job']}/result") as response:
        assert response.status == 422


class Shelf(web.View):
    """Some handlers in a class, as aiohttp has them."""

    @aioqueue.queued
    async def get(self) -> web.Response:
        return web.json_response({"path": self.request.path, "query": dict(self.request.query)})

    @aioqueue.queued
    async def post(self, title: str, count: int = 1) -> list[Any]:
        return [self.request.method, title, count]

    @aioqueue.queued
    def put(self, title: str) -> list[Any]:
        return [self.request.match_info["id"], title]

    @aioqueue.queued
    async def patch(self, request: web.Request) -> str:
        return f"{request.method} {request is self.request}"

    async def delete(self) -> web.Response:
        return web.Response(text="unqueued")


async def test_methods_of_a_view(serve, http: ClientSession) -> None:
    """Each method of a View is queued, or not, by itself, with parameters or without."""
    app = make_app()
    app.router.add_view("/shelf/{id}", Shelf)
    url = await serve(app) + "/shelf/7"
    wait = {"Prefer": "wait=10"}
    async with http.get(url, params={"a": "b"}) as response:
        assert await response.json() == {"path": "/shelf/7", "query": {"a": "b"}}
    async with http.post(url, json={"title": "x", "count": 2}, headers=wait) as response:
        assert await response.json() == ["POST", "x", 2]
    async with http.put(url, json={"title": "x"}, headers=wait) as response:
        assert await response.json() == ["7", "x"]
    async with http.patch(url) as response:
        assert await response.json() == "PATCH True"
    async with http.delete(url) as response:
        assert await response.text() == "unqueued"
    async with http.options(url) as response:
        assert response.status == 405

    async with http.get(url, headers=STREAM, params={"a": "b"}) as response:
        assert (await events_of(response))[-1]["result"] == {
            "path": "/shelf/7",
            "query": {"a": "b"},
        }
    async with http.post(url, headers=STREAM, json={"title": "x"}) as response:
        assert (await events_of(response))[-1]["result"] == ["POST", "x", 1]


async def test_leaving_when_the_turn_has_come() -> None:
    """Whoever is found to have left just as his turn has come still has it, and gives it back."""
    gate: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    waiter = _Waiter(Socket(), gate)
    turn = object()
    gate.set_result(turn)
    waiter.drop()
    assert gate.result() is turn
    assert waiter.dropped
