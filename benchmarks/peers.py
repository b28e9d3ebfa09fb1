"""Servers of others, each in an environment of its own below `.bench`, and what is missing there.

They share nothing with this process but the machine: other versions of the same packages live
there, and aioqueue does not.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from attrs import define, field, frozen

from benchmarks.load import HOST, fetch
from benchmarks.process import ROOT, Cores, Server, ServerFailed, pin, stop, text_of
from benchmarks.usage import can_tell, processes_of

FOLDER = ROOT / ".bench"
START_SECONDS = 60


@frozen
class Home:
    """An environment with one peer."""

    name: str
    requirement: str
    """The versions that were tried."""
    ready: str
    """A path that is answered when the server is ready."""

    @property
    def python(self) -> Path:
        """The interpreter there."""
        return FOLDER / self.name / "bin" / "python"

    def is_there(self) -> bool:
        """Whether it was installed, with this Python and this requirement."""
        stamp = FOLDER / self.name / "ready"
        return stamp.exists() and stamp.read_text() == self._stamp() and self.version() is not None

    def _stamp(self) -> str:
        return f"{self.requirement} {sys.version}"

    def install(self) -> str | None:
        """Make it anew; answers in a line why that could not be done."""
        folder = FOLDER / self.name
        for command in (
            [sys.executable, "-m", "venv", "--clear", folder],
            [self.python, "-m", "pip", "install", "-q", "--no-input", self.requirement],
        ):
            environ = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
            done = subprocess.run(command, capture_output=True, text=True, env=environ)
            if done.returncode:
                lines = (done.stderr or done.stdout).strip().splitlines()
                return lines[-1] if lines else f"{command[0]} ended with {done.returncode}"
        # Last, so that what was interrupted is done again.
        (folder / "ready").write_text(self._stamp())
        return None

    def version(self) -> str | None:
        """The version that is there."""
        ask = f"from importlib.metadata import version; print(version({self.name!r}))"
        try:
            done = subprocess.run([self.python, "-c", ask], capture_output=True, text=True)
        except OSError:
            return None
        return done.stdout.strip() or None


HOMES = {
    home.name: home
    for home in (
        Home("gradio", "gradio>=6.31,<7", "/config"),
        Home("litserve", "litserve>=0.2.19,<0.3", "/health"),
        Home("mosec", "mosec>=0.9.8,<0.10", "/"),
    )
}


@define
class Peers:
    """Which of them can be had."""

    versions: dict[str, str] = field(factory=dict)
    missing: dict[str, str] = field(factory=dict)
    """And why."""

    @classmethod
    def set_up(cls, names: Iterable[str]) -> "Peers":
        """Install those that are not there yet; whoever can't be had is left out."""
        peers = cls()
        for name in names:
            home = HOMES[name]
            why = None if can_tell() else "what it uses is read from /proc, and there is none"
            if why is None and not home.is_there():
                place = os.path.relpath(FOLDER / name, ROOT)
                print(f"Setting up {home.requirement} in {place} ...", file=sys.stderr, flush=True)
                why = home.install()
            if why is not None:
                print(f"Going on without {name}: {why}", file=sys.stderr, flush=True)
                peers.missing[name] = why
            else:
                peers.versions[name] = home.version() or "?"
        return peers


@asynccontextmanager
async def running_peer(name: str, cores: Cores) -> AsyncIterator[Server]:
    """Run the server of a peer, in the environment of the same name, while the block lasts."""
    home = HOMES[name]
    port = _free_port()
    with tempfile.TemporaryFile() as complaints:
        process = await asyncio.create_subprocess_exec(
            *(home.python, "-m", f"benchmarks.servers.peers.{name}"),
            cwd=ROOT,
            env={**os.environ, "BENCHMARK_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"},
            stdout=complaints,
            stderr=complaints,
            start_new_session=True,
        )
        try:
            pin(process, cores)
            await _is_ready(process, port, home.ready)
            yield Server(port, complaints, process.pid)
        except (OSError, ServerFailed) as error:
            raise ServerFailed(f"{name} failed: {error}\n{text_of(complaints)}") from error
        finally:
            await stop(process)
            # It may have started others, which do not all go with it.
            for left in processes_of(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(left, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


async def _is_ready(process: asyncio.subprocess.Process, port: int, path: str) -> None:
    """Ask until the server answers as it should."""
    try:
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                with suppress(OSError):
                    await fetch(port, path)
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise ServerFailed(f"it was not ready within {START_SECONDS} s") from None
    raise ServerFailed("it ended before it was ready")
