"""Every example does what it says, as a process of its own."""

from __future__ import annotations

import asyncio
import gzip
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, FormData

from tests.sse_client import read_events

pytestmark = pytest.mark.one_loop

EXAMPLES = Path(__file__).parent.parent / "examples"
SSE = {"Accept": "text/event-stream"}
WAIT = {"Prefer": "wait=10"}


async def test_every_example_is_run_here() -> None:
    """An example that nobody runs is a promise that nobody keeps."""
    source = Path(__file__).read_text()
    run = set(re.findall(r'"examples/(\w+\.py)"', source))

    # What the demo's pages show is part of the demo.
    parts = {"demo_batches.py", "demo_pictures.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} - parts == run


async def test_hello_is_as_short_as_promised(server_process: Any, http: ClientSession) -> None:
    """The smallest app fits on a card, and streams its line and its result."""
    assert len((EXAMPLES / "hello.py").read_text().splitlines()) < 25
    _, url = await server_process("examples/hello.py")

    body = {"name": "Ann", "seconds": 0.05}
    async with http.post(f"{url}/hello", json=body, headers=SSE) as response:
        events = [event async for event in read_events(response)]

    assert [event.event for event in events] == ["state", "started", "succeeded"]
    assert events[-1].data["result"] == "Hello, Ann!"


async def test_upload(server_process: Any, http: ClientSession) -> None:
    """A form's file and its text field are the function's arguments."""
    _, url = await server_process("examples/upload.py")
    form = FormData({"detail": "high"})
    form.add_field("image", b"picture", filename="a.png", content_type="image/png")

    async with http.post(f"{url}/describe", data=form, headers=WAIT) as response:
        result = await response.json()
    wrong = FormData({"detail": "huge"})
    wrong.add_field("image", b"picture", filename="a.png")
    async with http.post(f"{url}/describe", data=wrong) as refused:
        problem = await refused.json()

    assert (result["bytes"], len(result["digest"])) == (7, 64)
    assert (refused.status, problem["errors"][0]["field"]) == (422, "detail")


async def test_gradio_clients(server_process: Any, http: ClientSession) -> None:
    """Gradio's documented calls reach a function with a route, and one without."""
    _, url = await server_process("examples/gradio_clients.py")
    answers = {}
    for name in ("greet", "spell"):
        called = f"{url}/gradio_api/call/{name}"
        async with http.post(called, json={"data": ["Ann"]}) as accepted:
            event_id = (await accepted.json())["event_id"]
        async with http.get(f"{called}/{event_id}") as response:
            answers[name] = [(one.event, one.data) async for one in read_events(response)]

    assert answers["greet"] == [("complete", ["Hello, Ann!"])]
    assert answers["spell"] == [
        *(("generating", [text]) for text in ("A", "An", "Ann")),
        ("complete", ["Ann"]),
    ]


async def test_files(server_process: Any, http: ClientSession) -> None:
    """A file goes in and another comes out, also from the middle on."""
    _, url = await server_process("examples/files.py")
    form = FormData()
    form.add_field("film", b"film" * 1000, filename="a.mov", content_type="video/quicktime")

    async with http.post(f"{url}/shrink", data=form, headers=WAIT) as response:
        shrunk = await response.read()
    address = url + response.headers["Content-Location"]
    async with http.get(address, headers={"Range": "bytes=10-"}) as part:
        rest = await part.read()

    assert gzip.decompress(shrunk) == b"film" * 1000
    assert 'filename="a.mov.gz"' in response.headers["Content-Disposition"]
    assert (part.status, rest) == (206, shrunk[10:])


async def test_shared_limit(server_process: Any, http: ClientSession) -> None:
    """Two functions that share an id wait in one line."""
    _, url = await server_process("examples/shared_limit.py")

    places = []
    for path, body in (("paint", {"prompt": "x"}), ("caption", {"picture": "y"})):
        async with http.post(f"{url}/{path}", json=body) as response:
            places.append((await response.json())["position"])
    async with http.get(f"{url}/queue/status") as response:
        functions = (await response.json())["functions"]

    assert places == [None, 1]
    assert {name: one["concurrency_limit"] for name, one in functions.items()} == {
        "paint": 1,
        "caption": 1,
    }


async def test_request_handler(server_process: Any, http: ClientSession) -> None:
    """Handlers answer with their own responses, streamed or not."""
    _, url = await server_process("examples/request_handler.py")

    async with http.get(f"{url}/report") as response:
        assert await response.text() == "0,0\n1,1\n2,4\n"
    async with http.get(f"{url}/thumbnail") as response:
        assert await response.json() == {"sizes": [64, 128]}
    async with http.post(f"{url}/thumbnail", data=b"12345") as response:
        assert await response.json() == {"bytes": 5}


async def test_existing_app(server_process: Any, http: ClientSession) -> None:
    """Beyond two running and ten waiting a search is refused, while the health route answers."""
    _, url = await server_process("examples/existing_app.py")

    async def search() -> tuple[int, str]:
        async with http.get(f"{url}/search?q=x") as response:
            await response.read()
            return response.status, response.headers.get("Retry-After", "")

    searches = [asyncio.create_task(search()) for _ in range(16)]
    async with http.get(f"{url}/health") as response:
        assert await response.text() == "ok"
    answers = await asyncio.gather(*searches)

    assert sorted(status for status, _ in answers) == [200] * 12 + [503] * 4
    assert all(int(after) >= 1 for status, after in answers if status == 503)


async def test_from_code(server_process: Any, http: ClientSession) -> None:
    """Two submitted jobs come back as the objects they are."""
    _, url = await server_process("examples/from_code.py")

    async with http.get(f"{url}/compare?text=a+b&text=a+b+c") as response:
        assert await response.json() == [2, 3]


async def test_private_jobs(server_process: Any, http: ClientSession) -> None:
    """Bob does not know that Ann's job exists."""
    _, url = await server_process("examples/private_jobs.py")
    ann, bob = ({"Authorization": f"Bearer {name}-secret"} for name in ("ann", "bob"))

    async with http.post(f"{url}/translate", json={"text": "abc"}, headers=ann) as response:
        job = await response.json()
    async with http.get(url + job["links"]["self"], headers=bob) as response:
        assert response.status == 404
    async with http.get(url + job["links"]["self"], headers={**ann, **WAIT}) as response:
        assert (await response.json())["result"] == "ann: cba"
    async with http.get(url + job["links"]["self"]) as response:
        assert response.status == 401


async def test_demo(server_process: Any, http: ClientSession) -> None:
    """The page is there, and a picture is read; where there is no model, it is described."""
    env = {"HOST": "127.0.0.1"}
    server, url = await server_process("examples/demo.py", env=env, timeout=30)

    async with http.get(url) as response:
        assert "/queue/client.js" in await response.text()
        assert response.headers["Referrer-Policy"] == "no-referrer"
    async with http.get(f"{url}/about") as response:
        about = await response.json()
    picture = await sample(http, url, about)
    async with http.post(f"{url}/ocr", data=form_of(picture), headers=WAIT) as response:
        found, *read = await response.json()
        lines = [line["text"] for line in read]
    async with http.post(f"{url}/ocr", data=form_of(b"no picture"), headers=WAIT) as response:
        assert (response.status, (await response.json())["code"]) == (422, "job_failed")

    assert (found["width"], found["height"]) == (640, 336)
    if about["reads"]:
        assert lines == ["HARBOUR", "Ferry 300 m", "Old Town 1.2 km"]
    else:
        assert lines == ["PNG, 640 × 336 pixels", f"{len(picture):,} bytes"]

    async with http.get(f"{url}/batches") as response:
        assert "/queue/client.js" in await response.text()
    script = b"#!/bin/sh\nfor name in one two; do\n  echo $name | sort\ndone\n"
    answers = await asyncio.gather(
        *(what_is(http, f"{url}/types", content) for content in (script, picture, b"", b"no"))
    )
    kinds = ["Shell script", "PNG image"] if about["knows_types"] else ["Script", "PNG image"]
    assert [one["type"] for one in answers[:2]] == kinds
    assert len({one["call"] for one in answers}) < len(answers)

    # Neither native code that still runs in a process nor what waits may hold up the exit.
    for _ in range(5):
        async with http.post(f"{url}/ocr", data=form_of(picture)) as response:
            assert response.status == 202
    server.terminate()
    assert await asyncio.to_thread(server.wait, 15) == 0


async def sample(http: ClientSession, url: str, about: Any) -> bytes:
    """The demo's own picture of a sign, or what can pass for one where nothing can draw."""
    if not about["samples"]:
        return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 336) + bytes(9)
    async with http.get(f"{url}/samples/2.png") as response:
        return await response.read()


