"""Settings: what may be set, what is said of what may not, and that each of them does something."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, get_args

import attrs
import pytest
from aiohttp import ClientSession, web
from hypothesis import given, strategies as st

import aioqueue
from aioqueue._errors import ConfigurationError
from aioqueue._options import FunctionOptions
from aioqueue._settings import Settings

pytestmark = pytest.mark.one_loop

PACKAGE = Path(aioqueue.__file__).parent
INFINITY, NAN = float("inf"), float("nan")


@aioqueue.queued
async def work() -> str:
    """Do next to nothing."""
    return "done"


def app_of(*args: Any, **settings: Any) -> web.Application:
    """An app with one function."""
    app = web.Application()
    app.add_routes([web.post("/work", work)])
    aioqueue.setup(app, *args, **settings)
    return app


# What is wrong with a value.  For each kind of field: values, and what would be right.

WHOLE_FROM_0 = ([-1, 1.5, "1", True, NAN], "a whole number of at least 0")
WHOLE_FROM_1 = ([0, -1, 1.5, "1", True, NAN], "a whole number of at least 1")
SECONDS_FROM_0 = ([-0.1, "1", False, NAN, INFINITY], "a number of seconds of at least 0")
SECONDS_ABOVE_0 = ([0, -1.0, "1", True, NAN, INFINITY], "a number of seconds above 0")
CALLABLE = ([1, "f"], "a callable that takes the request, or None")
HOOK = ([1, "f"], "a callable that takes the ended job, or None")
PRIORITY = (["high", True, NAN, INFINITY], "a number, a callable that takes the request")
BOOLEAN = ([None, 1, "true"], "True or False")
DISCONNECT = (["stay", -1, True, NAN, INFINITY, []], '"keep", "cancel", or a number of seconds')
PATH = (
    ["", "queue", "/", "/queue/", "/a//b", "/{id}", "/a?b", "/a b", "/a\n", "/é", "/a>", 5],
    'a path such as "/queue"',
)
DIRECTORY = (["", 5, b"/tmp", True], "the path of a directory, or None")
NAME = (["", "a\n", 5], "a printable name, or None")


def or_none(kind: tuple[list[Any], str]) -> tuple[list[Any], str]:
    """The same, where None switches it off."""
    return kind[0], kind[1] + ", or None"


def not_none(kind: tuple[list[Any], str]) -> tuple[list[Any], str]:
    """The same, where None means nothing."""
    return [*kind[0], None], kind[1]


SETTINGS = {
    "path": not_none(PATH),
    "public_path": (PATH[0][1:], PATH[1]),
    "default_concurrency_limit": or_none(WHOLE_FROM_1),
    "max_threads": not_none(WHOLE_FROM_1),
    "max_processes": or_none(WHOLE_FROM_1),
    "max_jobs_per_process": or_none(WHOLE_FROM_1),
    "process_initializer": ([1, "f"], "a callable that takes nothing, or None"),
    "kill_timeout": not_none(SECONDS_FROM_0),
    "max_tasks": not_none(WHOLE_FROM_1),
    "max_size": or_none(WHOLE_FROM_0),
    "max_queued_bytes": or_none(WHOLE_FROM_1),
    "max_wait": or_none(SECONDS_ABOVE_0),
    "queue_timeout": or_none(SECONDS_ABOVE_0),
    "time_limit": or_none(SECONDS_ABOVE_0),
    "cancel_timeout": not_none(SECONDS_FROM_0),
    "on_disconnect": not_none(DISCONNECT),
    "drain_timeout": not_none(SECONDS_FROM_0),
    "owner": CALLABLE,
    "client_key": CALLABLE,
    "max_running_per_client": or_none(WHOLE_FROM_1),
    "max_queued_per_client": or_none(WHOLE_FROM_1),
    "max_streams_per_client": or_none(WHOLE_FROM_1),
    "priority": PRIORITY,
    "priority_step": not_none(SECONDS_ABOVE_0),
    "metadata": CALLABLE,
    "on_finish": HOOK,
    "max_body_size": or_none(WHOLE_FROM_1),
    "body_timeout": not_none(SECONDS_ABOVE_0),
    "prefer_wait_max": not_none(SECONDS_FROM_0),
    "ping_interval": not_none(SECONDS_ABOVE_0),
    "send_timeout": not_none(SECONDS_ABOVE_0),
    "max_streams": not_none(WHOLE_FROM_1),
    "max_jobs_per_stream": not_none(WHOLE_FROM_1),
    "max_updates_per_second": not_none(WHOLE_FROM_1),
    "max_log_events": not_none(WHOLE_FROM_1),
    "max_log_bytes": not_none(WHOLE_FROM_1),
    "max_event_bytes": not_none(WHOLE_FROM_1),
    "spool_dir": DIRECTORY,
    "max_spool_bytes": not_none(WHOLE_FROM_1),
    "result_ttl": not_none(SECONDS_ABOVE_0),
    "max_results": not_none(WHOLE_FROM_1),
    "max_result_bytes": not_none(WHOLE_FROM_1),
    "public_status": BOOLEAN,
}
OPTIONS = {
    "name": NAME,
    "concurrency_limit": ([0, -1, 1.5, True, "all"], "a whole number of at least 1, None"),
    "concurrency_id": NAME,
    "max_size": or_none(WHOLE_FROM_0),
    "slots": (["gpu", [], [1], ["a", "a"]], "a list of names"),
    "max_wait": or_none(SECONDS_ABOVE_0),
    "queue_timeout": or_none(SECONDS_ABOVE_0),
    "batch": BOOLEAN,
    "max_batch_size": not_none(WHOLE_FROM_1),
    "batch_timeout": not_none(SECONDS_FROM_0),
    "time_limit": or_none(SECONDS_ABOVE_0),
    "cancel_timeout": or_none(SECONDS_FROM_0),
    "executor": (["loop", "", True, 5, []], '"thread", "process", or None'),
    "kill_timeout": or_none(SECONDS_FROM_0),
    "on_disconnect": DISCONNECT,
    "max_body_size": or_none(WHOLE_FROM_1),
    "client_key": CALLABLE,
    "max_running_per_client": or_none(WHOLE_FROM_1),
    "max_queued_per_client": or_none(WHOLE_FROM_1),
    "priority": PRIORITY,
    "metadata": CALLABLE,
    "on_finish": HOOK,
    "capture_logs": BOOLEAN,
    "track_tqdm": BOOLEAN,
}


def table(fields: dict[str, tuple[list[Any], str]]) -> list[Any]:
    """A row for each wrong value."""
    return [(name, value, wanted) for name, (values, wanted) in fields.items() for value in values]


@pytest.mark.parametrize(("name", "value", "wanted"), table(SETTINGS))
def test_a_setting_out_of_range(name: str, value: Any, wanted: str) -> None:
    """A value that can't be is refused with its name, itself, and what would be right."""
    with pytest.raises(ConfigurationError) as failure:
        app_of(**{name: value})

    assert str(failure.value).startswith(
        f"aioqueue.setup({name}={value!r}): {name} must be {wanted}"
    )


