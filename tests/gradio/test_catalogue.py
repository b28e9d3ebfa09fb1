"""Which functions clients see, and what they are told of them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest
from aiohttp import web

import aioqueue
from aioqueue import ConfigurationError, Job, Upload
from aioqueue._options import FunctionOptions
from aioqueue._registry import register
from aioqueue._settings import Settings
from aioqueue.gradio._catalogue import Catalogue, _outputs

EMPTY: dict[str, Any] = {}


@aioqueue.queued
def add(a: float, b: float = 2) -> float:
    """Add two numbers.

    With great care.
    """
    return a + b


@aioqueue.queued
def bare(value, other=None):  # noqa: D103
    return value


@aioqueue.queued
def nothing() -> None:
    """Do nothing."""


@aioqueue.queued
def divide(number: int, by: int) -> tuple[int, float]:
    """Divide."""
    return number // by, number % by


@aioqueue.queued
def spell(word: str) -> Iterator[str]:
    """Spell a word."""
    yield word


@aioqueue.queued
async def pairs() -> AsyncIterator[tuple[int, str]]:
    """Give back two things, again and again."""
    yield 1, "a"


@aioqueue.queued(batch=True)
def lengths(words: list[str], files: list[Upload]) -> list[int | Exception]:
    """Measure words."""
    return [len(word) for word in words]


@aioqueue.queued
def picture(file: Upload, job: Job = aioqueue.JOB) -> Path:
    """Make a picture."""
    return file.path


@aioqueue.queued
async def handler(request: web.Request) -> web.Response:
    """Answer a request."""
    return web.Response()


class Shapes(Enum):
    POINT = complex(0, 0)


@attrs.frozen
class Options:
    size: int = 3


@aioqueue.queued
def defaults(
    number: float = math.nan,
    nothing: int | None = None,
    options: Options = Options(5),
    thing: Any = object(),  # noqa: B008
    texts: tuple[str, ...] = ("a",),
    *,
    needed: int | None,
) -> Shapes:
    """Have defaults of all kinds."""
    return Shapes.POINT


class Painter:
    @aioqueue.queued
    def paint(self, colour: str) -> str:
        """Paint."""
        return colour


def catalogue(
    *functions: Any,
    api_names: Any = EMPTY,
    subjects: Any = EMPTY,
    guarded: Any = (),
    **others: Any,
) -> Catalogue:
    """The catalogue of an app with these functions."""
    registered = {
        one.name: register(one.name, one.declared, Settings(), None, one) for one in functions
    }
    return Catalogue(registered | others, subjects, guarded, api_names)


def info(*functions: Any) -> Any:
    """What clients are told of the first function."""
    told = orjson.loads(catalogue(*functions).info)
    assert list(told) == ["named_endpoints", "unnamed_endpoints"]
    assert told["unnamed_endpoints"] == {}
    return next(iter(told["named_endpoints"].values()))


# Which, and under which names


def test_names() -> None:
    """A function has its own name, another one, or none; a slash before one is the same."""
    names = {"add": "plus", "nothing": "/rest", "spell": False}
    found = catalogue(add, nothing, spell, divide, api_names=names)
    assert list(found.by_name) == ["plus", "rest", "divide"]
    assert [one.api_name for one in found.by_index] == ["plus", "rest", "divide"]
    assert [one.registered.name for one in found.by_index] == ["add", "nothing", "divide"]


@pytest.mark.parametrize("names", [{"ad": "plus"}, {"ad": False}, {"spell": "x", "ad": "plus"}])
def test_unknown_name(names: Any) -> None:
    """A name of no function is a mistake, whatever is said of it."""
    with pytest.raises(ConfigurationError, match="no queued function named ad; there are add, spe"):
        catalogue(add, spell, api_names=names)
    with pytest.raises(ConfigurationError, match="there are none"):
        catalogue(api_names={"ad": False})


@pytest.mark.parametrize("names", [{"add": "spell"}, {"add": "/x", "spell": "x"}])
def test_one_name_for_two(names: Any) -> None:
    """Two functions can't have one name; one that is hidden has none."""
    with pytest.raises(ConfigurationError, match=r"two functions have the api_name '(spell|x)'"):
        catalogue(add, spell, api_names=names)
    assert list(catalogue(add, spell, api_names={"add": "spell", "spell": False}).by_name) == [
        "spell"
    ]


def test_what_is_left_out() -> None:
    """What takes the request and what has no function can't be called with arguments."""
    gate = register("gate", FunctionOptions(name="gate"), Settings(), None, None)
    found = catalogue(handler, add, gate=gate, api_names={"gate": "door", "handler": "hand"})
    assert list(found.by_name) == ["add"]