async def what_is(http: ClientSession, url: str, content: bytes) -> Any:
    """What a file is said to be, and by which call."""
    form = FormData()
    form.add_field("file", content, filename="a")
    async with http.post(url, data=form, headers=WAIT) as response:
        return await response.json()


def form_of(image: bytes) -> FormData:
    """A form with one file, as the page sends it."""
    form = FormData()
    form.add_field("image", image, filename="a.png", content_type="image/png")
    return form


async def test_generator(server_process: Any, http: ClientSession) -> None:
    """A story comes word by word, and its result is all of them."""
    _, url = await server_process("examples/generator.py")

    body = {"about": "a train", "words": 3}
    async with http.post(f"{url}/story", json=body, headers=SSE) as response:
        events = [event async for event in read_events(response)]

    words = [event.data["data"] for event in events if event.event == "output"]
    assert words == events[-1].data["result"] == ["Once", "upon", "a"]


async def test_batch(server_process: Any, http: ClientSession) -> None:
    """Jobs that come together get their own answers; one of them may fail alone."""
    _, url = await server_process("examples/batch.py")

    async def shout(text: str) -> tuple[int, Any]:
        url_of = f"{url}/shout"
        async with http.post(url_of, json={"texts": text}, headers=WAIT) as response:
            return response.status, await response.json()

    (_, one), (status, problem), (_, two) = await asyncio.gather(*map(shout, ("one", "", "two")))

    assert (one, two, status, problem["detail"]) == ("ONE", "TWO", 422, "Nothing to shout.")


