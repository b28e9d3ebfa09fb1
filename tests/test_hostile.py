"""Requests as nobody means them well.

Each gets an answer that says what is wrong, in a form that never changes; nothing is queued, no
secret is told, and the next request is served as if nothing had been.
"""

from __future__ import annotations

import gzip
import random
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import attrs
import orjson
import pytest
from aiohttp import web

import aioqueue
from aioqueue import Upload
from tests.stage import until
from tests.wire import JSON, Answer, chunked, connect, exchange, raw

KIB = 1024
FORM = b"Content-Type: multipart/form-data; boundary=b"
WAIT = b"Prefer: wait=20"
NEVER = "an exception's own text"


@attrs.define
class Target:
    """A served app, and what its functions were called with."""

    url: str = ""
    calls: list[Any] = attrs.field(factory=list)
    files: Path = Path("nowhere")
    """Where its uploads lie."""
    owner: Any = None
    """Who asks, as the owner hook says; an exception is raised."""

    async def ask(self, *args: Any, **options: Any) -> Answer:
        """The answer to one request."""
        return await exchange(self.url, raw(*args, **options))

    async def is_unharmed(self) -> None:
        """Nothing was queued, nothing is running, and a good request is served."""
        self.owner = None
        status = (await self.ask("GET", "/queue/status")).json()
        counts = {(one["running"], one["queued"]) for one in status["functions"].values()}
        assert counts == {(0, 0)}
        assert self.calls == []
        assert status["streams"] == 0
        answer = await self.ask("POST", "/add", JSON, WAIT, body=b'{"a":1,"b":2}')
        assert (answer.status, answer.body) == (200, b"3")
        await until(lambda: not [*self.files.glob("aioqueue-*/*")])


def make_app(target: Target, **settings: Any) -> web.Application:
    """A function of each kind."""
    calls = target.calls

    @aioqueue.queued
    async def add(a: int, b: int = 0) -> int:
        if (a, b) != (1, 2):
            calls.append(a)
        return a + b

    @aioqueue.queued
    async def anything(x: Any = None, **more: Any) -> Any:
        calls.append(x)
        return x

    @aioqueue.queued
    async def look(image: bytes, note: str = "") -> int:
        calls.append(note)
        return len(image)

    @aioqueue.queued
    async def keep(image: Upload, note: str = "") -> int:
        calls.append(note)
        return image.size

    @aioqueue.queued
    async def several(images: list[Upload]) -> list[str]:
        calls.append(images)
        return [image.name for image in images]

    @aioqueue.queued
    async def whole(data: Annotated[bytes, aioqueue.Body]) -> int:
        calls.append(data)
        return len(data)

    @aioqueue.queued
    async def listed(ids: list[int]) -> int:
        calls.append(ids)
        return len(ids)

    @aioqueue.queued(max_body_size=2 * KIB)
    async def small(text: str, image: bytes = b"") -> None:
        calls.append(text)

    async def owner(request: web.Request) -> Any:
        if isinstance(target.owner, Exception):
            raise target.owner
        return target.owner

    app = web.Application(client_max_size=64 * KIB)
    for function in (add, anything, look, keep, several, whole, listed, small):
        app.router.add_post(f"/{function.name.rpartition('.')[2]}", function)
    app.router.add_get("/listed", listed)
    aioqueue.setup(app, owner=owner, drain_timeout=0, spool_dir=target.files, **settings)
    return app


@pytest.fixture
async def target(serve: Callable[..., Awaitable[str]], tmp_path: Path) -> Target:
    """A server to be attacked."""
    made = Target(files=tmp_path)
    made.url = await serve(make_app(made))
    return made


@pytest.fixture
async def impatient(serve: Callable[..., Awaitable[str]], tmp_path: Path) -> Target:
    """A server that does not wait long for bodies."""
    made = Target(files=tmp_path)
    made.url = await serve(make_app(made, body_timeout=0.1))
    return made


