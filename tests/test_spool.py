"""The place on disk: directories, bytes, what stays of a result, and what the dead have left."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aioqueue import ConfigurationError, Refused
from aioqueue._job import Content
from aioqueue._removal import remove
from aioqueue._spool import Spool, in_thread
from tests.stage import until

pytestmark = pytest.mark.one_loop


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    """A spool with room for a thousand bytes."""
    spool = Spool(tmp_path, 1000)
    await spool.open()
    yield spool
    await spool.close()


def put(spool: Spool, job_id: str, name: str, size: int = 1) -> Path:
    """Write a file as a function does that asks for its directory."""
    folder = spool.folder(job_id)
    folder.mkdir(0o700, exist_ok=True)
    folder.joinpath(name).write_bytes(b"x" * size)
    return folder / name


def file(path: Path) -> Content:
    """A file as a result."""
    return Content(content_type="a/b", path=str(path), file_size=path.stat().st_size)


def mode(path: Path) -> int:
    """Who may do what with it."""
    return stat.S_IMODE(path.stat().st_mode)


# Directories of jobs


async def test_nothing_is_made_before_it_is_needed(spool: Spool, tmp_path: Path) -> None:
    """An app that runs no job leaves the disk alone."""
    assert not spool.is_removable("a")
    assert list(tmp_path.iterdir()) == []


async def test_the_root_is_private(spool: Spool, tmp_path: Path) -> None:
    """Nobody else may look into it, whatever the umask."""
    before = os.umask(0)
    try:
        folder = spool.folder("a")
    finally:
        os.umask(before)

    (root,) = tmp_path.iterdir()
    assert folder == root / "a"
    assert mode(root) == 0o700


async def test_asking_where_makes_the_root_alone(spool: Spool) -> None:
    """A worker process makes directories in a root that is there, and is locked."""
    folder = spool.folder("a")

    assert folder.parent.is_dir()
    assert not folder.exists()


async def test_remove(spool: Spool) -> None:
    """A directory goes with all that is in it, and as often as one asks."""
    path = put(spool, "a", "b")
    path.parent.joinpath("deep").mkdir()
    put(spool, "other", "c")
    assert spool.is_removable("a")
    await spool.remove("a")
    await spool.remove("a")

    assert not path.parent.exists()
    assert not spool.is_removable("a")
    assert spool.is_removable("other")


async def test_who_removes_it(spool: Spool) -> None:
    """As soon as somebody removes a directory nobody else needs to, though it still takes time."""
    put(spool, "a", "b")
    removing = spool.remove("a")
    is_removable = spool.is_removable("a")
    await removing

    assert not is_removable


@pytest.fixture
def no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk as everybody finds it but root, who may remove what others may not."""
    unlink, rmdir = os.unlink, os.rmdir

    def guarded(call: Callable[..., None]) -> Callable[..., None]:
        def guard(path: Any, *, dir_fd: int | None = None) -> None:
            around = os.path.dirname(path) if dir_fd is None else dir_fd
            if not os.stat(around).st_mode & stat.S_IWUSR:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            call(path, dir_fd=dir_fd)

        return guard

    monkeypatch.setattr(os, "unlink", guarded(unlink))
    monkeypatch.setattr(os, "rmdir", guarded(rmdir))


async def test_what_was_made_read_only(spool: Spool, tmp_path: Path, no_root: None) -> None:
    """A function may make its directories read-only; they go all the same, links for themselves."""
    theirs = tmp_path / "theirs"
    theirs.mkdir(0o500)
    deep = put(spool, "a", "b").parent / "deep"
    deep.joinpath("deeper").mkdir(parents=True)
    deep.joinpath("deeper", "c").touch()
    deep.joinpath("link").symlink_to(theirs)
    for path in (deep / "deeper", deep, deep.parent):
        path.chmod(0o500)
    await spool.remove("a")

    assert not deep.parent.exists()
    assert mode(theirs) == 0o500


async def test_a_link_that_cannot_be_removed(tmp_path: Path, no_root: None) -> None:
    """What a link leads to is left as it is, even if the link can't be removed."""
    theirs = tmp_path / "theirs" / "deep"
    theirs.mkdir(parents=True)
    theirs.chmod(0o500)
    around = tmp_path / "around"
    around.mkdir()
    around.joinpath("link").symlink_to(theirs.parent)
    around.chmod(0o500)

    assert not remove(around / "link")
    assert mode(theirs) == 0o500
    assert remove(around)
    assert theirs.exists()