@pytest.mark.parametrize(("name", "value", "wanted"), table(OPTIONS))
def test_an_option_out_of_range(name: str, value: Any, wanted: str) -> None:
    """The options of a function are checked when it is decorated, in the same words."""
    with pytest.raises(ConfigurationError) as failure:
        aioqueue.queued(**{name: value})

    assert str(failure.value).startswith(
        f"aioqueue.queued({name}={value!r}): {name} must be {wanted}"
    )


FIELDS = [*attrs.fields(Settings), *attrs.fields(FunctionOptions)]


def test_each_field_is_in_a_table() -> None:
    """No field goes unchecked above."""
    assert list(SETTINGS) == [field.name for field in attrs.fields(Settings)]
    assert list(OPTIONS) == [field.name for field in attrs.fields(FunctionOptions)]


def test_each_field_has_a_default_and_a_doc() -> None:
    """A field has a default that passes its own check, and a sentence for the reference."""
    assert Settings() == Settings(**attrs.asdict(Settings()))
    assert FunctionOptions() == FunctionOptions(**attrs.asdict(FunctionOptions()))
    for field in FIELDS:
        assert re.fullmatch(r"[A-Z].*\.", field.metadata["doc"], re.DOTALL), field.name


@pytest.mark.parametrize(("kind", "users"), [(Settings, "settings"), (FunctionOptions, "options")])
def test_each_field_is_used(kind: type, users: str) -> None:
    """A field that nothing reads is a promise that nobody keeps."""
    sources = [
        path for path in PACKAGE.rglob("*.py") if path.name not in ("_settings.py", "_options.py")
    ]
    text = "\n".join(path.read_text() for path in sources)
    dead = [
        field.name
        for field in attrs.fields(kind)
        if not re.search(rf"\b_?(?:{users}|declared)\.{field.name}\b", text)
    ]

    assert len(sources) > 20
    assert dead == []