def test_guarded(caplog: pytest.LogCaptureFixture) -> None:
    """What something stands before is there only if it is named, which the log says."""
    assert list(catalogue(add, guarded={"add"}).by_name) == []
    (record,) = caplog.records
    assert "api_names={'add': 'add'}" in record.getMessage()
    assert list(catalogue(add, guarded={"add"}, api_names={"add": "sum"}).by_name) == ["sum"]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("name", [True, None, 3, "", "/", "a/b", "/a/b"])
def test_what_is_no_name(name: Any) -> None:
    """What can't be a name is refused, and the answer says what would be one."""
    with pytest.raises(ConfigurationError, match="'add' must have a name without slashes"):
        catalogue(add, api_names={"add": name})
    with pytest.raises(ConfigurationError, match="write a function's name for"):
        catalogue(add, api_names={add: "sum"})
    assert list(catalogue(add, api_names={"add": "/sum"}).by_name) == ["sum"]


def test_paths(caplog: pytest.LogCaptureFixture) -> None:
    """A path is a file where it is the result, a text where it comes; else there is a warning."""

    @aioqueue.queued
    def one(text: Path) -> Path:
        return text

    @aioqueue.queued
    def two() -> tuple[Path, str]: ...

    @aioqueue.queued
    def many() -> Iterator[Path]:
        yield Path()

    assert not caplog.records
    told = info(one)
    assert told["parameters"][0]["python_type"]["type"] == "str"
    assert told["returns"][0]["python_type"]["type"] == "filepath"
    assert not caplog.records
    for function in (two, many):
        catalogue(function)
        assert "gives back a file among other values" in caplog.records[-1].getMessage()
    assert len(caplog.records) == 2


def test_default_of_a_file() -> None:
    """A file that may be left out is told with null, which then leaves it out."""

    @aioqueue.queued
    def function(picture: bytes = b"") -> None: ...

    assert info(function)["parameters"][0]["parameter_default"] is None
    (exposed,) = catalogue(function).by_index
    assert exposed.null_is_default == {"picture"}


def test_methods() -> None:
    """A method is there if there is one object to call it on, with a name that fits a path."""
    method: Any = Painter.paint
    painter = Painter()
    assert not catalogue(method).by_name
    assert not catalogue(method, subjects={"Painter.paint": [painter, Painter()]}).by_name
    found = catalogue(method, subjects={"Painter.paint": [painter]})
    assert list(found.by_name) == ["Painter_paint"]
    assert found.by_index[0].subject is painter
    assert [one.name for one in found.by_index[0].signature.parameters] == ["colour"]
    assert catalogue(add).by_index[0].subject is None


# config


def test_config() -> None:
    """What a client is told first."""
    config = orjson.loads(catalogue(add, nothing).config(7, 1000))
    dependencies = config.pop("dependencies")
    assert config == {
        "version": "6.31.0",
        "protocol": "sse_v3",
        "api_prefix": "/gradio_api",
        "app_id": 7,
        "space_id": None,
        "enable_queue": True,
        "connect_heartbeat": False,
        "max_file_size": 1000,
        "components": [
            {"id": 1, "type": "number", "props": {}},
            {"id": 2, "type": "number", "props": {}},
            {"id": 3, "type": "number", "props": {}},
        ],
    }
    assert dependencies[0] == {
        "id": 0,
        "api_name": "add",
        "api_visibility": "public",
        "inputs": [1, 2],
        "outputs": [3],
        "queue": True,
        "backend_fn": True,
        "connection": "sse",
        "types": {"generator": False, "cancel": False},
        "targets": [],
        "cancels": [],
    }
    assert (dependencies[1]["inputs"], dependencies[1]["outputs"]) == ([], [])
    assert orjson.loads(catalogue().config(7, None))["max_file_size"] is None


# Of which a client takes some for what they are not.
NOT_TYPES = "state row column tabs tab tabitem box form accordion group interpretation dataset"


def test_config_is_consistent() -> None:
    """Each input and output is a component of its own, in the order of the functions."""
    found = catalogue(add, bare, nothing, divide, spell, pairs, lengths, picture, defaults)
    config = orjson.loads(found.config(7, None))
    used = [
        number for one in config["dependencies"] for number in (*one["inputs"], *one["outputs"])
    ]
    assert used == [one["id"] for one in config["components"]] == list(range(1, len(used) + 1))
    assert [one["id"] for one in config["dependencies"]] == list(range(len(found.by_index)))
    assert not {one["type"] for one in config["components"]} & {*NOT_TYPES.split(), "sidebar"}
    counts = {
        one["api_name"]: (len(one["inputs"]), len(one["outputs"])) for one in config["dependencies"]
    }
    assert counts == {
        "add": (2, 1),
        "bare": (2, 1),
        "nothing": (0, 0),
        "divide": (2, 2),
        "spell": (1, 1),
        "pairs": (0, 2),
        "lengths": (2, 1),
        "picture": (1, 1),
        "defaults": (6, 1),
    }
    generators = [one["api_name"] for one in config["dependencies"] if one["types"]["generator"]]
    assert generators == ["spell", "pairs"]


