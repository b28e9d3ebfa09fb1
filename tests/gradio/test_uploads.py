"""Files that clients upload: for whom, for how long, and what becomes of them as arguments."""

from __future__ import annotations

import errno
import os
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, FormData, web

import aioqueue
from aioqueue import Job, Refused, Upload
from aioqueue._spool import Spool
from aioqueue.gradio._uploads import Uploads
from tests.gradio.visitor import Visitor, gradio_shop
from tests.stage import until
from tests.wire import exchange, raw

META = {"_type": "gradio.FileData"}


@aioqueue.queued
def one(file: Upload, note: str = "") -> list[Any]:
    """Take a file."""
    return [file.name, file.size, file.read().decode(), note]


@aioqueue.queued
def many(files: list[Upload]) -> list[list[str]]:
    """Take several files."""
    return [[file.name, file.read().decode()] for file in files]


@aioqueue.queued
def memory(content: bytes) -> list[Any]:
    """Take a file in memory."""
    return [len(content), content.decode()]


@aioqueue.queued
def maybe(file: Upload | None = None) -> str:
    """Take a file that may be missing."""
    return "none" if file is None else file.name


@aioqueue.queued(max_body_size=1000)
def small(file: Upload, note: str = "") -> int:
    """Take a small file."""
    return file.size


@aioqueue.queued
def anything(value: Any = None) -> Any:
    """Take what looks like a file as it is."""
    return value


def owner_of(request: web.Request) -> str | None:
    """Whose a request is: as it says."""
    return request.headers.get("X-Owner")


@pytest.fixture
async def open_shop(serve, http, tmp_path: Path) -> Any:
    """Opens a shop that takes files of every kind; answers a visitor of it."""

    @aioqueue.queued
    async def wait(file: Upload | None) -> None:
        """Take a file, and do not end."""
        await shop.end.wait()

    @aioqueue.queued
    def picture() -> Path:
        """Give back a file."""
        path = tmp_path / "cat.txt"
        path.write_text("a picture")
        return path

    @aioqueue.queued
    def drawing(job: Job = aioqueue.JOB) -> Path:
        """Give back a file of the job's own."""
        path = job.directory / "dog.txt"
        path.write_text("a picture")
        return path

    @aioqueue.queued
    def raw_bytes() -> bytes:
        """Give back what becomes a file."""
        return b"a picture"

    functions = [one, many, memory, maybe, small, anything, wait, picture, drawing, raw_bytes]
    shop = gradio_shop()

    async def open_shop(**more: Any) -> Visitor:
        nonlocal shop
        settings = {"spool_dir": tmp_path, "owner": owner_of, "max_spool_bytes": 5_000_000}
        settings |= {"max_results": 20, "max_body_size": 2_000_000, **more}
        shop = gradio_shop(*functions, settings=settings)
        return Visitor(await shop.open(serve, http))

    return open_shop


@pytest.fixture
async def visitor(open_shop) -> Visitor:
    """A visitor of a shop."""
    return await open_shop()


async def post_files(
    visitor: Visitor, *files: tuple[str, Any], field: str = "files", **headers: str
) -> ClientResponse:
    """Upload files; answers with the body read."""
    form = FormData(default_to_multipart=True, quote_fields=False)
    for name, content in files:
        form.add_field(field, BytesIO(content), filename=name, content_type="text/plain")
    url, headers = visitor.url("/upload"), visitor.headers | headers
    response = await visitor.shop.http.post(url, data=form, headers=headers)
    await response.read()
    return response


async def upload(visitor: Visitor, *files: tuple[str, Any]) -> list[str]:
    """Upload files; answers their paths."""
    response = await post_files(visitor, *files)
    assert response.status == 200, await response.text()
    paths: list[str] = await response.json()
    assert len(paths) == len(files)
    return paths


def told(path: str, **fields: Any) -> dict[str, Any]:
    """What clients say of a file."""
    return {"path": path, "meta": META, **fields}


async def run(visitor: Visitor, name: str, *values: Any) -> Any:
    """The result of a job."""
    response = await visitor.post(f"/run/{name}", {"data": list(values)})
    assert response.status == 200, await response.text()
    (value,) = (await response.json())["data"]
    return value


