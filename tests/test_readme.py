"""What the README says is so."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
from aiohttp import ClientSession, FormData, web

import aioqueue

pytestmark = pytest.mark.one_loop

README = (Path(__file__).parent.parent / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)


def test_every_snippet_is_python() -> None:
    """Each snippet can be read by Python, top-level await included."""
    for snippet in SNIPPETS:
        compile(snippet, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


async def test_the_first_snippet_serves(
    serve: Any, http: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app at the top of the README takes a picture and answers."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    names: dict[str, Any] = {"__name__": "readme"}
    exec(SNIPPETS[0], names)
    url = await serve(names["app"])
    form = FormData({"language": "de"})
    form.add_field("image", b"...", filename="a.png")

    async with http.post(f"{url}/ocr", data=form, headers={"Prefer": "wait=10"}) as response:
        assert await response.json() == {"bytes": 3, "language": "de"}


async def test_the_other_snippets_run(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way to use it, as it stands there, in an app that starts."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    names: dict[str, Any] = {"__name__": "readme"}
    exec(SNIPPETS[0], names)
    names |= {"Literal": Literal, "Iterator": Iterator, "picture": b"..."}
    names["app"] = web.Application()
    *functions, from_code = SNIPPETS[1:]
    for snippet in functions:
        exec(snippet, names)
    names["app"].add_routes([web.post("/ocr", names["ocr"]), web.get("/r", names["report"])])
    for name in ("resize", "tokens", "embed", "denoise"):
        names["app"].add_routes([web.post(f"/{name}", names[name])])
    await serve(names["app"])

    code = compile(from_code, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, names)

    assert names["text"] == {"bytes": 3, "language": "de"}
    assert await (await names["tokens"].submit("one two")).result() == ["one", "two"]
    assert await (await names["denoise"].submit()).result() == "done"


def test_settings_are_as_the_table_says() -> None:
    """Each row of the table names a setting and its default."""
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \|", README, re.M)
    fields = {field.name: field.default for field in attrs.fields(aioqueue.Settings)}

    assert len(rows) > 5
    for name, default in rows:
        assert float(default) == fields[name] if default != "None" else fields[name] is None


def test_links_lead_somewhere() -> None:
    """Each relative link is a file or folder of the project."""
    root = Path(__file__).parent.parent
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (root / target).exists(), target
