"""The JavaScript client submits, follows, resumes and cancels; here it runs in Node."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import threading
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, web

import aioqueue
from tests.relay import Relay, port_of

pytestmark = pytest.mark.one_loop

STATIC = Path(aioqueue.__file__).parent / "static"

# `say(value)` prints one line of JSON.
PRELUDE = """
import { submit, follow, QueueError, timing } from "./client.mjs";
const say = (value) => console.log(JSON.stringify(value));
const tell = (error) => ({ name: error.name, code: error.code, status: error.status,
  retryAfter: error.retryAfter, message: error.message });
const url = process.env.URL;
"""


class Script:
    """A program in Node that says something now and then."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def hear(self) -> Any:
        """What it says next."""
        assert self._process.stdout
        async with asyncio.timeout(20):
            line = await self._process.stdout.readline()
        assert line, "the script has ended"
        return orjson.loads(line)


@pytest.fixture
async def script(tmp_path: Path) -> AsyncIterator[Callable[[str, str], Awaitable[Script]]]:
    """Run a program that uses the client: it can `say` what happens."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed: make system-deps")
    (tmp_path / "client.mjs").write_bytes((STATIC / "client.js").read_bytes())
    started: list[asyncio.subprocess.Process] = []

    async def start(url: str, source: str) -> Script:
        path = tmp_path / "script.mjs"
        path.write_text(PRELUDE + source)
        process = await asyncio.create_subprocess_exec(
            node, path, env={**os.environ, "URL": url}, stdout=asyncio.subprocess.PIPE
        )
        started.append(process)
        return Script(process)

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@aioqueue.queued(name="hello", concurrency_limit=1)
async def hello(name: str = "you") -> str:
    """The function of most tests."""
    return f"Hello, {name}!"


def app_of(*routes: web.RouteDef, **settings: Any) -> web.Application:
    """An app with `hello` and these routes."""
    app = web.Application()
    app.add_routes([web.post("/hello", hello), *routes])
    aioqueue.setup(app, **settings)
    return app


async def test_it_is_served_as_a_module(serve: Any, http: ClientSession) -> None:
    """The library serves the client where its other routes are, and once it is known, a 304."""
    url = await serve(app_of(path="/line"))

    plain = {"Accept-Encoding": "identity"}
    async with http.get(f"{url}/line/client.js", headers=plain) as response:
        assert response.content_type == "text/javascript"
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["Vary"] == "Accept-Encoding"
        assert await response.read() == (STATIC / "client.js").read_bytes()
    known = {"If-None-Match": response.headers["ETag"]}
    async with http.get(f"{url}/line/client.js", headers=known) as response:
        assert response.status == 304


async def test_it_travels_in_less_than_ten_kilobytes(serve: Any) -> None:
    """A browser, which accepts gzip, loads it compressed."""
    url = await serve(app_of())

    async with ClientSession(auto_decompress=False) as browser:
        headers = {"Accept-Encoding": "gzip, deflate, br"}
        async with browser.get(f"{url}/queue/client.js", headers=headers) as response:
            coding, body = response.headers["Content-Encoding"], await response.read()

    assert len(body) < 10_000
    assert coding in ("gzip", "deflate")
    # 47: either of the two formats, by its own header.
    assert zlib.decompress(body, 47) == (STATIC / "client.js").read_bytes()


def test_types_name_what_is_exported() -> None:
    """What the declarations promise is what the module exports."""
    code, types = (
        set(
            re.findall(r"^export (?:function|class|const) (\w+)", (STATIC / name).read_text(), re.M)
        )
        for name in ("client.js", "client.d.ts")
    )

    assert code == types == {"QueueError", "follow", "submit", "timing"}


async def test_events_and_result(serve: Any, script: Any) -> None:
    """A job tells what happens to it, to as many as ask, and its result."""
    url = await serve(app_of())
    program = await script(
        url,
        """
        const job = submit(`${url}/hello`, { name: "Ann" });
        const types = [];
        for await (const event of job) types.push(event.type);
        say([types, await job.result, job.state, (await job.accepted).id === job.id]);
        const later = [];
        for await (const event of job) later.push(event.type);
        say(later);
        const again = follow(job.url);
        say([await again.result, again.id === job.id]);
        """,
    )

    assert await program.hear() == [
        ["state", "started", "succeeded"],
        "Hello, Ann!",
        "succeeded",
        True,
    ]
    assert await program.hear() == ["state", "started", "succeeded"]
    assert await program.hear() == ["Hello, Ann!", True]


async def test_files_go_as_a_form(serve: Any, script: Any) -> None:
    """An argument that is a Blob makes the request a form; the others are its fields."""

    @aioqueue.queued(name="size")
    async def size(image: bytes, detail: str) -> list[Any]:
        return [len(image), detail]

    url = await serve(app_of(web.post("/size", size)))
    program = await script(
        url,
        """
        const args = { image: new Blob(["12345"]), detail: "high" };
        say(await submit(`${url}/size`, args).result);
        """,
    )

    assert await program.hear() == [5, "high"]


async def test_several_files_fill_a_list(serve: Any, script: Any) -> None:
    """An array of Blobs goes as a form too, and each value of an array by itself."""

    @aioqueue.queued(name="sizes")
    async def sizes(images: list[aioqueue.Upload], tags: list[str]) -> list[Any]:
        return [*[image.size for image in images], *tags]

    url = await serve(app_of(web.post("/sizes", sizes)))
    program = await script(
        url,
        """
        const images = [new Blob(["1"]), new Blob(["22"])];
        say(await submit(`${url}/sizes`, { images, tags: ["a", "b"] }).result);
        """,
    )

    assert await program.hear() == [1, 2, "a", "b"]


async def test_large_results_and_files(serve: Any, script: Any) -> None:
    """What no event carries is fetched: JSON is its value, and a file a Blob, also one of JSON."""

    @aioqueue.queued(name="large")
    async def large() -> list[str]:
        return ["x" * 100]

    @aioqueue.queued(name="file")
    def file(name: str, job: aioqueue.Job = aioqueue.JOB) -> Path:
        path = job.directory / name
        path.write_bytes(b"12345")
        return path

    routes = (web.post("/large", large), web.post("/file", file))
    url = await serve(app_of(*routes, max_event_bytes=50))
    program = await script(
        url,
        """
        const job = submit(`${url}/large`);
        say([await job.result, await follow(job.url).result]);
        for (const name of ["a.png", "a.json"]) {
          const blob = await submit(`${url}/file`, { name }).result;
          say([blob.size, blob.type, await blob.text()]);
        }
        """,
    )

    assert await program.hear() == [["x" * 100]] * 2
    assert await program.hear() == [5, "image/png", "12345"]
    assert await program.hear() == [5, "application/json", "12345"]


async def test_refusals_and_failures_are_errors(serve: Any, script: Any) -> None:
    """Whatever goes wrong is a QueueError with the server's code, status and words."""

    @aioqueue.queued(name="broken")
    async def broken() -> None:
        raise aioqueue.JobError("It broke.", status=418)

    @aioqueue.queued(name="narrow", max_size=0)
    async def narrow() -> None:
        await asyncio.Event().wait()

    routes = (web.post("/broken", broken), web.post("/narrow", narrow))
    url = await serve(app_of(*routes, drain_timeout=0))
    program = await script(
        url,
        """
        say(tell(await submit(`${url}/broken`).result.catch((error) => error)));
        say(tell(await submit(`${url}/hello`, { name: 1 }).result.catch((error) => error)));
        await submit(`${url}/narrow`).accepted;
        say(tell(await submit(`${url}/narrow`).accepted.catch((error) => error)));
        say(tell(await submit(`${url}/nowhere`).accepted.catch((error) => error)));
        const gone = follow(`${url}/queue/jobs/${"A".repeat(22)}`);
        try { for await (const event of gone) say(event); } catch (error) { say(tell(error)); }
        process.exit();
        """,
    )
    told = [await program.hear() for _ in range(5)]

    assert [(one["code"], one["status"]) for one in told] == [
        ("job_failed", 418),
        ("invalid_arguments", 422),
        ("queue_full", 503),
        ("http_error", 404),
        ("not_found", 404),
    ]
    assert told[0]["message"] == "It broke."
    assert told[2]["retryAfter"] >= 1
    assert all(one["name"] == "QueueError" for one in told)


