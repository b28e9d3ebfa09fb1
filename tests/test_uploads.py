"""Files in: from forms, whole bodies and code, straight to disk, and gone with their jobs."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import pickle
import threading
from pathlib import Path
from typing import Annotated, Any

import pytest
from aiohttp import ClientSession, FormData, web

import aioqueue
from aioqueue import Body, Refused, Upload
from aioqueue._annotations import describe
from aioqueue._parameters import Signature
from aioqueue._spool import Spool
from aioqueue._upload import base_name
from tests.inside import STREAM, Inside, Shop, make_app, scheduler_of
from tests.stage import Stage, until
from tests.wire import connect, exchange, raw

WAIT = {"Prefer": "wait=10"}


def told(upload: Upload) -> list[Any]:
    """What a function can say of a file."""
    content = upload.read()
    with upload.open() as file:
        assert file.read() == content
    assert len(content) == upload.size
    return [upload.name, upload.content_type, hashlib.md5(content).hexdigest()]


def md5(content: bytes) -> str:
    """What tells contents apart."""
    return hashlib.md5(content).hexdigest()


@aioqueue.queued
def one(file: Upload, note: str = "") -> list[Any]:
    """Take a file."""
    return [*told(file), note]


@aioqueue.queued
def maybe(file: Upload | None = None) -> list[Any] | None:
    """Take a file that may be missing."""
    return None if file is None else told(file)


@aioqueue.queued
def many(files: list[Upload]) -> list[list[Any]]:
    """Take all files of a name."""
    return [told(file) for file in files]


@aioqueue.queued
def both(film: Upload, pictures: list[bytes], title: str) -> list[Any]:
    """Take files on disk and in memory."""
    return [told(film)[2], [md5(picture) for picture in pictures], title]


@aioqueue.queued(batch=True, max_batch_size=4, batch_timeout=60)
def batch(files: list[Upload], notes: list[str]) -> list[list[Any]]:
    """Take a file a job."""
    return [[*told(file), note] for file, note in zip(files, notes, strict=True)]


@aioqueue.queued
def whole(data: Annotated[Upload, Body]) -> list[Any]:
    """Take the whole body."""
    return told(data)


@aioqueue.queued(max_body_size=300_000)
def small(file: Upload) -> int:
    """Take a small file."""
    return file.size


@aioqueue.queued(max_body_size=300_000)
def small_whole(data: Annotated[Upload, Body]) -> int:
    """Take a small body."""
    return data.size


FUNCTIONS = (one, maybe, many, both, batch, whole, small, small_whole)


def form(*parts: tuple[str, Any, str | None], kind: str = "image/png") -> FormData:
    """A form of fields and of files, which have a name."""
    data = FormData(default_to_multipart=True)
    for name, content, file_name in parts:
        if file_name is None:
            data.add_field(name, content)
        else:
            data.add_field(name, content, filename=file_name, content_type=kind)
    return data


@pytest.fixture
async def shop(serve: Any, http: ClientSession, tmp_path: Path) -> Shop:
    """An app that takes files of every kind."""
    app = make_app(*FUNCTIONS, spool_dir=tmp_path, max_body_size=50 << 20, max_spool_bytes=20 << 20)
    shop = Shop()
    shop.app = app
    return await shop.open(serve, http)


async def send(shop: Shop, name: str, data: Any, **headers: str) -> Any:
    """Post a body; answers the result."""
    async with shop.http.post(f"{shop.url}/{name}", data=data, headers=WAIT | headers) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def problem(shop: Shop, name: str, data: Any, **headers: str) -> tuple[int, str]:
    """Post a body that is refused; answers status and code."""
    async with shop.http.post(f"{shop.url}/{name}", data=data, headers=headers) as response:
        document = await response.json()
        assert response.status == document["status"]
        return document["status"], document["code"]


def files_in(path: Path) -> list[Path]:
    """Whatever lies in the directories there, and is no directory."""
    # Unlike rglob, it does not mind what is removed while it looks.
    return [Path(root, name) for root, _, names in os.walk(path) for name in names]


async def is_clean(path: Path) -> None:
    """Wait until no job has a folder any more."""
    await until(lambda: not [one for root in path.iterdir() for one in root.iterdir()])


# From a form


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 262_143, 262_144, 1_000_003])
async def test_a_file_of_a_form(shop: Shop, tmp_path: Path, size: int) -> None:
    """A file of any size comes whole, with its name and type, and is gone after the job."""
    content = os.urandom(size)
    data = form(("file", content, "cat.png"), ("note", "hi", None))

    assert await send(shop, "one", data) == ["cat.png", "image/png", md5(content), "hi"]
    await is_clean(tmp_path)


async def test_no_file(shop: Shop) -> None:
    """A file that may be missing is None then; one that must be there is a 422."""
    async with shop.http.post(f"{shop.url}/maybe", json={}, headers=WAIT) as response:
        assert await response.json() is None
    assert await problem(shop, "one", form(("note", "hi", None))) == (422, "invalid_arguments")


async def test_several_files(shop: Shop, tmp_path: Path) -> None:
    """All files of a name fill its list, in order; one file is a list of one."""
    parts = [("files", bytes([number]) * 10, f"{number}.png") for number in range(5)]

    found = await send(shop, "many", form(*parts))
    assert found == [[name, "image/png", md5(content)] for _, content, name in parts]
    assert len(await send(shop, "many", form(*parts[:1]))) == 1
    await is_clean(tmp_path)


async def test_files_on_disk_and_in_memory(shop: Shop) -> None:
    """A function may take both, and text beside them."""
    data = form(
        ("pictures", b"a", "a.png"),
        ("film", b"film", "b.mp4"),
        ("title", "T", None),
        ("pictures", b"b", "b.png"),
    )

    assert await send(shop, "both", data) == [md5(b"film"), [md5(b"a"), md5(b"b")], "T"]


async def test_a_batch(shop: Shop, tmp_path: Path) -> None:
    """Each job of a batch sends one file, and takes its own along when it ends."""
    sent = [
        send(
            shop, "batch", form(("files", f"{number}".encode(), "a"), ("notes", f"{number}", None))
        )
        for number in range(4)
    ]
    found = await asyncio.gather(*sent)

    assert found == [["a", "image/png", md5(f"{n}".encode()), f"{n}"] for n in range(4)]
    await is_clean(tmp_path)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("one", {"file": "text"}),
        ("one", {"file": {"name": "", "content_type": "", "size": 1, "path": "/etc/passwd"}}),
        ("one", {"file": None}),
        ("maybe", {"file": "text"}),
        ("maybe", {"file": {"path": "/etc/passwd"}}),
        ("many", {"files": ["text"]}),
        ("many", {"files": [{"name": "", "content_type": "", "size": 1, "path": "/etc/passwd"}]}),
        ("many", {"files": {"path": "/etc/passwd"}}),
    ],
)
async def test_never_from_json(shop: Shop, name: str, body: Any) -> None:
    """JSON makes no file, least of all one that is on the server's disk already."""
    async with shop.http.post(f"{shop.url}/{name}", json=body) as response:
        document = await response.json()

    assert (response.status, document["code"]) == (422, "invalid_arguments")
    assert any("file" in error["field"] for error in document["errors"])
    assert "must be" in document["detail"]


