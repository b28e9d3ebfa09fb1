"""Reading bodies: what is a field, what a file, how much is too much, and when it is too late."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import random
from collections.abc import Awaitable, Callable
from itertools import product
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from aiohttp import ClientSession, FormData, web

import aioqueue
from aioqueue import Upload
from aioqueue._bodies import json_limit
from aioqueue._parameters import Signature
from aioqueue.web import _RUNTIME
from tests.inside import until
from tests.wire import JSON, PATIENCE, connect, exchange, raw

KIB = 1024
USER = web.RequestKey("user", str)
READ_FIRST = b"X-Read-First: 1"
STREAM = b"Accept: text/event-stream"
WAIT = {"Prefer": "wait=20"}
WAITING = b"Prefer: wait=20"
FORM = b"Content-Type: multipart/form-data; boundary=b"


@aioqueue.queued
async def echo(text: str, times: int = 1) -> str:
    """Say it."""
    return text * times


@aioqueue.queued
async def look(image: bytes, note: str = "-", tags: list[str] = []) -> Any:  # noqa: B006
    """Say what comes."""
    return [image.hex() if len(image) < 100 else hash(image), note, tags]


@aioqueue.queued
async def whole(data: Annotated[bytes, aioqueue.Body] = b"none") -> int:
    """Say how much comes."""
    return len(data)


@aioqueue.queued(max_body_size=KIB)
async def small(text: str = "", image: bytes = b"") -> int:
    """Say how much comes."""
    return len(text) + len(image)


@aioqueue.queued(max_body_size=KIB)
async def small_whole(data: Annotated[bytes, aioqueue.Body]) -> int:
    """Say how much comes."""
    return len(data)


@aioqueue.queued(max_body_size=3 * KIB * KIB)
async def large(text: str) -> int:
    """Say how much comes."""
    return len(text)


@aioqueue.queued(max_body_size=3 * KIB * KIB)
async def video(file: Upload | None = None, text: str = "") -> int:
    """Say how much comes."""
    return len(text) + (0 if file is None else file.size)


@aioqueue.queued(max_body_size=3 * KIB * KIB)
async def whole_video(file: Annotated[Upload, aioqueue.Body]) -> int:
    """Say how much comes."""
    return file.size


@aioqueue.queued(max_body_size=3 * KIB * KIB)
async def whole_and_more(data: Annotated[bytes, aioqueue.Body], file: Upload | None = None) -> int:
    """Say how much comes, of which nothing can be the other file."""
    return len(data)


@aioqueue.queued
async def handler(request: web.Request) -> Any:
    """Say what comes, as a handler that takes the request."""
    return [(await request.json())["text"], request[USER]]


@aioqueue.queued(max_body_size=KIB)
async def small_handler(request: web.Request) -> int:
    """Say how much comes."""
    return len(await request.read())


@aioqueue.queued
async def streaming_handler(request: web.Request) -> web.StreamResponse:
    """Answer bit by bit, which a job can't."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"intruder")
    return response


FUNCTIONS = [echo, look, whole, small, small_whole, large, video, whole_video]
FUNCTIONS += [whole_and_more, handler, small_handler]


@web.middleware
async def reads_first(request: web.Request, handler: Callable[..., Awaitable[Any]]) -> Any:
    """A middleware that looks at the body, to check a signature for instance."""
    if request.headers.get("X-Read-First"):
        await request.read()
    request[USER] = "alice"
    return await handler(request)


def make_app(**options: Any) -> web.Application:
    """An app with all of these."""
    settings = options.pop("settings", {})
    app = web.Application(middlewares=[reads_first], **options)
    for function in (*FUNCTIONS, streaming_handler):
        app.router.add_post(f"/{function.name}", function)
    app.router.add_get("/echo", echo)
    app.router.add_get("/whole", whole)
    aioqueue.setup(app, **{"drain_timeout": 0, **settings})
    return app


@pytest.fixture
async def url(serve: Callable[..., Awaitable[str]]) -> str:
    """Where they are."""
    return await serve(make_app())


async def code_of(url: str, request: bytes) -> Any:
    """The code of a problem, or the bare result."""
    document = (await exchange(url, request)).json()
    return document["code"] if isinstance(document, dict) else document


# Forms


