"""What the documentation says is so."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
from aiohttp import ClientSession, web

import aioqueue
from aioqueue._errors import _CATALOGUE
from aioqueue._options import FunctionOptions

pytestmark = pytest.mark.one_loop

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def snippets(page: str) -> list[str]:
    """The Python snippets of a page."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.S)


def load(name: str) -> ModuleType:
    """A module of the documentation's own."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def client() -> str:
    """The Python client that one copies out of the documentation."""
    return next(snippet for snippet in snippets("clients.md") if "__main__" in snippet)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_snippet_is_python(page: Path) -> None:
    """Each snippet can be read by Python."""
    for snippet in snippets(page.name):
        compile(snippet, page.name, "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """Each link is a file of the project, and each part of it that is named a heading there."""
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.M)
            slugs = [re.sub(r"[^\w -]", "", heading.lower()) for heading in headings]
            assert anchor in [slug.replace(" ", "-") for slug in slugs]


def test_every_page_is_in_the_contents() -> None:
    """A page that nothing leads to is not read."""
    (contents,) = re.findall(r"```{toctree}\n(.*?)```", (DOCS / "index.md").read_text(), re.S)

    assert {page.stem for page in PAGES} == {"index", *re.findall(r"^[\w-]+$", contents, re.M)}


@pytest.mark.parametrize("kind", [aioqueue.Settings, FunctionOptions])
def test_every_setting_is_in_its_table(kind: type[Any], tmp_path: Path) -> None:
    """Each field has a row with its meaning, in a file that the page includes."""
    tables = load("_settings_table")
    rows = re.findall(r"^\| `(\w+)` \| `.+` ?.*\| (.+) \|$", tables.table(kind), re.M)
    tables.write(tmp_path)
    included = re.findall(r"{include} _generated/(\S+)", (DOCS / "settings.md").read_text())

    assert [name for name, _ in rows] == [field.name for field in attrs.fields(kind)]
    assert sorted(included) == sorted(path.name for path in tmp_path.iterdir())


def test_settings_that_pages_name_exist() -> None:
    """In the tables of the tuning page, each name is a setting or an option."""
    rows = re.findall(r"^\| (`\w+`[^|]*)\|", (DOCS / "tuning.md").read_text(), re.M)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    known = {
        field.name for kind in (aioqueue.Settings, FunctionOptions) for field in attrs.fields(kind)
    }

    assert len(named) > 10
    assert named <= known


def test_problems_are_as_the_table_says() -> None:
    """Each code of the catalogue has a row with its status, and there are no others."""
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", (DOCS / "wire.md").read_text(), re.M)

    assert {code: int(status) for code, status in rows} == {
        code: status for code, (status, _) in _CATALOGUE.items()
    }


def test_what_is_reserved_is_sent_by_nothing() -> None:
    """A code that the table calls reserved is made nowhere in the package."""
    reserved = re.findall(r"^\| `(\w+)` \| \d+ \| reserved", (DOCS / "wire.md").read_text(), re.M)
    sources = [path.read_text() for path in (DOCS.parent / "aioqueue").rglob("*.py")]

    assert reserved
    for code in reserved:
        assert not any(f'Problem.of("{code}"' in source for source in sources), code


async def test_quickstart_serves(serve: Any, http: ClientSession, monkeypatch: Any) -> None:
    """The first app of the quickstart says hello."""
    names: dict[str, Any] = {"__name__": "quickstart"}
    exec(snippets("quickstart.md")[0], names)
    monkeypatch.setattr(names["time"], "sleep", lambda seconds: None)
    url = await serve(names["app"])

    wait = {"Prefer": "wait=10"}
    async with http.post(f"{url}/hello", json={"name": "Ann"}, headers=wait) as response:
        assert await response.json() == "Hello, Ann!"


async def test_executors_guide_runs(
    server_process: Any, http: ClientSession, tmp_path: Path
) -> None:
    """The app of the guide to executors runs its function in a process, which has loaded first."""
    (script,) = (snippet for snippet in snippets("executors.md") if "__main__" in snippet)
    file = tmp_path / "app.py"
    file.write_text(script.replace("run_app(app)", "run_app(app, port=int(os.environ['PORT']))"))
    server, url = await server_process(file, timeout=30)

    wait = {"Prefer": "wait=10"}
    async with http.post(f"{url}/transcribe", json={"words": ["a", "b"]}, headers=wait) as response:
        result = await response.json()

    assert result["text"] == "A B"
    assert result["process"] != server.pid


def test_messages_that_the_executors_guide_explains() -> None:
    """What the page says that one reads is what the package says."""
    _, table = (DOCS / "executors.md").read_text().split("| you read | it means |")
    messages = re.findall(r"^\| `(.+?)` \|", table, re.M)
    said = [
        node.value
        for path in (DOCS.parent / "aioqueue").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) > 25
    ]

    assert len(messages) > 5
    for message in messages:
        parts = [part for part in message.split("…") if len(part) > 25]
        assert any(text in message or part in text for text in said for part in parts), message


async def test_python_client_runs(server_process: Any, tmp_path: Path) -> None:
    """The client, as a file of its own, prints the events of a job of the smallest example."""
    _, url = await server_process("examples/hello.py")
    file = tmp_path / "client.py"
    file.write_text(client())

    arguments = json.dumps({"name": "Ann", "seconds": 0.05})
    process = await asyncio.create_subprocess_exec(
        sys.executable, file, f"{url}/hello", arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    events = [json.loads(line) for line in output.splitlines()]

    assert process.returncode == 0
    assert [event["type"] for event in events][-2:] == ["started", "succeeded"]
    assert events[-1]["result"] == "Hello, Ann!"


async def test_python_client_comes_back(
    serve: Any, http: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is cut while the job runs: it gets every kept event once."""
    release = asyncio.Event()
    streams: list[web.Request] = []

    @aioqueue.queued
    async def wait() -> str:
        await release.wait()
        return "done"

    async def note(request: web.Request, response: web.StreamResponse) -> None:
        if request.path.endswith("/events"):
            streams.append(request)

    app = web.Application()
    app.add_routes([web.post("/wait", wait)])
    app.on_response_prepare.append(note)
    aioqueue.setup(app)
    url = await serve(app)
    names: dict[str, Any] = {"__name__": "client"}
    exec(client(), names)
    sleep = asyncio.sleep
    monkeypatch.setattr(names["asyncio"], "sleep", lambda seconds: sleep(min(seconds, 0.01)))

    job = await names["submit"](http, f"{url}/wait", {})
    kept = []
    async for event in names["follow"](http, url + job["links"]["events"]):
        if event["type"] != "state":
            kept.append(event["type"])
        if event["type"] == "started":
            assert streams[0].transport is not None
            streams[0].transport.abort()
            release.set()

    assert kept == ["started", "succeeded"]
    assert [request.headers.get("Last-Event-ID") for request in streams] == [None, "1-1"]


async def test_cross_origin_snippet(serve: Any, http: ClientSession) -> None:
    """With the snippet an app of another origin may ask, and read what it needs."""

    @aioqueue.queued
    async def hello() -> str:
        return "hello"

    app = web.Application()
    app.add_routes([web.post("/hello", hello)])
    exec(snippets("clients.md")[1], {"web": web, "app": app})
    aioqueue.setup(app)
    url = await serve(app)
    origin = {"Origin": "https://app.example.com", "Sec-Fetch-Site": "cross-site"}
    stream = {**origin, "Accept": "text/event-stream"}

    async with http.options(f"{url}/hello", headers=origin) as preflight:
        assert "Idempotency-Key" in preflight.headers["Access-Control-Allow-Headers"]
    async with http.post(f"{url}/hello", json={}, headers=stream) as response:
        assert response.headers["Access-Control-Allow-Origin"] == origin["Origin"]
        assert "Location" in response.headers["Access-Control-Expose-Headers"]
        assert "succeeded" in await response.text()
