"""A place on disk: for uploads, for what functions put beside them, and for results.

Each started app has one directory, with a folder in it for each job that needs one.  The directory
is locked as long as its process lives, so that whoever starts next can tell it from one that a
process left behind that has died.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import stat
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from ._errors import ConfigurationError, Problem, Refused
from ._job import Content

try:
    import fcntl as _fcntl
except ImportError:  # Windows has no such lock: there nobody can tell what was left behind
    fcntl: Any = None
else:
    fcntl = _fcntl

__all__ = ["Spool", "in_thread", "no_room"]

logger = logging.getLogger("aioqueue")

T = TypeVar("T")

_PREFIX = "aioqueue-"

_LOOKS = 1000
"""How many kept files one tick looks at."""

_RETRY_SECONDS = 30


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Do something with the disk in a thread, and wait for it even if cancelled.

    What comes after a cancel removes what the thread makes, so it must have made it.
    """
    work = asyncio.get_running_loop().run_in_executor(None, partial(function, *args))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # looked at, so that nobody complains that it was not
        raise


def no_room() -> Refused:
    """The refusal of a file for which there is no room."""
    detail = "The server has no room for more files now. Please try again later."
    return Refused(Problem.of("spool_full", detail), _RETRY_SECONDS)


class Spool:
    """The files of the jobs of one started app.

    Args:
        parent: where its directory is made; None is the system's place for temporary files.
        max_bytes: how many bytes of uploads and of kept results may be on disk at once.
    """

    def __init__(self, parent: str | os.PathLike[str] | None, max_bytes: int) -> None:
        self._given = parent
        self._parent = Path(os.path.realpath(_temporary() if parent is None else parent))
        self._root = self._parent / _new_name()
        self._max_bytes = max_bytes
        self._is_made = False
        self._making = threading.Lock()
        self._lock: int | None = None
        self._noted: set[str] = set()  # whose folders somebody has asked for
        self._bytes: dict[str, int] = {}
        self._total = 0
        self._kept: dict[str, None] = {}  # whose folders hold a result, by the time of their end

    async def open(self) -> None:
        """Remove what processes left behind that have died.

        Raises:
            ConfigurationError: there is no such directory, or nothing may be made in it.
        """
        if self._given is not None and not os.access(self._parent, os.W_OK | os.X_OK):
            raise ConfigurationError(
                f"spool_dir={str(self._given)!r} is no directory that this process may write to: "
                "make it before the app starts, or leave spool_dir out."
            )
        await in_thread(_sweep, self._parent)

    async def close(self) -> None:
        """Remove everything."""
        if self._is_made:
            self._is_made = False
            await in_thread(_remove, self._root)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # Folders

    def folder(self, job_id: str) -> Path:
        """The folder of a job, for whoever makes it, in any thread or process.

        The directory around it is there from the first call on: a process that works for this one
        must not be the one that makes it, since it does not lock it.
        """
        self._noted.add(job_id)
        with self._making:
            if not self._is_made:
                try:
                    self._root, self._lock = _make_root(self._root)
                    self._is_made = True
                except OSError as error:  # whoever makes the folder will fail and say so
                    logger.debug("there is no place for files: %s", error)
        return self._root / job_id

    def is_removable(self, job_id: str) -> bool:
        """Whether a job that is over may have a folder, which nobody needs then."""
        return self._is_made and job_id in self._noted and job_id not in self._kept

    async def remove(self, job_id: str) -> None:
        """Remove the folder of a job, if there is one."""
        self._noted.discard(job_id)
        self._kept.pop(job_id, None)
        if self._has_folder(job_id):
            await in_thread(_remove, self._root / job_id)
        self._total -= self._bytes.pop(job_id, 0)

    def _has_folder(self, job_id: str) -> bool:
        return os.path.lexists(self._root / job_id)

    # Bytes

    def take(self, job_id: str, count: int) -> None:
        """Count bytes that a job is about to put on disk.

        Raises:
            Refused: there is no room for them.
        """
        if self._total + count > self._max_bytes:
            raise no_room()
        self._total += count
        self._bytes[job_id] = self._bytes.get(job_id, 0) + count

    # Results

    async def keep(self, job_id: str, content: Content) -> Content:
        """Keep the file of a result until the result is forgotten, if it is one of ours.

        What else is in the job's folder goes.  A file of another job's is linked into it: that
        job may be forgotten sooner.

        Raises:
            Refused: there is no room for it.
            OSError: it can't be linked.
        """
        path, folder = Path(content.path or ""), self.folder(job_id)
        if not path.is_relative_to(self._root):
            return content
        self._total -= self._bytes.pop(job_id, 0)
        self.take(job_id, content.size)
        if not path.is_relative_to(folder):
            path = await in_thread(link, path, folder / f"result-{secrets.token_hex(4)}")
        await in_thread(_remove_all_but, folder, path)
        self._kept[job_id] = None
        return content._replace(path=str(path))

    def let_go(self, job_id: str) -> None:
        """What was kept is no result after all."""
        self._kept.pop(job_id, None)

    async def forgotten(self, find: Callable[[str], Awaitable[object | None]]) -> list[str]:
        """The jobs whose results were kept, and are forgotten now.

        They are forgotten in the order in which they ended, so it is enough to look at the oldest.
        """
        gone = []
        for job_id in list(islice(self._kept, _LOOKS)):
            if await find(job_id) is not None:
                break
            del self._kept[job_id]
            gone.append(job_id)
        return gone


