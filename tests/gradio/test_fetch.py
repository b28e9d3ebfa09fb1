"""URLs in the place of files: got only from where the app allows it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from yarl import URL

import aioqueue
from aioqueue import Upload
from aioqueue.gradio import _arguments
from tests.gradio.visitor import Visitor, gradio_shop
from tests.stage import PATIENCE, until

META = {"_type": "gradio.FileData"}


@aioqueue.queued
def one(file: Upload) -> list[Any]:
    """Take a file."""
    return [file.name, file.content_type, file.read().decode()]


@aioqueue.queued
def many(files: list[Upload]) -> list[str]:
    """Take several files."""
    return [file.read().decode() for file in files]


@aioqueue.queued(max_body_size=1000)
def small(file: Upload) -> int:
    """Take a small file."""
    return file.size


@aioqueue.queued
def memory(content: bytes) -> str:
    """Take a file in memory."""
    return content.decode()


def files_in(path: Path) -> list[str]:
    """Whatever lies in the directories of jobs."""
    return [name for _, _, names in os.walk(path) for name in names]


class Source:
    """A server that has files, and remembers who asked."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.cookies: list[str | None] = []
        self.end = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer as the path says."""
        self.asked.append(request.path)
        self.cookies.append(request.headers.get("Cookie"))
        match request.path:
            case "/moved":
                raise web.HTTPFound("/a.txt")
            case "/gone":
                raise web.HTTPNotFound
            case "/empty":
                return web.Response(status=204)
            case "/slow":
                await self.end.wait()
            case "/large":
                return web.Response(body=b"x" * 500_000)
            case "/cut":
                response = web.StreamResponse(headers={"Content-Length": "1000"})
                await response.prepare(request)
                await response.write(b"x" * 10)
                assert request.transport is not None
                request.transport.abort()
                return response
            case "/cookie":
                response = web.Response(text="abc")
                response.set_cookie("secret", "1234")
                return response
        return web.Response(text="abc", content_type="text/plain")


@pytest.fixture
async def source(serve) -> AsyncIterator[Source]:
    """A server with files."""
    source, app = Source(), web.Application()
    app.router.add_get("/{path:.*}", source.answer)
    source.url = await serve(app)
    yield source
    source.end.set()


@pytest.fixture
async def open_shop(serve, http: ClientSession, tmp_path: Path) -> Any:
    """Opens a shop; answers a visitor of it."""

    async def open_shop(**options: Any) -> Visitor:
        settings = {"spool_dir": tmp_path, "max_spool_bytes": 1_000_000}
        shop = gradio_shop(one, many, small, memory, settings=settings, **options)
        return Visitor(await shop.open(serve, http))

    return open_shop


def told(url: Any) -> dict[str, Any]:
    """What clients say of a file that is elsewhere."""
    return {"path": str(url), "url": str(url), "meta": META}


async def run(visitor: Visitor, name: str, value: Any) -> Any:
    """The result of a job."""
    response = await visitor.post(f"/run/{name}", {"data": [value]})
    assert response.status == 200, await response.text()
    (result,) = (await response.json())["data"]
    return result


async def wrong(visitor: Visitor, url: Any, name: str = "one") -> str:
    """What is wrong with a URL."""
    response = await visitor.post(f"/run/{name}", {"data": [told(url)]})
    assert response.status == 422, await response.text()
    (error,) = (await response.json())["detail"]
    assert error["parameter_name"] == "file"
    text: str = error["message"]
    return text


async def test_without_a_hook(open_shop, source: Source, tmp_path: Path) -> None:
    """Nobody makes the server ask for anything, unless the app says so."""
    visitor = await open_shop()
    for url in (f"{source.url}/a.txt", "http://169.254.169.254/", "https://example.com/a"):
        assert await wrong(visitor, url) == (
            "is a URL, and files from there are not taken: upload it"
        )
    assert source.asked == []


async def test_hook(open_shop, source: Source, tmp_path: Path) -> None:
    """A hook allows what it knows, and sees what it allows."""
    seen: list[URL] = []

    def allow(url: URL) -> bool:
        seen.append(url)
        return url.host == "127.0.0.1" and url.path != "/secret"

    visitor = await open_shop(allow_url=allow)
    value = told(f"{source.url}/a.txt?x=1")
    assert await run(visitor, "one", value) == ["a.txt", "text/plain; charset=utf-8", "abc"]
    assert await run(visitor, "one", value | {"orig_name": "b.txt"}) == [
        "b.txt",
        "text/plain; charset=utf-8",
        "abc",
    ]
    assert await run(visitor, "many", [value, value]) == ["abc", "abc"]
    assert await run(visitor, "memory", value) == "abc"
    assert {str(url) for url in seen} == {f"{source.url}/a.txt?x=1"}
    for url in (f"{source.url}/secret", source.url.replace("127.0.0.1", "localhost")):
        assert "not taken" in await wrong(visitor, url)
    assert source.asked == ["/a.txt"] * 5
    await until(lambda: not files_in(tmp_path))


@pytest.mark.parametrize("answer", [True, False])
async def test_hook_that_takes_its_time(open_shop, source: Source, answer: bool) -> None:
    """A hook may be a coroutine function."""

    async def allow(url: URL) -> bool:
        return answer

    visitor = await open_shop(allow_url=allow)
    if answer:
        assert (await run(visitor, "one", told(f"{source.url}/a.txt")))[2] == "abc"
    else:
        assert "not taken" in await wrong(visitor, f"{source.url}/a.txt")
        assert source.asked == []


async def test_redirect(open_shop, source: Source) -> None:
    """Where a redirect leads nobody has allowed, so it is not followed."""
    visitor = await open_shop(allow_url=lambda url: True)
    assert await wrong(visitor, f"{source.url}/moved") == "can't be fetched: the answer was 302"
    assert source.asked == ["/moved"]


@pytest.mark.parametrize(("path", "status"), [("/gone", 404), ("/empty", 204)])
async def test_not_there(open_shop, source: Source, path: str, status: int) -> None:
    """What is not there is the client's mistake."""
    visitor = await open_shop(allow_url=lambda url: True)
    message = f"can't be fetched: the answer was {status}"
    assert await wrong(visitor, source.url + path) == message


