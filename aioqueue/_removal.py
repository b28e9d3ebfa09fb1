"""Removing what functions have left on disk, whatever they did to it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from itertools import chain
from pathlib import Path

__all__ = ["remove", "remove_all_but"]

logger = logging.getLogger("aioqueue")


def remove(path: Path) -> bool:
    """Remove a file or a directory.  Answers whether it is gone; if not, the log says why."""
    try:
        _remove(path)
    except OSError:
        _open_up(path)
        try:
            _remove(path)
        except OSError as error:
            logger.warning("a file could not be removed: %s", error)
            shutil.rmtree(path, ignore_errors=True)  # the rest of it
            return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _open_up(path: Path) -> None:
    """Let us into a directory and those in it: a function may have made them read-only."""
    if path.is_symlink():
        return
    deeper = (Path(around, name) for around, names, _ in os.walk(path) for name in names)
    for one in chain([path], deeper):  # each before the walk goes into it
        if not one.is_symlink():
            with contextlib.suppress(OSError):
                one.chmod(0o700)


def remove_all_but(folder: Path, path: Path) -> bool:
    """Leave in a directory only a file and what leads to it.  Answers whether all else is gone."""
    try:
        folder.chmod(0o700)
        found = list(folder.iterdir())
    except OSError as error:
        logger.warning("what is beside a result could not be removed: %s", error)
        return False
    gone = True
    for one in found:
        if one == path:
            continue
        leads_to_it = path.is_relative_to(one)
        gone = (remove_all_but(one, path) if leads_to_it else remove(one)) and gone
    return gone
