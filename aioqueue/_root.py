"""The directory of a server, around those of its jobs: made, locked, swept once it was left.

The lock is on the directory itself, and lasts as long as the process, however that ends.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any

from ._removal import remove

try:
    import fcntl as _fcntl
except ImportError:  # Windows has no such lock: there nobody can tell what was left behind
    fcntl: Any = None
else:
    fcntl = _fcntl

__all__ = ["make_root", "new_name", "sweep"]

logger = logging.getLogger("aioqueue")

_PREFIX = "aioqueue-"
_NAME = re.compile(_PREFIX + "[0-9a-f]{16}")

_TRIES = 10
"""How many roots one attempt makes, if each is taken for one that was left behind."""


def new_name() -> str:
    """A name that only this library gives, and each time another."""
    return _PREFIX + secrets.token_hex(8)


def make_root(parent: Path) -> tuple[Path, int | None]:
    """A directory that is ours alone, and its lock, which is a descriptor; None without locks."""
    for _ in range(_TRIES):
        root = parent / new_name()
        root.mkdir(0o700)
        try:
            return root, _lock(root)
        except (BlockingIOError, FileNotFoundError):  # somebody who sweeps was faster
            _remove_empty(root)
        except OSError:
            _remove_empty(root)
            raise
    raise FileExistsError(errno.EEXIST, "whatever is made is taken by others", str(parent))


def _remove_empty(root: Path) -> None:
    with contextlib.suppress(OSError):
        root.rmdir()


def _lock(root: Path) -> int | None:
    """Lock a directory.

    Raises:
        BlockingIOError: somebody else has locked it.
        FileNotFoundError: it is no longer there.
    """
    if fcntl is None:
        return None
    lock = os.open(root, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    with contextlib.ExitStack() as unless_locked:
        unless_locked.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks, where nobody sweeps
            return None
        if not os.path.samestat(root.lstat(), os.fstat(lock)):
            raise FileNotFoundError(errno.ENOENT, "another is in its place", str(root))
        unless_locked.pop_all()
    return lock


def sweep(parent: Path) -> None:
    """Remove the roots of processes that have died."""
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
    if not _NAME.fullmatch(entry.name):
        return False
    try:
        info = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid()


def _remove_if_left(root: Path) -> None:
    try:
        lock = _lock(root)
    except OSError:
        return
    if lock is None:
        return
    try:
        logger.info("%s was left by a process that has died, and is removed", root)
        remove(root)
    finally:
        os.close(lock)
