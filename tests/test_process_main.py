"""What runs in a process for jobs, looked at from the inside: here it runs in the test's own.

Its function runs in the main thread, as it does there, and other threads play the server.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

import aioqueue
from aioqueue import AioqueueError, JobCancelled, JobError, _process_main as process_main
from aioqueue._job import Attempt, JobRecord
from aioqueue._outcomes import Explained
from aioqueue._payload import pack
from aioqueue._process import Done, Logged, Noted, ProcessCall, Said
from aioqueue._running import current_job
from aioqueue._uplink import LogForwarder
from tests.stage import PATIENCE

PLAN: Callable[..., Any]
"""What the function of a test does."""


def planned(job: aioqueue.Job = aioqueue.JOB) -> Any:
    """The function."""
    return PLAN(job)


def planned_batch(text: list[str], jobs: list[aioqueue.Job] = aioqueue.JOB) -> Any:
    """The function for many jobs."""
    return PLAN(jobs)


class Inside:
    """The inside of a process, and the ends of its pipes that the server has."""

    def __init__(self) -> None:
        self.pipe, calls = Pipe()
        control, self.control = Pipe(duplex=False)
        self.main = process_main._Main(calls, control)
        self.messages: list[Any] = []
        self._closing = calls, control
        self._reader: threading.Thread | None = None
        self._askers: list[threading.Thread] = []

    def read(self) -> None:
        """Begin to read what it sends."""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while True:
                self.messages.append(self.pipe.recv())
        except EOFError:
            pass

    def run(self, plan: Callable[..., Any], *ids: str, batch: bool = False, **call: Any) -> Done:
        """Run a call in this thread."""
        global PLAN
        PLAN = plan
        payload = pack(orjson.dumps({"text": "a"}) if batch else None, {}, {})
        attempts = [
            Attempt(JobRecord(id=one, function="f", queue="f", payload=payload), 1)
            for one in ids or ("job",)
        ]
        function = planned_batch if batch else planned
        whole: dict[str, Any] = {
            "directories": [None for _ in attempts],
            "tracks_tqdm": False,
            "slot": None,
            "kill_timeout": 0.3,
            **call,
        }
        reference = f"{__name__}:{function.__name__}"
        return self.main._run(
            ProcessCall(reference=reference, attempts=attempts, is_batch=batch, **whole)
        )

    def ask(self, kind: str, job_id: str = "job") -> None:
        """Ask for something, as the server does, while this thread goes on."""
        self._askers.append(threading.Thread(target=self.main._heed, args=(kind, job_id)))
        self._askers[-1].start()

    def asked(self) -> None:
        """Wait until all that was asked for is heeded."""
        for asker in self._askers:
            asker.join(PATIENCE)

    @property
    def thrown(self) -> bool:
        """Whether a cancel has interrupted a function, after which the process goes."""
        return self.main._interrupts.thrown

    def close(self) -> list[Any]:
        """Hang up.  Answers all that it has sent."""
        self.asked()
        for one in self._closing:
            one.close()
        if self._reader is not None:
            self._reader.join(PATIENCE)
        self.pipe.close()
        self.control.close()
        return self.messages


@pytest.fixture
def inside() -> Iterator[Inside]:
    """The inside of a process; its messages are read."""
    yield from _inside(reads=True)


@pytest.fixture
def unread() -> Iterator[Inside]:
    """One whose messages nobody reads before the test says so."""
    yield from _inside(reads=False)


def _inside(*, reads: bool) -> Iterator[Inside]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    inside = Inside()
    inside.main._interrupts.install()
    if reads:
        inside.read()
    try:
        yield inside
    finally:
        inside.close()
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled function is interrupted at once."""
    monkeypatch.setattr(process_main, "_POLITE", 0)


def spin() -> None:
    """Pure Python that looks at nothing."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        pass


def problem(error: BaseException | None) -> dict[str, Any]:
    """The problem document of a call's end."""
    assert isinstance(error, Explained)
    document: dict[str, Any] = orjson.loads(error.problem)
    return document


# Calls


