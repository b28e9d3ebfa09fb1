"""Work that a test conducts: it says that it has begun, and ends when the test tells it to."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from contextvars import Context, copy_context
from typing import Any

from aioqueue._executors import Ended
from aioqueue._job import Attempt, Emission, JobRecord
from aioqueue._outbox import Progress
from aioqueue._running import Job

# Seconds after which what a test waits for will not come any more.
PATIENCE = 20


class Stage:
    """Plays parts by name, on the loop or in a thread."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.running: Counter[Any] = Counter()
        self.most = 0
        self._ends: defaultdict[Any, Future[Any]] = defaultdict(Future)

    def _begin(self, name: Any) -> Future[Any]:
        self.begun.append(name)
        self.running[name] += 1
        self.most = max(self.most, self.running.total())
        return self._ends[name]

    async def play(self, name: Any) -> Any:
        """Play a part on the loop."""
        end = self._begin(name)
        try:
            return await asyncio.wrap_future(end)
        finally:
            self.running[name] -= 1

    def play_in_thread(self, name: Any) -> Any:
        """Play a part in a thread."""
        end = self._begin(name)
        try:
            return end.result(PATIENCE)
        finally:
            self.running[name] -= 1

    def end(self, *names: Any, value: Any = None) -> None:
        """Let parts end with a value; those that have not begun yet end at once."""
        for name in names:
            self._ends[name].set_result(value)

    def end_all(self) -> None:
        """Let whatever still plays end: a thread would go on for ever."""
        for end in self._ends.values():
            if not end.done():
                end.set_result(None)

    def fail(self, name: Any, error: BaseException) -> None:
        """Let a part raise."""
        self._ends[name].set_exception(error)

    async def has_begun(self, *names: Any) -> None:
        """Wait until just these parts have begun, in whatever order."""
        await until(lambda: len(self.begun) >= len(names))
        await a_while()
        assert sorted(self.begun) == sorted(names)


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop run until something is so."""
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE
    while not condition():
        assert loop.time() < end
        await asyncio.sleep(0)


async def a_while(turns: int = 30) -> None:
    """Let the loop do whatever it still has to do; in memory nothing takes longer."""
    for _ in range(turns):
        await asyncio.sleep(0)


class Silence:
    """Stands in for an outbox that nobody empties: it keeps what is said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Emission]] = []
        self.notes: dict[str, Progress] = {}

    def wait_for_room(self) -> None:
        """There always is some."""

    def put(self, job_id: str, emission: Emission) -> None:
        """Keep it."""
        self.said.append((job_id, emission))

    offer = put

    def note(self, job_id: str, progress: Progress) -> None:
        """Keep it."""
        self.notes[job_id] = progress

    async def flush(self) -> None:
        """It is kept already."""


def new_job(name: str = "job", *, attempt: int = 1, app: Any = None, **record: Any) -> Job:
    """A job as its function gets it; what it says stays in its outbox."""
    made: Any = JobRecord(id=name, function="f", queue="f", **record)
    outbox: Any = Silence()
    return Job(Attempt(made, attempt), app, outbox)


class Work:
    """A call's work, as its executor sees it.  Awaiting it answers how the call has ended."""

    def __init__(
        self,
        job: Job,
        context: Context | None = None,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self.job = job
        self.context = context or copy_context()
        self.begin = begin
        self._ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Start a task."""
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(coroutine, context=self.context.copy())

    async def finish(self, ended: Ended) -> None:
        """Tell whoever awaits it, in a task that is not cancelled."""
        assert self.task is asyncio.current_task()
        assert not self.task.cancelling()
        self._ended.set_result(ended)

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._ended.done()

    def __await__(self) -> Generator[Any, None, Ended]:
        return self._ended.__await__()
