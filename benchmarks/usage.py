"""What processes have used that can't be asked: read from outside, where Linux tells it."""

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def can_tell() -> bool:
    """Whether this system says what processes use."""
    return (PROC / "self" / "stat").exists()


def usage_of(session: int) -> tuple[float, int]:
    """Return the CPU seconds, and the bytes at the peak of each, of a session's processes.

    What they share counts once for each of them.
    """
    ticks = peak = 0
    for process in _processes(session):
        try:
            fields = _fields(process)
            status = (process / "status").read_text()
        except OSError:  # it has just ended
            continue
        # utime and stime, and the same of children that have ended and were waited for
        ticks += sum(map(int, fields[11:15]))
        peak += sum(
            int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")
        )
    return ticks / os.sysconf("SC_CLK_TCK"), peak


def processes_of(session: int) -> list[int]:
    """Return the ids of a session's processes that have not ended."""
    return [int(process.name) for process in _processes(session)]


def _processes(session: int) -> Iterator[Path]:
    for process in PROC.glob("[0-9]*"):
        try:
            fields = _fields(process)
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            yield process


def _fields(process: Path) -> list[str]:
    """What the kernel says of a process, from its state on: the name before may hold anything."""
    return (process / "stat").read_text().rpartition(")")[2].split()