async def test_a_repetition_without_room(serve: Any, script: Any) -> None:
    """A first upload for which there is no room is refused; one sent again may be in it already."""
    answers = ["lost", "full", "full", "taken", "full"]
    keys = []

    async def upload(request: web.Request) -> web.Response:
        await request.read()
        keys.append(request.headers["Idempotency-Key"])
        answer = answers.pop(0)
        if answer == "taken":
            return web.json_response("it")
        problem = {"code": "spool_full"} if answer == "full" else {}
        return web.json_response(problem, status=503, headers={"Retry-After": "0.01"})

    url = await serve(app_of(web.post("/upload", upload)))
    program = await script(
        url,
        """
        const file = new Blob(["12345"]);
        say(await submit(`${url}/upload`, { file }).result);
        say(tell(await submit(`${url}/upload`, { file }).result.catch((error) => error)));
        """,
    )

    assert await program.hear() == "it"
    assert (await program.hear())["code"] == "spool_full"
    assert answers == []
    assert [keys.count(key) for key in dict.fromkeys(keys)] == [4, 1]


async def test_a_page_full_of_jobs_shares_streams(serve: Any, script: Any) -> None:
    """120 jobs of one page take three connections, not 120."""
    gate = asyncio.Event()

    @aioqueue.queued(name="gated", concurrency_limit=None)
    async def gated(n: int) -> int:
        await gate.wait()
        return n

    url = await serve(app_of(web.post("/gated", gated)))
    program = await script(
        url,
        """
        const jobs = Array.from({ length: 120 }, (_, n) => submit(`${url}/gated`, { n }));
        await Promise.all(jobs.map(async (job) => {
          for await (const event of job) if (event.type === "started") break;
        }));
        let streams;
        do {  // one that it has left for a larger one is counted until the server's next look
          await new Promise((resume) => setTimeout(resume, 50));
          ({ streams } = await (await fetch(`${url}/queue/status`)).json());
        } while (streams > 3);
        say(streams);
        const results = await Promise.all(jobs.map((job) => job.result));
        say(results.every((result, n) => result === n));
        """,
    )

    assert await program.hear() == 3
    gate.set()
    assert await program.hear() is True