def test_a_value_travels_as_json(inside: Inside) -> None:
    """What a function returns is encoded here, so no class of its own has to travel."""
    done = inside.run(lambda job: {"id": job.id})

    assert done.ended.value.body == b'{"id":"job"}'
    assert (done.ended.error, done.goes_on) == (None, True)


@pytest.mark.parametrize("value", [object(), ValueError("returned, not raised")])
def test_a_value_that_has_no_form(inside: Inside, value: Any) -> None:
    """What has no JSON form fails its job, with the name of what it was."""
    document = problem(inside.run(lambda job: value).ended.error)

    assert document["code"] == "result_not_serializable"
    assert type(value).__name__ in document["detail"]


def test_a_response(inside: Inside) -> None:
    """A response is a result, or an error, as it is in a thread."""
    done = inside.run(lambda job: web.json_response({"a": 1}))
    assert done.ended.value.body == b'{"a":1}'
    done = inside.run(lambda job: web.Response(status=404, text="not here"))
    assert problem(done.ended.error)["status"] == 404


def test_a_path_that_leads_nowhere(inside: Inside) -> None:
    """A file that is not there fails its job."""
    document = problem(inside.run(lambda job: Path("/not/there")).ended.error)

    assert document["code"] == "job_failed"


def test_a_generator_says_its_values(inside: Inside) -> None:
    """What a generator yields is sent at once, and counted."""

    def yields(job: Any) -> Iterator[int]:
        yield from (1, 2)

    done = inside.run(yields)

    assert done.ended.streamed
    assert done.counts == {"job": 2}
    said = [one for one in inside.close() if isinstance(one, Said)]
    assert [orjson.loads(one.emission.fields)["data"] for one in said] == [1, 2]


def test_the_job(inside: Inside) -> None:
    """The function's job is the one around it, with its slot; its app says what to do instead."""
    seen: dict[str, Any] = {}

    def look(job: aioqueue.Job) -> None:
        seen.update(slot=job.slot, same=current_job() is job, attempt=job.attempt)
        with pytest.raises(AioqueueError, match="process_initializer"):
            assert job.app["model"]
        with pytest.raises(AioqueueError, match="process_initializer"):
            assert job.app.router
        assert not hasattr(job.app, "__len__")

    assert inside.run(look, slot="cuda:1").ended.error is None
    assert seen == {"slot": "cuda:1", "same": True, "attempt": 1}


def test_what_a_batch_returns(inside: Inside) -> None:
    """Each job of a batch has its own value or error."""

    def entries(jobs: Any) -> list[Any]:
        return [1, JobError("no", status=418), object()]

    values = inside.run(entries, "a", "b", "c", batch=True).ended.value

    assert values[0].body == b"1"
    assert problem(values[1])["status"] == 418
    assert problem(values[2])["code"] == "result_not_serializable"


@pytest.mark.parametrize("value", [[1], 7, None, "ab"])
def test_a_batch_of_the_wrong_length(inside: Inside, value: Any) -> None:
    """What is no list with one entry a job fails the batch, and says so."""
    done = inside.run(lambda jobs: value, "a", "b", batch=True)

    assert "one entry a job" in problem(done.ended.error)["detail"]


def test_errors_of_single_jobs(inside: Inside) -> None:
    """A generator's list may fail a job alone; the others get all of theirs."""

    def yields(jobs: Any) -> Iterator[list[Any]]:
        yield [1, ValueError("no")]
        yield [2, 3]

    done = inside.run(yields, "a", "b", batch=True)

    assert done.counts == {"a": 2, "b": 0}
    assert problem(done.errors["b"])["code"] == "job_failed"
    assert done.errors.keys() == {"b"}


# What a function may raise


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("it stays")