async def wrong(visitor: Visitor, name: str, *values: Any) -> tuple[str, str]:
    """What is wrong with the only argument that is."""
    response = await visitor.post(f"/run/{name}", {"data": list(values)})
    assert response.status == 422, await response.text()
    (error,) = (await response.json())["detail"]
    return error["parameter_name"], error["message"]


def files_in(path: Path) -> list[Path]:
    """Whatever lies in the directories of jobs."""
    # Unlike rglob, it does not mind what is removed while it looks.
    return [Path(root, name) for root, _, names in os.walk(path) for name in names]


# Uploading, and using it


async def test_a_file(visitor: Visitor) -> None:
    """A file is uploaded, and a job gets it, with the name that its client says."""
    (path,) = await upload(visitor, ("a.txt", b"abc"))
    assert await run(visitor, "one", told(path), "note") == ["a.txt", 3, "abc", "note"]
    named = told(path, orig_name="../b/other.txt", url="http://elsewhere", size=99, mime_type="x")
    assert await run(visitor, "one", named) == ["other.txt", 3, "abc", ""]
    for name in (None, 3, "", "..", "/"):
        assert (await run(visitor, "one", told(path, orig_name=name)))[0] == "a.txt"
    await visitor.join("one", told(path))
    (end,) = (one for one in await visitor.told() if one["msg"] == "process_completed")
    assert end["output"]["data"] == [["a.txt", 3, "abc", ""]]


async def test_several_files(visitor: Visitor) -> None:
    """Several files come in one request, and each has its own path."""
    paths = await upload(visitor, ("a.txt", b"a"), ("a.txt", b"b"), ("c.txt", b""))
    assert len(set(paths)) == 3
    values = [told(path) for path in paths]
    expected = [["a.txt", "a"], ["a.txt", "b"], ["c.txt", ""]]
    assert await run(visitor, "many", values) == expected
    assert await run(visitor, "many", values[::-1]) == expected[::-1]
    assert await run(visitor, "many", values[1]) == expected[1:2]
    assert await run(visitor, "many", []) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("blob", "blob"),
        ("ä ☃.txt", "ä ☃.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.txt", "a.txt"),
        ("a\u2028b\u200b.txt", "ab.txt"),
        ("x" * 300, "x" * 255),
        ("a%2fb", "a%2fb"),
        ("..", ""),
    ],
)
@pytest.mark.one_loop
async def test_names(visitor: Visitor, tmp_path: Path, name: str, expected: str) -> None:
    """Whatever a client calls a file, its path leads to it and to nothing else."""
    (path,) = await upload(visitor, (name, b"abc"))
    assert path.endswith(f"/0/{expected}")
    assert await run(visitor, "one", told(path)) == [expected, 3, "abc", ""]
    assert all(one.is_relative_to(tmp_path) for one in files_in(tmp_path))


async def test_in_memory(visitor: Visitor) -> None:
    """A function that takes bytes gets them."""
    (path,) = await upload(visitor, ("a.txt", b"abc"))
    assert await run(visitor, "memory", told(path)) == [3, "abc"]


async def test_missing(visitor: Visitor) -> None:
    """A file that may be missing may be null, or left out."""
    (path,) = await upload(visitor, ("a.txt", b"abc"))
    assert await run(visitor, "maybe", told(path)) == "a.txt"
    assert await run(visitor, "maybe", None) == "none"
    assert await run(visitor, "maybe") == "none"


async def test_twice(visitor: Visitor, tmp_path: Path) -> None:
    """Two jobs may take the same file: each has its own, and it goes with the job."""
    (path,) = await upload(visitor, ("a.txt", b"abc"))
    assert len(files_in(tmp_path)) == 1
    for _ in range(3):
        assert await run(visitor, "one", told(path)) == ["a.txt", 3, "abc", ""]
    both = [told(path), told(path)]
    assert await run(visitor, "many", both) == [["a.txt", "abc"]] * 2
    await until(lambda: len(files_in(tmp_path)) == 1)