async def test_the_words_of_a_refusal(shop: Shop, tmp_path: Path) -> None:
    """Text in the place of a file, and two files for one, are said in the client's words."""
    async with shop.http.post(f"{shop.url}/one", data=form(("file", "t", None))) as response:
        text = await response.json()
    twice = form(("file", b"a", "a"), ("file", b"b", "b"))
    async with shop.http.post(f"{shop.url}/one", data=twice) as response:
        repeated = await response.json()

    assert text["errors"][0] | {"field": "file"} == text["errors"][0]
    assert text["errors"][0]["expected"] == "a file (multipart/form-data)"
    assert repeated["detail"] == "file is given more than once."
    assert describe(Upload | None) == "a file (multipart/form-data) or null"
    await is_clean(tmp_path)


# The whole body


@pytest.mark.parametrize("size", [0, 1, 1_000_003])
@pytest.mark.parametrize("chunked", [False, True])
async def test_the_whole_body(shop: Shop, tmp_path: Path, size: int, chunked: bool) -> None:
    """A body of any type and length is one file; its name is that of Content-Disposition."""
    content = os.urandom(size)

    async def chunks() -> Any:
        for start in range(0, size, 100_000):
            yield content[start : start + 100_000]

    named = {"Content-Disposition": 'attachment; filename="../b.wav"', "Content-Type": "audio/wav"}
    found = await send(shop, "whole", chunks() if chunked else content, **named)
    assert found == ["b.wav", "audio/wav", md5(content)]
    await is_clean(tmp_path)