def is_problem(answer: Answer, status: int, code: str) -> None:
    """It is a problem document of this code, and tells nothing it should not."""
    document = answer.json()
    assert (answer.status, document["status"], document["code"]) == (status, status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert document["type"] == f"urn:aioqueue:problem:{code.replace('_', '-')}"
    assert document["title"]
    assert document["detail"]
    assert document["instance"].startswith("/")
    for secret in (b"Traceback", b".py", b"Error(", NEVER.encode()):
        assert secret not in answer.body


def part(content: bytes, *headers: bytes, name: bytes = b'name="image"; filename="i"') -> bytes:
    """One part of a form."""
    lines = (b"--b", b"Content-Disposition: form-data; " + name, *headers, b"", content)
    return b"\r\n".join(lines) + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A form."""
    return b"".join(parts) + b"--b--\r\n"


def zeros(size: int) -> bytes:
    """A bomb: JSON that is blanks, and nearly nothing once compressed."""
    return gzip.compress(b" " * size)


def post(path: str, *headers: bytes, body: bytes = b"") -> tuple[Any, ...]:
    """A row of a table."""
    return path, headers, body


# What can't be read

BODIES = {
    "half of it": (post("/add", JSON, body=b'{"a":'), 400, "invalid_json"),
    "nothing": (post("/add", JSON), 400, "invalid_json"),
    "blanks": (post("/add", JSON, body=b"  "), 400, "invalid_json"),
    "NaN": (post("/anything", JSON, body=b'{"x":NaN}'), 400, "invalid_json"),
    "infinity": (post("/anything", JSON, body=b'{"x":-Infinity}'), 400, "invalid_json"),
    "1e999": (post("/anything", JSON, body=b'{"x":1e999}'), 400, "invalid_json"),
    "no UTF-8": (post("/anything", JSON, body=b'{"x":"\xff"}'), 400, "invalid_json"),
    "UTF-16": (post("/add", JSON, body='{"a":1}'.encode("utf-16")), 400, "invalid_json"),
    "BOM": (post("/add", JSON, body=b'\xef\xbb\xbf{"a":1}'), 400, "invalid_json"),
    "surrogate": (post("/anything", JSON, body=rb'{"x":"\ud800"}'), 400, "invalid_json"),
    "two": (post("/add", JSON, body=b'{"a":1}{"a":1}'), 400, "invalid_json"),
    "comment": (post("/add", JSON, body=b'{"a":1}//'), 400, "invalid_json"),
    "too deep": (post("/anything", JSON, body=b'{"x":' + b"[" * 5000), 400, "invalid_json"),
    "just too deep": (
        post("/anything", JSON, body=b'{"x":' + b"[" * 1023 + b"]" * 1023 + b"}"),
        400,
        "invalid_json",
    ),
    # What is no argument
    "string for int": (post("/add", JSON, body=b'{"a":"1"}'), 422, "invalid_arguments"),
    "true for int": (post("/add", JSON, body=b'{"a":true}'), 422, "invalid_arguments"),
    "fraction for int": (post("/add", JSON, body=b'{"a":1.5}'), 422, "invalid_arguments"),
    "70 bits": (post("/add", JSON, body=b'{"a":%d}' % 2**70), 422, "invalid_arguments"),
    "array": (post("/add", JSON, body=b"[1]"), 422, "invalid_arguments"),
    "unknown": (post("/add", JSON, body=b'{"a":1,"c":1}'), 422, "invalid_arguments"),
    "missing": (post("/add", JSON, body=b"{}"), 422, "invalid_arguments"),
    "no body": (post("/add"), 422, "invalid_arguments"),
    "bytes in JSON": (post("/look", JSON, body=b'{"image":"AA"}'), 422, "invalid_arguments"),
    "twice": (post("/add?a=1", JSON, body=b'{"a":1}'), 422, "invalid_arguments"),
    "in the query twice": (post("/add?a=1&a=1"), 422, "invalid_arguments"),
    "no number in the query": (post("/listed?ids=1&ids=%FF"), 422, "invalid_arguments"),
    "job": (post("/add", JSON, body=b'{"a":1,"job":1}'), 422, "invalid_arguments"),
    "20,000 names": (
        post("/add", JSON, body=b"{%b}" % b",".join(b'"%x":0' % n for n in range(6000))),
        422,
        "invalid_arguments",
    ),
    "20,000 mistakes": (
        post("/listed", JSON, body=b'{"ids":[%b]}' % b",".join([b'""'] * 20_000)),
        422,
        "invalid_arguments",
    ),
    # Types that are not taken: whatever a page of another site could send without being asked
    "no type": (post("/add", body=b'{"a":1}'), 415, "unsupported_media_type"),
    "empty type": (post("/add", b"Content-Type:", body=b'{"a":1}'), 415, "unsupported_media_type"),
    "text": (
        post("/add", b"Content-Type: text/plain", body=b'{"a":1}'),
        415,
        "unsupported_media_type",
    ),
    "text that claims to be JSON": (
        post("/add", b"Content-Type: text/plain; application/json", body=b'{"a":1}'),
        415,
        "unsupported_media_type",
    ),
    "form": (
        post("/add", b"Content-Type: application/x-www-form-urlencoded", body=b"a=1"),
        415,
        "unsupported_media_type",
    ),
    "form to who takes files": (
        post("/look", b"Content-Type: application/x-www-form-urlencoded", body=b"note=1"),
        415,
        "unsupported_media_type",
    ),
    "multipart to who takes none": (
        post("/add", FORM, body=form(part(b"1", name=b'name="a"'))),
        415,
        "unsupported_media_type",
    ),
    "other multipart": (
        post("/look", b"Content-Type: multipart/mixed; boundary=b", body=form(part(b"1"))),
        415,
        "unsupported_media_type",
    ),
    "nearly JSON": (
        post("/add", b"Content-Type: application/x+jsonp", body=b'{"a":1}'),
        415,
        "unsupported_media_type",
    ),
    "bytes for a type": (
        post("/add", b"Content-Type: \xff/\xfe", body=b'{"a":1}'),
        415,
        "unsupported_media_type",
    ),
    # Forms that are none
    "no boundary": (
        post("/look", b"Content-Type: multipart/form-data", body=form(part(b"1"))),
        400,
        "bad_request",
    ),
    "long boundary": (
        post("/look", FORM + b"b" * 100, body=form(part(b"1"))),
        400,
        "bad_request",
    ),
    "other boundary": (post("/look", FORM + b"c", body=form(part(b"1"))), 400, "bad_request"),
    "empty form": (post("/look", FORM), 400, "bad_request"),
    "no end": (post("/look", FORM, body=part(b"1")), 400, "bad_request"),
    "cut off": (post("/look", FORM, body=part(b"1" * 100)[:-50]), 400, "bad_request"),
    "no name": (post("/look", FORM, body=form(part(b"1", name=b"x=1"))), 400, "bad_request"),
    "name of bytes": (
        post("/look", FORM, body=form(part(b"1", name=b'name="\xff"; filename="i"'))),
        400,
        "bad_request",
    ),
    "text of bytes": (
        post("/look", FORM, body=form(part(b"\xff", name=b'name="note"'))),
        400,
        "bad_request",
    ),
    "form in a form": (
        post("/look", FORM, body=form(part(b"1", b"Content-Type: multipart/mixed; boundary=c"))),
        400,
        "bad_request",
    ),
    "header that is none": (post("/look", FORM, body=form(part(b"1", b"x"))), 400, "bad_request"),
    "1000 headers": (
        post("/look", FORM, body=form(part(b"1", *[b"X: y"] * 1000))),
        400,
        "bad_request",
    ),
    "unknown encoding": (
        post("/look", FORM, body=form(part(b"1", b"Content-Transfer-Encoding: rot13"))),
        400,
        "bad_request",
    ),
    "bad base64": (
        post("/look", FORM, body=form(part(b"a", b"Content-Transfer-Encoding: base64"))),
        400,
        "bad_request",
    ),
    "bad charset": (
        post("/look", FORM, body=form(part(b"x" * 50, name=b'name="_charset_"'), part(b"1"))),
        400,
        "bad_request",
    ),
    "unknown part": (
        post("/look", FORM, body=form(part(b"1"), part(b"1", name=b'name="x"'))),
        422,
        "invalid_arguments",
    ),
    "file twice": (
        post("/look", FORM, body=form(part(b"1"), part(b"1"))),
        422,
        "invalid_arguments",
    ),
    # Encodings that are none
    "no gzip": (
        post("/add", JSON, b"Content-Encoding: gzip", body=b'{"a":1}'),
        400,
        "bad_request",
    ),
    "broken gzip": (
        post("/add", JSON, b"Content-Encoding: gzip", body=gzip.compress(b"")[:10] + b"\xff" * 9),
        400,
        "bad_request",
    ),
    "no deflate": (
        post("/add", JSON, b"Content-Encoding: deflate", body=b"\xff\xff\xff"),
        400,
        "bad_request",
    ),
    # Too much
    "too long": (post("/add", JSON, body=b" " * (64 * KIB + 1)), 413, "payload_too_large"),
    "too long for the function": (
        post("/small", JSON, body=b'{"text":"%b"}' % (b"x" * 2 * KIB)),
        413,
        "payload_too_large",
    ),
    "gzip bomb": (
        post("/add", JSON, b"Content-Encoding: gzip", body=zeros(50_000 * KIB)),
        413,
        "payload_too_large",
    ),
    "gzip bomb for the function": (
        post("/small", JSON, b"Content-Encoding: gzip", body=zeros(3 * KIB)),
        413,
        "payload_too_large",
    ),
    "deflate bomb": (
        post("/add", JSON, b"Content-Encoding: deflate", body=zlib.compress(b" " * 99 * KIB)),
        413,
        "payload_too_large",
    ),
    "gzip bomb of a form": (
        post(
            "/look",
            FORM,
            b"Content-Encoding: gzip",
            body=gzip.compress(form(part(zeros(0) + b" " * 99 * KIB))),
        ),
        413,
        "payload_too_large",
    ),
    "long file": (
        post("/look", FORM, body=form(part(b"1" * 64 * KIB))),
        413,
        "payload_too_large",
    ),
    "long chunks": (
        post("/add", JSON, b"Transfer-Encoding: chunked", body=chunked(*[b" " * 40 * KIB] * 2)),
        413,
        "payload_too_large",
    ),
    "long chunks for the function": (
        post("/small", JSON, b"Transfer-Encoding: chunked", body=chunked(*[b" " * KIB] * 3)),
        413,
        "payload_too_large",
    ),
    "long chunks of a form": (
        post(
            "/look",
            *(FORM, b"Transfer-Encoding: chunked"),
            body=chunked(*[part(b"1" * 20 * KIB)] * 4),
        ),
        413,
        "payload_too_large",
    ),
    "2000 empty parts": (
        post(
            "/look",
            *(FORM, b"Transfer-Encoding: chunked"),
            body=chunked(*[part(b"", name=b'name="note"')] * 2000),
        ),
        413,
        "payload_too_large",
    ),
    "long end of a form": (
        post(
            "/look",
            *(FORM, b"Transfer-Encoding: chunked"),
            body=chunked(form(part(b"1")), *[b"\r\n" * 20 * KIB] * 2),
        ),
        413,
        "payload_too_large",
    ),
}


# The same with a file that goes to disk.
BODIES |= {
    f"{name}, to disk": (post("/keep", *headers, body=body), status, code)
    for name, ((path, headers, body), status, code) in BODIES.items()
    if path == "/look"
}


@pytest.mark.one_loop
@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_is_not_taken(target: Target, name: str) -> None:
    """Whatever a body may be, it is answered with what is wrong with it, and nothing is queued."""
    (path, headers, body), status, code = BODIES[name]
    answer = await target.ask("POST", path, *headers, body=body)

    is_problem(answer, status, code)
    assert answer.headers["Vary"] == "Accept, Prefer"
    assert len(answer.body) < 20 * KIB
    await target.is_unharmed()


@pytest.mark.parametrize("accept", [b"Accept: text/event-stream", WAIT, b"Prefer: respond-async"])
async def test_a_wish_does_not_change_a_refusal(target: Target, accept: bytes) -> None:
    """A refusal is a problem with its real status, also for who asked for a stream."""
    answer = await target.ask("POST", "/add", JSON, accept, body=b'{"a":"x"}')

    is_problem(answer, 422, "invalid_arguments")
    await target.is_unharmed()


async def test_chunks_that_are_none(target: Target) -> None:
    """A body whose framing breaks is refused, and its connection ends."""
    async with connect(target.url) as connection:
        head = raw("POST", "/add", JSON, b"Transfer-Encoding: chunked")
        connection.send(head + b"1\r\n{\r\nnot hexadecimal\r\n")
        answer = await connection.answer()
        await connection.rest()

    assert answer.status == 400
    await target.is_unharmed()


# Answers that do not wait for the body

EARLY = {
    "no type": ("/add", (), 415, "unsupported_media_type"),
    "text": ("/add", (b"Content-Type: text/plain",), 415, "unsupported_media_type"),
    "form": ("/add", (FORM,), 415, "unsupported_media_type"),
    "cross-site": ("/look", (FORM, b"Sec-Fetch-Site: cross-site"), 403, "cross_site"),
    "cross-site bytes": ("/whole", (JSON, b"Origin: https://evil.example"), 403, "cross_site"),
    "short key": ("/add", (JSON, b"Idempotency-Key: x"), 400, "idempotency_key_invalid"),
    "two keys": (
        "/add",
        (JSON, *[b"Idempotency-Key: 0123456789abcdef"] * 2),
        400,
        "idempotency_key_invalid",
    ),
}


@pytest.mark.parametrize("name", EARLY)
async def test_an_answer_before_the_body(target: Target, name: str) -> None:
    """What the headers say is enough to refuse; the connection ends at once, unlike the body."""
    path, headers, status, code = EARLY[name]
    async with connect(target.url) as connection:
        connection.send(raw("POST", path, *headers, body=b"--", length=1000))
        answer = await connection.answer()
        rest = await connection.rest()

    is_problem(answer, status, code)
    assert answer.headers["Connection"] == "close"
    assert rest == b""
    await target.is_unharmed()


@pytest.mark.parametrize(
    ("path", "headers", "length"),
    [
        ("/add", [JSON], 64 * KIB + 1),
        ("/add", [JSON, b"Content-Encoding: gzip"], 64 * KIB + 1),
        ("/small", [JSON], 2 * KIB + 1),
        ("/look", [FORM], 64 * KIB + 1),
        ("/keep", [FORM], 64 * KIB + 1),
        ("/whole", [b"Content-Type: image/png"], 10**15),
    ],
)
async def test_a_length_that_is_too_much(
    target: Target, path: str, headers: list[bytes], length: int
) -> None:
    """A body that says it is too large is not waited for."""
    async with connect(target.url) as connection:
        connection.send(raw("POST", path, *headers, body=b"--b", length=length))
        answer = await connection.answer()
        rest = await connection.rest()

    is_problem(answer, 413, "payload_too_large")
    assert answer.headers["Connection"] == "close"
    assert rest == b""
    await target.is_unharmed()


async def test_an_upload_that_grows_too_long(target: Target) -> None:
    """A body of unknown length is cut off at the limit, in the middle of its upload."""
    async with connect(target.url) as connection:
        connection.send(raw("POST", "/add", JSON, b"Transfer-Encoding: chunked"))
        for _ in range(3):
            connection.send(b"8000\r\n" + b" " * 32 * KIB + b"\r\n")
        answer = await connection.answer()
        rest = await connection.rest()

    is_problem(answer, 413, "payload_too_large")
    assert rest == b""
    await target.is_unharmed()


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        ("/add", [JSON], b""),
        ("/add", [JSON], b'{"a":'),
        ("/add", [JSON, b"Idempotency-Key: 0123456789abcdef"], b'{"a":'),
        ("/small", [JSON], b'{"text":'),
        ("/look", [FORM], b""),
        ("/look", [FORM], part(b"1")[:-9]),
        ("/keep", [FORM], part(b"1")[:-9]),
        ("/whole", [b"Content-Type: image/png"], b"\x89PNG"),
        ("/add", [JSON, b"Accept: text/event-stream"], b'{"a":'),
    ],
)
async def test_a_body_that_does_not_come(
    impatient: Target, path: str, headers: list[bytes], body: bytes
) -> None:
    """A body has so much time and no more; then its connection ends, and it never had a place."""
    async with connect(impatient.url) as connection:
        connection.send(raw("POST", path, *headers, body=body, length=1000))
        answer = await connection.answer()
        rest = await connection.rest()

    is_problem(answer, 408, "body_timeout")
    assert answer.headers["Connection"] == "close"
    assert rest == b""
    await impatient.is_unharmed()


async def test_a_get_with_a_body_that_does_not_come(impatient: Target) -> None:
    """A GET's body means nothing, but who announces one and leaves it out is not served."""
    async with connect(impatient.url) as connection:
        connection.send(raw("GET", "/listed?ids=1", body=b"x", length=2))
        answer = await connection.answer()
        await connection.rest()

    is_problem(answer, 408, "body_timeout")
    await impatient.is_unharmed()


@pytest.mark.parametrize(
    ("path", "kind"), [("/add", JSON), ("/small", JSON), ("/look", FORM), ("/keep", FORM)]
)
async def test_a_client_that_leaves_during_its_upload(
    target: Target, caplog: pytest.LogCaptureFixture, path: str, kind: bytes
) -> None:
    """Half a body and no more: nothing is queued, and nobody is bothered."""
    async with connect(target.url) as connection:
        connection.send(raw("POST", path, kind, body=part(b"1")[:9], length=100))

    await target.is_unharmed()
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


# Other sites

OTHER_SITES = [
    (b"Sec-Fetch-Site: cross-site",),
    (b"sec-fetch-site: Cross-Site",),
    (b"Sec-Fetch-Site: \xff",),
    (b"Sec-Fetch-Site:",),
    (b"Sec-Fetch-Site: cross-site", b"Origin: http://localhost"),
    (b"Origin: https://evil.example",),
    (b"Origin: null",),
    (b"Origin: http://localhost.evil.example",),
    (b"Origin: http://localhost:81",),
    (b"Origin: localhost",),
    (b"Origin: \xff",),
]
OWN_SITE = [
    (),
    (b"Sec-Fetch-Site: same-origin",),
    (b"Sec-Fetch-Site: same-site",),
    (b"Sec-Fetch-Site: none",),
    (b"Sec-Fetch-Site: same-origin", b"Origin: https://what.a.proxy.made.of.it"),
    (b"Origin: http://localhost",),
    (b"Origin: https://LOCALHOST",),
]
# What a page may send to any site without the browser asking that site first.
SENT_UNASKED = [
    ("/look", (FORM,), form(part(b"123"))),
    ("/keep", (FORM,), form(part(b"123"))),
    ("/whole", (b"Content-Type: text/plain",), b"123"),
    ("/whole", (), b"123"),
    ("/listed?ids=1&ids=2&ids=3", (), b""),
]


@pytest.mark.one_loop
@pytest.mark.parametrize(("path", "headers", "body"), SENT_UNASKED)
async def test_from_another_site(
    target: Target, path: str, headers: tuple[bytes, ...], body: bytes
) -> None:
    """What a page of another site can send without being asked is refused."""
    for site in OTHER_SITES:
        answer = await target.ask("POST", path, *headers, *site, body=body)
        is_problem(answer, 403, "cross_site")
    await target.is_unharmed()


@pytest.mark.one_loop
@pytest.mark.parametrize(("path", "headers", "body"), SENT_UNASKED)
async def test_from_its_own_site(
    target: Target, path: str, headers: tuple[bytes, ...], body: bytes
) -> None:
    """Pages of the same site, and clients that are no browsers, are served."""
    for site in OWN_SITE:
        answer = await target.ask("POST", path, *headers, *site, WAIT, body=body)
        assert (answer.status, answer.body) == (200, b"3"), site


@pytest.mark.one_loop
async def test_json_from_another_site(target: Target) -> None:
    """JSON from elsewhere is the app's own business: its CORS rules were asked first."""
    for site in OTHER_SITES:
        answer = await target.ask("POST", "/add", JSON, WAIT, *site, body=b'{"a":1,"b":2}')
        assert (answer.status, answer.body) == (200, b"3"), site


# Ids that are none

ODD_IDS = [
    "..%2f",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%00",
    "a%0ab",
    "a%0d%0aX-Injected:%20yes",
    "%ff",
    "%C3%A9" * 22,
    "%F0%9F%98%80",
    "x",
    "x" * 21,
    "x" * 23,
    "x" * 7000,
    "-" * 22,
    "x" * 21 + "%20",
    "%D9%A3" * 22,
    "*",
    "%25s",
]
JOB_ROUTES = [
    ("GET", "/queue/jobs/{}"),
    ("DELETE", "/queue/jobs/{}"),
    ("GET", "/queue/jobs/{}/events"),
    ("GET", "/queue/jobs/{}/result"),
    ("GET", "/queue/events?job={}"),
]


@pytest.mark.one_loop
@pytest.mark.parametrize(("method", "path"), JOB_ROUTES)
async def test_an_id_that_is_none(target: Target, method: str, path: str) -> None:
    """Whatever stands where an id should be, there is no such job."""
    for job_id in ODD_IDS:
        answer = await target.ask(method, path.format(job_id), b"Accept: text/event-stream")
        is_problem(answer, 404, "not_found")
        assert "X-Injected" not in answer.headers
    await target.is_unharmed()


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "bad_request"),
        ("?jobs=x", 400, "bad_request"),
        ("?" + "&".join(f"job={n}" for n in range(51)), 400, "bad_request"),
        ("?" + "&".join(f"job={n}" for n in range(50)), 404, "not_found"),
        ("?job", 404, "not_found"),
        ("?job=", 404, "not_found"),
    ],
    ids=["none", "other", "51", "50", "bare", "empty"],
)
async def test_no_jobs_or_too_many(target: Target, query: str, status: int, code: str) -> None:
    """One stream is for some jobs: one at least, fifty at most."""
    is_problem(await target.ask("GET", f"/queue/events{query}"), status, code)
    await target.is_unharmed()