async def test_only_this_process_has_the_file(visitor: Visitor) -> None:
    """A job with a file is bound to the process that has the disk; others are not."""
    (path,) = await upload(visitor, ("a.txt", b"abc"))
    inside, nodes = visitor.shop.inside, []
    for value in (told(path), None):
        response = await visitor.post("/call/maybe", {"data": [value]})
        job_id = (await response.json())["event_id"]
        nodes.append((await inside.engine.get(job_id)).record.node)
    assert nodes == [inside.runtime.submitter.scheduler.node, None]


async def test_what_only_looks_like_a_file(visitor: Visitor) -> None:
    """Where no file is wanted, what clients say of one is a value like any other."""
    value = told("/etc/passwd")
    assert await run(visitor, "anything", value) == value


# What is no file of theirs


@pytest.mark.one_loop
async def test_other_paths(visitor: Visitor, tmp_path: Path) -> None:
    """Only what was issued is a file: no path of the server's, in whatever disguise."""
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    (path,) = await upload(visitor, ("a.txt", b"abc"))
    lot = path.partition("/")[0]
    (real,) = [one for one in files_in(tmp_path) if one != mine]
    others = [
        *("", "/", "/etc/passwd", "../../etc/passwd", "file:///etc/passwd", str(mine), str(real)),
        *(f"{lot}", f"{lot}/", f"{lot}/1/a.txt", f"{lot}/-1/a.txt", f"{lot}/x/a.txt", "x/0/a.txt"),
        *(f"{lot}/../{lot}/0/a.txt", f"{lot}/\N{ARABIC-INDIC DIGIT ZERO}/a.txt", f"/{path}"),
        *(
            f"{lot}/{'9' * 100}/a",
            f"{lot}/{'9' * 5000}/a",
            f"{lot}/{'0' * 5}/a",
            f"{lot}/ 0/a.txt",
            f"{lot}/{real.name}",
            "\0",
        ),
    ]
    for other in others:
        message = await wrong(visitor, "one", told(other))
        assert message == ("file", "is no file that you have uploaded, or it is no longer kept")
    assert await run(visitor, "one", told(f"{lot}/0/anything")) == ["a.txt", 3, "abc", ""]


@pytest.mark.one_loop
async def test_what_is_no_file(visitor: Visitor) -> None:
    """A value that is no file is refused in the words of any other value."""
    (path,) = await upload(visitor, ("a.txt", b"abc"))
    for value in (
        *("text", 3, path, {"path": path}, {"path": path, "meta": {"_type": "x"}}, [path]),
        *({"path": 3, "meta": META}, {"path": None, "meta": META}, {"meta": META}),
        *([told(path), "text"], [told(path)]),
    ):
        response = await visitor.post("/run/one", {"data": [value]})
        assert response.status == 422, value
        assert "file" in (await response.json())["detail"][0]["parameter_name"]


async def test_owners(visitor: Visitor) -> None:
    """What somebody has uploaded nobody else can use."""
    visitor.headers["X-Owner"] = "me"
    (path,) = await upload(visitor, ("a.txt", b"abc"))
    for headers in ({"X-Owner": "you"}, {}):
        stranger = Visitor(visitor.shop)
        stranger.headers = headers
        name, message = await wrong(stranger, "one", told(path))
        assert (name, "no file that you have uploaded" in message) == ("file", True)
    assert (await run(visitor, "one", told(path)))[2] == "abc"


async def test_expiry(visitor: Visitor, tmp_path: Path) -> None:
    """A file that no job has taken in time is removed; a job that has taken it keeps its own."""
    (early,) = await upload(visitor, ("a.txt", b"early"))
    inside = visitor.shop.inside
    await inside.pass_time(599, step=100)
    assert (await run(visitor, "one", told(early)))[2] == "early"
    await inside.pass_time(2)
    assert (await wrong(visitor, "one", told(early)))[0] == "file"
    await until(lambda: not files_in(tmp_path))


async def test_a_file_that_has_gone(visitor: Visitor, tmp_path: Path) -> None:
    """A file that is no longer on the disk is the client's to upload again."""
    (path,) = await upload(visitor, ("a.txt", b"abc"))
    (real,) = files_in(tmp_path)
    real.unlink()
    for name, field in (("one", "file"), ("memory", "content")):
        message = (field, "is no longer there: upload it again")
        assert await wrong(visitor, name, told(path)) == message


