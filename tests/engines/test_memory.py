"""What is the memory engine's own, beside the contract."""

from __future__ import annotations

import time

import pytest

from aioqueue.engines.memory import steady_clock


def test_steady_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default clock tells seconds since the epoch, and ignores a system clock that is set."""
    clock = steady_clock()
    assert clock() == pytest.approx(time.time(), abs=1.0)
    now = clock()
    monkeypatch.setattr(time, "time", lambda: 0.0)

    assert now <= clock() < now + 60
