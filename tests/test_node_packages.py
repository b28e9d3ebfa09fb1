"""The step of `make test` that installs the packages of Node."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / ".ci" / "node-packages"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that needs packages."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "package-lock.json").write_text("{}")
    return folder


def install(folder: Path, npm: str | None) -> tuple[int, str]:
    """Run the script where npm does this, or is not there; answers its code and its words."""
    path = folder.parent / "bin"
    path.mkdir(exist_ok=True)
    for command in ("cmp", "cp", "mkdir"):
        if not (path / command).exists():
            (path / command).write_text(
                f'#!/bin/sh\nPATH={os.environ["PATH"]} exec {command} "$@"\n'
            )
            (path / command).chmod(0o755)
    if npm is not None:
        (path / "npm").write_text(f"#!/bin/sh\n{npm}\n")
        (path / "npm").chmod(0o755)
    run = subprocess.run(
        ["/bin/sh", SCRIPT, folder],
        env={"PATH": str(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return run.returncode, run.stdout


def test_once(folder: Path) -> None:
    """It installs what is missing, and then says nothing until the lock changes."""
    npm = 'echo "$1" >>calls; mkdir -p node_modules'
    fetching = f"Fetching packages of Node for {folder}, through npm's cache ...\n"

    assert install(folder, npm) == (0, fetching)
    assert install(folder, npm) == (0, "")
    (folder / "package-lock.json").write_text("{ }")
    assert install(folder, npm) == (0, fetching)
    assert (folder / "calls").read_text() == "ci\nci\n"


def test_no_npm(folder: Path) -> None:
    """Where there is no npm nothing is installed, and nothing is wrong."""
    assert install(folder, None) == (0, "")
    assert not (folder / "node_modules").exists()


def test_npm_fails(folder: Path) -> None:
    """When npm can't, its reason is shown, and it is tried again the next time."""
    for _ in range(2):
        code, said = install(folder, "echo no network >&2; exit 1")
        assert code == 0
        assert said.endswith("no network\nGoing on without: npm's reasons are above.\n")
