"""From requests and calls to arguments: what fills a parameter, and what is refused."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs
import orjson
import pytest
from aiohttp import ClientSession, web
from hypothesis import given, strategies as st

import aioqueue
from aioqueue import Upload
from aioqueue._batch import Batch
from aioqueue._errors import ConfigurationError, Refused
from aioqueue._parameters import Received, Signature
from tests.stage import new_job

if TYPE_CHECKING:
    from nowhere import Missing

pytestmark = pytest.mark.one_loop

A_JOB: Any = object()
WAIT = {"Prefer": "wait=20"}


@attrs.frozen
class Item:
    name: str
    count: int = 1


@attrs.define
class Nested:
    inner: Nested | None = None


def fill(function: Callable[..., Any], /, **received: Any) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that a request comes to, by way of its payload."""
    signature = Signature(function, method=False)
    return signature.arguments(signature.payload_of(Received(**received)), A_JOB)


@pytest.mark.parametrize("body", [b'{"a":1}', b' \r\n\t{"a":1}\n', b'  { "a" : 1 } '])
@pytest.mark.parametrize("query", [[], [("b", "2")]])
def test_space_around_a_body(body: bytes, query: list[tuple[str, str]]) -> None:
    """A body may stand in space, as JSON may, whether text comes with it or not."""

    def function(a: int, b: int = 2) -> None:
        raise NotImplementedError

    signature = Signature(function, method=False)
    payload = signature.payload_of(Received(json=body, query=query))
    _, named = signature.arguments(payload, A_JOB)

    assert named == {"a": 1, **{name: int(value) for name, value in query}}


def call(signature: Signature, /, *args: Any, **kwargs: Any) -> bytes:
    """The payload of a call from code."""
    return signature.payload_of_call(signature.bound(args, kwargs))


def run(function: Callable[..., Any], /, **received: Any) -> Any:
    """What the function answers to a request."""
    positional, named = fill(function, **received)
    return function(*positional, **named)


def refusal(function: Callable[..., Any], /, **received: Any) -> Refused:
    """The refusal of a request."""
    with pytest.raises(Refused) as refused:
        fill(function, **received)
    return refused.value


def wrong(function: Callable[..., Any], /, **received: Any) -> dict[str, str]:
    """What is wrong with a request: its fields, each with the message."""
    problem = refusal(function, **received).problem
    assert (problem.code, problem.status) == ("invalid_arguments", 422)
    errors = problem.extensions["errors"]
    found = {error["field"]: error["message"] for error in errors}
    assert len(found) == len(errors)
    return found


# What fills what


def test_path_query_and_body() -> None:
    """Each argument comes from the path, the query or the body; text is parsed, JSON is not."""

    def create(shelf: int, dry: bool, item: Item, tags: list[str], limit: float = 1.5) -> Any:
        return shelf, dry, item, tags, limit

    got = run(
        create,
        path={"shelf": "7", "tail": "unused"},
        query=[("dry", "1"), ("tags", "a"), ("tags", "b"), ("utm_source", "x")],
        json=b'{"item":{"name":"n"}}',
    )

    assert got == (7, True, Item("n"), ["a", "b"], 1.5)


def test_repeated_names() -> None:
    """A name that is repeated fills a list, once is enough for one, and is wrong elsewhere."""

    def search(tag: set[str], page: int = 1, ids: list[int] | None = None) -> Any:
        return tag, page, ids

    assert run(search, query=[("tag", "a"), ("tag", "a"), ("ids", "1")]) == ({"a"}, 1, [1])
    assert run(search, path={"tag": "a"}, query=[("tag", "b")]) == ({"a", "b"}, 1, None)
    assert wrong(search, query=[("page", "1"), ("page", "2"), ("page", "3")]) == {
        "page": "is given more than once",
        "tag": "is missing",
    }
    assert wrong(search, path={"page": "1"}, query=[("page", "1"), ("tag", "a")]) == {
        "page": "is given more than once"
    }


@pytest.mark.parametrize(
    "received",
    [
        {"query": [("a", "1")], "json": b'{"a":1}'},
        {"path": {"a": "1"}, "json": b'{"a":1}'},
        {"fields": [("a", "1")], "files": [("a", b"1")]},
        {"query": [("a", "1")], "files": [("a", b"1")]},
    ],
)
def test_the_same_name_in_two_places(received: dict[str, Any]) -> None:
    """A name in two places is refused, even with the same value: nobody could say which counts."""

    def one(a: Any) -> None: ...

    assert wrong(one, **received) == {"a": "is given in more than one place"}