def part(content: bytes, disposition: bytes, *headers: bytes) -> bytes:
    """A form with one more part than the file it needs."""
    lines = [b"--b", b"Content-Disposition: form-data; " + disposition, *headers, b"", content]
    file = [b"--b", b'Content-Disposition: form-data; name="image"; filename=""', b"", b"\xff"]
    return b"\r\n".join([*lines, *file, b"--b--", b""])


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("disposition", "headers"),
    [
        (b'name="note"', []),
        (b"name=note", []),
        (b'name="note"', [b"Content-Type: text/plain"]),
        (b'name="note"', [b"Content-Type: text/plain; charset=utf-8"]),
        (b'name="note"', [b"content-type: Text/Plain"]),
    ],
)
async def test_a_field(url: str, disposition: bytes, headers: list[bytes]) -> None:
    """A part without a file name is text, whether it says so or says nothing (RFC 7578)."""
    body = part("é".encode(), disposition, *headers)

    answer = await exchange(url, raw("POST", "/look", FORM, WAITING, body=body))
    assert answer.json() == ["ff", "é", []]


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("disposition", "headers"),
    [
        (b'name="note"; filename="a.txt"', [b"Content-Type: text/plain"]),
        (b'name="note"; filename="a.txt"', []),
        (b'name="note"; filename=""', []),
        (b'name="note"', [b"Content-Type: image/png"]),
        (b'name="note"', [b"Content-Type: application/octet-stream"]),
    ],
)
async def test_a_file(url: str, disposition: bytes, headers: list[bytes]) -> None:
    """A part with a file name, or with a type that is no text, is a file, and no string."""
    body = part(b"text", disposition, *headers)

    answer = await exchange(url, raw("POST", "/look", FORM, body=body))
    (error,) = answer.json()["errors"]
    assert error == {
        "field": "note",
        "expected": "a string",
        "message": "must be a string, not a file",
    }


@pytest.mark.one_loop
@pytest.mark.parametrize("size", [0, 1, 5, 8190, 8191, 8192, 8193, 100_000])
@pytest.mark.parametrize("encoding", [b"binary", b"base64"])
async def test_a_file_of_any_size(url: str, size: int, encoding: bytes) -> None:
    """A file arrives byte for byte, boundaries and line ends in it, however it was wrapped."""
    content = (b"\r\n--a\r\n--" + random.Random(1).randbytes(size))[:size]
    wrapped = base64.encodebytes(content) if encoding == b"base64" else content
    line = b"Content-Transfer-Encoding: " + encoding
    disposition = b'name="image"; filename="i"'
    body = b"\r\n".join(
        [b"--b", b"Content-Disposition: form-data; " + disposition, line, b"", wrapped, b"--b--"]
    )

    got = await code_of(url, raw("POST", "/look", FORM, WAITING, body=body))
    assert got == [content.hex() if size < 100 else hash(content), "-", []]


async def test_a_form_of_a_client(url: str, http: ClientSession) -> None:
    """What aiohttp's own client sends as a form is understood, repeated names too."""
    form = FormData({"note": "é\n", "image": io.BytesIO(b"\xff")})
    form.add_field("tags", "a")
    form.add_field("tags", "b", content_type="text/plain")

    async with http.post(f"{url}/look", data=form, headers=WAIT) as response:
        assert await response.json() == ["ff", "é\n", ["a", "b"]]


# Types


@pytest.mark.one_loop
@pytest.mark.parametrize(
    "kind",
    [
        b"application/json",
        b"Application/JSON; charset=utf-8",
        b"application/vnd.api+json",
        b"application/problem+json",
    ],
)
async def test_json_by_other_names(url: str, kind: bytes) -> None:
    """JSON is JSON under any of its media types."""
    request = raw("POST", "/echo", b"Content-Type: " + kind, WAITING, body=b'{"text":"a"}')

    assert await code_of(url, request) == "a"


@pytest.mark.one_loop
@pytest.mark.parametrize("kind", [JSON, FORM, b"Content-Type: image/png", b"X-No: type"])
async def test_bytes_of_any_type(url: str, kind: bytes) -> None:
    """Who takes the whole body as bytes takes it as it comes, unparsed."""
    assert await code_of(url, raw("POST", "/whole", kind, WAITING, body=b"{--b")) == 4


@pytest.mark.one_loop
async def test_no_body(url: str) -> None:
    """Without a body and its type, the path and the query are all there is."""
    assert await code_of(url, raw("POST", "/echo?text=a&times=2", WAITING)) == "aa"
    assert await code_of(url, raw("POST", "/whole", WAITING)) == 4
    assert await code_of(url, raw("POST", "/echo?text=a", JSON, WAITING)) == "invalid_json"
    chunks = raw("POST", "/echo?text=a", b"Transfer-Encoding: chunked", WAITING, body=b"0\r\n\r\n")
    assert await code_of(url, chunks) == "a"


