"""How the package is cut: a module imports what lies below it, and never what lies above."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import aioqueue

PACKAGE = Path(aioqueue.__file__).parent

LAYERS = {
    0: "_job _encoding _errors _checks _settings _options _durations _upload",
    1: "engines engines.base _outbox _running _batch _executors _outcomes _capture _tqdm"
    " _process _processes _uplink _removal _root _spool _arrivals",
    2: "engines.memory engines._backlog engines._deadlines engines._entry engines._kept"
    " engines._line engines._queue",
    3: "_annotations _mismatches _convert _payload _parameter _parameters _admission _eventlog"
    " _active _starts _overtaking _scheduler",
    4: "_negotiation _problems _positions _listeners _resource _answers _waiting _stream _sse"
    " _bodies _idempotency _responses",
    5: "_handle _function _registry _request_hooks _submit _calls _routes _gate _standstill"
    " _hooks _decorator _process_main",
    6: "_runtime _run web",
    7: "gradio gradio._types gradio._edits gradio._catalogue gradio._refusals gradio._uploads"
    " gradio._fetch gradio._arguments gradio._messages gradio._sessions gradio._streams"
    " gradio._submission gradio._login gradio._routes",
    8: "__init__",
}
"""Which module is in which layer. A new one must choose; 7 is for adapters on top of all."""

LAYER = {module: layer for layer, modules in LAYERS.items() for module in modules.split()}


class Import(NamedTuple):
    """Something that a module imports: the module's name, or that of a module of ours."""

    name: str
    ours: bool
    only_for_types: bool = False
    inside: str | None = None
    """The function in which it is imported."""


def module_name(path: Path) -> str:
    """`engines.base` for engines/base.py, `engines` for its package, `__init__` for ours."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


PATHS = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(source: str, package: str) -> list[Import]:
    """Everything that the source of a module in a package imports, wherever it does so."""
    return list(_walk(ast.parse(source), package.split(".") if package else [], False, None))


def _walk(
    node: ast.AST, package: list[str], only_for_types: bool, inside: str | None
) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for each in child.body:
                yield from _walk(ast.Module([each], []), package, True, inside)
            for each in child.orelse:
                yield from _walk(ast.Module([each], []), package, only_for_types, inside)
            continue
        for name, ours in _names(child, package):
            yield Import(name, ours, only_for_types, inside)
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from _walk(child, package, only_for_types, child.name if function else inside)


def _names(node: ast.AST, package: list[str]) -> Iterator[tuple[str, bool]]:
    """The modules that a statement imports, and whether they are ours."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield _split(alias.name.split("."))
    elif isinstance(node, ast.ImportFrom):
        path = node.module.split(".") if node.module else []
        if node.level:
            path = ["aioqueue", *package[: len(package) + 1 - node.level], *path]
        for alias in node.names:
            # A name may be a module itself: `from . import _job`.
            inner = _split([*path, alias.name])
            yield inner if inner[1] and inner[0] in PATHS else _split(path)


def _split(path: list[str]) -> tuple[str, bool]:
    if path[0] == "aioqueue":
        return ".".join(path[1:]) or "__init__", True
    return ".".join(path), False


def package_of(module: str) -> str:
    """The package that a module's relative imports begin at, below ours."""
    if PATHS[module].name == "__init__.py":
        return "" if module == "__init__" else module
    return module.rpartition(".")[0]


IMPORTS = {
    module: imports_of(path.read_text(), package_of(module)) for module, path in PATHS.items()
}


def ours(module: str) -> set[str]:
    """The modules of ours that one imports."""
    return {each.name for each in IMPORTS[module] if each.ours}


def theirs(module: str, *, at_run_time: bool = False) -> set[str]:
    """The packages of others that one imports."""
    return {
        each.name.partition(".")[0]
        for each in IMPORTS[module]
        if not each.ours and not (at_run_time and each.only_for_types)
    }