def test_all_that_is_wrong_is_said_at_once() -> None:
    """One answer lists every field that is wrong, with what was expected, and how it was."""

    def make(
        size: Literal["s", "m"], sizes: int, items: list[Item], dry: bool, at: int = 0
    ) -> None: ...

    refused = refusal(
        make,
        query=[("dry", "maybe"), ("at", "x"), ("at", "y")],
        json=b'{"sizes":"a","items":[{"name":"a"},{"name":2,"z":0}],"other":1}',
    )

    assert refused.problem.extensions["errors"] == [
        {"field": "at", "expected": "one value", "message": "is given more than once"},
        {
            "field": "other",
            "expected": "one of the parameters (size, sizes, items, dry, at)",
            "message": "is not a parameter here",
        },
        {
            "field": "sizes",
            "expected": "a whole number",
            "message": "must be a whole number, not a string",
        },
        {
            "field": "items[1].name",
            "expected": "a string",
            "message": "must be a string, not a number",
        },
        {"field": "items[1].z", "expected": "no such field", "message": "is not a field here"},
        {
            "field": "dry",
            "expected": "true or false",
            "message": 'must be true or false, not "maybe"',
        },
        {
            "field": "at",
            "expected": "a whole number",
            "message": 'must be a whole number, not "y"',
        },
        {"field": "size", "expected": "a value", "message": "is missing"},
    ]
    assert refused.problem.detail.startswith("at is given more than once; other is not a param")
    assert refused.problem.detail.endswith("; size is missing.")


@pytest.mark.parametrize("body", [b"[1]", b"1", b"null", b'"a"'])
def test_a_body_that_is_no_object(body: bytes) -> None:
    """Arguments have names, so the body is an object."""

    def one(a: int) -> None: ...

    assert wrong(one, json=body) == {
        "": "The body must be a JSON object of arguments",
        "a": "is missing",
    }


def test_unknown_names() -> None:
    """A name nobody knows is wrong in a body, where it may be a typing error, and only there."""

    def one(a: int = 0) -> int:
        return a

    assert run(one, query=[("b", "1")], path={"c": "1"}) == 0
    assert wrong(one, json=b'{"b":1}') == {"b": "is not a parameter here"}
    assert wrong(one, fields=[("b", "1"), ("b", "2")]) == {"b": "is not a parameter here"}
    assert wrong(one, files=[("b", b"1")]) == {"b": "is not a parameter here"}


def test_a_function_without_parameters() -> None:
    """Nothing fits a function that takes nothing, but it can be asked."""

    def nothing() -> str:
        return "done"

    assert run(nothing) == run(nothing, json=b"{}", query=[("a", "1")]) == "done"
    refused = refusal(nothing, json=b'{"a":1}')
    assert refused.problem.extensions["errors"][0]["expected"] == "one of the parameters (none)"


def test_bytes() -> None:
    """Bytes are a file, or the whole body, never a string that claims to be one."""

    def look(image: bytes, mask: bytes | None = None, note: str = "") -> Any:
        return image, mask, note

    assert run(look, files=[("image", b"\xff\0")], fields=[("note", "é")]) == (b"\xff\0", None, "é")
    assert run(look, files=[("image", b""), ("mask", b"1")]) == (b"", b"1", "")
    assert wrong(look, json=b'{"image":"YWJj","mask":null}') == {
        "image": "must be a file (multipart/form-data), not a string"
    }
    assert wrong(look, fields=[("image", "abc")], query=[("mask", "a")]) == {
        "image": "must be a file (multipart/form-data), not a string",
        "mask": "must be a file (multipart/form-data), not a string",
    }
    assert wrong(look, files=[("image", b"1"), ("image", b"2"), ("note", b"3")]) == {
        "image": "is given more than once",
        "note": "must be a string, not a file",
    }


