"""A place on disk: for uploads, for what functions put beside them, and for results.

Each started app has one root, with a directory in it for each job that needs one.  The root is
locked as long as its process lives, so that whoever starts next can tell it from one that a process
left behind that has died.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import attrs

from ._errors import ConfigurationError, Problem, Refused
from ._job import Content
from ._removal import remove, remove_all_but
from ._root import make_root, new_name, sweep

__all__ = ["Spool", "in_thread", "no_room"]

logger = logging.getLogger("aioqueue")

T = TypeVar("T")

_THREADS = 8

_LOOKS = 1000
"""How many kept files one tick looks at."""

_RETRY_SECONDS = 30


async def in_thread(function: Callable[..., T], *args: Any, pool: Executor | None = None) -> T:
    """Do something with the disk in a thread, and wait for it even if cancelled.

    What comes after a cancel removes what the thread makes, so it must have made it.
    """
    work = asyncio.get_running_loop().run_in_executor(pool, partial(function, *args))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):  # once more
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
        parent: where its root is made; None is the system's place for temporary files.
        max_bytes: how many bytes of uploads and of kept results may be on disk at once.
    """

    def __init__(self, parent: str | os.PathLike[str] | None, max_bytes: int) -> None:
        self._given = parent
        self._parent = Path(os.path.realpath(_temporary() if parent is None else parent))
        self._root = self._parent / new_name()
        self._max_bytes = max_bytes
        self._is_made = False
        self._has_failed = False
        self._is_closed = False
        self._making = threading.Lock()
        self._lock: int | None = None
        # The loop's own threads look up names, too: a slow disk must not keep them.
        self._pool: Executor | None = ThreadPoolExecutor(_THREADS, "aioqueue-disk")
        self._noted: set[str] = set()  # who may have a directory, or bytes that count
        self._bytes: dict[str, int] = {}
        self._total = 0
        self._kept: dict[str, None] = {}  # whose directories hold a result, by the time of the end

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
        await self.in_thread(sweep, self._parent)

    async def close(self) -> None:
        """Remove everything.  A thread that still runs finds no place any more."""
        with self._making:
            self._is_closed = True
        if self._is_made:
            self._is_made = False
            await self.in_thread(remove, self._root)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Do something with the disk in a thread of its own, and wait for it even if cancelled."""
        return await in_thread(function, *args, pool=self._pool)

    # Directories of jobs

    def folder(self, job_id: str) -> Path:
        """The directory of a job, for whoever makes it, in any thread or process.

        The root around it is there from the first call on: a process that works for this one must
        not be the one that makes it, since it does not lock it.
        """
        self._noted.add(job_id)
        with self._making:
            if not self._is_made and not self._is_closed:
                self._make()
        return self._root / job_id

    def _make(self) -> None:
        try:
            self._root, self._lock = make_root(self._parent)
        except OSError as error:  # whoever makes the directory will fail, too
            level = logging.DEBUG if self._has_failed else logging.ERROR
            logger.log(level, "there is no place for files in %s: %s", self._parent, error)
            self._has_failed = True
        else:
            self._is_made = True

    def is_removable(self, job_id: str) -> bool:
        """Whether a job that is over may have a directory or bytes, which nobody needs then."""
        return job_id in self._noted and job_id not in self._kept and not self._is_closed

    def remove(self, job_id: str) -> Coroutine[Any, Any, None]:
        """Remove the directory of a job, if there is one.  From now on nobody else needs to."""
        self._noted.discard(job_id)
        self._kept.pop(job_id, None)
        return self._remove(job_id)

    async def _remove(self, job_id: str) -> None:
        if not self._has_folder(job_id) or await self.in_thread(remove, self._root / job_id):
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
        self._count(job_id, count)

    def _count(self, job_id: str, count: int) -> None:
        self._noted.add(job_id)
        self._total += count
        self._bytes[job_id] = self._bytes.get(job_id, 0) + count

    # Results

    async def keep(self, job_id: str, content: Content) -> Content:
        """Keep the file of a result until the result is forgotten, if it is one of ours.

        What else is in the job's directory goes.  A file of another job's is linked into it: that
        job may be forgotten sooner.

        Raises:
            Refused: there is no room for it.
            OSError: it can't be linked.
        """
        path, folder = Path(content.path or ""), self.folder(job_id)
        if not path.is_relative_to(self._root):
            return content
        before = self._bytes.get(job_id, 0)
        if self._total - before + content.size > self._max_bytes:
            raise no_room()
        self._count(job_id, content.size)
        if not path.is_relative_to(folder):
            target = folder / f"result-{secrets.token_hex(4)}"
            path = await self.in_thread(link, path, target)
        if await self.in_thread(remove_all_but, folder, path):
            self._count(job_id, -before)
        self._kept[job_id] = None
        return attrs.evolve(content, path=str(path))

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
    target.parent.mkdir(0o700, exist_ok=True)
    real = source.resolve()  # the file, not a link to it
    try:
        os.link(real, target)
    except OSError:  # another file system, one without links, or somebody else's file
        shutil.copyfile(real, target)
    return target


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # nothing may be written anywhere, as in some containers
        return os.sep