@pytest.mark.parametrize("owner", [Path, os], ids=["reading", "linking"])
async def test_a_disk_that_fails(
    visitor: Visitor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: Any,
) -> None:
    """A disk that is full or broken is not the client's mistake, and the log says what it was."""

    def fail(*args: Any) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    (path,) = await upload(visitor, ("a.txt", b"abc"))
    if owner is Path:
        monkeypatch.setattr(Path, "read_bytes", fail)
    else:
        monkeypatch.setattr(os, "link", fail)
        monkeypatch.setattr(shutil, "copyfile", fail)
    response = await visitor.post("/run/memory", {"data": [told(path)]})
    assert response.status == 503
    assert "no room" in (await response.json())["detail"]
    assert int(response.headers["Retry-After"]) > 0
    assert "a file for content could not be taken: [Errno 5] the disk is broken" in caplog.text
    monkeypatch.undo()
    await until(lambda: len(files_in(tmp_path)) == 1)


# Limits


async def text_of(response: ClientResponse, status: int) -> str:
    """What an upload that failed says, which clients show as it is."""
    assert response.status == status, await response.text()
    assert response.content_type == "text/plain"
    return await response.text()


async def test_too_large(visitor: Visitor, tmp_path: Path) -> None:
    """What is larger than any function takes is refused in plain words, and leaves nothing."""
    response = await post_files(visitor, ("a.txt", b"x" * 2_100_000))
    assert await text_of(response, 413) == "The body may have 2000000 bytes."
    await until(lambda: not files_in(tmp_path))


async def test_too_large_for_the_function(visitor: Visitor, tmp_path: Path) -> None:
    """Files count with the other arguments against what their function takes."""
    (path, large) = await upload(visitor, ("a.txt", b"x" * 950), ("b.txt", b"x" * 1001))
    assert await run(visitor, "small", told(path)) == 950
    for values in ((told(large),), (told(path), "x" * 50)):
        response = await visitor.post("/run/small", {"data": list(values)})
        assert response.status == 413
        assert (await response.json())["detail"] == "The arguments may have 1000 bytes."
    await until(lambda: len(files_in(tmp_path)) == 2)


async def test_no_room(visitor: Visitor, tmp_path: Path) -> None:
    """Beyond the room on disk an upload is refused, and a job that would take a file, too."""
    (path,) = await upload(visitor, ("a.txt", b"x" * 1_900_000))
    spool = visitor.shop.inside.runtime.submitter.spool
    spool.take("another", 2_000_000)
    response = await post_files(visitor, ("a.txt", b"x" * 1_100_000))
    assert "no room" in await text_of(response, 503)
    response = await visitor.post("/run/one", {"data": [told(path)]})
    assert response.status == 503
    await until(lambda: len(files_in(tmp_path)) == 1)
    await spool.remove("another")
    assert await run(visitor, "one", told(path))


async def test_half_of_the_room(visitor: Visitor, tmp_path: Path) -> None:
    """What is uploaded and not yet gone has half of the room; the rest is for those who call."""
    (path,) = await upload(visitor, ("a.txt", b"x" * 1_500_000))
    for files in ([b"x" * 1_000_001], [b"x" * 999_000, b"abc"]):
        response = await post_files(visitor, *(("a.txt", one) for one in files))
        assert "no room" in await text_of(response, 503)
    await until(lambda: len(files_in(tmp_path)) == 1)
    spool = visitor.shop.inside.runtime.submitter.spool
    await until(lambda: spool._total == 1_500_000)
    assert await run(visitor, "one", told(path))
    assert await upload(visitor, ("a.txt", b"x" * 990_000))
    await visitor.shop.inside.pass_time(601, step=100)
    await until(lambda: not files_in(tmp_path))
    assert await upload(visitor, ("a.txt", b"x" * 1_500_000))


async def test_refused_unread(visitor: Visitor) -> None:
    """What says that it is too much is refused before it comes."""
    await upload(visitor, ("a.txt", b"x" * 1_500_000))
    kind = b"Content-Type: multipart/form-data; boundary=b"
    request = raw("POST", "/gradio_api/upload", kind, length=1_000_001)
    answer = await exchange(visitor.shop.url, request)
    assert (answer.status, answer.headers["Connection"]) == (503, "close")