@pytest.mark.parametrize("on_disk", [False, True])
def test_an_input_without_a_file(on_disk: bool) -> None:
    """What a browser sends when no file was chosen is no file; one that is empty is."""

    def memory(one: bytes, other: bytes | None = None, more: list[bytes] = []) -> Any:  # noqa: B006
        return one, other, more

    def disk(one: Upload, other: Upload | None = None, more: list[Upload] = []) -> Any:  # noqa: B006
        return one, other, more

    def file(name: str, size: int) -> Any:
        return Upload(name, "a/b", size, Path("/a")) if on_disk else b"x" * size

    function = disk if on_disk else memory
    one, nothing, unnamed = ("one", file("a", 0)), file("", 0), file("", 1)
    sent = [one, ("other", nothing), ("more", nothing)]
    assert run(function, files=sent, file_names=["a", "", ""]) == (one[1], None, [])
    assert run(function, files=[one, ("other", unnamed)], file_names=["a", ""])[1] == unnamed
    sent = [one, ("more", nothing), ("more", unnamed)]
    assert run(function, files=sent, file_names=["a", "", ""])[2] == [unnamed]
    assert wrong(function, files=[("one", nothing)], file_names=[""]) == {"one": "is missing"}

    def text(a: str = "") -> str:
        return a

    refused = {"a": "must be a string, not a file"}
    assert wrong(text, files=[("a", nothing)], file_names=[""]) == refused


@pytest.mark.parametrize("mark", [aioqueue.Body, aioqueue.Body()], ids=["class", "instance"])
def test_the_whole_body(mark: Any) -> None:
    """`Annotated[T, Body]` takes the whole body; no query can stand in for it."""

    def total(data: Annotated[list[int], mark], factor: int = 1) -> int:
        return sum(data) * factor

    total.__annotations__["data"] = Annotated[list[int], mark]

    assert run(total, json=b"[1, 2]", query=[("factor", "3")]) == 9
    assert run(total, json=b"[1]", query=[("data", "7")]) == 1
    assert wrong(total, json=b'[1,"a"]') == {"data[1]": "must be a whole number, not a string"}
    assert wrong(total, json=b'{"data":[1]}') == {"data": "must be an array, not an object"}
    assert wrong(total, query=[("data", "7")]) == {"data": "is missing"}


def test_where_files_may_come() -> None:
    """What may be a file is kept, and on disk if it is to be; what can't be right is not kept."""

    def take(
        a: Upload, b: list[Upload], c: Upload | None, d: bytes, e: list[bytes], f: Any, g: int
    ) -> None: ...

    def take_more(a: Upload, job: aioqueue.Job = aioqueue.JOB, **more: bytes) -> None: ...

    signature, more = (Signature(one, method=False) for one in (take, take_more))
    names = "abcdefgx"
    assert [name for name in names if signature.goes_to_disk(name)] == ["a", "b", "c"]
    assert [name for name in names if signature.may_be_file(name)] == list("abcdef")
    assert [more.may_be_file(name) for name in ("a", "x", "job")] == [True, True, False]


def test_the_whole_body_as_bytes() -> None:
    """A whole body of bytes is taken as it is, whatever its type."""

    def size(data: Annotated[bytes, aioqueue.Body]) -> int:
        return len(data)

    signature = Signature(size, method=False)
    assert (signature.takes_any_body, signature.takes_files) == (True, False)
    assert run(size, whole=b"\xff\xfe") == 2
    assert run(size, whole=b"") == 0
    assert wrong(size) == {"data": "is missing"}


def test_more_keywords() -> None:
    """`**kwargs` takes any names of a body, of the type it is annotated with."""

    def tag(key: str, **more: int) -> Any:
        return key, more

    def any_tag(key: str = "", **more: Any) -> Any:
        return key, more

    assert run(tag, json=b'{"key":"a","b":1}') == ("a", {"b": 1})
    assert run(tag, json=b'{"key":"a"}', query=[("b", "1")]) == ("a", {})
    assert run(any_tag, json=b'{"b":[1],"self":null}') == ("", {"b": [1], "self": None})
    assert run(any_tag, fields=[("b", "1")], files=[("c", b"2")]) == ("", {"b": "1", "c": b"2"})
    assert wrong(tag, json=b'{"key":"a","b":"1"}') == {"b": "must be a whole number, not a string"}
    assert wrong(tag, fields=[("key", "a"), ("b", "x")]) == {"b": 'must be a whole number, not "x"'}