@pytest.mark.one_loop
@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("target_of", [b"/queue/jobs/\xff", "/queue/jobs/é".encode()])
async def test_bytes_in_a_path(target: Target, method: str, target_of: bytes) -> None:
    """A request line that is no HTTP never gets as far as us."""
    request = raw(method, "/queue/jobs/ID").replace(b"/queue/jobs/ID", target_of)
    answer = await exchange(target.url, request)

    assert answer.status == 400
    await target.is_unharmed()


# Other people's jobs


def alike(one: Answer, other: Answer, one_id: str, other_id: str) -> bool:
    """Whether two answers are the same, but for the id that was asked for."""
    for answer in (one, other):
        answer.headers.popall("Date", None)
    return (
        one.status == other.status
        and one.headers == other.headers
        and one.body.replace(one_id.encode(), b"") == other.body.replace(other_id.encode(), b"")
    )


async def job_of(target: Target, owner: str | None) -> str:
    """The id of a job that has ended."""
    target.owner = owner
    answer = await target.ask("POST", "/add", JSON, WAIT, body=b'{"a":1,"b":2}')
    return answer.headers["Content-Location"].split("/")[3]


@pytest.mark.one_loop
@pytest.mark.parametrize(("method", "path"), JOB_ROUTES)
@pytest.mark.parametrize("asking", ["mallory", "", None])
async def test_the_job_of_somebody_else(
    target: Target, method: str, path: str, asking: str | None
) -> None:
    """Somebody else's job is answered like one that never was, byte for byte."""
    theirs, nobodys = await job_of(target, "alice"), "x" * 22
    target.owner = asking
    foreign = await target.ask(method, path.format(theirs))
    unknown = await target.ask(method, path.format(nobodys))

    is_problem(foreign, 404, "not_found")
    assert alike(foreign, unknown, theirs, nobodys)
    target.owner = "alice"
    assert (await target.ask("GET", f"/queue/jobs/{theirs}")).json()["state"] == "succeeded"