async def test_progress(server_process: Any, http: ClientSession) -> None:
    """How far it is, and what it logs, are told."""
    _, url = await server_process("examples/progress.py")

    async with http.post(f"{url}/denoise", json={"steps": 2}, headers=SSE) as response:
        events = [event async for event in read_events(response)]

    steps = [event.data["step"] for event in events if event.event == "progress"]
    assert steps in ([0, 1], [0])  # the second may be so soon that the end overtakes it
    assert [event.event for event in events][-2:] == ["log", "succeeded"]


async def test_heavy(server_process: Any, http: ClientSession) -> None:
    """It computes in another process than the server, says how far it is, and can be stopped."""
    _, url = await server_process("examples/heavy.py", timeout=30)
    body = {"below": 100_000}

    async with http.get(f"{url}/health") as response:
        server = (await response.json())["process"]
    async with http.post(f"{url}/primes", json=body, headers=WAIT) as response:
        result = await response.json()
    async with http.post(f"{url}/primes", json={"below": 10**12}, headers=SSE) as response:
        events = []
        async for event in read_events(response):
            events.append(event)
            if event.event == "progress":
                async with http.delete(url + events[0].data["links"]["self"]) as cancelled:
                    assert cancelled.status in (200, 202)

    assert result["primes"] == 9592
    assert result["process"] != server
    assert [event.event for event in events][-1] == "cancelled"
