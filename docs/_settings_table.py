"""The tables of settings and options, made of the fields of the classes that hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from aioqueue._options import FunctionOptions
from aioqueue._settings import Settings

MiB = 1 << 20


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value and value % MiB == 0:
        return f"`{value}` ({value // MiB} MiB)"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def table(kind: type[Any]) -> str:
    """A Markdown table of the fields of an attrs class: name, default, meaning."""
    lines = ["| name | default | |", "|---|---|---|"]
    for field in attrs.fields(kind):
        doc = field.metadata["doc"].replace("|", r"\|")
        lines.append(f"| `{field.name}` | {_shown(field.default)} | {doc} |")
    return "\n".join(lines) + "\n"


def write(folder: Path) -> None:
    """Write both tables where ``settings.md`` includes them."""
    folder.mkdir(exist_ok=True)
    for name, kind in (("settings.md", Settings), ("options.md", FunctionOptions)):
        (folder / name).write_text(table(kind), encoding="utf-8")