@pytest.mark.one_loop
async def test_one_of_several_jobs_is_somebody_elses(target: Target) -> None:
    """A stream of several jobs says of a foreign one what it says of an unknown one: gone."""
    theirs, mine = await job_of(target, "alice"), await job_of(target, "bob")
    events = []
    for job_id in (theirs, "x" * 22):
        path = f"/queue/events?job={mine}&job={job_id}"
        async with connect(target.url) as connection:
            connection.send(raw("GET", path, b"Connection: close"))
            data = await connection.rest()
        lines = [line for line in data.split(b"\n") if job_id.encode() in line]
        events.append([line.replace(job_id.encode(), b"ID") for line in lines])

    assert events[0] == events[1] != []
    assert all(b'"gone"' in line for line in events[0])


@pytest.mark.one_loop
@pytest.mark.parametrize(("method", "path"), JOB_ROUTES)
async def test_an_owner_hook_that_raises(target: Target, method: str, path: str) -> None:
    """A hook that fails is our mistake, whoever's job it is, and its words are for the log."""
    known, unknown = await job_of(target, None), "x" * 22
    target.owner = RuntimeError(NEVER)
    answers = [await target.ask(method, path.format(job_id)) for job_id in (known, unknown)]

    is_problem(answers[0], 500, "internal_error")
    assert alike(*answers, known, unknown)
    await target.is_unharmed()