async def test_as_many_as_there_is_room(visitor: Visitor) -> None:
    """How many results are kept says nothing about uploads."""
    for _ in range(21):
        await upload(visitor, ("a.txt", b"abc"))


# Full queues


async def test_a_full_queue(open_shop, tmp_path: Path) -> None:
    """Where a job would be refused its files are not even looked for."""
    visitor = await open_shop(max_size=1)
    (path,) = await upload(visitor, ("a.txt", b"abc"))
    for _ in range(2):
        await visitor.join("wait", told(path))
    taken = visitor.shop.inside.runtime.submitter.spool._noted.copy()
    for value in (told(path), told("unknown/0/a")):
        response = await visitor.post("/run/wait", {"data": [value]})
        assert response.status == 503
        assert (await response.json())["detail"].startswith("The queue is full (1 waiting).")
    assert visitor.shop.inside.runtime.submitter.spool._noted == taken
    assert len(files_in(tmp_path)) == 3


# Results that are files, handed on


async def result_of(visitor: Visitor, name: str, *values: Any) -> dict[str, Any]:
    """What a client is told of a file that a function gave back."""
    told: dict[str, Any] = await run(visitor, name, *values)
    return told


@pytest.mark.parametrize("name", ["picture", "drawing", "raw_bytes"])
async def test_a_result_handed_on(visitor: Visitor, tmp_path: Path, name: str) -> None:
    """The file that one function gave back is an argument of the next, as it was told."""
    result = await result_of(visitor, name)
    title = result["orig_name"]
    assert await run(visitor, "one", result) == [title, 9, "a picture", ""]
    assert await run(visitor, "one", told(result["path"])) == [
        *("" if name == "raw_bytes" else title, 9, "a picture", "")
    ]
    assert await run(visitor, "memory", result) == [9, "a picture"]
    assert await run(visitor, "many", [result, result]) == [[title, "a picture"]] * 2
    for size, status in ((900, 200), (990, 413)):
        values = [told(result["path"]), "x" * (size - len('{"note":""}'))]
        response = await visitor.post("/run/small", {"data": values})
        assert response.status == status
    response = await visitor.get(f"/file={result['path']}")
    assert (response.status, await response.read()) == (200, b"a picture")
    await visitor.shop.inside.pass_time(601, step=100)
    message = ("file", "is no file that you have uploaded, or it is no longer kept")
    assert await wrong(visitor, "one", result) == message
    await until(lambda: {one.name for one in files_in(tmp_path)} <= {"cat.txt"})


async def test_whose_result(visitor: Visitor) -> None:
    """A result is its owner's, or everybody's who knows it where it has none."""
    message = ("file", "is no file that you have uploaded, or it is no longer kept")
    nobodys = await result_of(visitor, "picture")
    visitor.headers["X-Owner"] = "me"
    mine = await result_of(visitor, "picture")
    for headers in ({"X-Owner": "you"}, {}):
        stranger = Visitor(visitor.shop)
        stranger.headers = headers
        assert await wrong(stranger, "one", mine) == message
        assert (await run(stranger, "one", nobodys))[2] == "a picture"
    assert (await run(visitor, "one", mine))[2] == "a picture"


async def test_what_is_no_file_of_a_job(visitor: Visitor) -> None:
    """A job that has not ended, or whose result is a value, has no file."""
    message = ("file", "is no file that you have uploaded, or it is no longer kept")
    waiting = await visitor.join("wait", None)
    value = await visitor.join("anything", 3)
    await visitor.shop.inside.ended(value)
    for job_id in (waiting, value, "", "unknown"):
        assert await wrong(visitor, "one", told(f"{job_id}/result")) == message


async def test_a_result_that_has_gone(visitor: Visitor, tmp_path: Path) -> None:
    """A file that is no longer on the disk is no argument any more."""
    result = await result_of(visitor, "picture")
    (tmp_path / "cat.txt").unlink()
    assert (await wrong(visitor, "one", result))[1] == "is no longer there: upload it again"