def test_positional_only() -> None:
    """Positional-only parameters are filled by their names, each in its own place."""

    def place(a: int, b: int = 2, c: int = 3, /, d: int = 4, *, e: int) -> Any:
        return a, b, c, d, e

    def defaults(a: int = 1, job: aioqueue.Job = aioqueue.JOB, b: int = 2, /) -> Any:
        return a, job, b

    assert run(place, json=b'{"a":1,"c":30,"e":5}') == (1, 2, 30, 4, 5)
    assert run(place, json=b'{"a":1,"b":20,"d":40,"e":5}') == (1, 20, 3, 40, 5)
    assert run(defaults, json=b'{"b":20}') == (1, A_JOB, 20)
    assert run(defaults) == (1, A_JOB, 2)


def _marked(a: int, task: aioqueue.Job = aioqueue.JOB) -> Any:
    return a, task


def _annotated_only(task: aioqueue.Job, a: int) -> Any:
    return a, task


def _maybe(a: int, task: aioqueue.Job | None = None) -> Any:
    return a, task


def _unannotated(a: int, task=aioqueue.JOB) -> Any:
    return a, task


def _open(a: int, task: aioqueue.Job = aioqueue.JOB, **more: Any) -> Any:
    return a, task


JOB_TAKERS = [_marked, _annotated_only, _maybe, _unannotated, _open]


@pytest.mark.parametrize("function", JOB_TAKERS)
def test_the_job(function: Callable[..., Any]) -> None:
    """The job is passed to who asks for it, and no client ever fills its place."""
    assert run(function, json=b'{"a":1}') == (1, A_JOB)
    assert run(function, json=b'{"a":1}', query=[("task", "x")]) == (1, A_JOB)
    assert run(function, json=b'{"a":1}', path={"task": "x"}) == (1, A_JOB)
    assert wrong(function, json=b'{"a":1,"task":null}') == {"task": "is not a parameter here"}
    assert wrong(function, fields=[("a", "1"), ("task", "x")]) == {
        "task": "is not a parameter here"
    }
    assert wrong(function, fields=[("a", "1")], files=[("task", b"x")]) == {
        "task": "is not a parameter here"
    }


def test_a_method() -> None:
    """A method's first parameter is the object it belongs to, and nothing a client could fill."""

    def method(this: Any, a: int, **more: Any) -> None: ...

    signature = Signature(method, method=True)

    payload = signature.payload_of(Received(json=b'{"a":1,"b":2}'))
    assert signature.arguments(payload, A_JOB) == ([], {"a": 1, "b": 2})
    with pytest.raises(Refused, match=r"^this is not a parameter here\.$"):
        signature.payload_of(Received(json=b'{"a":1,"this":2}'))
    assert call(signature, 1, b=2) == payload


# Batches


def run_batch(function: Callable[..., Any], /, *received: Received) -> Any:
    """What a batch function answers to these requests, by way of their payloads."""
    signature = Signature(function, method=False, batch=True)
    payloads = [signature.payload_of(each) for each in received]
    batch = Batch([new_job(str(number)) for number in range(len(payloads))])
    positional, named = signature.batch_arguments(payloads, batch)
    return function(*positional, **named)


def test_a_batch() -> None:
    """Each argument is a list with a place for each job, whose default is the item's."""

    def make(a: list[int], /, item: list[Item], b: list[Any] = "x", *, c: list[str | None]) -> Any:
        return a, item, b, c

    assert run_batch(
        make,
        Received(json=b'{"a":1,"item":{"name":"n"},"b":[2],"c":null}'),
        Received(path={"a": "2"}, json=b'{"item":{"name":"m","count":2},"c":"c"}'),
    ) == ([1, 2], [Item("n"), Item("m", 2)], [[2], "x"], [None, "c"])


def test_lists_in_a_batch() -> None:
    """A list of lists takes a list of each job, and bare lists take anything."""

    def find(tags: list[list[str]], extra: list = (), other=None) -> Any:
        return tags, extra, other

    assert run_batch(
        find,
        Received(query=[("tags", "a"), ("tags", "b")]),
        Received(json=b'{"tags":[],"extra":{"a":1},"other":[1]}'),
    ) == ([["a", "b"], []], [(), {"a": 1}], [None, [1]])