async def test_an_owner_hook_that_raises_for_a_submit(target: Target) -> None:
    """Without knowing whose it would be, no job is queued."""
    target.owner = RuntimeError(NEVER)
    answer = await target.ask("POST", "/add", JSON, body=b'{"a":1}')

    is_problem(answer, 500, "internal_error")
    await target.is_unharmed()


# Headers

VALUES = [
    b"\xff",
    b"\x80" * 200,
    "é".encode(),
    "²".encode(),
    "٣".encode(),
    b'"\xff"',
    b'"',
    b"\\",
    b",;=,;=",
    b"q=\xff;=\xfe",
    b"1-\xff",
    "1-²".encode(),
    "٣-٣".encode(),
    b"1-" + b"9" * 5000,
    b"wait=\xff, wait=" + "²".encode(),
    b"wait=" + b"9" * 5000,
    b"text/event-stream;q=\xff",
    b"a" * 8000,
]
HEADERS = [
    b"Accept",
    b"Prefer",
    b"Idempotency-Key",
    b"Last-Event-ID",
    b"Content-Type",
    b"Content-Encoding",
    b"Origin",
    b"Sec-Fetch-Site",
    b"If-None-Match",
    b"Cookie",
    b"X-Forwarded-For",
]


@pytest.mark.one_loop
@pytest.mark.parametrize("name", HEADERS, ids=lambda name: name.decode())
async def test_any_bytes_in_a_header(target: Target, name: bytes) -> None:
    """No header, whatever bytes are in it, makes the server fail."""
    job_id = await job_of(target, None)
    for value in VALUES:
        line = b"%b: %b" % (name, value)
        for answer in [
            await target.ask("POST", "/add", JSON, line, body=b'{"a":1,"b":2}'),
            await target.ask("POST", "/look", line, body=b"1"),
            await target.ask("GET", f"/queue/jobs/{job_id}", line),
            await target.ask("DELETE", f"/queue/jobs/{job_id}", line),
            await target.ask("GET", "/queue/events?job=x", line),
        ]:
            assert answer.status in (200, 202, 204, 400, 404, 415, 422), value
            if answer.status >= 400 and answer.headers["Content-Type"].startswith("app"):
                is_problem(answer, answer.status, answer.json()["code"])
    target.calls.clear()
    await target.is_unharmed()


