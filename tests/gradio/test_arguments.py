"""From the values that clients send to arguments: places, names, defaults and nulls."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import attrs
import pytest

import aioqueue
from aioqueue import Job, Refused, Upload
from aioqueue._arrivals import Arrivals
from aioqueue._registry import register
from aioqueue._settings import Settings
from aioqueue._spool import Spool
from aioqueue.gradio._arguments import FileSources, named_arguments, payload
from aioqueue.gradio._catalogue import Catalogue, Exposed
from aioqueue.gradio._fetch import FETCH_SECONDS, Fetcher
from aioqueue.gradio._uploads import Uploads
from tests.inside import Worker

pytestmark = pytest.mark.one_loop


@attrs.frozen
class Options:
    size: int = 3


def add(a: float, b: float = 2, *, job: Job = aioqueue.JOB) -> float:
    """Take two numbers."""
    return a + b


def nulls(a: int | None, b: int | None = 5, c: Any = None) -> None:
    """Take what may be null."""


def defaults(a: float = math.nan, b: Any = object(), c: Options = Options(5)) -> None:  # noqa: B008
    """Have defaults, some without a JSON form."""


def files(one: Upload | None = None, many: list[Upload] = []) -> None:  # noqa: B006
    """Take files."""


def more(a: int, /, **others: int) -> None:
    """Take what there is."""


def exposed(function: Any, **options: Any) -> Exposed:
    """A function as clients see it."""
    queued = aioqueue.queued(**options)(function)
    one = register(queued.name, queued.declared, Settings(), None, queued)
    return Catalogue({queued.name: one}, {}, (), {}).by_index[0]


class NoSpool(Spool):
    """No file may come or go."""

    def folder(self, job_id: str) -> Any:
        """Nobody asks for one."""
        raise AssertionError(job_id)


class Elsewhere(Fetcher):
    """Has every file, and remembers by when it was wanted."""

    def __init__(self) -> None:
        super().__init__(None)
        self.deadlines: list[float] = []

    async def fetch(self, *about: Any) -> Upload:
        """A file."""
        self.deadlines.append(about[-1])
        return Upload("a", "text/plain", 1, Path("a"))


async def arguments_of(
    one: Exposed, named: dict[str, Any], max_bytes: int = 0, fetcher: Fetcher | None = None
) -> Any:
    """What the function gets."""
    spool = NoSpool(None, 0)
    engine = (await Worker().open()).engine
    sources = FileSources(Uploads(spool, 1, 0), fetcher or Fetcher(None), spool, engine)
    arrivals = Arrivals(spool, "job")
    packed = await payload(one, named, sources, arrivals, None, max_bytes)
    assert not arrivals.any
    await spool.close()
    positional, arguments = one.signature.arguments(packed, None)
    arguments.pop("job", None)
    return positional, arguments


async def wrong(one: Exposed, named: dict[str, Any], **options: Any) -> Any:
    """What is wrong with arguments."""
    with pytest.raises(Refused) as refused:
        await arguments_of(one, named, **options)
    problem = refused.value.problem
    if problem.code != "invalid_arguments":
        return problem.code
    return {error["field"]: error["message"] for error in problem.extensions["errors"]}


def test_places() -> None:
    """Values are those of the parameters, in order; what is no parameter has no place."""
    one = exposed(add)
    assert named_arguments(one, []) == {}
    assert named_arguments(one, [1]) == {"a": 1}
    assert named_arguments(one, [1, None]) == {"a": 1, "b": None}
    with pytest.raises(Refused, match="data has 3 values for 2 parameters") as refused:
        named_arguments(one, [1, 2, 3])
    assert refused.value.problem.status == 422
    assert named_arguments(exposed(more), [1]) == {"a": 1}


async def test_names() -> None:
    """Arguments have the types of their parameters; what is left out is the default."""
    one = exposed(add)
    assert await arguments_of(one, {"a": 1}) == ([], {"a": 1.0})
    assert await arguments_of(one, {"b": 1.5, "a": 1}) == ([], {"a": 1.0, "b": 1.5})
    assert await wrong(one, {"b": "x", "c": 1, "job": 1}) == {
        "a": "is missing",
        "b": "must be a number, not a string",
        "c": "is not a parameter here",
        "job": "is not a parameter here",
    }
    assert await arguments_of(exposed(more), {"a": 1, "b": 2}) == ([1], {"b": 2})
    assert await wrong(exposed(more), {"a": 1, "b": "x"}) == {
        "b": "must be a whole number, not a string"
    }


async def test_null() -> None:
    """Null is a value where it may be one, and no number where there is no default."""
    one = exposed(nulls)
    assert await arguments_of(one, {"a": None}) == ([], {"a": None})
    everything = {"a": None, "b": None, "c": None}
    assert await arguments_of(one, everything) == ([], everything)
    assert await wrong(exposed(add), {"a": None, "b": 1}) == {"a": "must be a number, not null"}


async def test_null_for_a_default() -> None:
    """Clients fill in null for what is left out, or for a default that has no JSON form."""
    one = exposed(defaults)
    assert await arguments_of(one, {"a": None, "b": None}) == ([], {})
    assert await arguments_of(one, {"a": 1, "b": 2}) == ([], {"a": 1.0, "b": 2})
    assert await arguments_of(one, {"c": None}) == ([], {})
    assert await arguments_of(one, {"c": {"size": 5}}) == ([], {"c": Options(5)})


async def test_one_of_a_batch() -> None:
    """A client sends one value of each of a batch's lists."""

    def lengths(words: list[str], limits: list[int]) -> list[int]:
        return [len(word) for word in words]

    one = exposed(lengths, batch=True)
    named = named_arguments(one, ["abc", 3])
    assert await arguments_of(one, named) == ([], {"words": "abc", "limits": 3})