@pytest.mark.parametrize("place", ["positional", "keyword", "unannotated"])
def test_the_jobs_of_a_batch(place: str) -> None:
    """The jobs are a list too, and no client fills their place."""

    def positional(jobs: list[aioqueue.Job], a: list[int], /) -> Any:
        return jobs, a

    def keyword(a: list[int], *, jobs: list[aioqueue.Job] = aioqueue.JOB) -> Any:
        return jobs, a

    def unannotated(a, jobs=aioqueue.JOB) -> Any:
        return jobs, a

    function = locals()[place]
    jobs, a = run_batch(function, Received(json=b'{"a":1}'), Received(json=b'{"a":2}'))
    assert ([job.id for job in jobs], a) == (["0", "1"], [1, 2])
    with pytest.raises(Refused, match="jobs is not a parameter here"):
        run_batch(function, Received(json=b'{"a":1,"jobs":[]}'))


def test_what_is_wrong_with_one_job_of_a_batch() -> None:
    """A job sends an item, not a list, and is told so in its own words."""

    def make(a: list[int], b: list[bytes] = b"") -> None: ...

    signature = Signature(make, method=False, batch=True)
    with pytest.raises(Refused, match=r"^a must be a whole number, not an array\.$"):
        signature.payload_of(Received(json=b'{"a":[1]}'))
    with pytest.raises(Refused, match=r"^a is missing\.$"):
        signature.payload_of(Received(files=[("b", b"1")]))
    with pytest.raises(TypeError, match="make: a must be a whole number, not an array"):
        call(signature, [1])
    assert signature.takes_files


def test_the_whole_body_of_a_batch() -> None:
    """`Annotated[list[T], Body]` is a list of whole bodies."""

    def total(data: Annotated[list[list[int]], aioqueue.Body]) -> Any:
        return data

    def size(data: Annotated[list[bytes], aioqueue.Body]) -> Any:
        return data

    assert run_batch(total, Received(json=b"[1,2]"), Received(json=b"[]")) == [[1, 2], []]
    assert run_batch(size, Received(whole=b"1"), Received(whole=b"")) == [b"1", b""]
    assert Signature(size, method=False, batch=True).takes_any_body


def _open_batch(a: list[int], **more) -> None: ...


def _one(a: list[int], b: int) -> None: ...


def _sequence(a: Sequence[int]) -> None: ...


def _maybe_list(a: list[int] | None = None) -> None: ...


def _one_job(a: list[int], b: aioqueue.Job) -> None: ...


@pytest.mark.parametrize(
    ("function", "name"),
    [(_open_batch, "more"), (_one, "b"), (_sequence, "a"), (_maybe_list, "a"), (_one_job, "b")],
)
def test_a_batch_function_that_takes_no_lists(function: Callable[..., Any], name: str) -> None:
    """Each parameter of a batch function is a list; what is none is named."""
    message = f"{function.__name__}: a batch function takes lists .*, so declare {name}: list"
    with pytest.raises(ConfigurationError, match=message):
        Signature(function, method=False, batch=True)


class Odd(Exception): ...


@pytest.mark.parametrize(
    ("returns", "batch", "expected"),
    [
        (int, False, int),
        (list[int], False, list[int]),
        (Iterator[int], False, list[int]),
        (AsyncIterator[Item], False, list[Item]),
        (Generator[int, None, str], False, list[int]),
        (AsyncGenerator[int, None], False, list[int]),
        (Iterator, False, list[Any]),
        (list[int], True, int),
        (Sequence[Item], True, Item),
        (list, True, Any),
        (Any, True, Any),
        (list[int | None], True, int | None),
        (list[Item | Exception], True, Item),
        (list[int | ValueError | Odd | None], True, int | None),
        (list[Odd], True, Any),
        (Iterator[list[int]], True, list[int]),
        (AsyncIterator[list[Item]], True, list[Item]),
        (Generator[list[Item | BaseException], None, None], True, list[Item]),
        (Iterator[list[list[int]]], True, list[list[int]]),
        (Iterator[list], True, list[Any]),
        (AsyncGenerator, True, list[Any]),
    ],
    ids=str,
)
def test_the_type_of_a_result(returns: Any, batch: bool, expected: Any) -> None:
    """A generator's result is a list; that of a job in a batch is one entry, if no exception."""

    def function() -> None: ...

    function.__annotations__["return"] = returns

    assert Signature(function, method=False, batch=batch).returns == expected


# What can't start


def _star(*values: int) -> None: ...


def _type_checker_only(a: Missing) -> None: ...


def _broken(a: int | 5) -> None: ...