@pytest.mark.one_loop
@pytest.mark.parametrize("value", VALUES)
async def test_any_bytes_in_last_event_id(target: Target, value: bytes) -> None:
    """A place in the log that can't be read is its beginning: everything is sent again."""
    job_id = await job_of(target, None)
    async with connect(target.url) as connection:
        connection.send(
            raw(
                "GET",
                f"/queue/jobs/{job_id}/events",
                b"Last-Event-ID: " + value,
                b"Connection: close",
            )
        )
        data = await connection.rest()

    assert data.startswith(b"HTTP/1.1 200 OK")
    assert b"\nid: 1-1\n" in data
    assert b'"type":"succeeded"' in data


# And a thousand more

SEEDS = {
    "/listed": (JSON, b'{"ids":[1,2,30,4.0,-5]}'),
    "/anything": (JSON, b'{"x":{"a":[1,2,{"b":"\xc3\xa9\\u0041"}]},"y":-0.0}'),
    "/look": (FORM, form(part(b"12345", b"X: y"), part(b"n", name=b'name="note"'))),
}


def mutated(seed: bytes, chance: random.Random) -> bytes:
    """Some bytes of it changed, lost, or there again."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(data))
        end = start + chance.randint(0, 8)
        others = [b"", b"\0", b"\xff", b'"', b"\r\n", b"--b", b"1,", bytes(data[:end])]
        data[start:end] = chance.choice(others)
    return bytes(data)


# aiohttp warns of what it can't read in a form, besides giving it no name.
@pytest.mark.filterwarnings("ignore::aiohttp.BadContentDispositionHeader")
@pytest.mark.filterwarnings("ignore::aiohttp.BadContentDispositionParam")
@pytest.mark.parametrize("path", SEEDS)
async def test_a_body_with_errors(target: Target, path: str) -> None:
    """A body that was damaged on its way is served or refused, on a connection that lives on."""
    chance = random.Random(5)
    kind, seed = SEEDS[path]
    seen: Counter[str] = Counter()
    async with connect(target.url) as connection:
        for _ in range(300):
            connection.send(raw("POST", path, kind, body=mutated(seed, chance)))
            answer = await connection.answer()
            if answer.status == 202:
                seen["served"] += 1
            else:
                code = answer.json()["code"]
                is_problem(answer, PROBLEMS[code], code)
                seen[code] += 1

    assert seen.total() == 300
    assert len(seen) >= 2


PROBLEMS = {"invalid_json": 400, "bad_request": 400, "invalid_arguments": 422}


# Files


NAMES = {
    b"../../etc/passwd": "passwd",
    rb"..\\..\\boot.ini": "boot.ini",
    b"/": "",
    b"..": "",
    b"a\xffb": "a?b",
    b"a" * 3000: "a" * 255,
    "ä猫\u202e.png".encode(): "ä猫.png",
    b"%2e%2e%2fa": "%2e%2e%2fa",
}


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_the_name_of_a_file(target: Target, name: bytes) -> None:
    """What a client calls its file is a word for the function, and never a path."""
    body = form(part(b"1", name=b'name="images"; filename="%b"' % name))
    answer = await target.ask("POST", "/several", FORM, WAIT, body=body)

    assert answer.json() == [NAMES[name]]
    assert not [one for one in target.files.rglob("*") if one.name in ("passwd", "boot.ini")]


async def test_a_name_with_a_nul(target: Target) -> None:
    """A NUL, which no header may have, ends in a refusal."""
    body = form(part(b"1", name=b'name="images"; filename="a\0b"'))
    answer = await target.ask("POST", "/several", FORM, WAIT, body=body)

    is_problem(answer, 400, "bad_request")
    await target.is_unharmed()


async def thousands(target: Target, path: str, name: bytes, count: int) -> Answer:
    """The answer to a form of very many small files."""
    files = [
        part(b"x", name=b'name="%b"; filename="i"' % (name or b"x%d" % n)) for n in range(count)
    ]
    return await target.ask("POST", path, FORM, WAIT, body=form(*files))


@pytest.mark.one_loop
async def test_very_many_files(
    serve: Callable[..., Awaitable[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many files as a form may have are taken, and go with the job; one more is refused."""
    monkeypatch.setattr("aioqueue._bodies._MOST_PARTS", 100)
    target = Target(files=tmp_path)
    target.url = await serve(make_app(target, max_body_size=1 << 20))
    answer = await thousands(target, "/several", b"images", 100)
    assert answer.json() == ["i"] * 100
    target.calls.clear()
    await target.is_unharmed()
    answer = await thousands(target, "/several", b"images", 101)
    is_problem(answer, 413, "payload_too_large")
    await target.is_unharmed()


@pytest.mark.one_loop
async def test_very_many_files_of_no_parameter(
    serve: Callable[..., Awaitable[str]], tmp_path: Path
) -> None:
    """Files under names that mean nothing are never stored, and are a 422."""
    target = Target(files=tmp_path)
    target.url = await serve(make_app(target, max_body_size=1 << 20))
    is_problem(await thousands(target, "/keep", b"", 1000), 422, "invalid_arguments")

    assert list(tmp_path.rglob("*")) == []
    await target.is_unharmed()


async def test_a_path_in_json(target: Target) -> None:
    """JSON that looks like a file on the server's disk is no file."""
    passwd = {"name": "a", "content_type": "a/b", "size": 1, "path": "/etc/passwd"}
    for image in (passwd, "/etc/passwd", [passwd], ["a", "a/b", 1, "/etc/passwd"]):
        body = orjson.dumps({"image": image, "files": [["image", list(passwd.values())]]})
        answer = await target.ask("POST", "/keep", JSON, body=body)
        is_problem(answer, 422, "invalid_arguments")
    await target.is_unharmed()