# info


def test_info() -> None:
    """Parameters with names, types and defaults, results, and what the function says of itself."""
    number = {
        "type": {"type": "number"},
        "python_type": {"type": "float", "description": ""},
        "component": "Number",
    }
    assert info(add) == {
        "parameters": [
            {
                "label": "a",
                "parameter_name": "a",
                "parameter_has_default": False,
                "parameter_default": None,
                **number,
            },
            {
                "label": "b",
                "parameter_name": "b",
                "parameter_has_default": True,
                "parameter_default": 2,
                **number,
            },
        ],
        "returns": [{"label": "output", **number}],
        "api_visibility": "public",
        "description": "Add two numbers.\n\nWith great care.",
    }
    assert list(orjson.loads(catalogue(add).info)["named_endpoints"]) == ["/add"]


def test_several_results() -> None:
    """A tuple's places are results of their own, each with a name that tells it from the others."""
    told = info(divide)["returns"]
    assert [one["label"] for one in told] == ["output 0", "output 1"]
    assert [one["python_type"]["type"] for one in told] == ["int", "float"]
    assert info(nothing)["returns"] == []


def test_what_says_nothing() -> None:
    """Of a function without annotations and words everything is anything."""
    told = info(bare)
    assert told["description"] == ""
    assert [one["type"] for one in (*told["parameters"], *told["returns"])] == [{}] * 3
    assert {one["component"] for one in (*told["parameters"], *told["returns"])} == {"Api"}


def test_one_of_a_batch_or_of_a_generator() -> None:
    """A client sends one value of a batch's lists, and gets what is yielded one by one."""
    told = info(lengths)
    assert [one["python_type"]["type"] for one in told["parameters"]] == ["str", "filepath"]
    assert [one["python_type"]["type"] for one in told["returns"]] == ["int"]
    assert info(spell)["returns"][0]["python_type"]["type"] == "str"
    assert [one["component"] for one in info(pairs)["returns"]] == ["Number", "Textbox"]


def test_the_job_is_no_parameter() -> None:
    """What the queue fills in is no business of clients."""
    assert [one["label"] for one in info(picture)["parameters"]] == ["file"]
    assert [one["component"] for one in info(picture)["returns"]] == ["File"]


def test_defaults() -> None:
    """A default is told as JSON; one that has no such form as null, which then stands for it."""
    told = {one["label"]: one for one in info(defaults)["parameters"]}
    assert {name: one["parameter_default"] for name, one in told.items()} == {
        "number": None,
        "nothing": None,
        "options": {"size": 5},
        "thing": None,
        "texts": ["a"],
        "needed": None,
    }
    assert [name for name, one in told.items() if not one["parameter_has_default"]] == ["needed"]
    (exposed,) = catalogue(defaults).by_index
    assert exposed.null_is_default == {"number", "options", "thing", "texts"}


def test_a_default_that_can_not_be_looked_at() -> None:
    """A default whose own methods fail is one without a JSON form."""

    class Hostile:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = None  # type: ignore[assignment]

    @aioqueue.queued
    def function(value: Any = Hostile()) -> None:  # noqa: B008
        pass

    assert info(function)["parameters"][0]["parameter_default"] is None
    (exposed,) = catalogue(function).by_index
    assert exposed.null_is_default == {"value"}


def test_choices_without_a_json_form() -> None:
    """One odd type does not keep clients from all other functions."""
    assert info(defaults)["returns"][0]["type"]["enum"] == ["0j"]


@pytest.mark.parametrize(
    ("returns", "yields", "expected"),
    [
        (None, False, ()),
        (type(None), False, ()),
        (int, False, (int,)),
        (Any, False, (Any,)),
        (int | None, False, (int | None,)),
        (tuple[int, str], False, (int, str)),
        (tuple[int], False, (int,)),
        (tuple[int, ...], False, (tuple[int, ...],)),
        (tuple, False, (tuple,)),
        (list[int], False, (list[int],)),
        (list[int], True, (int,)),
        (list[None], True, ()),
        (list[tuple[int, str]], True, (int, str)),
        (Any, True, (Any,)),
    ],
    ids=str,
)
def test_outputs(returns: Any, yields: bool, expected: Any) -> None:
    """How many outputs a function has is what its annotation says."""
    assert tuple(_outputs(returns, yields)) == expected