def _two_bodies(a: Annotated[int, aioqueue.Body], b: Annotated[int, aioqueue.Body]) -> None: ...


def _two_jobs(a: aioqueue.Job, b: aioqueue.Job) -> None: ...


def _decimal(price: Decimal) -> None: ...


def _request_later(name: str, request: web.Request) -> None: ...


def _open_decimal(**prices: Decimal) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_star, r"_star: \*values can't be filled from a request. Take a list: values: list\[…\]"),
        (_type_checker_only, "annotation 'Missing' can't be found. Names in annotations must be"),
        (_broken, "an annotation can't be evaluated"),
        (_two_bodies, "only one parameter can be the whole Body"),
        (_two_jobs, "only one parameter can be the job"),
        (_decimal, r"no request can fill price: .*Decimal.* Take plain types, lists and dicts"),
        (_request_later, "no request can fill request: .*web_request.Request"),
        (_open_decimal, "no request can fill prices"),
    ],
)
def test_a_function_that_no_request_can_fill(function: Callable[..., Any], message: str) -> None:
    """A function that nobody could call is refused, with what to write instead."""
    with pytest.raises(ConfigurationError, match=message) as failure:
        Signature(function, method=False)
    assert function.__name__ in str(failure.value)


@pytest.mark.parametrize("function", [_star, _type_checker_only, _decimal])
async def test_an_app_with_such_a_function_does_not_start(function: Callable[..., Any]) -> None:
    """It is said when the app starts, not to its first client."""
    app = web.Application()
    app.add_routes([web.post("/it", aioqueue.queued(function))])
    aioqueue.setup(app)

    with pytest.raises(ConfigurationError, match=function.__name__):
        await web.AppRunner(app).setup()


# Calls from code


def test_arguments_by_name() -> None:
    """Arguments that are a JSON object, and files beside it, fill parameters by their names."""

    def function(a: int, image: bytes, *, b: str = "x", job: aioqueue.Job = A_JOB) -> None: ...

    signature = Signature(function, method=False)
    assert [one.name for one in signature.parameters] == ["a", "image", "b"]
    payload = signature.payload_of_named(b'{"a":1}', {"image": b"abc"})
    assert signature.arguments(payload, None) == ([], {"a": 1, "image": b"abc", "job": None})
    for raw, files, field in (
        (b"{}", {"image": b"abc"}, "a"),
        (b'{"a":"x"}', {"image": b"abc"}, "a"),
        (b'{"a":1}', {}, "image"),
        (b'{"a":1,"image":"text"}', {}, "image"),
        (b'{"a":1,"job":1}', {"image": b"abc"}, "job"),
    ):
        with pytest.raises(Refused) as refused:
            signature.payload_of_named(raw, files)
        (error,) = refused.value.problem.extensions["errors"]
        assert error["field"] == field
    with pytest.raises(Refused) as refused:
        signature.payload_of_named(b"{", {})
    assert refused.value.problem.status == 400


def test_a_call() -> None:
    """A call's arguments are those of a request, files and all."""

    def make(a: int, /, item: Item, image: bytes, *, job: Any = aioqueue.JOB, **more: Any) -> Any:
        return a, item, image, job, more

    signature = Signature(make, method=False)
    payload = call(signature, 1, Item("n"), image=b"\0", b={"c": Item("d")})
    positional, named = signature.arguments(payload, A_JOB)

    more = {"b": {"c": {"name": "d", "count": 1}}}
    assert make(*positional, **named) == (1, Item("n"), b"\0", A_JOB, more)


def _deep(levels: int) -> list[Any]:
    deep: list[Any] = []
    for _ in range(levels):
        deep = [deep]
    return deep


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ([], {}, "missing a required argument: 'a'"),
        ([1, 2, 3], {}, "too many positional arguments"),
        ([], {"a": 1, "b": 1, "c": 1}, "got an unexpected keyword argument 'c'"),
        (["1"], {}, "one: a must be a whole number, not a string"),
        ([True], {}, "one: a must be a whole number, not true"),
        ([b"1"], {}, "one: a must be a whole number, not a file"),
        ([1, object()], {}, "an argument of one has no JSON form: .*object"),
        ([1, 2**64], {}, "no JSON form: Integer exceeds 64-bit range"),
        ([1, math.nan], {}, "no JSON form: Out of range float"),
        ([1, [None, {"x": -math.inf}]], {}, "no JSON form: Out of range float"),
        ([1, "\ud800"], {}, "no JSON form: .*surrogates"),
        ([1, _deep(300)], {}, "no JSON form: Recursion limit reached"),
        ([1, _deep(5000)], {}, "no JSON form: maximum recursion depth"),
        ([1, CIRCLE], {}, "no JSON form: maximum recursion depth"),
        ([1, bytearray(b"a")], {}, "no JSON form: .*bytearray"),
    ],
)
def test_a_call_that_does_not_fit(args: list[Any], kwargs: dict[str, Any], message: str) -> None:
    """Whoever submits from code hears of a mistake at once, as of any call."""

    def one(a: int, b: Any = None) -> None: ...

    one.__qualname__ = "one"

    with pytest.raises(TypeError, match=message):
        call(Signature(one, method=False), *args, **kwargs)


