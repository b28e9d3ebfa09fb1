"""The first step of `make`, on machines with other Pythons than this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / ".ci" / "find-python"


def find_python(path: Path, *version: str) -> subprocess.CompletedProcess[str]:
    """Run the script where PATH is one folder, and that is all there is."""
    command = ["/bin/sh", SCRIPT, *version]
    env = {"PATH": str(path)}
    return subprocess.run(command, cwd=path, env=env, capture_output=True, text=True)


def put(path: Path, name: str, line: str) -> None:
    """Add a program to PATH."""
    (path / name).write_text(f"#!/bin/sh\n{line}\n")
    (path / name).chmod(0o755)


def test_none(tmp_path: Path) -> None:
    """Without a Python that is new enough, one line says what to do."""
    put(tmp_path, "python3", "exit 1  # as an old one answers")
    run = find_python(tmp_path)

    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("aioqueue needs Python 3.11 or newer and found none: install")
    assert run.stderr.count("\n") == 1


def test_names_that_do_not_run(tmp_path: Path) -> None:
    """A name that is not a Python is passed over for one that is."""
    put(tmp_path, "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    put(tmp_path, "python3", f'exec "{sys.executable}" "$@"')
    run = find_python(tmp_path)

    assert (run.returncode, run.stdout, run.stderr) == (0, f"{sys.executable}\n", "")


def test_version(tmp_path: Path) -> None:
    """A version that was asked for is the only one to do."""
    put(tmp_path, "python3", f'exec "{sys.executable}" "$@"')

    assert find_python(tmp_path, "{}.{}".format(*sys.version_info)).returncode == 0
    assert find_python(tmp_path, "3.99").stderr == "There is no Python 3.99 here.\n"
