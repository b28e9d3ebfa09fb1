"""What ``@queued`` says of one function, checked where it is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import attrs

from . import _checks
from ._settings import (
    ClientKey,
    Executor,
    Metadata,
    OnDisconnect,
    OnFinish,
    Priority,
    setting,
)

__all__ = ["FunctionOptions"]


@attrs.frozen(slots=True, kw_only=True)
class FunctionOptions:
    """What ``@queued`` says of one function; None means "as the app's setting says".

    Raises:
        ConfigurationError: a value is out of its range; the message says what would be right.
    """

    given_to: ClassVar[str] = "aioqueue.queued"

    name: str | None = setting(None, "The function's name; else its own.", _checks.name)
    concurrency_limit: int | Literal["default"] | None = setting(
        "default",
        "How many run at once: a number, None (as many as there are workers) or "
        '"default" (`default_concurrency_limit`).',
        _checks.concurrency_limit,
    )
    concurrency_id: str | None = setting(
        None, "Functions with the same id share one queue and its lowest limit.", _checks.name
    )
    max_size: int | None = setting(
        None, "How many jobs of this function may wait.", _checks.number(int, none=True)
    )
    slots: Sequence[str] | None = setting(
        None,
        'Names of what its jobs run on, such as `["cuda:0", "cuda:1"]`: as many run at once, '
        "and each knows its own as `job.slot`.",
        _checks.slots,
    )
    max_wait: float | None = setting(
        None,
        "Seconds a job of this function may be expected to wait.",
        _checks.number(float, above=0, none=True),
    )
    queue_timeout: float | None = setting(
        None, "Seconds a job of this function may wait.", _checks.number(float, above=0, none=True)
    )
    batch: bool = setting(
        False,
        "Whether the function takes the arguments of several jobs at once, as lists, and gives "
        "back a list with one entry a job.",
        _checks.boolean,
    )
    max_batch_size: int = setting(
        4, "How many jobs one call of a batch function may take.", _checks.number(int, least=1)
    )
    batch_timeout: float = setting(
        0.0, "Seconds the first job of a batch waits for others.", _checks.number(float)
    )
    time_limit: float | None = setting(
        None, "Seconds this function may run.", _checks.number(float, above=0, none=True)
    )
    cancel_timeout: float | None = setting(
        None, "Seconds this function has to end when cancelled.", _checks.number(float, none=True)
    )
    executor: Executor = setting(
        None,
        'Where the function runs: a `def` in a "thread" or a "process"; an `async def` always on '
        "the loop.",
        _checks.executor,
    )
    kill_timeout: float | None = setting(
        None,
        "Seconds this function has to end when cancelled in a process, before that is killed.",
        _checks.number(float, none=True),
    )
    on_disconnect: OnDisconnect | None = setting(
        None,
        "What becomes of a job whose listeners have gone.",
        attrs.validators.optional(_checks.on_disconnect),
    )
    max_body_size: int | None = setting(
        None, "Bytes a request's body may have.", _checks.number(int, least=1, none=True)
    )
    client_key: ClientKey | None = setting(
        None, "A callable that names the request's client.", _checks.callable_or_none
    )
    max_running_per_client: int | None = setting(
        None,
        "How many jobs of one client may run or be in line at once.",
        _checks.number(int, least=1, none=True),
    )
    max_queued_per_client: int | None = setting(
        None,
        "How many jobs of one client may wait in the whole app.",
        _checks.number(int, least=1, none=True),
    )
    priority: Priority | None = setting(
        None, "A number, or a callable that returns one: higher goes first.", _checks.priority
    )
    metadata: Metadata | None = setting(
        None, "A callable that returns what to keep with the job.", _checks.callable_or_none
    )
    on_finish: OnFinish | None = setting(
        None,
        "A callable that is given each ended job of this function; then the app's is.",
        _checks.callable_or_none,
    )
    capture_logs: bool = setting(
        False,
        "Whether what the function says to `logging` goes to the job's clients too.",
        _checks.boolean,
    )
    track_tqdm: bool = setting(
        False, "Whether any tqdm bar in the function is the job's progress.", _checks.boolean
    )
