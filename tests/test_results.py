"""Files out: bytes and files as results, how they are served, and how long they stay."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from multidict import CIMultiDict

import aioqueue
from aioqueue import AioqueueError, Job, JobFailed
from aioqueue._errors import ClaimLost
from aioqueue._job import Content
from aioqueue._outcomes import NoFile, found, media_type
from aioqueue._responses import content_of
from tests.inside import STREAM, Shop
from tests.sse_client import read_events
from tests.stage import Stage, new_job, until
from tests.wire import Answer

WAIT = {"Prefer": "wait=10"}


async def is_clean(path: Path) -> None:
    """Wait until no job has a folder any more."""
    await until(lambda: not folders(path))


def folders(path: Path) -> list[str]:
    """The jobs that have a folder."""
    return sorted(one.name for root in path.glob("aioqueue-*") for one in root.iterdir())


@pytest.fixture
def open_shop(serve: Any, http: ClientSession, tmp_path: Path) -> Callable[..., Any]:
    """An app of these functions, with its files below `tmp_path`."""

    async def open_shop(*functions: Any, on_prepare: Any = None, **settings: Any) -> Shop:
        shop = Shop().sells(*functions, spool_dir=tmp_path, **settings)
        if on_prepare is not None:
            shop.app.on_response_prepare.append(on_prepare)
        return await shop.open(serve, http)

    return open_shop


async def run(shop: Shop, function: str, **body: Any) -> str:
    """Run a job to its end; answers its id."""
    job_id = await shop.submit(function, body)
    await shop.inside.ended(job_id)
    return job_id


async def get(shop: Shop, job_id: str, method: str = "GET", **headers: str) -> Answer:
    """The answer with a result."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    async with shop.http.request(method, shop.job(job_id, "/result"), headers=headers) as response:
        return Answer(response.status, CIMultiDict(response.headers), await response.read())


async def told(shop: Shop, path: str, **body: Any) -> tuple[str, dict[str, Any]]:
    """Run a job; answers its id and its last event."""
    async with shop.http.post(f"{shop.url}/{path}", json=body, headers=STREAM) as response:
        (*_, last) = [event async for event in read_events(response)]
    return last.data["job"], last.data


# What becomes a result


def file_of(path: Path, size: int, content_type: str, name: str) -> Content:
    """A file as a result."""
    return Content(b"", content_type, name, path=str(path), file_size=size, is_file=True)