@pytest.mark.parametrize(("size", "fits"), [(10, True), (11, False)])
async def test_bytes_count(size: int, fits: bool) -> None:
    """Arguments have no more bytes of JSON than their function takes."""
    one = exposed(nulls)
    named = {"a": None, "c": "x" * size}
    most = len('{"a":null,"c":""}') + 10
    if fits:
        assert (await arguments_of(one, named, max_bytes=most))[1] == named
    else:
        assert await wrong(one, named, max_bytes=most) == "payload_too_large"
    assert (await arguments_of(one, named))[1] == named


async def test_too_deep() -> None:
    """What is nested too deeply is refused, and no mistake of the server's."""
    deep: Any = 0
    for _ in range(500):
        deep = [deep]
    assert await wrong(exposed(nulls), {"a": 1, "c": deep}) == "invalid_json"


def named_files(path: str, in_one: int, in_many: int) -> dict[str, Any]:
    """Arguments that name files."""
    told = {"path": path, "meta": {"_type": "gradio.FileData"}}
    return {"one": told if in_one else None, "many": [told] * in_many}


async def test_so_many_files() -> None:
    """A job names a thousand files at most, in all its arguments."""
    one = exposed(files)
    unknown = {"one": "is no file that you have uploaded, or it is no longer kept"}
    assert await wrong(one, named_files("a/0/a", 1, 999)) == unknown
    for named in (named_files("a/0/a", 1, 1000), named_files("a/0/a", 0, 1001)):
        assert await wrong(one, named) == "payload_too_large"


@pytest.mark.parametrize("path", ["http://a/", "https://a/"])
async def test_so_many_urls(path: str) -> None:
    """Ten of them are URLs at most; where there are more nobody is asked for any."""
    one, elsewhere = exposed(files), Elsewhere()
    (_, arguments) = await arguments_of(one, named_files(path, 1, 9), fetcher=elsewhere)
    assert (len(arguments["many"]), len(elsewhere.deadlines)) == (9, 10)
    elsewhere.deadlines.clear()
    named = named_files(path, 1, 10)
    assert await wrong(one, named, fetcher=elsewhere) == "payload_too_large"
    assert elsewhere.deadlines == []


async def test_one_deadline() -> None:
    """All files from elsewhere that a job names must be here by the same time."""
    elsewhere, loop = Elsewhere(), asyncio.get_running_loop()
    start = loop.time()
    await arguments_of(exposed(files), named_files("http://a/", 1, 9), fetcher=elsewhere)
    (deadline,) = set(elsewhere.deadlines)
    assert start <= deadline - FETCH_SECONDS <= loop.time()