async def test_a_whole_body_without_words(shop: Shop) -> None:
    """A body that says nothing of itself is bytes without a name."""
    answer = await exchange(shop.url, raw("POST", "/whole", b"Prefer: wait=9", body=b"abc"))

    assert answer.json() == ["", "application/octet-stream", md5(b"abc")]


async def test_a_whole_body_that_was_read(serve: Any, http: ClientSession, tmp_path: Path) -> None:
    """A middleware may have read the body before us."""

    @web.middleware
    async def reads(request: web.Request, handler: Any) -> Any:
        await request.read()
        return await handler(request)

    app = make_app(whole, spool_dir=tmp_path)
    app.middlewares.append(reads)
    shop = Shop()
    shop.app = app
    await shop.open(serve, http)

    assert (await send(shop, "whole", b"abc"))[2] == md5(b"abc")
    await is_clean(tmp_path)


# Limits


@pytest.mark.parametrize("name", ["small", "small_whole"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_too_large(shop: Shop, tmp_path: Path, name: str, chunked: bool) -> None:
    """What is larger than the function takes is refused, and leaves nothing."""

    async def chunks() -> Any:
        for _ in range(40):
            yield b"x" * 10_000

    body: Any = chunks() if chunked else b"x" * 400_000
    data = body if name == "small_whole" else form(("file", body, "a"))
    assert await problem(shop, name, data) == (413, "payload_too_large")
    await is_clean(tmp_path)


async def test_no_room(shop: Shop, tmp_path: Path) -> None:
    """Beyond the room on disk an upload is refused; what it has taken is free again."""

    def data(size: int) -> io.BytesIO:
        return io.BytesIO(bytes(size << 20))

    async def is_free() -> None:
        await is_clean(tmp_path)
        # What was removed by a thread is counted as free a moment later.
        await until(lambda: not shop.inside.runtime._spool._total)

    assert (await send(shop, "whole", data(19)))[2]
    await is_free()
    async with shop.http.post(f"{shop.url}/whole", data=data(21)) as response:
        document = await response.json()
    assert (response.status, document["code"]) == (503, "spool_full")
    assert int(response.headers["Retry-After"]) >= 1
    await is_free()
    assert (await send(shop, "whole", data(19)))[2]


async def test_a_disk_that_is_full(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When the disk is full an upload is refused, the log says why, and nothing is left."""
    write, written = os.write, 0

    def fill(file: int, data: Any) -> int:
        nonlocal written
        if len(data) < 1000:  # a wake-up of the loop's
            return write(file, data)
        written += 1
        if written > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fill)
        found = await problem(shop, "one", form(("file", b"x" * 1_000_000, "a")))
    assert found == (503, "spool_full")
    assert "No space left on device" in caplog.text
    await is_clean(tmp_path)


async def test_a_write_that_comes_in_parts(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system call may write less than it was given; the rest follows."""
    write = os.write
    monkeypatch.setattr(
        os, "write", lambda file, data: write(file, data[:100_001] if len(data) > 10 else data)
    )
    content = os.urandom(1_000_003)

    assert (await send(shop, "whole", content))[2] == md5(content)


async def test_no_place(
    serve: Any,
    http: ClientSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where nothing can be put for a while uploads are refused, cost no room, and come again."""
    shop = Shop()
    shop.app = make_app(whole, spool_dir=tmp_path, max_spool_bytes=500_000)
    await shop.open(serve, http)
    real_open, content = os.open, bytes(300_000)

    def refuse(path: Any, *args: Any, **options: Any) -> int:
        if os.path.basename(path).startswith("aioqueue-"):
            raise OSError(errno.EMFILE, "Too many open files")
        return real_open(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        for _ in range(3):
            assert await problem(shop, "whole", content) == (503, "spool_full")
    assert "Too many open files" in caplog.text
    assert list(tmp_path.iterdir()) == []
    assert (await send(shop, "whole", content))[2] == md5(content)
    assert [root.stat().st_mode & 0o777 for root in tmp_path.iterdir()] == [0o700]


async def test_each_is_removed_once(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused upload is removed by whoever comes first, and looked for by nobody else."""
    removed = []
    remove = Spool.remove

    def counted(spool: Spool, job_id: str) -> Any:
        removed.append(job_id)
        return remove(spool, job_id)

    monkeypatch.setattr(Spool, "remove", counted)
    key = {"Idempotency-Key": "0123456789abcdef"}
    for _ in range(2):
        assert await send(shop, "whole", b"abc", **key)
    await is_clean(tmp_path)
    assert len(removed) == 2
    assert await problem(shop, "whole", b"abcd", **key) == (422, "idempotency_key_reused")
    await is_clean(tmp_path)
    assert len(removed) == len(set(removed)) == 3


# What leaves nothing


async def test_a_client_that_leaves(shop: Shop, tmp_path: Path) -> None:
    """A client that hangs up in the middle of its file leaves no file and no job."""
    async with connect(shop.url) as connection:
        connection.send(raw("POST", "/whole", body=b"x" * 300_000, length=1_000_000))
        await until(lambda: files_in(tmp_path))
    await is_clean(tmp_path)


async def test_a_form_that_is_cut_off(shop: Shop, tmp_path: Path) -> None:
    """A form that ends within a part is refused, and leaves no file."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    kind = b"Content-Type: multipart/form-data; boundary=b"
    answer = await exchange(shop.url, raw("POST", "/one", kind, body=head + b"x" * 300_000))

    assert answer.json()["code"] == "bad_request"
    await is_clean(tmp_path)


async def test_a_body_that_takes_too_long(serve: Any, http: ClientSession, tmp_path: Path) -> None:
    """A file whose rest never comes is let go when its time is over."""
    app = make_app(whole, spool_dir=tmp_path, body_timeout=0.2)
    url = await serve(app)
    body = raw("POST", "/whole", body=b"x" * 300_000, length=1_000_000)

    assert (await exchange(url, body)).json()["code"] == "body_timeout"
    await is_clean(tmp_path)


async def test_a_refused_request(shop: Shop, tmp_path: Path) -> None:
    """A request whose arguments are wrong leaves no file."""
    data = form(("file", b"x" * 300_000, "a"), ("colour", "red", None))

    assert await problem(shop, "one", data) == (422, "invalid_arguments")
    await is_clean(tmp_path)


async def test_a_full_queue(serve: Any, http: ClientSession, stage: Stage, tmp_path: Path) -> None:
    """A job that there is no room for leaves no file; one that waits keeps its own."""

    @aioqueue.queued(max_size=1)
    async def function(file: Upload) -> int:
        await stage.play("work")
        return file.size

    app = make_app(function, spool_dir=tmp_path)
    shop = Shop()
    shop.app = app
    await shop.open(serve, http)
    for _ in range(2):
        async with http.post(f"{shop.url}/function", data=form(("file", b"abc", "a"))) as response:
            assert response.status == 202
    assert await problem(shop, "function", form(("file", b"abc", "a"))) == (503, "queue_full")
    await until(lambda: len(files_in(tmp_path)) == 2)
    stage.end("work")
    await is_clean(tmp_path)


async def test_a_job_that_is_cancelled(
    serve: Any, http: ClientSession, stage: Stage, tmp_path: Path
) -> None:
    """A job cancelled while it waits leaves no file; one that runs keeps it until it has ended."""

    @aioqueue.queued(cancel_timeout=0)
    def function(file: Upload) -> int:
        stage.play_in_thread("work")
        return len(file.read())

    app = make_app(function, spool_dir=tmp_path)
    url = await serve(app)
    inside = Inside(app)
    job_ids = []
    for _ in range(2):
        async with http.post(f"{url}/function", data=form(("file", b"abc", "a"))) as response:
            job_ids.append((await response.json())["id"])
    await stage.has_begun("work")
    for job_id in job_ids:
        await (await http.delete(f"{url}/queue/jobs/{job_id}")).release()
        assert await inside.ended(job_id) == "cancelled"
    await until(lambda: len(files_in(tmp_path)) == 1)
    (left,) = files_in(tmp_path)
    assert left.parent.name == job_ids[0]
    stage.end("work")
    await is_clean(tmp_path)


async def test_a_job_that_cannot_start(
    serve: Any, http: ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job whose function can't even be called leaves no file."""

    def call(*args: Any) -> None:
        raise RuntimeError("the code has changed")

    url = await serve(make_app(one, spool_dir=tmp_path))
    monkeypatch.setattr(one, "call", call)
    data = form(("file", b"abc", "a"))
    async with http.post(f"{url}/one", data=data, headers=WAIT) as response:
        assert (await response.json())["code"] == "job_failed"
    await is_clean(tmp_path)


async def test_a_server_that_ends(http: ClientSession, stage: Stage, tmp_path: Path) -> None:
    """A server that shuts down takes the files of all its jobs along."""

    @aioqueue.queued
    async def function(file: Upload) -> int:
        await stage.play("work")
        return file.size

    app = make_app(function, spool_dir=tmp_path)
    runner = web.AppRunner(app)
    await runner.setup()
    mine = tmp_path / "mine"
    mine.write_bytes(b"abc")
    for _ in range(3):
        await function.submit(Upload.of(mine))
    await stage.has_begun("work")
    await runner.cleanup()

    assert list(tmp_path.iterdir()) == [mine]


# Sent again


async def test_the_same_file_again(shop: Shop, stage: Stage, tmp_path: Path) -> None:
    """A retry with its key is the same job, and its file is not kept twice."""
    key = {"Idempotency-Key": "0123456789abcdef"}
    content = os.urandom(599_999) + b"y"
    ids = []
    for name in ("a.png", "a.png"):
        data = form(("file", content, name))
        async with shop.http.post(f"{shop.url}/one", data=data, headers=key) as response:
            assert response.status == 202
            ids.append((await response.json())["id"])
            replayed = response.headers.get("Idempotency-Replayed")
    assert ids[0] == ids[1]
    assert replayed == "true"
    for other in (content[:-1] + b"x", content[:-1]):
        found = await problem(shop, "one", form(("file", other, "a.png")), **key)
        assert found == (422, "idempotency_key_reused")
    await is_clean(tmp_path)


async def test_a_repetition_that_follows_its_job(
    serve: Any, http: ClientSession, stage: Stage, tmp_path: Path
) -> None:
    """The file of a repetition goes at once, however long the stream that it asked for."""

    @aioqueue.queued
    async def function(file: Upload) -> int:
        await stage.play("work")
        return file.size

    app = make_app(function, spool_dir=tmp_path)
    url = await serve(app)
    headers = {"Idempotency-Key": "0123456789abcdef", **STREAM}
    streams = []
    for _ in range(2):
        data = form(("file", b"abc", "a"))
        streams.append(await http.post(f"{url}/function", data=data, headers=headers))
    await until(lambda: len(files_in(tmp_path)) == 1)
    stage.end("work")
    for stream in streams:
        assert b"event: succeeded" in await stream.read()


async def test_only_this_process_has_the_file(
    serve: Any, http: ClientSession, stage: Stage, tmp_path: Path
) -> None:
    """A job with a file on disk is bound to the process that has the disk; others are not."""

    @aioqueue.queued
    async def function(file: Upload | None = None) -> None:
        await stage.play("work")

    app = make_app(function, spool_dir=tmp_path)
    url = await serve(app)
    inside = Inside(app)
    mine = tmp_path / "mine"
    mine.touch()
    async with http.post(f"{url}/function", data=form(("file", b"abc", "a"))) as response:
        sent = (await response.json())["id"]
    submitted = (await function.submit(Upload.of(mine))).id
    plain = (await function.submit()).id
    nodes = [(await inside.engine.get(job_id)).record.node for job_id in (sent, submitted, plain)]
    stage.end("work")

    assert nodes == [scheduler_of(app).node] * 2 + [None]


# From code


async def test_from_code(shop: Shop, tmp_path: Path) -> None:
    """A file of one's own is submitted; the job has its own link, and the file stays."""
    mine = tmp_path / "cat.png"
    mine.write_bytes(b"abc")
    upload = Upload.of(mine)
    assert (upload.name, upload.content_type, upload.size) == ("cat.png", "image/png", 3)

    assert await (await one.submit(upload)).result() == ["cat.png", "image/png", md5(b"abc"), ""]
    assert await (await many.submit([upload, upload])).result() == [told(upload)] * 2
    assert await (await both.submit(upload, [b"a", b"b"], "t")).result() == [
        md5(b"abc"),
        [md5(b"a"), md5(b"b")],
        "t",
    ]
    assert mine.exists()


async def test_from_a_job(serve: Any, http: ClientSession, stage: Stage, tmp_path: Path) -> None:
    """A job hands its file on; the next one has it still when the first has ended."""
    handles = []

    @aioqueue.queued
    def second(file: Upload) -> str:
        stage.play_in_thread("second")
        return file.read().decode()

    @aioqueue.queued
    async def first(file: Upload) -> str:
        handles.append(await second.submit(file))
        return str(file.path)

    app = make_app(first, second, spool_dir=tmp_path)
    shop = Shop()
    shop.app = app
    await shop.open(serve, http)
    path = Path(await send(shop, "first", form(("file", b"abc", "a"))))
    await until(lambda: not path.exists())
    stage.end("second")

    assert await handles[0].result() == "abc"


async def test_a_copy_where_there_are_no_links(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another file system the job gets a copy."""

    def refuse(source: Any, target: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    mine = tmp_path / "a"
    mine.write_bytes(b"abc")
    monkeypatch.setattr(os, "link", refuse)

    assert (await (await one.submit(Upload.of(mine))).result())[2] == md5(b"abc")


async def test_from_code_without_room(shop: Shop, tmp_path: Path) -> None:
    """What there is no room for is refused; a file that is gone is an OSError; nothing is left."""
    mine = tmp_path / "large"
    with mine.open("wb") as file:
        file.truncate(21 << 20)
    upload = Upload.of(mine)
    with pytest.raises(Refused, match="no room"):
        await one.submit(upload)
    mine.unlink()
    with pytest.raises(FileNotFoundError):
        await many.submit([upload])
    await is_clean(tmp_path)


async def test_from_code_with_wrong_arguments(shop: Shop, tmp_path: Path) -> None:
    """A call that does not fit leaves nothing either."""
    mine = tmp_path / "a"
    mine.write_bytes(b"abc")
    wrong: Any = one.submit
    with pytest.raises(TypeError, match="note must be a string"):
        await wrong(Upload.of(mine), 5)
    with pytest.raises(TypeError, match="file must be a file"):
        await wrong("text")
    mine.unlink()
    await is_clean(tmp_path)


async def test_a_name_that_is_the_servers(serve: Any, http: ClientSession, tmp_path: Path) -> None:
    """A client can't guess what its file is called on disk: what is made beside it is beside it."""

    @aioqueue.queued
    def function(file: Upload, job: aioqueue.Job = aioqueue.JOB) -> str:
        job.directory.joinpath(file.name).write_text("mine")
        return file.read().decode()

    app = make_app(function, spool_dir=tmp_path)
    shop = Shop()
    shop.app = app
    await shop.open(serve, http)
    assert await send(shop, "function", form(("file", b"abc", "upload-1"))) == "abc"
    mine = tmp_path / "upload-1"
    mine.write_bytes(b"abc")
    assert await (await function.submit(Upload.of(mine))).result() == "abc"
    assert mine.read_bytes() == b"abc"


async def test_a_link_from_code(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job has the file that a link leads to, not the link; a thread finds out where it is."""
    resolve, threads = Path.resolve, set()

    def noting(path: Path) -> Path:
        threads.add(threading.current_thread())
        return resolve(path)

    mine, link = tmp_path / "a", tmp_path / "link"
    mine.write_bytes(b"abc")
    link.symlink_to(mine)
    upload = Upload("a", "a/b", 3, link)
    monkeypatch.setattr(Path, "resolve", noting)

    assert (await (await one.submit(upload)).result())[2] == md5(b"abc")
    assert mine.exists()
    assert threads
    assert threading.current_thread() not in threads


# Payloads


def _files(a: Upload, b: list[Upload], c: bytes, d: list[bytes], e: int = 0) -> None: ...


def test_files_come_through_a_payload() -> None:
    """What a payload says of files is what was put into it, lists of one among them."""
    upload = Upload("ä", "image/png", 3, Path("/somewhere/upload-1"))
    given = {"a": upload, "b": [upload], "c": b"c", "d": [b"", b"dd"], "e": 5}
    signature = Signature(_files, method=False)
    _, named = signature.arguments(signature.payload_of_call(given), None)

    assert named == given


def test_an_upload_is_data() -> None:
    """It can't be changed, and travels to other processes."""
    upload = Upload("a", "image/png", 3, Path("/somewhere"))

    assert pickle.loads(pickle.dumps(upload)) == upload
    with pytest.raises(AttributeError):
        upload.size = 4  # type: ignore[misc]


# Names


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\fakepath\\cat.png", "cat.png"),
        ("a/..", ""),
        (".", ""),
        ("a\0b", "ab"),
        ("a\u202eb", "ab"),
        ("C:cat.png", "Ccat.png"),
        ("cat.png:stream", "cat.pngstream"),
        (".:.", ""),
        ("a" * 300, "a" * 255),
        ("ä" * 300, "ä" * 127),
        ("猫" * 300, "猫" * 85),
        ("a\udcffb", "a?b"),
        ("猫.png", "猫.png"),
    ],
)
def test_names(sent: str, name: str) -> None:
    """Of what a client calls its file the last part is kept, without what nobody can see."""
    assert base_name(sent) == name