def test_queued_takes_the_options() -> None:
    """The decorator has a keyword for each option, with its default, and no others."""
    keywords = list(inspect.signature(aioqueue.queued).parameters.values())[1:]

    assert {one.name: one.default for one in keywords} == attrs.asdict(FunctionOptions())


@given(st.sampled_from(FIELDS), st.recursive(st.none() | st.booleans() | st.floats(), st.lists))
def test_a_field_takes_a_value_or_says_why_not(field: Any, value: Any) -> None:
    """Any value for any field is taken as it is or refused by name; nothing else happens."""
    kind = Settings if field in attrs.fields(Settings) else FunctionOptions
    try:
        made = kind(**{field.name: value})
    except ConfigurationError as error:
        message = str(error)
        assert f"{field.name}={value!r}" in message
    else:
        assert getattr(made, field.name) is value


def test_paths_that_can_be() -> None:
    """A prefix may have several segments; nothing may stand before the paths."""
    assert Settings(path="/api/v1.0/~queue-x_y").path == "/api/v1.0/~queue-x_y"
    assert Settings(public_path="").public_path == ""


# The environment


def overridden(**environ: str) -> Settings:
    """Settings under an environment that has these variables, and others."""
    return Settings(max_size=5).overridden({"PATH": "/bin", "AIOQUEUE": "1", **environ})


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("AIOQUEUE_MAX_THREADS", "8", 8),
        ("AIOQUEUE_MAX_SIZE", "", None),
        ("AIOQUEUE_MAX_SIZE", "0", 0),
        ("AIOQUEUE_QUEUE_TIMEOUT", "", None),
        ("AIOQUEUE_QUEUE_TIMEOUT", "1.5", 1.5),
        ("AIOQUEUE_DEFAULT_CONCURRENCY_LIMIT", "", None),
        ("AIOQUEUE_ON_DISCONNECT", "keep", "keep"),
        ("AIOQUEUE_ON_DISCONNECT", "cancel", "cancel"),
        ("AIOQUEUE_ON_DISCONNECT", "2.5", 2.5),
        ("AIOQUEUE_PUBLIC_STATUS", "false", False),
        ("AIOQUEUE_PUBLIC_STATUS", "0", False),
        ("AIOQUEUE_PUBLIC_STATUS", "True", True),
        ("AIOQUEUE_PUBLIC_STATUS", "1", True),
        ("AIOQUEUE_PATH", "/jobs", "/jobs"),
        ("AIOQUEUE_PUBLIC_PATH", "", ""),
        ("AIOQUEUE_BODY_TIMEOUT", "5", 5.0),
    ],
)
def test_the_environment(variable: str, text: str, expected: Any) -> None:
    """`AIOQUEUE_<NAME>` overrides a setting, in the type it has, and leaves the others alone."""
    name = variable.removeprefix("AIOQUEUE_").lower()

    assert overridden(**{variable: text}) == attrs.evolve(Settings(max_size=5), **{name: expected})


def test_an_environment_without_us() -> None:
    """Without a variable of ours the settings stay what they are."""
    settings = Settings(max_size=5)

    assert settings.overridden({}) is settings
    assert overridden() == settings