def link(source: Path, target: Path) -> Path:
    """Give a file a second place, where it stays when it goes from the first."""
    target.parent.mkdir(0o700, parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, one without links, or somebody else's file
        shutil.copyfile(source, target)
    return target


# The directory


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # nothing may be written anywhere, as in some containers
        return os.sep


def _new_name() -> str:
    return _PREFIX + secrets.token_hex(8)


def _make_root(root: Path) -> tuple[Path, int | None]:
    """A directory that is ours alone, and its lock, which is a descriptor."""
    while True:
        root.mkdir(0o700)
        if fcntl is None:
            return root, None
        lock = os.open(root, os.O_RDONLY)
        if _locks(lock) and _is_still(root, lock):
            return root, lock
        os.close(lock)  # somebody who sweeps was faster
        root = root.with_name(_new_name())


def _locks(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_still(root: Path, lock: int) -> bool:
    try:
        return os.path.samestat(root.lstat(), os.fstat(lock))
    except FileNotFoundError:
        return False


def _sweep(parent: Path) -> None:
    """Remove the directories of processes that have died."""
    if fcntl is None:
        return
    try:
        with os.scandir(parent) as entries:
            ours = [Path(entry) for entry in entries if _is_ours(entry)]
    except OSError:
        return  # not even readable: nothing of ours is in it
    for root in ours:
        _remove_if_left(root)


def _is_ours(entry: os.DirEntry[str]) -> bool:
    if not entry.name.startswith(_PREFIX):
        return False
    try:
        info = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid()


def _remove_if_left(root: Path) -> None:
    try:
        lock = os.open(root, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    except OSError:
        return
    try:
        if _locks(lock):
            logger.info("%s was left by a process that has died, and is removed", root)
            _remove(root)
    finally:
        os.close(lock)


# Folders


def _remove(path: Path) -> None:
    """Remove a file or a directory; what can't be removed is logged."""
    for failed in _failures(path):
        logger.warning("a file could not be removed: %s", failed)


def _failures(path: Path) -> Iterator[OSError]:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        yield error
        shutil.rmtree(path, ignore_errors=True)  # the rest of it


def _remove_all_but(folder: Path, path: Path) -> None:
    """Leave in a folder only what a path leads through."""
    keep = path.relative_to(folder).parts[0]
    for one in list(folder.iterdir()):
        if one.name != keep:
            _remove(one)
