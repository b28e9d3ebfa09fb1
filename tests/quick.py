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
    (monkeypatch or pytest.MonkeyPatch()).setattr(_process, "_SPAWN", _CONTEXT)
