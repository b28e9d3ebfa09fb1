"""Brings a virtual environment up to date: `python environment.py FOLDER EXTRA...`.

It gets the Python that runs this, the project itself (editable), and the extras named.
When nothing has changed since the last time, it says nothing and takes no time.
"""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPTIONAL = {"demo"}
"""What some machines can't have: Intel Macs and musl get no wheel of onnxruntime."""
THIS_PYTHON = f"{sys.version} {sys.base_prefix}"


def main(folder: str, *extras: str) -> None:
    """Make the environment unless it has this Python, then install what it lacks."""
    target = ROOT / folder
    stamp = target / "ready"
    key, *present = stamp.read_text().split() if stamp.exists() else [""]
    if key != fingerprint():
        present = []
    elif set(extras) <= set(present):
        return

    start = time.monotonic()
    python = target / "bin" / "python"
    if not has_this_python(python):
        make(target)
    if not install(python, extras):
        needed = tuple(extra for extra in extras if extra not in OPTIONAL)
        say("Going on without: " + ", ".join(sorted({*extras} & OPTIONAL)))
        install(python, needed)
    # Last, so that whatever was interrupted is done again.
    stamp.write_text(" ".join([fingerprint(), *present, *extras]))
    say(f"Ready after {time.monotonic() - start:.0f} s.")


def fingerprint() -> str:
    """Change when the environment has to: with what it needs, with its Python, with its place."""
    digest = hashlib.sha256(f"{THIS_PYTHON} {ROOT}".encode())
    for name in ("setup.cfg", "pyproject.toml"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def has_this_python(python: Path) -> bool:
    """Tell whether an environment is complete (pip comes last) and made from this Python."""
    question = "import pip, sys; print(sys.version, sys.base_prefix)"
    try:
        answer = subprocess.run([python, "-c", question], capture_output=True, text=True)
    except OSError:
        return False
    return answer.stdout.rstrip("\n") == THIS_PYTHON


def make(target: Path) -> None:
    """Make the environment anew."""
    version = "{}.{}".format(*sys.version_info)
    try:
        import ensurepip  # noqa: F401  (Debian ships it in a package of its own)
        import venv
    except ImportError:
        sys.exit(
            f"Python {version} here cannot make an environment: apt install python{version}-venv, "
            "or name another with PYTHON=/path/to/python3."
        )
    say(f"Making {os.path.relpath(target, ROOT)} with Python {sys.version.split()[0]} ...")
    venv.create(target, clear=True, symlinks=True, with_pip=True)


def install(python: Path, extras: "tuple[str, ...]") -> bool:
    """Install the project with its extras; pip's own words are shown only when it fails."""
    chosen = f"[{','.join(extras)}]" if extras else ""
    say(f"Fetching packages for aioqueue{chosen}, through pip's cache ...")
    if "demo" in extras:
        say("The demo's model and its runtime take about 160 MB to fetch and 440 MB on the disk.")
    environ = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONUTF8": "1"}
    with subprocess.Popen(
        [python, "-m", "pip", "install", "--progress-bar=off", "--editable", f".{chosen}"],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as pip:
        lines = []
        for line in pip.stdout or ():
            lines.append(line)
            say_progress(line)
    if pip.returncode and not OPTIONAL.intersection(extras):
        sys.exit("".join(lines) + "pip could not install the packages: its reasons are above.")
    return not pip.returncode


def say_progress(line: str) -> None:
    """Show of pip's output what a waiting person wants to know."""
    if line.startswith("Installing collected packages:"):
        say(f"Installing {line.count(',') + 1} packages ...")
    # "  Downloading name-1.0-py3-none-any.whl (27.3 MB)"; what is small is there at once.
    elif line.startswith("  Downloading ") and line.endswith(" MB)\n"):
        name, size = line.split(maxsplit=1)[1].split(" (", 1)
        say(f"  {name.split('-')[0]} ({size.strip()}")


def say(words: str) -> None:
    """Show progress at once, also where the output is no terminal."""
    print(words, flush=True)


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036  (started by hand, with whatever was at hand)
        sys.exit("aioqueue needs Python 3.11 or newer; `make` looks for one and starts this.")
    main(*sys.argv[1:])