async def test_what_is_read_only_beside_a_result(spool: Spool, no_root: None) -> None:
    """Nor does it stay beside a result, in whose own directory nothing can be removed either."""
    path = put(spool, "a", "result")
    path.parent.joinpath("deep").mkdir(0o500)
    path.parent.chmod(0o500)
    await spool.keep("a", file(path))

    assert list(path.parent.iterdir()) == [path]


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk on which no directory can be removed."""

    def refuse(path: Any, **options: Any) -> None:
        if not options:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("shutil.rmtree", refuse)


async def test_bytes_that_stay_on_disk_count(
    spool: Spool, stubborn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no room again for what could not be removed."""
    spool.take("a", 600)
    put(spool, "a", "upload", 600)
    await spool.remove("a")
    spool.take("b", 400)
    with pytest.raises(Refused):
        spool.take("b", 1)
    monkeypatch.undo()


async def test_bytes_that_stay_beside_a_result_count(
    spool: Spool, stubborn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor for what could not be removed beside a result."""
    path = put(spool, "a", "result", 300)
    spool.take("a", 600)
    path.parent.joinpath("deep").mkdir()
    for number in range(20):  # in whatever order they are found, there are some after it
        put(spool, "a", f"{number}")
    await spool.keep("a", file(path))
    spool.take("b", 100)
    with pytest.raises(Refused):
        spool.take("b", 1)
    monkeypatch.undo()


async def test_what_cannot_be_removed_is_logged(
    spool: Spool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that refuses fails nobody's job; the log has the path."""
    path = put(spool, "a", "b")

    def refuse(path: Any, **options: Any) -> None:
        if not options:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", refuse)
        await spool.remove("a")

    assert str(path.parent) in caplog.text


async def test_close_removes_everything(tmp_path: Path) -> None:
    """Of a spool that was closed nothing is left, and no descriptor is open."""
    spool, before = Spool(tmp_path, 1000), os.listdir("/proc/self/fd")
    put(spool, "a", "b")
    await spool.close()
    await spool.close()

    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == len(before)


async def test_after_close_nothing_is_made(tmp_path: Path) -> None:
    """A thread that outlives the server finds no place, rather than one that stays for ever."""
    spool = Spool(tmp_path, 1000)
    put(spool, "a", "b")
    await spool.close()
    folder = spool.folder("a")

    with pytest.raises(FileNotFoundError):
        folder.mkdir()
    assert not spool.is_removable("a")
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_that_may_not_be_written_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no root can be made only those fail who need it, and the log says so once."""
    spool = Spool(tmp_path / "missing" / "deeper", 1000)
    for name in "ab":
        with pytest.raises(FileNotFoundError):
            spool.folder(name).mkdir()

    assert [one.levelname for one in caplog.records] == ["ERROR"]
    assert "missing/deeper" in caplog.text


async def test_bytes_where_there_is_no_place(tmp_path: Path) -> None:
    """What was counted for a file that could not be put anywhere is given back."""
    spool = Spool(tmp_path / "missing", 1000)
    spool.take("a", 1000)
    assert spool.is_removable("a")
    await spool.remove("a")
    spool.take("b", 1000)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENOSPC])
async def test_a_root_that_could_not_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """When no descriptor was free nothing is left, and the next one who asks gets a root."""
    spool, real_open = Spool(tmp_path, 1000), os.open

    def refuse(path: Any, *args: Any, **options: Any) -> int:
        if "aioqueue-" in str(path):
            raise OSError(error, os.strerror(error))
        return real_open(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        failed = spool.folder("a")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        failed.mkdir()
    path = put(spool, "a", "b")
    assert mode(path.parent.parent) == 0o700
    await Spool(tmp_path, 1).open()
    assert path.exists()
    await spool.remove("a")
    await spool.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "file"])
async def test_a_directory_that_is_none(tmp_path: Path, kind: str) -> None:
    """A spool_dir that can't be right stops the start, and says what to do."""
    path = tmp_path / kind
    if kind == "file":
        path.touch()
    with pytest.raises(ConfigurationError, match="make it before the app starts"):
        await Spool(path, 1000).open()


# Bytes


async def test_bytes_are_counted(spool: Spool) -> None:
    """There is room up to the last byte, and again for as much as was removed."""
    spool.take("a", 400)
    spool.take("b", 600)
    with pytest.raises(Refused) as refused:
        spool.take("b", 1)
    assert (refused.value.problem.code, refused.value.problem.status) == ("spool_full", 503)
    assert refused.value.retry_after
    await spool.remove("a")
    spool.take("b", 400)
    with pytest.raises(Refused):
        spool.take("a", 1)


# Results


async def test_a_result_stays(spool: Spool) -> None:
    """Of a job whose result is a file in its folder, that file stays, and nothing else."""
    path = put(spool, "a", "result", 300)
    spool.take("a", 900)
    put(spool, "a", "upload-1", 900)
    path.parent.joinpath("deep").mkdir()
    path.parent.joinpath("link").symlink_to("/etc/passwd")

    assert await spool.keep("a", file(path)) == file(path)
    assert [one.name for one in path.parent.iterdir()] == ["result"]
    assert Path("/etc/passwd").exists()
    assert not spool.is_removable("a")
    spool.take("b", 700)
    with pytest.raises(Refused):
        spool.take("b", 1)


async def test_a_result_deep_in_the_directory(spool: Spool) -> None:
    """What leads to the file stays with it, and nothing that is beside it on the way."""
    put(spool, "a", "b")
    path = spool.folder("a") / "deep" / "deeper" / "result"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    for number, one in enumerate(path.parents[:2]):
        one.joinpath(f"frame{number}").touch()
        one.joinpath("frames").mkdir()
    await spool.keep("a", file(path))

    assert [*spool.folder("a").rglob("*")] == [path.parents[1], path.parent, path]


async def test_a_result_of_the_apps_own(spool: Spool, tmp_path: Path) -> None:
    """A file that lies elsewhere is none of ours, and takes no room here."""
    path = tmp_path / "own"
    path.write_bytes(b"x" * 2000)

    assert await spool.keep("a", file(path)) == file(path)
    put(spool, "a", "b")
    assert spool.is_removable("a")


async def test_a_result_of_another_job(spool: Spool) -> None:
    """A file in another job's folder is linked into this job's, and outlives the other job."""
    path = put(spool, "a", "b", 5)
    kept = await spool.keep("b", file(path))
    await spool.remove("a")

    assert kept.path is not None
    assert Path(kept.path).parent == spool.folder("b")
    assert Path(kept.path).read_bytes() == b"xxxxx"
    assert not spool.is_removable("b")


async def test_a_result_without_room(spool: Spool) -> None:
    """A file that is too much is refused, and its folder may go."""
    path = put(spool, "a", "result", 1001)
    with pytest.raises(Refused):
        await spool.keep("a", file(path))

    assert spool.is_removable("a")


async def test_what_was_kept_in_vain(spool: Spool) -> None:
    """A result that could not be stored keeps no folder."""
    await spool.keep("a", file(put(spool, "a", "b")))
    spool.let_go("a")

    assert spool.is_removable("a")


async def test_forgotten_results(spool: Spool) -> None:
    """The oldest results are looked at until one is still known; those before it may go."""
    looks: list[str] = []
    known = set("cd")

    async def find(job_id: str) -> object | None:
        looks.append(job_id)
        return job_id if job_id in known else None

    for name in "abcd":
        await spool.keep(name, file(put(spool, name, "result")))
    assert await spool.forgotten(find) == ["a", "b"]
    assert looks == ["a", "b", "c"]
    assert [spool.is_removable(name) for name in "abcd"] == [True, True, False, False]
    known.clear()
    assert await spool.forgotten(find) == ["c", "d"]
    assert await spool.forgotten(find) == []


async def test_one_tick_has_a_bound(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many results are forgotten at once, a tick looks at some of them only."""
    monkeypatch.setattr("aioqueue._spool._LOOKS", 2)

    async def find(job_id: str) -> None:
        return None

    for name in "abc":
        await spool.keep(name, file(put(spool, name, "result")))
    assert await spool.forgotten(find) == ["a", "b"]
    assert await spool.forgotten(find) == ["c"]


# What the dead have left


LEAVE = """
import os, sys
from aioqueue._spool import Spool
spool = Spool(sys.argv[1], 1000)
spool.folder("a").mkdir()
spool.folder("a").joinpath("b").write_text("c")
print(spool.folder("a").parent, flush=True)
sys.stdin.read()
os._exit(1)
"""


LEFT = "aioqueue-0123456789abcdef"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has a spool until its stdin is closed, and then dies without cleaning up."""
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVE, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.kill()


async def test_what_others_left(tmp_path: Path, other: Any, spool: Spool) -> None:
    """The directory of a process that lives is left alone; of one that has died it is removed."""
    left = Path((await asyncio.to_thread(other.stdout.readline)).strip())
    put(spool, "mine", "b")
    await Spool(tmp_path, 1).open()
    assert left.joinpath("a", "b").exists()
    other.stdin.close()
    await asyncio.to_thread(other.wait)
    await Spool(tmp_path, 1).open()

    assert not left.exists()
    assert spool.folder("mine").joinpath("b").exists()


async def test_what_is_not_ours_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other names, files, links, and directories of other users are none of our business."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    theirs.joinpath("precious").touch()
    tmp_path.joinpath("aioqueue-" + 16 * "a").symlink_to(theirs)
    tmp_path.joinpath("aioqueue-" + 16 * "b").touch()
    for name in ("aioqueues", "aioqueue-backup", "aioqueue-0.1.0", LEFT + "0", "my-" + LEFT):
        tmp_path.joinpath(name).mkdir()
    await Spool(tmp_path, 1).open()
    assert theirs.joinpath("precious").exists()
    assert len(list(tmp_path.iterdir())) == 8

    tmp_path.joinpath(LEFT).mkdir()
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    await Spool(tmp_path, 1).open()
    assert tmp_path.joinpath(LEFT).exists()
    monkeypatch.undo()
    await Spool(tmp_path, 1).open()
    assert not tmp_path.joinpath(LEFT).exists()


async def test_somebody_sweeps_what_is_just_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that is swept between its making and its lock is made once more."""
    mkdir, swept = Path.mkdir, []

    def make(path: Path, *args: Any, **options: Any) -> None:
        mkdir(path, *args, **options)
        if not swept:
            swept.append(path)
            path.rmdir()
            mkdir(path)

    real_open = os.open

    def open_after_sweep(path: Any, *args: Any) -> int:
        lock = real_open(path, *args)
        if swept == [path]:
            swept.append(path)
            path.rmdir()
        return lock

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", make)
        patch.setattr(os, "open", open_after_sweep)
        spool = Spool(tmp_path, 1)
        folder = spool.folder("a")

    assert swept[0] != folder.parent
    assert folder.parent.is_dir()
    await spool.close()


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
async def test_a_disk_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """On a file system that has no locks one root is made, and no other is swept."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("fcntl.flock", refuse)
    left = tmp_path / LEFT
    left.mkdir()
    spool, before = Spool(tmp_path, 1000), os.listdir("/proc/self/fd")
    await spool.open()
    path = put(spool, "a", "b")
    assert sorted(tmp_path.iterdir()) == sorted([left, path.parent.parent])
    assert len(os.listdir("/proc/self/fd")) == len(before)
    await spool.close()
    assert list(tmp_path.iterdir()) == [left]


async def test_a_lock_that_others_always_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Roots that are always taken come to an end, and leave nothing."""
    tries = []

    def taken(descriptor: int, operation: int) -> None:
        tries.append(descriptor)
        if len(tries) > 100:
            raise OSError("there is no end to it")
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("fcntl.flock", taken)
    spool, before = Spool(tmp_path, 1000), os.listdir("/proc/self/fd")
    spool.folder("a")

    assert 1 < len(tries) < 100
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert "no place for files" in caplog.text


async def test_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a system has no locks nothing is swept, since nobody knows who lives."""
    monkeypatch.setattr("aioqueue._root.fcntl", None)
    left = tmp_path / LEFT
    left.mkdir()
    spool = Spool(tmp_path, 1000)
    await spool.open()
    put(spool, "a", "b")
    await spool.close()

    assert list(tmp_path.iterdir()) == [left]


# Threads


async def test_a_cancel_waits_for_the_thread() -> None:
    """Whoever cleans up after a cancel finds what the thread has made, and nothing comes later."""
    begun, go, made = threading.Event(), threading.Event(), []

    def make() -> None:
        begun.set()
        go.wait()
        made.append(1)
        raise OSError("looked at by nobody")

    task = asyncio.create_task(in_thread(make))
    await until(begun.is_set)
    for _ in range(3):  # too late, then gone, then no server any more
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    is_done = task.done()
    go.set()
    assert not is_done
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made


async def test_its_threads_are_its_own(spool: Spool) -> None:
    """A disk that hangs keeps no thread of the loop's, where names are looked up; all end."""
    name = await spool.in_thread(lambda: threading.current_thread().name)
    await spool.close()

    assert name.startswith("aioqueue-disk")
    assert await spool.in_thread(lambda: threading.current_thread().name) != name