@pytest.mark.one_loop
@pytest.mark.parametrize("kind", [JSON, FORM, b"Content-Type: text/plain", b"X-No: type"])
@pytest.mark.parametrize("body", [b"", b'{"text":"b"}'])
async def test_get(url: str, kind: bytes, body: bytes) -> None:
    """A GET is its path and query; whatever else it brings means nothing, and is read away."""
    async with connect(url) as connection:
        for _ in range(2):
            connection.send(raw("GET", "/echo?text=a", kind, WAITING, body=body))
            assert (await connection.answer()).json() == "a"


# Limits


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/small", KIB),
        ("/echo", KIB * KIB),
        ("/large", 3 * KIB * KIB),
        ("/video", KIB * KIB),
    ],
)
@pytest.mark.parametrize("by", ["length", "chunks", "gzip"])
async def test_the_last_byte(url: str, path: str, limit: int, by: str) -> None:
    """A body may have as many bytes as its limit, uncompressed, and not one more."""
    for extra in (0, 1):
        body = b'{"text":"%b"}' % (b"x" * (limit + extra - len('{"text":""}')))
        assert len(body) == limit + extra
        request = {
            "length": raw("POST", path, JSON, body=body),
            "chunks": raw("POST", path, JSON, b"Transfer-Encoding: chunked", body=_in_two(body)),
            "gzip": raw("POST", path, JSON, b"Content-Encoding: gzip", body=gzip.compress(body, 1)),
        }[by]
        answer = await exchange(url, request)
        assert answer.status == (413 if extra else 202)
        if extra:
            assert answer.json()["detail"] == f"The body may have {limit} bytes."


def _in_two(body: bytes) -> bytes:
    half = len(body) // 2
    chunks = (body[:half], body[half:], b"")
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


@pytest.mark.one_loop
async def test_the_last_byte_of_a_form(url: str) -> None:
    """A form counts with all that is in it."""
    empty = b'--b\r\nContent-Disposition: form-data; name="image"; filename="i"\r\n\r\n%b\r\n--b--'
    for extra, expected in ((0, KIB - len(empty) + 2), (1, "payload_too_large")):
        body = empty % (b"x" * (KIB + extra - len(empty) + 2))
        assert len(body) == KIB + extra
        assert await code_of(url, raw("POST", "/small", FORM, WAITING, body=body)) == expected


@pytest.mark.one_loop
async def test_what_is_for_files(url: str) -> None:
    """Where files go to disk a form and a whole body may be larger than JSON."""
    content, size = b"x" * 2 * KIB * KIB, 2 * KIB * KIB
    form = part(content, b'name="file"; filename="f"').partition(b"\r\n--b\r\n")
    body = form[0] + b"\r\n--b--"
    assert await code_of(url, raw("POST", "/video", FORM, WAITING, body=body)) == size
    for path, kind in product(("/whole_video", "/whole_and_more"), (JSON, b"X-No: type")):
        assert await code_of(url, raw("POST", path, kind, WAITING, body=content)) == size


def in_memory(text: str, **others: bytes) -> None:
    """Take files in memory."""


def on_disk(file: Upload | None, text: str) -> None:
    """Take a file on disk."""


def many_on_disk(files: list[Upload]) -> None:
    """Take several."""


def any_on_disk(image: bytes, **others: Upload) -> None:
    """Take them by any name."""


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("function", "max_bytes", "most", "expected"),
    [
        (in_memory, None, 100, 100),
        (in_memory, 200, 100, 200),
        (in_memory, 0, 100, 0),
        (on_disk, None, 100, 100),
        (on_disk, 99, 100, 99),
        (on_disk, 200, 100, 100),
        (on_disk, 0, 100, 100),
        (on_disk, 200, 0, 200),
        (on_disk, None, 0, 0),
        (many_on_disk, 200, 100, 100),
        (any_on_disk, 200, 100, 100),
    ],
)
def test_json_limit(function: Any, max_bytes: int | None, most: int, expected: int) -> None:
    """JSON has the bound of its function, but for one that has it for files; 0 is none."""
    request: Any = SimpleNamespace(client_max_size=most)
    assert json_limit(request, Signature(function, method=False), max_bytes) == expected


@pytest.mark.one_loop
async def test_no_limit(serve: Any) -> None:
    """An app without a limit has none here either; a function's own counts all the same."""
    url = await serve(make_app(client_max_size=0))
    text = b'{"text":"%b"}' % (b"x" * 2 * KIB * KIB)

    assert len(await code_of(url, raw("POST", "/echo", JSON, WAITING, body=text))) == 2 * KIB * KIB
    assert await code_of(url, raw("POST", "/small", JSON, body=text)) == "payload_too_large"


@pytest.mark.one_loop
async def test_the_apps_limit(serve: Any) -> None:
    """The setting is for all functions that say nothing of their own."""
    url = await serve(make_app(settings={"max_body_size": 100}))
    text = b'{"text":"%b"}' % (b"x" * 100)

    assert await code_of(url, raw("POST", "/echo", JSON, body=text)) == "payload_too_large"
    assert await code_of(url, raw("POST", "/small", JSON, WAITING, body=text)) == 100


