"""``queued``: the decorator that gives a function a queue, and keeps its signature."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Literal, ParamSpec, TypeVar, overload

from ._function import QueuedFunction
from ._options import FunctionOptions
from ._settings import ClientKey, Executor, Metadata, OnDisconnect, OnFinish, Priority

__all__ = ["queued"]

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")


@overload
def queued(function: Callable[P, Awaitable[R]], /) -> QueuedFunction[P, R]: ...
@overload
def queued(function: Callable[P, AsyncIterator[R]], /) -> QueuedFunction[P, list[R]]: ...
@overload
def queued(function: Callable[P, Iterator[R]], /) -> QueuedFunction[P, list[R]]: ...
@overload
def queued(function: Callable[P, R], /) -> QueuedFunction[P, R]: ...
@overload
def queued(
    *,
    name: str | None = None,
    executor: Executor = None,
    concurrency_limit: int | Literal["default"] | None = "default",
    concurrency_id: str | None = None,
    slots: Sequence[str] | None = None,
    max_size: int | None = None,
    max_wait: float | None = None,
    batch: Literal[False] = False,
    queue_timeout: float | None = None,
    time_limit: float | None = None,
    cancel_timeout: float | None = None,
    kill_timeout: float | None = None,
    on_disconnect: OnDisconnect | None = None,
    on_finish: OnFinish | None = None,
    capture_logs: bool = False,
    track_tqdm: bool = False,
    max_body_size: int | None = None,
    client_key: ClientKey | None = None,
    max_running_per_client: int | None = None,
    max_queued_per_client: int | None = None,
    priority: Priority | None = None,
    metadata: Metadata | None = None,
) -> _Decorator: ...
@overload
def queued(
    *,
    name: str | None = None,
    executor: Executor = None,
    concurrency_limit: int | Literal["default"] | None = "default",
    concurrency_id: str | None = None,
    slots: Sequence[str] | None = None,
    max_size: int | None = None,
    max_wait: float | None = None,
    batch: Literal[True],
    max_batch_size: int = 4,
    batch_timeout: float = 0.0,
    queue_timeout: float | None = None,
    time_limit: float | None = None,
    cancel_timeout: float | None = None,
    kill_timeout: float | None = None,
    on_disconnect: OnDisconnect | None = None,
    on_finish: OnFinish | None = None,
    capture_logs: bool = False,
    track_tqdm: bool = False,
    max_body_size: int | None = None,
    client_key: ClientKey | None = None,
    max_running_per_client: int | None = None,
    max_queued_per_client: int | None = None,
    priority: Priority | None = None,
    metadata: Metadata | None = None,
) -> _BatchDecorator: ...
def queued(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    executor: Executor = None,
    concurrency_limit: int | Literal["default"] | None = "default",
    concurrency_id: str | None = None,
    slots: Sequence[str] | None = None,
    max_size: int | None = None,
    max_wait: float | None = None,
    batch: bool = False,
    max_batch_size: int = 4,
    batch_timeout: float = 0.0,
    queue_timeout: float | None = None,
    time_limit: float | None = None,
    cancel_timeout: float | None = None,
    kill_timeout: float | None = None,
    on_disconnect: OnDisconnect | None = None,
    on_finish: OnFinish | None = None,
    capture_logs: bool = False,
    track_tqdm: bool = False,
    max_body_size: int | None = None,
    client_key: ClientKey | None = None,
    max_running_per_client: int | None = None,
    max_queued_per_client: int | None = None,
    priority: Priority | None = None,
    metadata: Metadata | None = None,
) -> Any:
    """Give a function a queue.  Works with and without parentheses.

    The function is then a handler for a route.  Its parameters are filled from the path, the
    query, and the JSON object or form in the body, and checked against their annotations; an
    ``async def`` that takes the ``web.Request`` instead runs as the handler it is, in its turn.
    ``def`` runs in a thread, ``async def`` on the loop.  What a generator yields goes to the
    client at once, and its result is the list of it.

    Args:
        function: the function, where there are no parentheses.
        name: what it is called in events and counts; else its own name.
        executor: where a ``def`` runs: in a ``"thread"`` of the server, which is the default, or
            in a ``"process"`` that can be killed and keeps its GIL to itself.
        concurrency_limit: how many run at once: a number, None for as many as there are workers,
            ``"default"`` for the app's ``default_concurrency_limit``, which is 1.
        concurrency_id: functions with the same id share one queue; the lowest limit that is set
            is the queue's.
        slots: names of what its jobs run on, such as ``["cuda:0", "cuda:1"]``: as many run at
            once, and each knows its own as ``job.slot``.
        max_size: how many jobs of this function may wait; one more is refused with a 503.
        max_wait: seconds a job may be expected to wait; one that would wait longer is refused.
        batch: whether it takes lists with one entry a job, and gives back such a list.  An
            exception in that list fails its job alone.
        max_batch_size: how many jobs one call of a batch function may take.
        batch_timeout: seconds the first job of a batch waits for others.
        queue_timeout: seconds a job may wait before it fails unrun.
        time_limit: seconds the function may run before its job fails.
        cancel_timeout: seconds a cancelled function has to end.
        kill_timeout: seconds it has in a process, which is killed then.
        on_disconnect: what becomes of a job whose only listeners have gone: so many seconds of
            grace, ``"cancel"`` or ``"keep"``.
        on_finish: a callable that is given each ended job, as an :class:`aioqueue.FinishedJob`.
        capture_logs: whether what it says to ``logging`` goes to its clients too.
        track_tqdm: whether any tqdm bar in it is the job's progress.
        max_body_size: bytes a request may have.
        client_key: a callable that takes the request and names its client; clients take turns.
        max_running_per_client: how many jobs of one client may run or be in line at once.
        max_queued_per_client: how many jobs of one client may wait in the whole app.
        priority: a number, or a callable that takes the request and returns one.
        metadata: a callable that takes the request and returns what to keep with the job.

    Raises:
        ConfigurationError: an option is out of its range, or the function can't be queued.

    Example::

        @aioqueue.queued(concurrency_limit=2)
        def ocr(image: bytes, language: str = "en") -> dict: ...

        app.add_routes([web.post("/ocr", ocr)])
    """
    declared = FunctionOptions(
        name=name,
        executor=executor,
        concurrency_limit=concurrency_limit,
        concurrency_id=concurrency_id,
        slots=slots,
        max_size=max_size,
        max_wait=max_wait,
        batch=batch,
        max_batch_size=max_batch_size,
        batch_timeout=batch_timeout,
        queue_timeout=queue_timeout,
        time_limit=time_limit,
        cancel_timeout=cancel_timeout,
        kill_timeout=kill_timeout,
        on_disconnect=on_disconnect,
        on_finish=on_finish,
        capture_logs=capture_logs,
        track_tqdm=track_tqdm,
        max_body_size=max_body_size,
        client_key=client_key,
        max_running_per_client=max_running_per_client,
        max_queued_per_client=max_queued_per_client,
        priority=priority,
        metadata=metadata,
    )

    def decorate(plain: Callable[..., Any]) -> QueuedFunction[Any, Any]:
        return QueuedFunction(plain, declared)

    return decorate if function is None else decorate(function)


class _Decorator:
    """What ``queued(…)`` returns: a decorator that keeps the function's signature."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> QueuedFunction[P, R]: ...
    @overload
    def __call__(
        self, function: Callable[P, AsyncIterator[R]], /
    ) -> QueuedFunction[P, list[R]]: ...
    @overload
    def __call__(self, function: Callable[P, Iterator[R]], /) -> QueuedFunction[P, list[R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> QueuedFunction[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        raise NotImplementedError("only for type checkers")


class _BatchDecorator:
    """What ``queued(batch=True)`` returns: each job sends one entry of the function's list."""

    @overload
    def __call__(
        self, function: Callable[[list[A]], Awaitable[list[R]]], /
    ) -> QueuedFunction[[A], R]: ...
    @overload
    def __call__(
        self, function: Callable[[list[A]], AsyncIterator[list[R]]], /
    ) -> QueuedFunction[[A], list[R]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[A]], Iterator[list[R]]], /
    ) -> QueuedFunction[[A], list[R]]: ...
    @overload
    def __call__(self, function: Callable[[list[A]], list[R]], /) -> QueuedFunction[[A], R]: ...
    @overload
    def __call__(self, function: Callable[..., Any], /) -> QueuedFunction[..., Any]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        raise NotImplementedError("only for type checkers")