@pytest.mark.parametrize(
    ("variable", "text", "wanted"),
    [
        ("AIOQUEUE_MAX_THREADS", "many", "a whole number of at least 1"),
        ("AIOQUEUE_MAX_THREADS", "1.5", "a whole number of at least 1"),
        ("AIOQUEUE_MAX_THREADS", "0", "a whole number of at least 1"),
        ("AIOQUEUE_MAX_THREADS", "", "a whole number of at least 1"),
        ("AIOQUEUE_MAX_SIZE", "-1", "a whole number of at least 0, or None"),
        ("AIOQUEUE_BODY_TIMEOUT", "nan", "a number of seconds above 0"),
        ("AIOQUEUE_BODY_TIMEOUT", "30s", "a number of seconds above 0"),
        ("AIOQUEUE_ON_DISCONNECT", "", '"keep", "cancel", or a number of seconds'),
        ("AIOQUEUE_ON_DISCONNECT", "stay", '"keep", "cancel", or a number of seconds'),
        ("AIOQUEUE_PUBLIC_STATUS", "", "True or False"),
        ("AIOQUEUE_PUBLIC_STATUS", "yes", "True or False"),
        ("AIOQUEUE_PATH", "", 'a path such as "/queue"'),
        ("AIOQUEUE_OWNER", "app.owner", "a callable can't come from the environment"),
        ("AIOQUEUE_METADATA", "", "a callable can't come from the environment"),
    ],
)
def test_an_environment_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, wanted: str
) -> None:
    """A variable that can't be refuses the set-up by its own name, and says what would be right."""
    monkeypatch.setenv(variable, text)

    with pytest.raises(ConfigurationError) as failure:
        app_of()
    assert str(failure.value).startswith(variable)
    assert wanted in str(failure.value)


async def test_the_environment_beats_the_app(
    monkeypatch: pytest.MonkeyPatch, serve: Any, http: ClientSession
) -> None:
    """What an operator sets counts more than what the app says, for the routes too."""
    monkeypatch.setenv("AIOQUEUE_PATH", "/jobs")
    monkeypatch.setenv("AIOQUEUE_DEFAULT_CONCURRENCY_LIMIT", "7")
    url = await serve(app_of(path="/queue", default_concurrency_limit=3))

    async with http.get(f"{url}/jobs/status") as response:
        functions = (await response.json())["functions"]
    assert functions["work"]["concurrency_limit"] == 7
    async with http.get(f"{url}/queue/status") as response:
        assert response.status == 404


# The set-up


def test_setup_with_an_unknown_setting() -> None:
    """A typing error in a setting's name is not taken for anything."""
    with pytest.raises(ConfigurationError, match=r"^aioqueue\.setup has no setting a, max_sise$"):
        app_of(max_sise=5, a=1)


def test_setup_with_an_object_and_keywords() -> None:
    """Settings come as an object, as keywords, or as both, where keywords win."""
    app = app_of(Settings(max_size=5, max_tasks=6), max_size=7)

    assert app[aioqueue.SETTINGS] == Settings(max_size=7, max_tasks=6)


def test_setup_twice() -> None:
    """An app has one queue."""
    app = app_of()

    with pytest.raises(ConfigurationError, match="was called twice for the same application"):
        aioqueue.setup(app)


async def test_setup_on_a_sub_app() -> None:
    """A sub-app's functions are found from the root; set up on its own it does not start."""
    root = web.Application()
    root.add_subapp("/sub", app_of())

    with pytest.raises(ConfigurationError, match="belongs on the root application"):
        await web.AppRunner(root).setup()


async def test_a_path_that_comes_too_late() -> None:
    """The path is in the routes once they are made, so it can't be tuned any more."""
    app = app_of()
    app[aioqueue.SETTINGS] = attrs.evolve(app[aioqueue.SETTINGS], path="/other")

    with pytest.raises(ConfigurationError, match=r"give it to aioqueue.setup\(app, path='/other'"):
        await web.AppRunner(app).setup()


async def test_settings_tuned_before_the_start(serve: Any, http: ClientSession) -> None:
    """`app[aioqueue.SETTINGS]` is what counts when the app starts."""
    app = app_of(default_concurrency_limit=2)
    app[aioqueue.SETTINGS] = attrs.evolve(
        app[aioqueue.SETTINGS], default_concurrency_limit=3, prefer_wait_max=0
    )
    url = await serve(app)

    async with http.get(f"{url}/queue/status") as response:
        functions = (await response.json())["functions"]
    assert functions["work"]["concurrency_limit"] == 3


def test_what_on_disconnect_may_say() -> None:
    """The words that the check takes are those of the type, so that type checkers know them."""
    words = get_args(get_args(aioqueue._settings.OnDisconnect)[0])

    assert all(Settings(on_disconnect=word).on_disconnect == word for word in words)
    assert set(words) == {"keep", "cancel"}