async def test_cancel_and_abort(serve: Any, script: Any) -> None:
    """Cancelling stops the job on the server, by the job or by an AbortSignal."""

    @aioqueue.queued(name="endless", concurrency_limit=1)
    async def endless() -> None:
        await asyncio.Event().wait()

    url = await serve(app_of(web.post("/endless", endless)))
    program = await script(
        url,
        """
        const running = submit(`${url}/endless`);
        const waiting = submit(`${url}/endless`);
        await waiting.accepted;
        say([(await waiting.cancel()).state, (await running.cancel()).state]);
        say((await running.result.catch(tell)).code);
        const control = new AbortController();
        const aborted = submit(`${url}/endless`, {}, { signal: control.signal });
        await aborted.accepted;
        control.abort();
        say((await aborted.result.catch(tell)).name);
        say((await follow(aborted.url).result.catch(tell)).code);
        """,
    )

    assert await program.hear() == ["cancelled", "cancelled"]
    assert await program.hear() == "job_cancelled"
    assert await program.hear() == "AbortError"
    assert await program.hear() == "job_cancelled"


async def test_a_cut_connection_loses_and_repeats_nothing(serve: Any, script: Any) -> None:
    """Cut while it waits and while it runs, a client hears each durable event once."""
    gate = asyncio.Event()

    @aioqueue.queued(name="gated")
    async def gated() -> str:
        await gate.wait()
        return "done"

    url = await serve(app_of(web.post("/gated", gated)))
    async with Relay(port_of(url)) as relay:
        program = await script(
            relay.url,
            """
            timing.slowest = 200;
            const job = submit(`${url}/gated`);
            for await (const { type } of job) if (type !== "connection") say(type);
            say(await job.result);
            """,
        )
        assert [await program.hear() for _ in range(2)] == ["state", "started"]
        relay.cut()
        assert await program.hear() == "state"  # it is back
        relay.cut()
        gate.set()
        rest = [await program.hear() for _ in range(3)]

    assert rest == ["state", "succeeded", "done"]


