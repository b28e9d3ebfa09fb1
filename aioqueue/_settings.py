"""Settings: what an app may tune, checked before it starts.

Durations are seconds, sizes
bytes; None switches a bound off.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import attrs

from . import _checks
from ._errors import ConfigurationError

__all__ = [
    "ClientKey",
    "Executor",
    "Metadata",
    "OnDisconnect",
    "OnFinish",
    "Priority",
    "Settings",
]

Executor = Literal["thread", "process"] | None
OnDisconnect = Literal["keep", "cancel"] | float
Owner = Callable[[Any], Any]
Metadata = Callable[[Any], Any]
OnFinish = Callable[[Any], Any]
ClientKey = Callable[[Any], Any]
Priority = float | Callable[[Any], Any]

MiB, GiB = 1 << 20, 1 << 30


def setting(default: Any, doc: str, validator: Callable[[Any, Any, Any], None]) -> Any:
    """One field, with the text that the reference of settings shows."""
    return attrs.field(default=default, validator=validator, metadata={"doc": doc})


@attrs.frozen(slots=True, kw_only=True)
class Settings:
    """The app's settings.

    Pass them to :func:`aioqueue.setup`, as one object or as keywords, or write
    ``app[aioqueue.SETTINGS]`` before the app starts.  ``AIOQUEUE_<NAME>`` in the environment
    overrides both (``AIOQUEUE_MAX_THREADS=8``; an empty value is None).

    Raises:
        ConfigurationError: a value is out of its range; the message says what would be right.
    """

    given_to: ClassVar[str] = "aioqueue.setup"

    path: str = setting("/queue", "Where the queue's own routes live.", _checks.path)
    public_path: str = setting(
        "", "What stands before every path where a proxy strips a prefix.", _checks.path
    )
    default_concurrency_limit: int | None = setting(
        1,
        "How many jobs of a queue run at once where no `concurrency_limit` is set.",
        _checks.number(int, least=1, none=True),
    )
    max_threads: int = setting(
        40, "How many `def` functions run at once in this process.", _checks.number(int, least=1)
    )
    max_processes: int | None = setting(
        None,
        'How many processes run functions with `executor="process"`; None is one for each CPU '
        "that this process may use.",
        _checks.number(int, least=1, none=True),
    )
    max_jobs_per_process: int | None = setting(
        None,
        "After how many calls a process is replaced by a new one; None is never.",
        _checks.number(int, least=1, none=True),
    )
    process_initializer: Callable[[], object] | None = setting(
        None,
        "What each process calls before its first job, such as a function that loads the model; "
        "from the top level of a module.",
        _checks.callable_or_none,
    )
    kill_timeout: float = setting(
        0.3,
        "Seconds a cancelled function in a process has to end; then its process is killed.",
        _checks.number(float),
    )
    max_tasks: int = setting(
        1000,
        "How many `async def` functions and gated requests run at once in this process.",
        _checks.number(int, least=1),
    )
    max_size: int | None = setting(
        None,
        "How many jobs of the whole app may wait; one more is refused with a 503.",
        _checks.number(int, none=True),
    )
    max_queued_bytes: int | None = setting(
        256 * MiB,
        "How many bytes of arguments may wait in memory.",
        _checks.number(int, least=1, none=True),
    )
    max_wait: float | None = setting(
        None,
        "Seconds a job may be expected to wait; one that would wait longer is refused with a 503.",
        _checks.number(float, above=0, none=True),
    )
    queue_timeout: float | None = setting(
        None,
        "Seconds a job may wait; one that waited longer fails without having run.",
        _checks.number(float, above=0, none=True),
    )
    time_limit: float | None = setting(
        None,
        "Seconds a function may run; then its job fails, while the slot stays taken until the "
        "function really ends.",
        _checks.number(float, above=0, none=True),
    )
    cancel_timeout: float = setting(
        5.0,
        "Seconds a cancelled function has to end; after that its job is cancelled for the "
        "client, while the slot stays taken until the function really ends.",
        _checks.number(float),
    )
    on_disconnect: OnDisconnect = setting(
        30.0,
        "What becomes of a job whose only listeners have gone: cancelled after so many seconds "
        'unless one comes back, "cancel" (at once) or "keep".',
        _checks.on_disconnect,
    )
    drain_timeout: float = setting(
        8.0,
        "Seconds that running jobs have to end when the server shuts down.",
        _checks.number(float),
    )
    owner: Owner | None = setting(
        None,
        "A callable (or coroutine function) that takes the request and names whose job it is, "
        "None for nobody's.  Without it, whoever has a job's id may see and cancel it.",
        _checks.callable_or_none,
    )
    client_key: ClientKey | None = setting(
        None,
        "A callable (or coroutine function) that takes the request and names its client (a user, "
        "an address): clients then take turns.  None is a client of its own.",
        _checks.callable_or_none,
    )
    max_running_per_client: int | None = setting(
        None,
        "How many jobs of one client may run or be in line at once in a queue; others are held "
        "beside it.  Needs `client_key`.",
        _checks.number(int, least=1, none=True),
    )
    max_queued_per_client: int | None = setting(
        None,
        "How many jobs of one client may wait in the whole app; one more is refused with a 429.  "
        "Needs `client_key`.",
        _checks.number(int, least=1, none=True),
    )
    max_streams_per_client: int | None = setting(
        None,
        "How many streams and waiting requests one client may have open; one more is refused with "
        "a 429.  Needs `client_key`.",
        _checks.number(int, least=1, none=True),
    )
    priority: Priority | None = setting(
        None,
        "A number, or a callable that takes the request and returns one: higher goes first.  "
        "Not together with `client_key`.",
        _checks.priority,
    )
    priority_step: float = setting(
        60.0,
        "Seconds of waiting that weigh as much as one step of priority: so nobody waits for ever.",
        _checks.number(float, above=0),
    )
    metadata: Metadata | None = setting(
        None,
        "A callable that takes the request and returns what the app wants to keep with the job "
        "(user, plan, locale): anything with a JSON form.",
        _checks.callable_or_none,
    )
    on_finish: OnFinish | None = setting(
        None,
        "A callable (or coroutine function) that is given each job that has ended, as an "
        "`aioqueue.FinishedJob`: for webhooks, billing, audit.",
        _checks.callable_or_none,
    )
    max_body_size: int | None = setting(
        None,
        "Bytes a request's body may have; None is the app's `client_max_size`.",
        _checks.number(int, least=1, none=True),
    )
    body_timeout: float = setting(
        30.0, "Seconds a request's body may take to arrive.", _checks.number(float, above=0)
    )
    prefer_wait_max: float = setting(
        60.0, "Seconds that `Prefer: wait` may hold a request at most.", _checks.number(float)
    )
    ping_interval: float = setting(
        15.0,
        "Seconds of silence on a stream before a comment is sent.",
        _checks.number(float, above=0),
    )
    send_timeout: float = setting(
        120.0,
        "Seconds a client may leave a stream unread before it is dropped.",
        _checks.number(float, above=0),
    )
    max_streams: int = setting(
        10_000, "How many streams and waiting requests may be open.", _checks.number(int, least=1)
    )
    max_jobs_per_stream: int = setting(
        50, "How many jobs one stream may follow.", _checks.number(int, least=1)
    )
    max_updates_per_second: int = setting(
        2000,
        "How many position updates are sent a second, to all together.",
        _checks.number(int, least=1),
    )
    max_log_events: int = setting(
        10_000,
        "How many events of a job are kept for readers who come back.",
        _checks.number(int, least=1),
    )
    max_log_bytes: int = setting(
        MiB,
        "How many bytes of a job's events are kept; the last event is not counted.",
        _checks.number(int, least=1),
    )
    max_event_bytes: int = setting(
        MiB,
        "How many bytes of JSON a result may have to stand in events and in the job; a larger one "
        "is fetched by itself, as a file is.",
        _checks.number(int, least=1),
    )
    spool_dir: str | os.PathLike[str] | None = setting(
        None,
        "Where uploads, jobs' directories and results that are files lie on disk; None is the "
        "system's place for temporary files.",
        _checks.directory,
    )
    max_spool_bytes: int = setting(
        10 * GiB,
        "How many bytes of uploads and of results that are files may be on disk; an upload beyond "
        "it is refused with a 503, a result fails its job.",
        _checks.number(int, least=1),
    )
    result_ttl: float = setting(
        600.0, "Seconds that an ended job and its result are kept.", _checks.number(float, above=0)
    )
    max_results: int = setting(
        10_000, "How many ended jobs are kept; the oldest go first.", _checks.number(int, least=1)
    )
    max_result_bytes: int = setting(
        256 * MiB,
        "How many bytes of results are kept; a single result above it fails its job.",
        _checks.number(int, least=1),
    )
    public_status: bool = setting(
        True, "Whether everyone may read the counts at `<path>/status`.", _checks.boolean
    )

    def overridden(self, environ: Mapping[str, str] = os.environ) -> Settings:
        """These settings, with what ``AIOQUEUE_<NAME>`` in the environment says on top.

        Raises:
            ConfigurationError: a value is out of its range.
        """
        settings = self
        for field in attrs.fields(Settings):
            variable = f"AIOQUEUE_{field.name.upper()}"
            if variable not in environ:
                continue
            if field.validator is _checks.callable_or_none:
                raise ConfigurationError(f"{variable}: a callable can't come from the environment")
            try:
                value = _read(str(field.type), environ[variable])
                settings = attrs.evolve(settings, **{field.name: value})
            except ConfigurationError as error:
                raise ConfigurationError(f"{variable} in the environment: {error}") from None
        return settings


def _read(kind: str, text: str) -> Any:
    """An environment value as the type its field declares, or as it is if it can't be that.

    Its field then refuses it, and says what would be right.
    """
    if text == "" and "None" in kind:
        return None
    if kind == "bool":
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if kind.startswith("str"):
        return text
    try:
        return int(text) if kind.startswith("int") else float(text)
    except ValueError:
        return text