def raises(error: BaseException) -> Callable[[Any], Any]:
    """A function that raises this."""

    def function(job: Any) -> None:
        raise error

    return function


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret"),
        KeyboardInterrupt(),
        SystemExit(3),
        GeneratorExit(),
        StopIteration(1),
        BaseExceptionGroup("some", [KeyboardInterrupt()]),
        Unprintable(),
        Unpicklable(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_exception_travels(inside: Inside, error: BaseException) -> None:
    """Whatever a function raises fails its job, privately; its traceback goes to the server."""
    done = inside.run(raises(error))

    assert problem(done.ended.error)["code"] == "job_failed"
    assert "secret" not in problem(done.ended.error)["detail"]
    assert inside.run(lambda job: 1).ended.value.body == b"1"


def test_a_job_error_travels(inside: Inside) -> None:
    """A JobError's text and status are for the client."""
    done = inside.run(raises(JobError("too dark", status=422)))

    assert problem(done.ended.error)["detail"] == "too dark"
    assert problem(done.ended.error)["status"] == 422


@pytest.mark.parametrize("error", [JobCancelled("x"), asyncio.CancelledError()])
def test_a_cancel_travels(inside: Inside, error: BaseException) -> None:
    """A function that raises the error of a cancel is cancelled."""
    assert type(inside.run(raises(error)).ended.error) is JobCancelled


def bad_detail() -> None:
    """Raise a JobError whose text can't be made."""
    error = JobError("x")
    error.detail = Unprintable()  # type: ignore[assignment]
    raise error


class BadLength(list[Any]):
    def __len__(self) -> int:
        raise RuntimeError("no length")


@pytest.mark.parametrize(
    ("plan", "batch"), [(lambda job: bad_detail(), False), (lambda jobs: BadLength(), True)]
)
def test_an_end_of_which_nothing_can_be_made(inside: Inside, plan: Any, batch: bool) -> None:
    """A value or error whose own methods raise fails its job, not the process."""
    ids = ("a", "b") if batch else ("a",)
    done = inside.run(plan, *ids, batch=batch)

    assert problem(done.ended.error)["code"] == "job_failed"


# Being cancelled, in every order


def test_cancel_before_the_call_arrives(inside: Inside) -> None:
    """A cancel that overtakes its call: the function is not run, and the process goes on."""
    inside.main._heed("cancel", "job")
    ran: list[Any] = []

    assert type(inside.run(ran.append).ended.error) is JobCancelled
    assert not ran
    assert not inside.thrown
    assert inside.run(lambda job: 1).ended.value.body == b"1"


def test_cancel_of_a_job_that_is_over(inside: Inside) -> None:
    """A cancel that comes too late touches neither its job nor the next one."""
    assert inside.run(lambda job: 1).ended.value.body == b"1"
    inside.main._heed("cancel", "job")

    assert inside.run(lambda job: job.cancelled, "next").ended.value.body == b"false"
    assert inside.run(lambda job: 1).ended.value.body == b"1"  # forgotten by now
    assert not inside.thrown


def test_cancel_of_another_job(inside: Inside) -> None:
    """A cancel of a job that is not here does nothing to the one that is."""

    def look(job: aioqueue.Job) -> bool:
        inside.ask("cancel", "another")
        inside.asked()
        return job.cancelled

    assert inside.run(look).ended.value.body == b"false"


def test_a_function_that_looks_is_not_interrupted(inside: Inside) -> None:
    """A function that sees its cancel may end as it likes, and its process lives on."""

    def polite(job: aioqueue.Job) -> str:
        inside.ask("cancel")
        while not job.cancelled:
            pass
        return "what I have"

    assert inside.run(polite).ended.value.body == b'"what I have"'
    inside.asked()
    assert not inside.thrown


def test_progress_raises(inside: Inside) -> None:
    """A cancelled function that tells its progress ends there."""

    def tells(job: aioqueue.Job) -> None:
        inside.ask("cancel")
        while True:
            job.progress(0.5)

    assert type(inside.run(tells).ended.error) is JobCancelled
    inside.asked()
    assert not inside.thrown


@pytest.mark.parametrize("busy", [spin, lambda: time.sleep(PATIENCE)], ids=["loop", "sleep"])
def test_a_function_that_does_not_look_is_interrupted(
    inside: Inside, busy: Callable[[], None]
) -> None:
    """Pure Python and a sleep are interrupted after a moment, and their ``finally`` runs."""
    assert inside.run(lambda job: 1).ended.value.body == b"1"  # also if it is not the first call
    cleaned: list[float] = []

    def hog(job: aioqueue.Job) -> None:
        inside.ask("cancel")
        try:
            busy()
        finally:
            cleaned.append(time.monotonic())

    begun = time.monotonic()
    assert type(inside.run(hog).ended.error) is JobCancelled
    assert inside.thrown
    assert 0.1 <= cleaned[0] - begun < PATIENCE / 2


def test_it_is_interrupted_once(inside: Inside, impatient: None) -> None:
    """A second cancel, as of a time limit after a client's, leaves the ``finally`` alone."""
    cleaned: list[bool] = []

    def hog(job: aioqueue.Job) -> None:
        try:
            inside.ask("cancel")
            spin()
        finally:
            inside.ask("cancel")
            inside.asked()
            for _ in range(1000):
                time.sleep(0)
            cleaned.append(True)

    assert type(inside.run(hog).ended.error) is JobCancelled
    assert cleaned == [True]


def test_an_interrupt_after_the_last_step(
    inside: Inside, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel that hits between a function's end and that of its call is its end."""
    run_call = process_main.run_call

    def run_and_linger(*arguments: Any) -> Any:
        ended = run_call(*arguments)
        inside.ask("cancel")
        spin()
        return ended

    monkeypatch.setattr(process_main, "run_call", run_and_linger)

    assert type(inside.run(lambda job: 1).ended.error) is JobCancelled
    assert inside.thrown


def test_a_late_interrupt_hits_nobody(inside: Inside) -> None:
    """When a cancelled function ends as its time is up, the next one is not interrupted for it."""
    waits, next_runs = threading.Event(), threading.Event()

    def time_is_up(seconds: float) -> bool:
        waits.set()
        assert next_runs.wait(PATIENCE)
        return False

    inside.main._ended.wait = time_is_up  # type: ignore[assignment]

    def polite(job: aioqueue.Job) -> int:
        inside.ask("cancel")
        assert waits.wait(PATIENCE)
        return 1

    def innocent(job: aioqueue.Job) -> int:
        next_runs.set()
        inside.asked()
        return 2

    assert inside.run(polite, "job").ended.value.body == b"1"
    assert inside.run(innocent, "next").ended.value.body == b"2"
    assert not inside.thrown


def test_a_swallowed_interrupt(inside: Inside, impatient: None) -> None:
    """A function that swallows it goes on, and the process ends with it all the same."""

    def stubborn(job: aioqueue.Job) -> str:
        try:
            inside.ask("cancel")
            spin()
        except BaseException:
            return "so there"
        return "never"

    assert inside.run(stubborn).ended.value.body == b'"so there"'
    assert inside.thrown


def test_what_is_sent_is_sent_whole(unread: Inside, impatient: None) -> None:
    """A cancel that hits a function while it sends waits until the message is out."""
    interrupt = unread.main._interrupts.interrupt
    interrupted = threading.Event()

    def interrupt_and_say_so() -> None:
        interrupt()
        interrupted.set()

    unread.main._interrupts.interrupt = interrupt_and_say_so  # type: ignore[method-assign]

    def server() -> None:
        assert unread.pipe.poll(PATIENCE)  # it is in the middle
        unread.main._heed("cancel", "job")
        assert interrupted.wait(PATIENCE)
        unread.read()

    text = "x" * 4_000_000  # more than the pipe holds, so the function has to wait
    after: list[str] = []

    def says(job: aioqueue.Job) -> None:
        job.log(text)
        after.append("the next step")

    playing = threading.Thread(target=server)
    playing.start()
    done = unread.run(says)
    playing.join(PATIENCE)

    assert type(done.ended.error) is JobCancelled
    assert not after
    (said,) = unread.close()
    assert orjson.loads(said.emission.fields)["message"] == text


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns a hundred times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 100)
    yield
    sys.setswitchinterval(before)


def test_cancel_just_as_it_ends(inside: Inside, impatient: None, hasty: None) -> None:
    """At whatever moment a cancel comes, the call ends once, and the next one is untouched."""
    random.seed(6)
    ends = set()

    def brief(job: aioqueue.Job) -> int:
        wait(random.random() * 3e-4)
        return 1

    def cancel_after(seconds: float) -> None:
        wait(seconds)
        inside.main._heed("cancel", "job")

    # In time, too late, and in the middle.
    kinds = {(JobCancelled, False), (type(None), False), (JobCancelled, True)}
    end = time.monotonic() + PATIENCE
    for number in count():
        if number >= 300 and (ends == kinds or time.monotonic() > end):
            break
        inside.main._interrupts = inside.main._uplink._interrupts = type(inside.main._interrupts)()
        inside.main._interrupts.install()
        asker = threading.Thread(target=cancel_after, args=(random.random() * 1e-3,))
        asker.start()
        done = inside.run(brief)
        ends.add((type(done.ended.error), inside.thrown))
        asker.join(PATIENCE)
        done = inside.run(lambda job: job.cancelled, f"next-{number}")
        assert done.ended.value.body == b"false"

    assert ends == kinds


def wait(seconds: float) -> None:
    """Be busy for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_drop_of_one(inside: Inside) -> None:
    """One job of a batch can be cancelled: the function sees it, and goes on for the others."""

    def looks(jobs: Sequence[aioqueue.Job]) -> list[bool]:
        inside.ask("drop", "b")
        inside.asked()
        current_job().progress(0.5)  # raises only if all are cancelled
        return [job.cancelled for job in jobs]

    values = inside.run(looks, "a", "b", batch=True).ended.value

    assert [one.body for one in values] == [b"false", b"true"]
    assert not inside.thrown


def test_drop_before_the_call_arrives(inside: Inside) -> None:
    """A drop that overtakes its batch is not lost."""
    inside.main._heed("drop", "b")

    def looks(jobs: Sequence[aioqueue.Job]) -> list[bool]:
        return [job.cancelled for job in jobs]

    values = inside.run(looks, "a", "b", batch=True).ended.value
    assert [one.body for one in values] == [b"false", b"true"]


def test_drop_of_the_first_is_no_cancel(inside: Inside, impatient: None) -> None:
    """The batch has the id of its first job, and a drop of that ends no other."""

    def looks(jobs: Sequence[aioqueue.Job]) -> list[bool]:
        inside.ask("drop", "a")
        inside.asked()
        return [job.cancelled for job in jobs]

    values = inside.run(looks, "a", "b", batch=True).ended.value

    assert [one.body for one in values] == [b"true", b"false"]


def test_cancel_of_a_batch(inside: Inside, impatient: None) -> None:
    """A cancel of the whole batch interrupts it."""

    def hog(jobs: Any) -> None:
        inside.ask("cancel", "a")
        spin()

    assert type(inside.run(hog, "a", "b", batch=True).ended.error) is JobCancelled
    assert inside.thrown


def test_an_interrupt_of_nobody_s(inside: Inside) -> None:
    """A SIGINT that no cancel has sent, such as a Ctrl-C for the server, interrupts nothing."""

    def looks(job: aioqueue.Job) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        return 1

    assert inside.run(looks).ended.value.body == b"1"


# What it says


def test_of_progress_the_newest(inside: Inside) -> None:
    """A million notes cost a message or two, and the last one is told before the end."""

    def tells(job: aioqueue.Job) -> None:
        for step in range(10_000):
            job.progress(step, 10_000)

    inside.run(tells)

    (noted,) = inside.close()
    assert isinstance(noted, Noted)
    assert noted.progress.step == 9_999


def test_older_progress_never_follows_newer(unread: Inside) -> None:
    """The thread that tells progress and the end of a call never swap their messages."""
    uplink = unread.main._uplink
    send = uplink.send
    first_is_taken, go = threading.Event(), threading.Event()

    def send_slowly(message: Any) -> None:
        if isinstance(message, Noted) and not first_is_taken.is_set():
            first_is_taken.set()
            go.wait(0.2)  # as long as another thread runs
        send(message)

    uplink.send = send_slowly  # type: ignore[method-assign]
    teller = threading.Thread(target=uplink.tell_progress)

    def tells(job: aioqueue.Job) -> None:
        job.progress(0.1)
        teller.start()
        assert first_is_taken.wait(PATIENCE)
        job.progress(0.9)

    unread.read()
    unread.run(tells)
    go.set()
    teller.join(PATIENCE)

    assert [one.progress.share for one in unread.close()] == [0.1, 0.9]


@pytest.fixture
def logger(inside: Inside) -> Iterator[logging.Logger]:
    """A logger whose records go to the server."""
    logger = logging.getLogger("tests.process")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    handler = LogForwarder(inside.main._uplink)
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


class NoText:
    def __str__(self) -> str:
        return "made here"

    def __reduce__(self) -> Any:
        raise TypeError("it stays")


def records(inside: Inside) -> list[logging.LogRecord]:
    """What it has logged."""
    return [one.record for one in inside.close() if isinstance(one, Logged)]


def test_a_log_record(inside: Inside, logger: logging.Logger) -> None:
    """A record's text is made here, of whatever its arguments are; its level is looked at here."""
    logger.warning("a %s and %d", NoText(), 2)
    logger.debug("too little")

    (record,) = records(inside)
    assert (record.getMessage(), record.levelname) == ("a made here and 2", "WARNING")
    assert (record.name, record.funcName) == ("tests.process", "test_a_log_record")


def test_a_log_record_with_a_traceback(inside: Inside, logger: logging.Logger) -> None:
    """A record brings its traceback along as text, and none that can't travel."""
    try:
        raise Unpicklable("in here")
    except Unpicklable:
        logger.exception("oh")

    (record,) = records(inside)
    text = logging.Formatter("%(message)s").format(record)
    assert text.startswith("oh\nTraceback")
    assert "Unpicklable: in here" in text
    assert "test_a_log_record_with_a_traceback" in text


def test_a_log_record_with_extras(inside: Inside, logger: logging.Logger) -> None:
    """What a record carries besides comes along, unless it can't travel; the text always does."""
    logger.info("hello", extra={"user": "ann", "lock": threading.Lock()})

    (record,) = records(inside)
    assert record.getMessage() == "hello"
    assert record.user == "ann"  # type: ignore[attr-defined]
    assert not hasattr(record, "lock")


def test_a_log_record_without_a_text(inside: Inside, capsys: pytest.CaptureFixture[str]) -> None:
    """A record whose text can't be made is complained of, as logging does, and harms nobody."""
    handler = LogForwarder(inside.main._uplink)
    handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
    handler.handle(logging.makeLogRecord({"msg": "the next"}))

    assert [record.getMessage() for record in records(inside)] == ["the next"]
    assert "Logging error" in capsys.readouterr().err


def test_what_says_something_in_another_thread(inside: Inside) -> None:
    """A thread of the function's own may say something too."""

    def says(job: aioqueue.Job) -> None:
        threads = [threading.Thread(target=job.log, args=(str(n) * 50_000,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    inside.run(says)

    texts = [orjson.loads(one.emission.fields)["message"] for one in inside.close()]
    assert sorted(texts) == [str(n) * 50_000 for n in range(8)]


# Temporary files


@pytest.fixture
def place(inside: Inside, tmp_path: Path) -> Iterator[Path]:
    """Where a process has its temporary files."""
    before, given = tempfile.tempdir, os.environ.get("TMPDIR")
    place = tmp_path / "place"
    inside.main._temporary = process_main._place_for_temporary_files(str(place))
    yield place
    tempfile.tempdir = before
    if given is None:
        del os.environ["TMPDIR"]
    else:
        os.environ["TMPDIR"] = given


def test_temporary_files(inside: Inside, place: Path) -> None:
    """They lie where the server removes them; a library may keep its own from call to call."""
    seen: list[str] = []

    def writes(job: aioqueue.Job) -> None:
        with tempfile.NamedTemporaryFile(delete=False) as file:
            seen.append(file.name)
        seen.append(os.environ["TMPDIR"])

    for _ in range(2):
        assert inside.run(writes).ended.error is None

    assert seen[1] == seen[3] == str(place)
    assert sorted(str(path) for path in place.iterdir()) == sorted(seen[::2])


def test_results_that_outlive_the_process(inside: Inside, place: Path, tmp_path: Path) -> None:
    """What is large, and a temporary file, become files of the job's, and overwrite none of it."""

    def large(job: aioqueue.Job) -> web.Response:
        job.directory.joinpath(".result").write_bytes(b"mine")
        headers = {"Content-Disposition": 'attachment; filename="a.png"'}
        return web.Response(body=b"x" * (2 << 20), content_type="image/png", headers=headers)

    def temporary(job: aioqueue.Job) -> Path:
        with tempfile.NamedTemporaryFile(delete=False, suffix=".png") as file:
            file.write(b"abc")
        return Path(file.name)

    folder = tmp_path / "job"
    (value, moved) = (
        inside.run(plan, directories=[str(folder)]).ended.value for plan in (large, temporary)
    )

    assert (value.size, value.name, value.is_file) == (2 << 20, "a.png", False)
    assert Path(value.path).read_bytes() == b"x" * (2 << 20)
    assert (moved.size, moved.is_file, Path(moved.path).read_bytes()) == (3, True, b"abc")
    assert folder.joinpath(".result").read_bytes() == b"mine"
    assert {Path(value.path).parent, Path(moved.path).parent} == {folder}
    assert value.path != moved.path


def test_links_of_a_process(inside: Inside, place: Path, tmp_path: Path) -> None:
    """A link stays one, since the server looks where it leads; what is not there is no result."""

    def link(job: aioqueue.Job) -> Path:
        path = job.directory / "a"
        path.symlink_to(__file__)
        return path

    linked, nowhere = (
        inside.run(plan, directories=[str(tmp_path / "job")])
        for plan in (link, lambda job: Path("nowhere"))
    )
    assert linked.ended.value.path == str(tmp_path / "job" / "a")
    assert "a file that is not there" in problem(nowhere.ended.error)["detail"]


def test_no_room_for_temporary_files(inside: Inside, tmp_path: Path) -> None:
    """Where no directory can be made, a function that needs none runs as ever."""
    before = tempfile.tempdir

    assert process_main._place_for_temporary_files(str(tmp_path / "not" / "there")) is None
    assert tempfile.tempdir == before
    assert inside.run(lambda job: 1).ended.value.body == b"1"


# Being found


def test_found(inside: Inside) -> None:
    """A function is found in its module, queued or plain; one that is not there fails its job."""
    assert process_main._found(f"{__name__}:planned", False)[0] is planned
    call = ProcessCall(
        reference=f"{__name__}:nowhere",
        attempts=[Attempt(JobRecord(id="job", function="f", queue="f"), 1)],
        directories=[None],
        is_batch=False,
        tracks_tqdm=False,
        slot=None,
        kill_timeout=0.3,
    )

    assert problem(inside.main._run(call).ended.error)["code"] == "job_failed"


class Talkative:
    """Says something when it is pickled, as a finalizer does when the collector runs just then."""

    def __init__(self, uplink: Any, text: str) -> None:
        self.uplink, self.text = uplink, text

    def __reduce__(self) -> Any:
        self.uplink.send(self.text)
        return str, ("outer",)


def test_what_is_said_while_something_is_said(inside: Inside) -> None:
    """It waits until that is sent, and nobody waits for himself."""
    inside.main._uplink.send(Talkative(inside.main._uplink, "inner"))
    inside.main._uplink.send("last")

    assert inside.close() == ["outer", "inner", "last"]


def test_what_the_function_forks(inside: Inside, capfd: pytest.CaptureFixture[str]) -> None:
    """It has no way to the server: what it says is dropped, what it logs goes to the output."""
    handler = LogForwarder(inside.main._uplink)
    pid = os.fork()
    if not pid:
        inside.main._uplink.send("forked")
        handler.handle(logging.makeLogRecord({"msg": "from a fork"}))
        os._exit(0)
    os.waitpid(pid, 0)

    assert inside.close() == []
    assert "from a fork" in capfd.readouterr().err
