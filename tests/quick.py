"""Processes for jobs that start in a hundredth of a second, for tests that are not of their start.

They come from a fork server that has imported everything already; what runs in them is the same.
"""

from __future__ import annotations

import multiprocessing

import pytest

from aioqueue import _process

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["aioqueue._process_main", "tests.heavy"])


def start_quickly(monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Take them from there, as long as the test runs."""
    patch = monkeypatch or pytest.MonkeyPatch()
    patch.setattr(_process, "_SPAWN", _CONTEXT)
    # They are not this process's own children, so it can't ask whether they are still there.
    patch.setattr(_process.Process, "_has_its_number", lambda process: True)