# Behind a middleware that has read the body


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("path", "kind", "body", "expected"),
    [
        ("/echo", JSON, b'{"text":"a"}', "a"),
        ("/small", JSON, b'{"text":"abc"}', 3),
        ("/small", JSON, b'{"text":"%b"}' % (b"x" * KIB), "payload_too_large"),
        ("/whole", b"X-No: type", b"1234567", 7),
        ("/small_whole", b"X-No: type", b"1234567", 7),
        ("/small_whole", b"X-No: type", b"1" * 2 * KIB, "payload_too_large"),
        ("/echo", b"X-No: type", b'{"text":"a"}', "unsupported_media_type"),
    ],
)
async def test_a_body_that_was_read(
    url: str, path: str, kind: bytes, body: bytes, expected: Any
) -> None:
    """A body that a middleware has read is still the body, and has its limit."""
    assert await code_of(url, raw("POST", path, kind, WAITING, READ_FIRST, body=body)) == expected


# Handlers as jobs


async def stream_of(url: str, request: bytes) -> bytes:
    """Everything on a stream."""
    async with connect(url) as connection:
        connection.send(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        return await connection.rest()


@pytest.mark.parametrize("first", [READ_FIRST, b"X-No: nothing"])
async def test_a_handler_as_a_job(url: str, first: bytes) -> None:
    """A handler that runs as a job has the body, and what the app's middlewares left for it."""
    request = raw("POST", "/handler", JSON, STREAM, first, body=b'{"text":"a"}')

    assert b'"result":["a","alice"]' in await stream_of(url, request)


@pytest.mark.one_loop
@pytest.mark.parametrize("first", [READ_FIRST, b"X-No: nothing"])
async def test_the_limit_of_a_handler(url: str, first: bytes) -> None:
    """A handler's limit is its function's."""
    request = raw("POST", "/small_handler", JSON, STREAM, body=b"x" * (KIB + 1))
    assert await code_of(url, request) == "payload_too_large"

    request = raw("POST", "/small_handler", JSON, STREAM, first, body=b"x" * KIB)
    assert b'"result":1024' in await stream_of(url, request)


async def test_a_handler_that_would_answer_by_itself(url: str) -> None:
    """A job has no way to the connection, which may be somebody else's by now."""
    data = await stream_of(url, raw("POST", "/streaming_handler", STREAM))

    assert b'"code":"job_failed"' in data
    assert b"This function streams its answer. Ask for it without text/event-stream." in data
    assert data.count(b"HTTP/1.1") == 1
    assert b"intruder" not in data


# The end of the server


class Gate:
    """An owner hook that can be held."""

    def __init__(self, *, is_open: bool) -> None:
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        if is_open:
            self.open.set()

    async def __call__(self, request: web.Request) -> None:
        self.asked.set()
        await self.open.wait()


@pytest.mark.parametrize("held", [False, True], ids=["while it is read", "before it is read"])
async def test_an_upload_when_the_server_ends(held: bool) -> None:
    """A body that will never be whole does not hold up the end: its client is told, at once."""
    gate = Gate(is_open=not held)
    app = make_app(settings={"owner": gate, "body_timeout": 60})
    runner = web.AppRunner(app, shutdown_timeout=60)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    bodies = app[_RUNTIME][0]._bodies
    async with (
        asyncio.timeout(PATIENCE),
        connect(f"http://127.0.0.1:{runner.addresses[0][1]}") as connection,
    ):
        connection.send(raw("POST", "/echo", JSON, body=b'{"text"', length=100))
        await gate.asked.wait()
        await until(lambda: held or bodies._reading)
        end = asyncio.create_task(runner.cleanup())
        await until(lambda: bodies._shutting_down)
        gate.open.set()
        answer = await connection.answer()
        await connection.rest()
        await end

    assert (answer.status, answer.json()["code"]) == (503, "shutting_down")


async def test_a_body_that_is_late_when_the_server_ends(serve: Any) -> None:
    """A body whose time is up in the moment the server ends is late, and nothing breaks."""
    app = make_app(settings={"body_timeout": 0.05})
    url = await serve(app)
    bodies = app[_RUNTIME][0]._bodies
    async with connect(url) as connection:
        connection.send(raw("POST", "/echo", JSON, body=b"{", length=100))
        await until(lambda: bodies._reading)
        (deadline,) = bodies._reading
        await until(deadline.expired)
        bodies.abort()
        answer = await connection.answer()

    assert answer.status in (408, 503)