def test_a_call_that_names_what_has_no_name() -> None:
    """`**kwargs` can't smuggle a value into a positional-only parameter."""

    def one(a: int = 1, /, **more: Any) -> None: ...

    # The second is what some versions of Python say by themselves.
    message = "a can't be passed by name|'a' parameter is positional only"
    with pytest.raises(TypeError, match=message):
        call(Signature(one, method=False), a=2)


def test_null_is_no_nan() -> None:
    """None in the arguments of a call is null, beside dates and all else that has a JSON form."""

    def one(a: float | None, b: Any) -> Any:
        return a, b

    signature = Signature(one, method=False)
    _, named = signature.arguments(call(signature, None, {1: (2, {3})}), None)

    assert named == {"a": None, "b": {"1": [2, [3]]}}


# There and back


def test_a_payload_of_other_code() -> None:
    """A job that was accepted by an older version of the app fails with what does not fit now."""

    def before(a: str) -> None: ...

    def now(a: int) -> None: ...

    payload = Signature(before, method=False).payload_of(Received(json=b'{"a":"b"}'))
    with pytest.raises(Refused, match="a must be a whole number, not a string"):
        Signature(now, method=False).arguments(payload, None)


def every(
    number: int,
    real: float,
    text: str,
    item: Item,
    numbers: list[int],
    maybe: dict[str, bool] | None,
    file: bytes,
    other: bytes = b"",
    **more: Any,
) -> None:
    """A parameter of each kind."""


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
files = {"file": st.binary(max_size=40)}
arguments = st.fixed_dictionaries(
    {
        "number": st.integers(-(2**63), 2**64 - 1),
        "real": st.floats(allow_nan=False, allow_infinity=False),
        "text": texts,
        "item": st.builds(Item, texts, st.integers(0, 9)),
        "numbers": st.lists(st.integers(-9, 9), max_size=3),
        "maybe": st.none() | st.dictionaries(texts, st.booleans(), max_size=2),
        **files,
    },
    optional={"other": st.binary(max_size=9), "extra": st.lists(texts, max_size=2)},
)


@given(arguments)
def test_a_call_comes_through_its_payload(given: dict[str, Any]) -> None:
    """What a call passes is what the function gets, byte for byte."""
    signature = Signature(every, method=False)

    assert signature.arguments(call(signature, **given), None) == ([], given)


@given(arguments)
def test_a_request_comes_through_its_payload(given: dict[str, Any]) -> None:
    """What a request brings, in whichever of the three ways, is what the function gets."""
    signature = Signature(every, method=False)
    by_file = {name: value for name, value in given.items() if isinstance(value, bytes)}
    by_query = [("number", str(given["number"])), *(("numbers", str(n)) for n in given["numbers"])]
    by_json = {
        name: attrs.asdict(value) if name == "item" else value
        for name, value in given.items()
        if name not in by_file and name != "number" and (name != "numbers" or not value)
    }

    payload = signature.payload_of(
        Received(query=by_query, json=orjson.dumps(by_json), files=list(by_file.items()))
    )

    assert signature.arguments(payload, None) == ([], given)


@given(st.dictionaries(texts, st.none() | st.booleans() | texts), st.lists(st.tuples(texts, texts)))
def test_any_names_and_texts(body: dict[str, Any], pairs: list[tuple[str, str]]) -> None:
    """Whatever the names are, a request is filled in or refused with a document that is JSON."""
    signature = Signature(every, method=False)
    for received in (
        Received(json=orjson.dumps(body), query=pairs),
        Received(fields=pairs, files=[(name, b"1") for name in body]),
    ):
        with pytest.raises(Refused) as refused:
            signature.payload_of(received)
        assert orjson.loads(refused.value.problem.to_json())["code"] == "invalid_arguments"