async def test_outputs_come_once(serve: Any, script: Any) -> None:
    """What a generator says is told as it comes, each once, also over a lost connection."""
    gate = threading.Event()

    @aioqueue.queued(name="count")
    def count(job: aioqueue.Job = aioqueue.JOB) -> Iterator[int]:
        yield 0
        job.progress(1, 3, "counting")
        job.log("half way")
        yield 1
        gate.wait(10)
        yield 2

    url = await serve(app_of(web.post("/count", count)))
    async with Relay(port_of(url)) as relay:
        program = await script(
            relay.url,
            """
            timing.slowest = 200;
            const job = submit(`${url}/count`);
            for await (const event of job) {
              if (event.type === "output") say(event.data);
              if (event.type === "log") say(event.message);
              if (event.type === "progress") say([event.step, event.total, event.message]);
            }
            say(await job.result);
            """,
        )
        heard = [await program.hear() for _ in range(4)]
        relay.cut()
        gate.set()
        rest = [await program.hear() for _ in range(2)]

    progress = [1, 3, "counting"]
    assert [one for one in heard if one != progress] == [0, "half way", 1]
    assert progress in heard
    assert rest == [2, [0, 1, 2]]


async def test_a_lost_answer_does_not_run_the_job_twice(serve: Any, script: Any) -> None:
    """When the answer to a submission is lost it is sent again, and the server knows it."""
    runs = []

    @aioqueue.queued(name="once")
    async def once() -> int:
        runs.append(1)
        return len(runs)

    url = await serve(app_of(web.post("/once", once)))
    async with Relay(port_of(url)) as relay:
        relay.swallow_answer = True
        program = await script(relay.url, "say(await submit(`${url}/once`).result);")
        assert await program.hear() == 1

    assert (runs, relay.connections >= 2) == ([1], True)


async def test_it_looks_where_streams_are_held_back(serve: Any, script: Any) -> None:
    """Behind a proxy that passes no stream on, the client asks now and then."""
    gate = threading.Event()

    @aioqueue.queued(name="slow")
    def slow() -> str:
        gate.wait(10)
        return "done"

    url = await serve(app_of(web.post("/slow", slow)))
    async with Relay(port_of(url)) as relay:
        relay.withhold = True
        program = await script(
            relay.url,
            """
            Object.assign(timing, { firstByte: 100, poll: 50 });
            const job = submit(`${url}/slow`);
            for await (const event of job) { say([event.type, event.state ?? null]); }
            say(await job.result);
            """,
        )
        assert await program.hear() == ["state", "running"]
        gate.set()
        heard = [await program.hear()]
        while heard[-1] != "done":
            heard.append(await program.hear())

    assert ["succeeded", "succeeded"] in heard


async def test_a_server_that_was_restarted_is_told(
    serve: Any, script: Any, free_tcp_port_factory: Callable[[], int]
) -> None:
    """The server goes away, which is told, and comes back without the job, which ends it."""
    port = free_tcp_port_factory()

    async def start() -> web.AppRunner:
        @aioqueue.queued(name="endless")
        async def endless() -> None:
            await asyncio.Event().wait()

        runner = web.AppRunner(
            app_of(web.post("/endless", endless), drain_timeout=0.1), shutdown_timeout=1
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner

    runner = await start()
    async with Relay(port) as relay:
        program = await script(
            relay.url,
            """
            timing.slowest = 300;
            const job = submit(`${url}/endless`);
            try {
              for await (const event of job) {
                if (event.type === "started" || event.type === "connection") say(event.type);
              }
            } catch (error) { say(tell(error)); }
            """,
        )
        assert await program.hear() == "started"
        relay.cut()
        await runner.cleanup()  # what connects to the relay now is dropped
        assert await program.hear() == "connection"
        runner = await start()
        told = await program.hear()
        while told == "connection":
            told = await program.hear()
        await runner.cleanup()

    assert told["code"] == "not_found"
