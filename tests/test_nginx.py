"""Behind the nginx of the deployment guide events arrive as they happen."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

import aioqueue
from tests.processes import ROOT
from tests.sse_client import read_events

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = [
    pytest.mark.one_loop,
    pytest.mark.skipif(NGINX is None, reason="there is no nginx: make system-deps"),
]

SSE = {"Accept": "text/event-stream"}

AROUND = """
daemon off; master_process off; pid {folder}/pid; error_log stderr;
events {{ }}
http {{
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    include {folder}/app.conf;
}}
"""


@pytest.fixture
async def behind_nginx(
    tmp_path: Path, free_tcp_port_factory: Callable[[], int]
) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Put the guide's nginx in front of an app, with other ports and its log in a folder."""
    started = []

    async def start(url: str) -> str:
        port = free_tcp_port_factory()
        guide = (ROOT / "docs/nginx.conf").read_text()
        for old, new in {
            "server 127.0.0.1:8080;": f"server {url.removeprefix('http://')};",
            "listen 80;": f"listen 127.0.0.1:{port};",
            "listen [::]:80;": "",
            "/var/log/nginx/app.log": f"{tmp_path}/access.log",
        }.items():
            assert guide.count(old) == 1, old
            guide = guide.replace(old, new)
        (tmp_path / "app.conf").write_text(guide)
        (tmp_path / "nginx.conf").write_text(AROUND.format(folder=tmp_path))
        command = [NGINX, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", "stderr"]
        process = await asyncio.to_thread(subprocess.Popen, command)
        started.append(process)
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                assert process.poll() is None
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                break
        return f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        process.terminate()
        await asyncio.to_thread(process.wait, 10)


async def test_events_arrive_as_they_happen(
    serve: Any, behind_nginx: Any, http: ClientSession, tmp_path: Path
) -> None:
    """The proxy holds nothing back, resumes streams, and its log has no id of a job."""
    gate = asyncio.Event()

    @aioqueue.queued
    async def gated() -> str:
        await gate.wait()
        return "done"

    app = web.Application()
    app.add_routes([web.post("/gated", gated)])
    aioqueue.setup(app)
    url = await behind_nginx(await serve(app))

    async with http.post(f"{url}/gated", json={}, headers=SSE) as response:
        location = response.headers["Location"]
        events = read_events(response)
        first = [(await anext(events)).event for _ in range(2)]
        assert first == ["state", "started"]  # while it runs: nothing was held back
        gate.set()
        assert (await anext(events)).event == "succeeded"
    headers = {"Last-Event-ID": "1-1"}
    async with http.get(f"{url}{location}/events", headers=headers) as response:
        assert [one.event async for one in read_events(response)] == ["state", "succeeded"]

    for _ in range(100):
        log = (tmp_path / "access.log").read_text()
        if log.count("\n") == 2:
            break
        await asyncio.sleep(0.02)
    job_id = location.rsplit("/", 1)[1]
    assert job_id not in log
    assert re.search(r'"GET /queue/jobs/-/events" 200', log)