# The checks can fail


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import json", Import("json", False)),
        ("import aioqueue.web", Import("web", True)),
        ("import aioqueue", Import("__init__", True)),
        ("from aioqueue import setup", Import("__init__", True)),
        ("from aioqueue._job import Claim", Import("_job", True)),
        ("from . import Job", Import("engines", True)),
        ("from . import base", Import("engines.base", True)),
        ("from .base import Engine", Import("engines.base", True)),
        ("from .. import _job", Import("_job", True)),
        ("from .. import setup", Import("__init__", True)),
        ("from .._job import Claim", Import("_job", True)),
        ("from ..engines.memory import MemoryEngine", Import("engines.memory", True)),
        ("def f():\n  if True:\n    import uvloop", Import("uvloop", False, inside="f")),
        ("if TYPE_CHECKING:\n  from aiohttp import web", Import("aiohttp", False, True)),
        ("if typing.TYPE_CHECKING:\n  import aiohttp", Import("aiohttp", False, True)),
        ("if TYPE_CHECKING:\n  pass\nelse:\n  import aiohttp", Import("aiohttp", False)),
        ("try:\n  import aiohttp\nfinally:\n  pass", Import("aiohttp", False)),
    ],
)
def test_reading(statement: str, expected: Import) -> None:
    """An import is seen in whatever form and wherever it stands, here in the package `engines`."""
    assert imports_of(statement, "engines") == [expected]


def test_there_is_something_to_read() -> None:
    """The package was found, and what imports most is known to."""
    assert len(PATHS) > 30
    assert {"_job", "engines.base", "_scheduler"} <= ours("_runtime")
    assert "aiohttp" in theirs("web", at_run_time=True)


# The layers


def test_every_module_has_a_layer() -> None:
    """Each module is in the table, once, and nothing else is."""
    assert sorted(module for modules in LAYERS.values() for module in modules.split()) == sorted(
        PATHS
    )


def test_no_arrow_points_up() -> None:
    """A module imports modules of its own layer and of those below."""
    up = [
        f"{module} ({LAYER[module]}) imports {other} ({LAYER[other]})"
        for module in PATHS
        for other in ours(module)
        if LAYER[other] > LAYER[module]
    ]
    assert up == []


def test_no_circle() -> None:
    """No module imports itself, through whatever others."""
    TopologicalSorter({module: ours(module) for module in PATHS}).prepare()


def test_engines_keep_to_themselves() -> None:
    """An engine knows the vocabulary and the contract; its parts are nobody else's business."""
    for module in PATHS:
        inside = module.startswith("engines.")
        parts = {other for other in ours(module) if other.startswith("engines._")}
        assert inside or not parts, module
        if inside:
            assert all(LAYER[other] == 0 or other.startswith("engines.") for other in ours(module))


def test_one_module_names_an_engine() -> None:
    """Only the composition root says which engine it is."""
    assert [module for module in PATHS if "engines.memory" in ours(module)] == ["web"]


def test_aiohttp() -> None:
    """Up to layer 3 nothing imports aiohttp at run time."""
    assert [
        module
        for module in PATHS
        if LAYER[module] <= 3
        and theirs(module, at_run_time=True) & {"aiohttp", "aiohttp_sse", "multidict", "yarl"}
    ] == []


def test_uvloop() -> None:
    """What makes the loop of `run_app` imports uvloop, when it is called; nothing else does."""
    places = [
        (module, each.inside)
        for module, found in IMPORTS.items()
        for each in found
        if each.name.partition(".")[0] == "uvloop"
    ]
    assert places == [("_run", "_new_loop")]


# The modules


def test_names() -> None:
    """No module is called for what it is not: a place to put things."""
    shapeless = {"common", "helper", "helpers", "manager", "misc", "models", "util", "utils"}

    assert [module for module in PATHS if set(re.split(r"[._]", module)) & shapeless] == []


@pytest.mark.parametrize("module", PATHS)
def test_docstring(module: str) -> None:
    """Each module says what it is, in one sentence first."""
    docstring = ast.get_docstring(ast.parse(PATHS[module].read_text()))

    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("module", PATHS)
def test_length(module: str) -> None:
    """A module that has outgrown 400 lines is two ideas."""
    lines = PATHS[module].read_text().count("\n")

    assert lines <= 400