# Much of it


def test_a_body_full_of_unknown_names() -> None:
    """A hundred thousand mistakes are one short answer."""

    def one(a: int) -> None: ...

    def rest(a: int, **more: str) -> None: ...

    body = orjson.dumps({f"name{n}": n for n in range(100_000)})
    for function in (one, rest):
        problem = refusal(function, json=body).problem
        assert len(problem.extensions["errors"]) == 50
        assert problem.detail.endswith("; and more.")
        assert len(problem.to_json()) < 20_000


def test_a_query_full_of_names() -> None:
    """A list takes what fits into a query; another parameter says once that it is too much."""

    def one(a: int = 0, ids: list[int] = []) -> int:  # noqa: B006 it is not changed
        return len(ids)

    assert run(one, query=[("ids", "1")] * 100_000) == 100_000
    assert wrong(one, query=[("a", "1")] * 100_000) == {"a": "is given more than once"}


def anything(a: Any) -> Any:
    """Return what comes."""
    return a


def whole(a: Annotated[Any, aioqueue.Body]) -> Any:
    """Return what comes."""
    return a


@pytest.mark.parametrize("levels", [253, 254, 255, 256, 500, 1000])
def test_deep_json(levels: int) -> None:
    """JSON that is deeper than could be written again comes through as it is."""
    deep = b"[" * levels + b"]" * levels
    for function, body in ((anything, b'{"a":%b}' % deep), (whole, deep)):
        value = run(function, json=body)
        for _ in range(levels - 1):
            (value,) = value
        assert value == []


@pytest.mark.parametrize(
    ("function", "start", "levels", "end"),
    [
        (anything, b'{"a":', 1022, b"}"),
        (anything, b'{"a":', 1023, b"}"),
        (whole, b"", 1023, b""),
        (whole, b"", 1024, b""),
    ],
)
def test_json_that_is_too_deep(
    function: Callable[..., Any], start: bytes, levels: int, end: bytes
) -> None:
    """JSON that can be read now, but could not be inside its payload, is refused now."""
    body = start + b"[" * levels + b"]" * levels + end
    orjson.loads(body)

    assert refusal(function, json=body).problem.code == "invalid_json"


@pytest.mark.parametrize(("levels", "fits"), [(100, True), (500, False), (1000, False)])
def test_deep_objects(levels: int, fits: bool) -> None:
    """Objects nested deeper than classes can be made are refused with words, not a crash."""

    def one(a: Nested) -> None: ...

    body = b'{"a":' + b'{"inner":' * levels + b"null" + b"}" * levels + b"}"
    if fits:
        run(one, json=body)
    else:
        assert refusal(one, json=body).problem.detail.endswith("is nested too deeply.")


# Over the wire


class View(web.View):
    @aioqueue.queued
    async def post(self, a: int, job: aioqueue.Job = aioqueue.JOB) -> Any:
        """Say what the method sees."""
        return [type(self).__name__, a, job.attempt]


@aioqueue.queued
async def look(shelf: int, full: bool, tags: list[str], job: aioqueue.Job) -> Any:
    """Say what the function sees."""
    return [shelf, full, tags, job.attempt]


async def test_over_the_wire(serve: Any, http: ClientSession) -> None:
    """Path, query and body reach functions and methods, and what is wrong is a problem."""
    app = web.Application()
    app.add_routes([web.get("/shelf/{shelf}", look), web.view("/view", View)])
    aioqueue.setup(app)
    url = await serve(app)

    async with http.get(f"{url}/shelf/7?full=1&tags=a&tags=é%26", headers=WAIT) as response:
        assert await response.json() == [7, True, ["a", "é&"], 1]
    async with http.post(f"{url}/view", json={"a": 5}, headers=WAIT) as response:
        assert await response.json() == ["View", 5, 1]
    async with http.post(f"{url}/view", json={"a": 5, "self": 1}, headers=WAIT) as response:
        assert (response.status, response.content_type) == (422, "application/problem+json")
        problem = await response.json()
        assert problem["instance"] == "/view"
        assert [error["field"] for error in problem["errors"]] == ["self"]
