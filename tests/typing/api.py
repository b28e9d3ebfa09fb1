"""What a user's type checker says of the public names. Nothing runs this; mypy reads it.

A line with a `type: ignore` is a mistake that must be found: if it is not, the ignore is unused,
and that is an error too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, assert_type

import attrs
from aiohttp import web

import aioqueue
from aioqueue import JobHandle, QueuedFunction


@attrs.frozen
class Words:
    text: list[str]


# The decorator keeps the signature


@aioqueue.queued
def ocr(image: bytes, language: str = "en") -> Words:
    """Run in a thread, decorated without parentheses."""
    return Words([language])


@aioqueue.queued(concurrency_limit=2, max_size=10, on_disconnect="keep", queue_timeout=1.5)
async def translate(words: Words, to: Literal["en", "de"], *, formal: bool = False) -> str:
    """Run on the loop, with options."""
    return to


@aioqueue.queued(concurrency_limit=None, concurrency_id="shared", name="nothing")
def nothing() -> None:
    """Neither take nor return anything."""


@aioqueue.queued(concurrency_limit="default")
async def with_job(
    data: Annotated[bytes, aioqueue.Body], job: aioqueue.Job = aioqueue.JOB
) -> dict[str, int]:
    """Leave the job to us."""
    job.raise_if_cancelled()
    assert_type(job.id, str)
    assert_type(job.attempt, int)
    assert_type(job.owner, str | None)
    assert_type(job.cancelled, bool)
    assert_type(aioqueue.current_job(), aioqueue.Job)
    return {}


def make(coroutine: bool) -> Callable[[int], Awaitable[str]]:
    """Some other way to an async function."""
    raise NotImplementedError


assert_type(ocr.name, str)
assert_type(aioqueue.queued(make(True)), QueuedFunction[[int], str])
assert_type(aioqueue.queued()(make(True)), QueuedFunction[[int], str])

aioqueue.queued(1)  # type: ignore[call-overload]
aioqueue.queued(limit=1)  # type: ignore[call-overload]
aioqueue.queued(concurrency_limit="no")  # type: ignore[call-overload]
aioqueue.queued(on_disconnect="stay")  # type: ignore[call-overload]


# From code


async def submit() -> None:
    """Submit as one calls, and get back what the function returns."""
    assert_type(await ocr.submit(b"", "de"), JobHandle[Words])
    assert_type(await ocr.submit(image=b"", language="de"), JobHandle[Words])
    assert_type(await (await ocr.submit(b"")).result(), Words)
    assert_type(await translate.submit(Words([]), "de", formal=True), JobHandle[str])
    assert_type(await (await translate.submit(Words([]), "en")).result(), str)
    assert_type(await nothing.submit(), JobHandle[None])
    assert_type(await with_job.submit(b""), JobHandle[dict[str, int]])

    await ocr.submit("text")  # type: ignore[arg-type]
    await ocr.submit()  # type: ignore[call-arg]
    await ocr.submit(b"", lang="de")  # type: ignore[call-arg]
    await translate.submit(Words([]), "fr")  # type: ignore[arg-type]
    await translate.submit(Words([]), "en", True)  # type: ignore[call-arg]
    await nothing.submit(1)  # type: ignore[call-arg]
    await with_job.submit({})  # type: ignore[arg-type]

    ocr(b"")  # type: ignore[arg-type, unused-coroutine]
    assert_type(ocr.__wrapped__(b""), Any)


async def options() -> None:
    """Options change nothing of what may be submitted."""
    ada = ocr.options(owner="ada", metadata={"plan": "free"})
    assert_type(await ada.submit(b""), JobHandle[Words])
    await ada.submit("text")  # type: ignore[arg-type]
    ocr.options(owner=1)  # type: ignore[arg-type]
    ocr.options(user="ada")  # type: ignore[call-arg]


async def handle(job: JobHandle[Words]) -> None:
    """Follow a job."""
    assert_type(job.id, str)
    assert_type(await job.state(), str)
    assert_type(await job.cancel(), str)
    async for event in job.events():
        assert_type(event, Mapping[str, Any])
    anything: JobHandle[object] = job  # whoever reads a result may expect less of it
    assert_type(await anything.result(), object)
    try:
        await job.result()
    except aioqueue.JobFailed as failed:
        assert_type(failed.problem, dict[str, Any])
        assert_type(failed.state, str)


# Handlers and methods


@aioqueue.queued
async def handler(request: web.Request) -> web.StreamResponse:
    """Stay an aiohttp handler."""
    return web.Response()


class Page(web.View):
    @aioqueue.queued
    async def get(self) -> web.Response:
        return web.json_response(self.request.path)

    @aioqueue.queued(concurrency_limit=2)
    def post(self, title: str) -> int:
        return len(title)


class Service:
    @aioqueue.queued
    def count(self, text: str) -> int:
        return len(text)

    @aioqueue.queued
    async def repeat(self, text: str, times: int = 2) -> list[str]:
        return [text] * times

    @staticmethod
    @aioqueue.queued
    def double(number: int) -> int:
        return number * 2


async def methods(service: Service) -> None:
    """A method is submitted to on its object, without ``self``."""
    assert_type(await service.count.submit("text"), JobHandle[int])
    assert_type(await service.repeat.submit("text", times=3), JobHandle[list[str]])
    assert_type(await service.repeat.options(owner="ada").submit("text"), JobHandle[list[str]])
    assert_type(await Service.count.submit(service, "text"), JobHandle[int])
    assert_type(await Service.double.submit(2), JobHandle[int])
    await service.count.submit(b"")  # type: ignore[arg-type]
    await service.repeat.submit("text", 1, 2)  # type: ignore[call-arg]
    await service.repeat.options(owner="ada").submit(1)  # type: ignore[arg-type]


# The app

routes = web.RouteTableDef()


@routes.post("/table")
@aioqueue.queued
def in_a_table(number: int) -> int:
    """Be registered by a decorator, as aiohttp has it."""
    return number


def owner(request: web.Request) -> str | None:
    """Say whose jobs these are."""
    return request.headers.get("User")


async def owner_from_database(request: web.Request) -> str | None:
    """Take a while to say it."""
    return request.headers.get("User")


service = Service()
app = web.Application(middlewares=[aioqueue.middleware(lambda request: True, max_size=3)])
app.middlewares.append(aioqueue.middleware(name="other", concurrency_limit=None))
app.add_routes(
    [
        *routes,
        web.post("/ocr", ocr),
        web.post("/translate", translate),
        web.get("/handler", handler),
        web.post("/count", service.count),
        web.view("/page", Page),
    ]
)
app.router.add_post("/nothing", nothing)
app.router.add_post("/double", Service.double)
aioqueue.setup(app, functions=[nothing, with_job, Service.double], max_size=200, owner=owner)
aioqueue.setup(app, aioqueue.Settings(max_threads=8, owner=owner_from_database))
app[aioqueue.SETTINGS] = attrs.evolve(app[aioqueue.SETTINGS], max_threads=4)
assert_type(app[aioqueue.SETTINGS].max_size, int | None)

aioqueue.setup()  # type: ignore[call-arg]
aioqueue.setup(app, functions=[len])  # type: ignore[list-item]
aioqueue.Settings(max_threads="8")  # type: ignore[arg-type]
aioqueue.middleware(match="/path")  # type: ignore[arg-type]
aioqueue.middleware(owner=owner)  # type: ignore[call-arg]

if __name__ == "__main__":
    aioqueue.run_app(app, port=8080, host=None)


# Generators and batches


@aioqueue.queued
def words(text: str) -> Iterator[str]:
    """Yield in a thread."""
    yield text


@aioqueue.queued(track_tqdm=True, capture_logs=True, time_limit=9)
async def lines(text: str) -> AsyncIterator[Words]:
    """Yield on the loop."""
    yield Words([text])


@aioqueue.queued(batch=True, max_batch_size=8, batch_timeout=0.1)
def embed(texts: list[str]) -> list[int]:
    """Take many jobs at once."""
    return [len(text) for text in texts]


@aioqueue.queued(batch=True)
async def embed_on_the_loop(texts: list[bytes]) -> list[int]:
    """The same, on the loop."""
    return [len(text) for text in texts]


@aioqueue.queued(batch=True)
def embed_bit_by_bit(texts: list[str]) -> Iterator[list[int]]:
    """The same, and each entry of a list goes to its job."""
    yield [len(text) for text in texts]


@aioqueue.queued(batch=True)
def two_lists(texts: list[str], languages: list[str]) -> list[int]:
    """What has several parameters is not checked."""
    return [len(text) for text in texts]


aioqueue.queued(batch=False, batch_timeout=1)  # type: ignore[call-overload]


async def submit_them() -> None:
    """A generator's result is a list; a batch's job sends and gets one entry."""
    assert_type(await words.submit("a"), JobHandle[list[str]])
    assert_type(await lines.submit("a"), JobHandle[list[Words]])
    assert_type(await embed.submit("a"), JobHandle[int])
    assert_type(await embed_on_the_loop.submit(b"a"), JobHandle[int])
    assert_type(await embed_bit_by_bit.submit("a"), JobHandle[list[int]])
    assert_type(await two_lists.submit("a", "en"), JobHandle[Any])
    await embed.submit(["a"])  # type: ignore[arg-type]


# What it says, and when it has ended


def say(job: aioqueue.Job) -> None:
    """Any number, any object as a line."""
    job.progress(0.5)
    job.progress(1, 2, "half")
    job.log("text", level="warning")
    for page in aioqueue.tqdm([1, 2], desc="pages"):
        print(page)


async def finished(job: aioqueue.FinishedJob) -> None:
    """Everything that is known of an ended job."""
    assert_type(job.owner, str | None)
    assert_type(job.started, float | None)
    assert_type(job.finished, float)
    assert_type(job.error, Mapping[str, Any] | None)


aioqueue.queued(on_finish=finished)
aioqueue.queued(on_finish=1)  # type: ignore[call-overload]
