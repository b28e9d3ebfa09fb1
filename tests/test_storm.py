"""Kills at random moments leave nothing behind; `python -m tests.storm` makes it a thousand."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.processes import ROOT


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has is read from /proc")
def test_a_short_storm() -> None:
    """Each job ends once, and no process, thread, descriptor or file is left."""
    storm = subprocess.run(
        [sys.executable, "-m", "tests.storm", "--kills", "20", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(storm.stdout, storm.stderr)

    assert storm.returncode == 0
    assert "nothing is left, each job has one end" in storm.stdout