class Own:
    """A path of somebody's own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes(kind: Any) -> None:
    """Bytes are a result of their own, of no known type."""
    assert content_of(kind(b"\0\xff")) == Content(b"\0\xff", "application/octet-stream")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.png", "image/png"),
        ("a.json", "application/json"),
        ("a.tar.gz", "application/gzip"),
        ("a.txt.bz2", "application/x-bzip2"),
        ("a.csv.Z", "application/octet-stream"),
        ("a", "application/octet-stream"),
        ("ä.unknown", "application/octet-stream"),
    ],
)
@pytest.mark.parametrize("kind", [Path, Own])
def test_a_file(tmp_path: Path, kind: Any, name: str, content_type: str) -> None:
    """A path is a file, of the type and with the name that its name says."""
    path = tmp_path / name
    path.write_bytes(b"abc")
    content = found(content_of(kind(path)))

    assert content == file_of(path, 3, content_type, name)
    assert (content.size, content.is_value) == (3, False)


def test_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    """A link goes with its folder, so the file behind it is the result; the name is the link's."""
    tmp_path.joinpath("a").write_bytes(b"abc")
    tmp_path.joinpath("b.png").symlink_to("a")
    content = found(content_of(tmp_path / "b.png"))

    assert (content.path, content.name) == (str(tmp_path / "a"), "b.png")
    assert content.content_type == "image/png"


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "unreadable", "nul", "circle"])
def test_no_file(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that leads to nothing that can be sent is no result."""
    path = tmp_path / kind
    match kind:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "unreadable":
            path.touch()
            monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read all
        case "nul":
            path = Path("a\0b")
        case "circle":
            path.symlink_to(path)
    content = content_of(path)
    with pytest.raises(NoFile):
        found(content)


def test_a_link_out_of_the_place_for_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where clients may have put links, one leads to what is there too, and nowhere else."""
    place, elsewhere = tmp_path / "place", tmp_path / "elsewhere"
    place.mkdir()
    elsewhere.write_bytes(b"abc")
    for name, target in (("a", elsewhere), ("b", place / "c"), ("c", place / "d")):
        place.joinpath(name).symlink_to(target)
    place.joinpath("d").write_bytes(b"d")
    tmp_path.joinpath("mine").symlink_to(elsewhere)

    assert found(content_of(place / "b"), place).path == str(place / "d")
    assert found(content_of(tmp_path / "mine"), place).path == str(elsewhere)
    monkeypatch.chdir(place)
    for path in (place / "a", place / ".." / "elsewhere", Path("a")):
        with pytest.raises(NoFile):
            found(content_of(path), place)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """A name in bytes that are no UTF-8 is told without them, and its file is found."""
    path = tmp_path / os.fsdecode(b"a\xff.png")
    path.write_bytes(b"abc")
    named = {"Content-Disposition": 'attachment; filename="b\udcff.wav"'}

    assert found(content_of(path)) == file_of(path, 3, "image/png", "a?.png")
    assert content_of(web.FileResponse(path, headers=named)).name == "b?.wav"
    assert content_of(web.Response(body=b"x", content_type="a/b", headers=named)).name == "b?.wav"


@pytest.mark.parametrize(
    ("declared", "is_one"),
    [
        ("image/png", True),
        ("Text/Plain; charset=utf-8", True),
        ('image/svg+xml ;a=b;c="d e"', True),
        ("image/png,text/html", False),
        ('image/png; a=",text/html"', False),
        ('image/png; a="\udcff"', False),
        ("image/png;", False),
        ("image", False),
        ("image/png\r\nX-Evil: 1", False),
        ("image/\u00e4", False),
        ("", False),
    ],
)
def test_types_that_are_declared(declared: str, is_one: bool) -> None:
    """Of a type, which may be a client's word, only what all readers read alike is said again."""
    kind = declared if is_one else "application/octet-stream"
    headers = {"Content-Type": declared}

    assert media_type(declared) == kind
    assert content_of(web.Response(body=b"x", headers=headers)).content_type == kind
    if declared:
        assert content_of(web.FileResponse("a", headers=headers)).content_type == kind


def test_responses(tmp_path: Path) -> None:
    """A response is its JSON, its bytes, or its file, with the name and type that it says."""
    path = tmp_path / "a.png"
    path.write_bytes(b"abc")
    named = {"Content-Disposition": 'attachment; filename="b.wav"'}

    assert content_of(web.json_response([1])) == Content(b"[1]")
    assert content_of(web.Response(body=b"x", content_type="a/b", headers=named)) == Content(
        b"x", "a/b", "b.wav"
    )
    assert found(content_of(web.FileResponse(path))) == file_of(path, 3, "image/png", "a.png")
    typed = web.FileResponse(path, headers={**named, "Content-Type": "audio/wav"})
    assert found(content_of(typed)) == file_of(path, 3, "audio/wav", "b.wav")


@pytest.mark.parametrize(
    ("response", "status", "detail"),
    [
        (web.Response(text="No such cat.", status=404), 404, "No such cat."),
        (web.HTTPPaymentRequired(text="Five coins."), 402, "Five coins."),
        (web.StreamResponse(), 500, "streams"),
        (web.Response(body=io.BytesIO(b"a")), 500, "streams"),
    ],
)
def test_responses_that_are_errors(response: Any, status: int, detail: str) -> None:
    """A response with an error's status fails the job with it, and so does one that streams."""
    with pytest.raises(aioqueue.JobError, match=detail) as error:
        content_of(response)

    assert error.value.status == status


# Of functions


@aioqueue.queued
def picture(job: Job = aioqueue.JOB) -> bytes:
    """Give back bytes."""
    return b"\x89PNG"


@aioqueue.queued
def report(size: int, name: str = "report.csv", job: Job = aioqueue.JOB) -> Path:
    """Write a file, and beside it one that nobody needs."""
    job.directory.joinpath("scratch").write_bytes(b"x" * 100)
    path = job.directory / name
    path.write_bytes(b"0123456789" * (size // 10))
    return path


@aioqueue.queued
async def fetched(path: str) -> Any:
    """Give back a file of the app's own."""
    return Path(path)


@aioqueue.queued(batch=True, max_batch_size=2, batch_timeout=60)
def pages(numbers: list[int], jobs: list[Job]) -> list[Path | Exception]:
    """Write a page for each job; one that is zero fails."""
    found: list[Path | Exception] = []
    for number, job in zip(numbers, jobs, strict=True):
        page = job.directory / f"{number}.txt"
        page.write_text(str(number))
        found.append(page if number else ValueError("no such page"))
    return found


@aioqueue.queued
def drawn(kind: str, job: Job = aioqueue.JOB) -> web.StreamResponse:
    """Answer as a handler does."""
    if kind == "file":
        path = job.directory / "a"
        path.write_bytes(b"abc")
        return web.FileResponse(path, headers={"Content-Type": "image/png"})
    if kind == "error":
        return web.Response(text="No such cat.", status=404)
    return web.Response(body=b"PNG", content_type="image/png")


@aioqueue.queued
async def handler(request: web.Request) -> Any:
    """Answer with a file of the job's own."""
    path = aioqueue.current_job().directory / "a.txt"
    path.write_text(request.query["text"])
    return web.FileResponse(path) if "response" in request.query else path


async def test_bytes_of_a_function(open_shop: Any) -> None:
    """Bytes are told as a file, and are there at the result's address and for code."""
    shop = await open_shop(picture)
    job_id, last = await told(shop, "picture")

    file = {"content_type": "application/octet-stream", "size": 4, "name": None}
    assert (last["result"], last["file"]) == (None, file)
    answer = await get(shop, job_id)
    assert answer.body == b"\x89PNG"
    assert answer.headers["Content-Disposition"] == "attachment"
    assert answer.headers["Cache-Control"] == "no-store"
    assert await (await picture.submit()).result() == b"\x89PNG"


async def test_a_file_of_a_function(open_shop: Any, tmp_path: Path) -> None:
    """A file in the job's directory is told, served whole, and is all that stays of it."""
    shop = await open_shop(report)
    job_id, last = await told(shop, "report", size=100_000)
    file = {"content_type": "text/csv", "size": 100_000, "name": "report.csv"}
    assert (last["result"], last["file"]) == (None, file)
    async with shop.http.get(shop.job(job_id)) as answer:
        resource = await answer.json()
    assert (resource["result"], resource["file"]) == (None, file)

    answer = await get(shop, job_id)
    assert answer.body == b"0123456789" * 10_000
    headers = answer.headers
    assert headers["Content-Type"] == "text/csv"
    assert headers["Content-Disposition"] == 'attachment; filename="report.csv"'
    assert headers["Content-Security-Policy"] == "sandbox"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "private, no-cache"
    assert headers["Content-Location"] == f"/queue/jobs/{job_id}/result"
    assert folders(tmp_path) == [job_id]
    assert [one.name for one in tmp_path.glob("aioqueue-*/*/*")] == ["report.csv"]


async def test_a_file_whose_name_is_no_text(open_shop: Any) -> None:
    """A file with any name that a disk may have is a result, and the next job runs."""

    @aioqueue.queued
    def named(job: Job = aioqueue.JOB) -> Path:
        path = job.directory / os.fsdecode(b"a\xff.png")
        path.write_bytes(b"abc")
        return path

    shop = await open_shop(named)
    for _ in range(2):
        job_id, last = await told(shop, "named")
        assert last["file"] == {"content_type": "image/png", "size": 3, "name": "a?.png"}
        answer = await get(shop, job_id)
        assert answer.body == b"abc"
        disposition = "inline; filename=\"a_.png\"; filename*=UTF-8''a%3F.png"
        assert answer.headers["Content-Disposition"] == disposition


async def test_a_type_of_a_clients(open_shop: Any) -> None:
    """What a client says of its file is said again only if all readers understand the same."""

    @aioqueue.queued
    async def back(film: aioqueue.Upload | None = None) -> Any:
        if film is None:
            return "nothing"
        return web.FileResponse(film.path, headers={"Content-Type": film.content_type})

    shop = await open_shop(back)
    head = b'--b\r\nContent-Disposition: form-data; name="film"; filename="%b"\r\n'
    for name, kind, told in (
        (b"a", b"image/png", "image/png"),
        (b"a", b"image/png,text/html", "application/octet-stream"),
        (b"", b"application/octet-stream", "application/json"),  # an input without a file
    ):
        content = b"abc" if name else b""
        body = head % name + b"Content-Type: %b\r\n\r\n%b\r\n--b--\r\n" % (kind, content)
        headers = {"Content-Type": "multipart/form-data; boundary=b", **WAIT}
        async with shop.http.post(f"{shop.url}/back", data=body, headers=headers) as response:
            assert response.headers["Content-Type"] == told
            assert await response.read() == (content or b'"nothing"')


async def test_a_link_of_a_clients(open_shop: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A link in a job's directory gives away nothing of the server's, as a job or as a handler."""

    def unpacked(job: Job) -> Path:
        path = job.directory / "index.html"
        path.symlink_to(__file__)
        return path

    @aioqueue.queued
    def unpack(job: Job = aioqueue.JOB) -> Path:
        return unpacked(job)

    @aioqueue.queued
    async def gated(request: web.Request) -> Any:
        return unpacked(aioqueue.current_job())

    shop = await open_shop(unpack, gated)
    answer = await get(shop, await run(shop, "unpack"))
    assert (answer.status, answer.json()["code"]) == (500, "job_failed")
    assert f"which leads to {__file__}" in caplog.text
    async with shop.http.post(f"{shop.url}/gated") as response:
        assert response.status == 500


async def test_files_are_looked_at_in_threads(
    open_shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop does not wait for a disk, which may be far away, to say whether a file is there."""
    mine = tmp_path / "mine.txt"
    mine.write_bytes(b"abc")
    looked: list[threading.Thread] = []
    access, realpath = os.access, os.path.realpath

    def look(function: Any) -> Any:
        def looking(path: Any, *args: Any, **named: Any) -> Any:
            if os.fspath(path) == str(mine):
                looked.append(threading.current_thread())
            return function(path, *args, **named)

        return looking

    @aioqueue.queued
    async def gated(request: web.Request) -> Any:
        return mine

    shop = await open_shop(fetched, gated)
    monkeypatch.setattr(os, "access", look(access))
    monkeypatch.setattr(os.path, "realpath", look(realpath))
    await run(shop, "fetched", path=str(mine))
    async with shop.http.post(f"{shop.url}/gated") as response:
        assert response.status == 200

    assert len(looked) >= 4
    assert threading.current_thread() not in looked


async def test_waiting_for_a_file(open_shop: Any) -> None:
    """Whoever waits gets the file itself, whole, whatever part was asked for: it is no GET."""
    seen: list[bytes] = []

    async def look(request: web.Request, response: web.StreamResponse) -> None:
        seen.append(await request.read())

    shop = await open_shop(report, on_prepare=look)
    headers = {**WAIT, "Range": "bytes=0-1", "If-None-Match": "*"}
    async with shop.http.post(f"{shop.url}/report", json={"size": 30}, headers=headers) as response:
        assert (response.status, len(await response.read())) == (200, 30)
        assert response.headers["Preference-Applied"] == "wait=10"
        assert response.headers["Vary"] == "Accept, Prefer"
    assert seen == [b'{"size": 30}']  # what prepares answers sees the request as it was


async def test_a_file_for_code(open_shop: Any, tmp_path: Path) -> None:
    """Code gets the path; a job that gives it back has it as its own result."""

    @aioqueue.queued
    async def outer() -> Any:
        return await (await report.submit(10, "inner.csv")).result()

    shop = await open_shop(report, outer, max_results=1)
    path: Any = await (await report.submit(50)).result()
    assert path.read_bytes() == b"0123456789" * 5
    job_id = await run(shop, "outer")
    await shop.inside.tick()
    await until(lambda: folders(tmp_path) == [job_id])

    answer = await get(shop, job_id)
    assert answer.body == b"0123456789"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="inner.csv"'


async def test_a_file_of_the_app(open_shop: Any, tmp_path: Path) -> None:
    """A file that lies elsewhere is served, and stays when its result is forgotten."""
    mine = tmp_path / "mine.txt"
    mine.write_bytes(b"abc")
    shop = await open_shop(fetched, result_ttl=5)
    job_id = await run(shop, "fetched", path=str(mine))
    assert (await get(shop, job_id)).body == b"abc"
    await shop.inside.pass_time(6)

    assert (await get(shop, job_id)).status == 404
    assert mine.exists()


async def test_a_file_that_is_none(
    open_shop: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the path that led nowhere, the client does not."""
    shop = await open_shop(fetched)
    job_id = await run(shop, "fetched", path=str(tmp_path / "swordfish"))
    answer = await get(shop, job_id)
    document = answer.json()

    assert (answer.status, document["code"]) == (500, "job_failed")
    assert document["detail"] == "fetched gave back a file that is not there, or can't be read."
    assert "swordfish" in caplog.text


async def test_files_of_a_batch(open_shop: Any, tmp_path: Path) -> None:
    """Each job of a batch has a directory and a file of its own; one that fails keeps nothing."""
    shop = await open_shop(pages)
    ids = [await shop.submit("pages", {"numbers": number}) for number in (1, 0)]
    assert [await shop.inside.ended(job_id) for job_id in ids] == ["succeeded", "failed"]

    assert (await get(shop, ids[0])).body == b"1"
    await until(lambda: folders(tmp_path) == [ids[0]])


@pytest.mark.parametrize(
    ("kind", "content"), [("file", b"abc"), ("bytes", b"PNG"), ("error", None)]
)
async def test_a_response_of_a_function(open_shop: Any, kind: str, content: Any) -> None:
    """A function that takes parameters may answer as a handler does."""
    shop = await open_shop(drawn)
    answer = await get(shop, await run(shop, "drawn", kind=kind))
    if content is None:
        assert (answer.status, answer.json()["detail"]) == (404, "No such cat.")
        return
    assert (answer.headers["Content-Type"], answer.body) == ("image/png", content)


@pytest.mark.parametrize("how", ["", "&response"])
async def test_a_file_of_a_handler(open_shop: Any, tmp_path: Path, how: str) -> None:
    """A handler that is asked for a stream may give back a file, too."""
    shop = await open_shop(handler)
    job_id, last = await told(shop, f"handler?text=abc{how}")
    assert last["file"] == {"content_type": "text/plain", "size": 3, "name": "a.txt"}

    answer = await get(shop, job_id)
    assert (answer.body, folders(tmp_path)) == (b"abc", [job_id])


async def test_a_file_and_bytes_of_a_gated_handler(open_shop: Any, tmp_path: Path) -> None:
    """A handler that answers by itself may give back bytes, and files of the app's own."""
    mine = tmp_path / "mine.html"
    mine.write_bytes(b"abc")
    tmp_path.joinpath("mine.html.gz").write_bytes(b"swordfish")

    @aioqueue.queued
    async def give(request: web.Request) -> Any:
        return mine if "file" in request.query else b"bytes"

    shop = await open_shop(give)
    headers = {"Accept-Encoding": "gzip"}
    async with shop.http.post(f"{shop.url}/give?file", headers=headers) as response:
        assert (await response.read(), response.content_type) == (b"abc", "text/html")
        assert response.headers["Content-Disposition"] == 'attachment; filename="mine.html"'
        safe = response.headers
    async with shop.http.post(f"{shop.url}/give") as response:
        assert await response.read() == b"bytes"
        assert response.content_type == "application/octet-stream"
        assert response.headers["Content-Disposition"] == "attachment"
    for one in (safe, response.headers):
        assert one["Content-Security-Policy"] == "sandbox"
        assert one["X-Content-Type-Options"] == "nosniff"


# How files are served


async def test_ranges(open_shop: Any) -> None:
    """A part of a file can be asked for, also on the condition that it is still the same."""
    shop = await open_shop(report)
    job_id = await run(shop, "report", size=100)
    whole = await get(shop, job_id)
    tag, date = whole.headers["ETag"], whole.headers["Last-Modified"]
    assert whole.headers["Accept-Ranges"] == "bytes"

    part = await get(shop, job_id, Range="bytes=10-14")
    assert (part.status, part.body) == (206, b"01234")
    assert part.headers["Content-Range"] == "bytes 10-14/100"
    same = await get(shop, job_id, Range="bytes=90-", If_Range=date)
    assert (same.status, len(same.body)) == (206, 10)
    other = await get(shop, job_id, Range="bytes=90-", If_Range="Mon, 01 Jan 2001 00:00:00 GMT")
    assert (other.status, len(other.body)) == (200, 100)
    assert (await get(shop, job_id, Range="bytes=100-")).status == 416
    assert (await get(shop, job_id, If_None_Match=tag)).status == 304
    assert (await get(shop, job_id, If_Modified_Since=date)).status == 304
    assert (await get(shop, job_id, If_Match='"other"')).status == 412
    head = await get(shop, job_id, "HEAD")
    assert (head.status, head.headers["Content-Length"]) == (200, "100")
    assert head.body == b""


async def test_ranges_of_what_was_replaced(open_shop: Any, tmp_path: Path) -> None:
    """A part is sent of the very bytes that the condition names; of others it is the whole."""
    mine = tmp_path / "mine.txt"
    mine.write_bytes(b"0123456789")
    shop = await open_shop(fetched)
    job_id = await run(shop, "fetched", path=str(mine))
    tag = (await get(shop, job_id)).headers["ETag"]
    same = await get(shop, job_id, Range="bytes=5-", If_Range=tag)
    assert (same.status, same.body) == (206, b"56789")
    assert (await get(shop, job_id, Range="bytes=10-", If_Range=tag)).status == 416

    mine.write_bytes(b"abcdefghijk")
    assert (await get(shop, job_id)).headers["ETag"] != tag
    for condition in (tag, f"W/{tag}", '"other"', "nonsense"):
        other = await get(shop, job_id, Range="bytes=5-", If_Range=condition)
        assert (other.status, other.body) == (200, b"abcdefghijk")
    weak = f"W/{other.headers['ETag']}"
    assert (await get(shop, job_id, Range="bytes=5-", If_Range=weak)).status == 200


@pytest.mark.parametrize(
    "value", ["bytes=0-1,5-6", "bytes=0-1, 5-6", "pages=1-2", "bytes", "bytes=-", "bytes=a-b", ""]
)
async def test_ranges_that_are_not_known(open_shop: Any, value: str) -> None:
    """Several ranges at once, or of anything but bytes, are as if they were not asked for."""
    shop = await open_shop(report)
    answer = await get(shop, await run(shop, "report", size=10), Range=value)

    assert (answer.status, answer.body) == (200, b"0123456789")


async def test_a_packed_file_beside_it(open_shop: Any, tmp_path: Path) -> None:
    """A file that ends in .gz and happens to lie beside a result is not sent in its place."""
    mine = tmp_path / "mine.txt"
    mine.write_bytes(b"abc")
    tmp_path.joinpath("mine.txt.gz").write_bytes(b"swordfish")
    shop = await open_shop(fetched)
    answer = await get(shop, await run(shop, "fetched", path=str(mine)), Accept_Encoding="gzip")

    assert answer.body == b"abc"


async def test_a_file_that_has_vanished(open_shop: Any, tmp_path: Path) -> None:
    """A file of the app's that is gone is a problem that says so."""
    mine = tmp_path / "mine.txt"
    mine.write_bytes(b"abc")
    shop = await open_shop(fetched)
    job_id = await run(shop, "fetched", path=str(mine))
    mine.unlink()
    answer = await get(shop, job_id)
    document = answer.json()

    assert (answer.status, document["code"]) == (404, "not_found")
    assert document["detail"] == "The file that was the result is no longer there."
    assert "Content-Disposition" not in answer.headers


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        ("a.png", 'inline; filename="a.png"'),
        ("a.svg", 'attachment; filename="a.svg"'),
        ("a.html", 'attachment; filename="a.html"'),
        ("ä.txt", "inline; filename=\"_.txt\"; filename*=UTF-8''%C3%A4.txt"),
    ],
)
async def test_what_a_browser_may_show(open_shop: Any, name: str, disposition: str) -> None:
    """Of files, as of bytes, only what can't be run is shown."""
    shop = await open_shop(report)
    answer = await get(shop, await run(shop, "report", size=10, name=name))

    assert answer.headers["Content-Disposition"] == disposition


async def test_json_in_a_file(open_shop: Any) -> None:
    """A file of JSON is a file, however small: nobody reads it before it is fetched."""
    shop = await open_shop(report)
    job_id, last = await told(shop, "report", size=10, name="a.json")

    assert (last["result"], last["file"]["content_type"]) == (None, "application/json")
    assert (await get(shop, job_id)).headers["Content-Type"] == "application/json"


# How long they stay


async def test_forgotten_with_the_result(open_shop: Any, tmp_path: Path) -> None:
    """When its time is over, or there are too many, a result takes its file along."""
    shop = await open_shop(report, result_ttl=10, max_results=2)
    first = await run(shop, "report", size=10)
    await shop.inside.pass_time(6)
    ids = [await run(shop, "report", size=10) for _ in range(2)]
    await shop.inside.tick()
    await until(lambda: folders(tmp_path) == sorted(ids))
    assert first not in ids
    await shop.inside.pass_time(11)
    await is_clean(tmp_path)


async def test_no_room_for_a_result(open_shop: Any, tmp_path: Path) -> None:
    """A file beyond the room on disk fails its job and says so; then there is room again."""
    shop = await open_shop(report, max_spool_bytes=1000, result_ttl=10)
    for size in (1010, 600, 500):
        job_id = await run(shop, "report", size=size)
        answer = await get(shop, job_id)
        if size == 600:
            assert answer.status == 200
        else:
            assert (answer.status, answer.json()["code"]) == (503, "spool_full")
    await shop.inside.pass_time(11)
    await is_clean(tmp_path)
    assert (await get(shop, await run(shop, "report", size=1000))).status == 200


async def test_a_result_that_comes_too_late(open_shop: Any, stage: Stage, tmp_path: Path) -> None:
    """A file of a function that ran too long is dropped, when the function has really ended."""

    @aioqueue.queued(time_limit=1e6)
    def late(job: Job) -> Path:
        path = job.directory / "a"
        path.touch()
        stage.play_in_thread("late")
        assert job.directory.joinpath("a").exists()
        stage.play_in_thread("checked")
        return path

    shop = await open_shop(late)
    job_id = await shop.submit("late")
    await until(lambda: "late" in stage.begun)
    shop.inside.runtime._scheduler._active[job_id]._time_is_over(1e6)
    assert await shop.inside.ended(job_id) == "failed"
    assert folders(tmp_path) == [job_id]
    stage.end("late")
    await until(lambda: "checked" in stage.begun)
    assert folders(tmp_path) == [job_id]
    stage.end("checked")
    await is_clean(tmp_path)


async def test_a_result_that_is_not_stored(
    open_shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of a job that was taken from this process does not stay here."""
    shop = await open_shop(report)

    async def settle(claim: Any, outcomes: Any, **options: Any) -> None:
        assert outcomes[0].result.path
        raise ClaimLost

    monkeypatch.setattr(shop.inside.engine, "settle", settle)
    await shop.submit("report", {"size": 10})
    await until(lambda: not shop.inside.runtime._scheduler._active)
    await is_clean(tmp_path)


async def test_a_result_that_cannot_be_stored(
    open_shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of a job that failed since its end could not be stored does not stay either."""
    shop = await open_shop(report)
    engine = shop.inside.engine
    stored = engine.settle

    async def settle(claim: Any, outcomes: Any, **options: Any) -> None:
        if outcomes[0].result is not None:
            raise ValueError("expected")
        await stored(claim, outcomes, **options)

    monkeypatch.setattr(engine, "settle", settle)
    answer = await get(shop, await run(shop, "report", size=10))
    assert (answer.status, answer.json()["code"]) == (500, "job_failed")
    await is_clean(tmp_path)


# A job's directory


async def test_a_directory_of_the_jobs_own(open_shop: Any, tmp_path: Path) -> None:
    """It is private, the same for each call, and gone after the job, however that ended."""
    seen: list[Path] = []

    @aioqueue.queued
    def work(fails: bool, job: Job) -> int:
        seen.append(job.directory)
        assert job.directory == seen[-1]
        assert job.directory.stat().st_mode & 0o777 == 0o700
        job.directory.joinpath("a").touch()
        if fails:
            raise ValueError("expected")
        return len(list(job.directory.iterdir()))

    shop = await open_shop(work)
    for fails in (False, True):
        job_id = await run(shop, "work", fails=fails)
        assert seen[-1].name == job_id
        await is_clean(tmp_path)
    assert seen[0] != seen[1]


async def test_a_directory_of_a_generator(open_shop: Any, tmp_path: Path) -> None:
    """A generator has it from its first line to its last."""

    @aioqueue.queued
    def work(job: Job = aioqueue.JOB) -> Iterator[int]:
        job.directory.joinpath("a").touch()
        yield 1
        yield len(list(job.directory.iterdir()))

    shop = await open_shop(work)
    assert await (await work.submit()).result() == [1, 1]
    await is_clean(tmp_path)
    assert shop.url


async def test_a_batch_has_no_directory(open_shop: Any) -> None:
    """Of a batch each job has a directory; whoever asks the batch is told so."""
    said: list[str] = []

    @aioqueue.queued(batch=True)
    def work(numbers: list[int]) -> list[int]:
        with pytest.raises(AioqueueError) as error:
            _ = aioqueue.current_job().directory
        said.append(str(error.value))
        return numbers

    shop = await open_shop(work)
    await run(shop, "work", numbers=1)
    assert "take the jobs as a parameter" in said[0]


def test_a_job_without_a_place() -> None:
    """A job that nothing keeps files for says so."""
    with pytest.raises(AioqueueError, match="no directory"):
        _ = new_job().directory


async def test_nothing_on_disk_for_whoever_needs_nothing(open_shop: Any, tmp_path: Path) -> None:
    """Jobs that write nothing have no folder."""

    @aioqueue.queued
    def work() -> list[str]:
        return folders(tmp_path)

    shop = await open_shop(work)
    assert await (await work.submit()).result() == []
    assert shop.url


# Large results


@aioqueue.queued
async def text(size: int) -> str:
    """Give back so many letters."""
    return "x" * size


@pytest.mark.parametrize(("size", "is_told"), [(98, True), (99, False)])
async def test_a_large_result(open_shop: Any, size: int, is_told: bool) -> None:
    """JSON beyond the bound is no part of an event or of the job, but is fetched by itself."""
    shop = await open_shop(text, max_event_bytes=100)
    job_id, last = await told(shop, "text", size=size)
    async with shop.http.get(shop.job(job_id)) as answer:
        resource = await answer.json()
    answer = await get(shop, job_id)

    file = {"content_type": "application/json", "size": size + 2, "name": None}
    for one in (last, resource):
        assert one["result"] == ("x" * size if is_told else None)
        assert one.get("file") == (None if is_told else file)
    assert answer.json() == "x" * size
    assert "Content-Security-Policy" not in answer.headers
    assert await (await text.submit(size)).result() == "x" * size


async def test_bytes_with_a_name_that_lie_in_a_file(open_shop: Any, tmp_path: Path) -> None:
    """What was bytes stays bytes for code and hooks, where it lies in a file only for its size."""
    path = tmp_path / "large"
    path.write_bytes(b"PNG")
    finished: list[Any] = []

    @aioqueue.queued
    async def large() -> Any:
        return Content(b"", "image/png", "a.png", path=str(path), file_size=3)

    await open_shop(large, on_finish=finished.append)
    handle: Any = await large.submit()
    assert await handle.result() == b"PNG"
    await until(lambda: finished)
    assert finished[0].result == b"PNG"


async def test_hooks_are_told_the_path(open_shop: Any) -> None:
    """A hook of an ended job is given the file's path."""
    finished: list[Any] = []
    shop = await open_shop(report, on_finish=finished.append)
    job_id = await run(shop, "report", size=10)
    await until(lambda: finished)

    assert finished[0].result.name == "report.csv"
    assert finished[0].result.parent.name == job_id


async def test_lists_of_bytes_have_no_json_form(open_shop: Any) -> None:
    """Bytes within something else are still no JSON."""

    @aioqueue.queued
    async def work() -> Any:
        return [b"a"]

    @aioqueue.queued
    async def values() -> AsyncIterator[Any]:
        yield b"a"

    await open_shop(work, values)
    for function in (work, values):
        handle: Any = await function.submit()
        with pytest.raises(JobFailed, match="no JSON form"):
            await handle.result()