async def test_cut_off(
    open_shop, source: Source, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that breaks off is none, and leaves nothing; the log says why."""
    visitor = await open_shop(allow_url=lambda url: True)
    assert await wrong(visitor, f"{source.url}/cut") == "can't be fetched"
    line = f"a file from '{source.url}' could not be fetched: ClientPayloadError"
    assert line in caplog.text
    await until(lambda: not files_in(tmp_path))


async def test_nobody_answers(open_shop, free_tcp_port: int) -> None:
    """A server that is not there is said to be so, and no more."""
    visitor = await open_shop(allow_url=lambda url: True)
    assert await wrong(visitor, f"http://127.0.0.1:{free_tcp_port}/a") == "can't be fetched"


async def test_too_slow(
    open_shop, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is not here in time is not waited for any longer; nor is a hook."""

    async def allow(url: URL) -> bool:
        if url.path == "/hook":
            await source.end.wait()
        return True

    visitor = await open_shop(allow_url=allow)
    monkeypatch.setattr(_arguments, "FETCH_SECONDS", 0.01)
    async with asyncio.timeout(PATIENCE):
        for path in ("/slow", "/hook"):
            assert await wrong(visitor, source.url + path) == "can't be fetched"
    assert not files_in(tmp_path)


async def test_secrets_in_a_url(
    open_shop, free_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says which server it was, nothing that may be a secret, and only what is visible."""
    visitor = await open_shop(allow_url=lambda url: True)
    origin = f"127.0.0.1:{free_tcp_port}"
    url = f"http://name:pass1234@{origin}/path1234?token=query1234#end1234"
    assert await wrong(visitor, url) == "can't be fetched"
    assert f"a file from 'http://{origin}' could not be fetched" in caplog.text
    assert "1234" not in caplog.text.replace(origin, "")
    assert "name" not in caplog.text
    assert await wrong(visitor, f"http://a\x1bc:{free_tcp_port}/") == "can't be fetched"
    assert f"a file from 'http://a\\x1bc:{free_tcp_port}' could" in caplog.text


@pytest.mark.one_loop
@pytest.mark.parametrize("make", ["raise", "await"])
async def test_hook_that_fails(
    open_shop, source: Source, caplog: pytest.LogCaptureFixture, make: str
) -> None:
    """A hook that fails is a mistake of the server's: its reason is in the log, and only there."""

    def fail(url: URL) -> bool:
        raise TimeoutError("the password is 1234")

    async def fail_later(url: URL) -> bool:
        return fail(url)

    visitor = await open_shop(allow_url=fail if make == "raise" else fail_later)
    body = {"data": [told(f"{source.url}/a.txt")]}
    response = await visitor.post("/run/one", body)
    assert response.status == 500
    assert await response.json() == {"detail": "The server made a mistake."}
    assert "the password is 1234" in caplog.text
    assert source.asked == []


@pytest.mark.one_loop
@pytest.mark.parametrize(
    "url",
    ["http://", "http://[", "https://:x/", "http://a:99999/b", "http:///x", "http://xn--a/"],
)
async def test_what_is_no_url(open_shop, url: str) -> None:
    """What only begins like a URL is refused, and no hook has to look at it."""
    seen: list[URL] = []
    visitor = await open_shop(allow_url=seen.append)
    assert await wrong(visitor, url) == "is no URL"
    assert seen == []


@pytest.mark.one_loop
@pytest.mark.parametrize("host", ["a..b", ".a", ".", "a" * 64 + ".test", "a." * 200 + "test"])
async def test_what_is_no_host(open_shop, host: str) -> None:
    """A host that nobody can look up is the client's mistake, like one that is not there."""
    visitor = await open_shop(allow_url=lambda url: True)
    assert await wrong(visitor, f"http://{host}/") == "can't be fetched"


@pytest.mark.one_loop
@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a", "file:///etc/passwd", "HTTP://a/", "//a/b"])
async def test_other_schemes(open_shop, url: str) -> None:
    """Nothing but HTTP is a URL here; everything else is a path, and none that was issued."""
    visitor = await open_shop(allow_url=lambda url: True)
    assert "no file that you have uploaded" in await wrong(visitor, url)


async def test_too_large(open_shop, source: Source, tmp_path: Path) -> None:
    """A file that is larger than its function takes is not read to its end, and not kept."""
    visitor = await open_shop(allow_url=lambda url: True)
    message = await wrong(visitor, f"{source.url}/large", "small")
    assert message == "may have 1000 bytes"
    await until(lambda: not files_in(tmp_path))


async def test_no_room(open_shop, source: Source, tmp_path: Path) -> None:
    """Where there is no room on disk a file is refused, wherever it comes from."""
    visitor = await open_shop(allow_url=lambda url: True)
    visitor.shop.inside.runtime.submitter.spool._max_bytes = 100_000
    response = await visitor.post("/run/one", {"data": [told(f"{source.url}/large")]})
    assert response.status == 503
    await until(lambda: not files_in(tmp_path))


async def test_no_cookies(open_shop, source: Source) -> None:
    """What a source has said to the server for one client it does not hear again for another."""
    visitor = await open_shop(allow_url=lambda url: True)
    url = source.url.replace("127.0.0.1", "localhost")  # of a number aiohttp takes no cookies
    for _ in range(2):
        assert (await run(visitor, "one", told(f"{url}/cookie")))[2] == "abc"
    assert source.cookies == [None, None]