@pytest.mark.one_loop
async def test_another_field(visitor: Visitor, tmp_path: Path) -> None:
    """What is no file in the right field is refused, and leaves nothing."""
    wrong = "There is no file in a field files."
    assert await text_of(await post_files(visitor, ("a", b"abc"), field="other"), 400) == wrong
    response = await visitor.post("/upload", {"files": []})
    assert await text_of(response, 400) == wrong
    url = visitor.url("/upload")
    for data, status in ((b"abc", 415), ({"files": "text"}, 415)):
        response = await visitor.shop.http.post(url, data=data)
        await text_of(response, status)
    form = FormData(default_to_multipart=True)
    form.add_field("files", "text")
    assert await text_of(await visitor.shop.http.post(url, data=form), 400) == wrong
    assert not files_in(tmp_path)


async def test_another_site(visitor: Visitor) -> None:
    """A page of another site can't fill the disk in somebody's name."""
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        await text_of(await post_files(visitor, ("a", b"abc"), **headers), 403)
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": visitor.shop.url}):
        assert (await post_files(visitor, ("a", b"abc"), **headers)).status == 200


async def test_refused_jobs(visitor: Visitor, tmp_path: Path) -> None:
    """A job whose other arguments are wrong leaves no file of its own."""
    (path,) = await upload(visitor, ("a.txt", b"abc"))
    assert (await wrong(visitor, "one", told(path), 3))[0] == "note"
    await until(lambda: len(files_in(tmp_path)) == 1)


# By themselves


async def test_forgotten_in_their_order(tmp_path: Path) -> None:
    """Each request's files go when their own time is over."""
    spool = Spool(tmp_path, 1000)
    uploads = Uploads(spool, ttl=10, max_bytes=6 * 4096)
    file = Upload("a", "text/plain", 1, tmp_path / "a")
    for number in range(3):
        assert uploads.add(f"lot{number}", "me", [file, file], float(number)) == [
            f"lot{number}/0/a",
            f"lot{number}/1/a",
        ]
    with pytest.raises(Refused):
        uploads.check(0)
    await uploads.tick(9.9)
    assert uploads.find("lot0/1/a", "me") is file
    assert uploads.find("lot0/2/a", "me") is None
    assert uploads.find("lot0/0/a", None) is None
    await uploads.tick(11.0)
    found = [uploads.find(f"lot{number}/0/a", "me") for number in range(3)]
    assert found == [None, None, file]
    assert uploads.add("lot3", None, [file] * 4, 11.0)
    with pytest.raises(Refused):
        uploads.add("lot4", None, [file], 11.0)
    await spool.close()


@pytest.mark.parametrize(("size", "counted"), [(0, 4096), (4096, 4096), (4097, 4097)])
async def test_what_a_file_counts(tmp_path: Path, size: int, counted: int) -> None:
    """A file counts its bytes, and a small one as much as it takes all the same."""
    spool = Spool(tmp_path, 1)
    uploads = Uploads(spool, ttl=10, max_bytes=3 * counted)
    file = Upload("a", "text/plain", size, tmp_path / "a")
    uploads.check(size, 3)
    with pytest.raises(Refused):
        uploads.add("none", None, [file] * 4, 0.0)
    assert uploads.find("none/0/a", None) is None
    uploads.add("two", None, [file] * 2, 0.0)
    uploads.check(counted)
    with pytest.raises(Refused):
        uploads.check(counted + 1)
    uploads.add("third", None, [file], 0.0)
    with pytest.raises(Refused):
        uploads.check(0)
    await spool.close()


async def test_so_many_files(tmp_path: Path) -> None:
    """However much room there is, there are ten thousand files at most."""
    spool = Spool(tmp_path, 1)
    uploads = Uploads(spool, ttl=10, max_bytes=1 << 40)
    file = Upload("a", "text/plain", 1, tmp_path / "a")
    for number in range(9):
        uploads.add(f"lot{number}", None, [file] * 1000, 0.0)
    uploads.add("lot9", None, [file] * 600, 0.0)
    with pytest.raises(Refused):
        uploads.add("more", None, [file] * 401, 0.0)
    uploads.add("lot10", None, [file] * 400, 0.0)
    with pytest.raises(Refused):
        uploads.check(1)
    await uploads.tick(10.0)
    assert len(uploads.add("more", None, [file] * 1000, 11.0)) == 1000
    assert uploads.find("more/999/a", None) is file
    await spool.close()
