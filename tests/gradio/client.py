"""What users of `gradio_client` see: `python client.py URL SCENARIO…`.

It prints a line of JSON for each scenario. Values are shown as Python shows them, so that their
types can be seen. What differs from run to run is left out: times, and how often a thing was said.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import redirect_stdout
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import Any

from gradio_client import Client, handle_file
from gradio_client.client import Job

FOLDER = tempfile.TemporaryDirectory()


def connect(url: str) -> Client:
    """A client as it comes."""
    return Client(url, verbose=False, analytics_enabled=False, download_files=FOLDER.name)


def outcome(call: Callable[..., Any], *args: Any, **options: Any) -> str:
    """What a call returns or raises."""
    try:
        return repr(call(*args, **options))
    except (Exception, CancelledError) as error:
        return f"{type(error).__name__}: {error}"


async def until_it_is(code: str, job: Job) -> None:
    """Wait until a job has this status."""
    while (now := job.status().code.value) != code:
        assert not job.done(), f"{now}: {outcome(job.result)}"
        await asyncio.sleep(0.01)


async def story(*jobs: Job) -> list[list[str]]:
    """All that each of these jobs says, from its beginning to its end."""
    for job in jobs:
        await asyncio.to_thread(job.exception, 60)

    async def listen(job: Job) -> list[str]:
        return [text for text, _ in groupby([line(update) async for update in job])]

    return await asyncio.gather(*map(listen, jobs))


def line(update: Any) -> str:
    """An update in a line."""
    if update.type == "output":
        if not update.final:
            return f"output {update.outputs!r}"
        end = update.outputs.get("data", update.outputs.get("error"))
        return f"end success={update.success} {end!r}"
    said = [update.code.value]
    for name in ("rank", "queue_size", "success", "log"):
        if (value := getattr(update, name)) is not None:
            said.append(f"{name}={value!r}")
    for unit in update.progress_data or ():
        said.append(f"{unit.index}/{unit.length} {unit.unit} {unit.progress} {unit.desc!r}")
    return " ".join(said)


def text_file(name: str, text: str) -> Any:
    """A file of ours as an argument."""
    path = Path(FOLDER.name, name)
    path.write_text(text)
    return handle_file(path)


async def predict(url: str) -> Any:
    """Calls, in all ways to write them."""
    client = connect(url)
    return {
        "positional": outcome(client.predict, 1, 2.5, api_name="/add"),
        "keyword": outcome(client.predict, b=1.5, a=2, api_name="/add"),
        "mixed": outcome(client.predict, "Ann", loud=True, api_name="/greet"),
        "default": outcome(client.predict, 0.5, api_name="/add"),
        "number of the function": outcome(client.predict, 0.5, 0.25, fn_index=0),
        "whole numbers": outcome(client.predict, 1, 2, api_name="/add"),
        "two outputs": outcome(client.predict, 17, 5, api_name="/divide"),
        "no output": outcome(client.predict, api_name="/nothing"),
        "a choice": outcome(client.predict, "red", api_name="/choose"),
        "another name": outcome(client.predict, api_name="/hello"),
        "a generator": outcome(client.predict, "abc", api_name="/spell"),
    }


async def shapes(url: str) -> Any:
    """Values of many shapes, there and back."""
    client = connect(url)
    values = {
        "empty": {},
        "nested": {"a": [1, [2.5, {"b": None}], []], "": {"/": {"a.b": True}}},
        "numbers": {"large": 2**53 + 1, "small": 5e-324, "negative": -0.0, "whole": 1.0},
        "text": {"text": 'ä ☃ 𝄞 \u2028 \x00 \n " \\ </script>', "long": "x" * 20},
        "like a type": {"_type": "gradio.FileData", "url": "nowhere"},
        "like an event": {"msg": "process_completed", "success": False, "error": "no"},
        "wide": {str(number): number for number in range(20)},
    }
    return {
        name: outcome(client.predict, value, api_name="/echo_json")
        for name, value in values.items()
    }


async def iterate(url: str) -> Any:
    """Generators: each value as it comes, and all of them at the end."""
    client = connect(url)
    spell = client.submit("hello", api_name="/spell")
    grow = client.submit(api_name="/grow")
    told = await story(spell, grow)
    return {
        "values": repr(list(spell)),
        "outputs": repr(grow.outputs()),
        "result": outcome(grow.result),
        "of nothing": outcome(client.predict, "", api_name="/spell"),
        "status": line(grow.status()),
        "told": dict(zip(("spell", "grow"), told, strict=True)),
    }


async def crowd(url: str) -> Any:
    """Place and time left of those who wait, and how both change."""
    client = connect(url)
    client.predict(0.05, api_name="/slow")  # from now on there is a history
    jobs = [client.submit(api_name="/hold")]
    await until_it_is("PROCESSING", jobs[0])
    for _ in range(3):
        jobs.append(client.submit(api_name="/hold"))
        await until_it_is("IN_QUEUE", jobs[-1])
    statuses = [job.status() for job in jobs[1:]]
    for number in range(4):
        await until_it_is("PROCESSING", jobs[number])
        for rank, job in enumerate(jobs[number + 1 :]):
            while job.status().rank != rank:
                await asyncio.sleep(0.01)
        client.predict(api_name="/release")
    return {
        "statuses": [line(status) for status in statuses],
        "time left": [status.eta is not None and status.eta > 0 for status in statuses],
        "told": await story(*jobs),
    }


async def two_clients(url: str) -> Any:
    """Two clients share the queues, and nothing else."""
    one, other = connect(url), connect(url)
    first = one.submit(api_name="/hold")
    await until_it_is("PROCESSING", first)
    second = other.submit("other", api_name="/go_through")
    await until_it_is("IN_QUEUE", second)
    words = one.submit("one", api_name="/spell"), other.submit("other", api_name="/spell")
    results = [outcome(job.result, 10) for job in words]
    one.predict(api_name="/release")
    return {
        "results": [outcome(job.result, 10) for job in (first, second)] + results,
        "told": await story(first, second),
    }


async def progress(url: str) -> Any:
    """How far a function is."""
    return await story(connect(url).submit(3, api_name="/steps"))


async def logs(url: str) -> Any:
    """What a function says on the way."""
    return await story(connect(url).submit(api_name="/notes"))


async def errors(url: str) -> Any:
    """What goes wrong in a function, and before it is called."""
    client = connect(url)
    failed = client.submit("boom", api_name="/broken")
    told = await story(failed, client.submit(api_name="/broken_midway"))
    error = failed.exception()
    return {
        "with words": outcome(failed.result),
        "its fields": {name: getattr(error, name) for name in ("title", "duration", "visible")},
        "midway": outcome(client.predict, api_name="/broken_midway"),
        "told": dict(zip(("broken", "broken_midway"), told, strict=True)),
        "without words": outcome(client.predict, 1, 0, api_name="/divide"),
        "unknown name": outcome(client.predict, api_name="/unknown"),
        "hidden": outcome(client.predict, api_name="/secret"),
        "unknown number": outcome(client.predict, fn_index=99),
        "too few": outcome(client.predict, api_name="/add"),
        "too many": outcome(client.predict, 1, 2.5, 3, api_name="/add"),
        "unknown argument": outcome(client.predict, 1, c=2, api_name="/add"),
        "and then": outcome(client.predict, 1, 2.5, api_name="/add"),
    }


async def validation(url: str) -> Any:
    """Values that are not what the function declares."""
    client = connect(url)
    return {
        "checked": outcome(client.predict, 2.5, api_name="/half"),
        "checked, and right": outcome(client.predict, 3, api_name="/half"),
        "no such choice": outcome(client.predict, "blue", api_name="/choose"),
        "text for a number": outcome(client.predict, "1", "2", api_name="/add"),
        "list for a dict": outcome(client.predict, [1], api_name="/echo_json"),
        "nothing for text": outcome(client.predict, None, api_name="/greet"),
        "number for a bool": outcome(client.predict, "Ann", 1, api_name="/greet"),
    }


async def queue_full(url: str) -> Any:
    """One more than may wait is refused, and the others run."""
    client = connect(url)
    first = client.submit(api_name="/hold")
    await until_it_is("PROCESSING", first)
    jobs = [client.submit(name, api_name="/go_through") for name in ("one", "two")]
    for job in jobs:
        await until_it_is("IN_QUEUE", job)
    refused = client.submit("three", api_name="/go_through")
    document = {"refused": outcome(refused.result, 10), "status": line(refused.status())}
    first.cancel()  # the queue of Gradio has no room left for a call to /release
    return document | {"others": [outcome(job.result, 10) for job in jobs]}


async def files(url: str) -> Any:
    """Files there and back."""
    client = connect(url)
    back = Path(client.predict(text_file("quiet words.txt", "grün"), api_name="/shout"))
    two = [text_file("a.txt", "a"), text_file("b.txt", "b")]
    return {
        "back": [back.name, back.read_text()],
        "several": outcome(client.predict, two, api_name="/join_files"),
        "none of several": outcome(client.predict, [], api_name="/join_files"),
        "empty": outcome(client.predict, [text_file("empty", "")], api_name="/join_files"),
        "no file": outcome(client.predict, "text", api_name="/shout"),
        "an address": outcome(client.predict, handle_file(f"{url}/config"), api_name="/shout"),
    }


async def batch(url: str) -> Any:
    """Those that wait for the same function run at once, and each gets its own result."""
    client = connect(url)
    first = client.submit(api_name="/hold")
    await until_it_is("PROCESSING", first)
    words = ("one", "three", "fifteen", "")
    jobs = [client.submit(word, api_name="/lengths") for word in words]
    for job in jobs:
        await until_it_is("IN_QUEUE", job)
    client.predict(api_name="/release")
    return [outcome(job.result, 10) for job in jobs]


async def view_api(url: str) -> Any:
    """What there is to call."""
    client = connect(url)
    described = client.view_api(print_info=False, return_format="dict")
    for endpoint in described["named_endpoints"].values():
        endpoint.pop("code_snippets", None)  # the same call in other languages
        for value in endpoint["parameters"] + endpoint["returns"]:
            value.pop("example_input", None)  # what Gradio's components bring along
            value["python_type"]["description"] = ""
            value["type"] = value["type"].get("type")  # of its JSON schema
    with redirect_stdout(StringIO()) as printed:
        client.view_api()
    return {"described": described, "printed": printed.getvalue().splitlines()}


async def many(url: str) -> Any:
    """A hundred jobs of one client, while another keeps its stream open.

    Without it Gradio closes the stream when it knows of no job, and a job that is just joining may
    be lost.
    """
    client = connect(url)
    another = client.submit(api_name="/hold")
    await until_it_is("PROCESSING", another)
    jobs = [client.submit(number, api_name="/crowded") for number in range(100)]
    numbers, at_once = zip(*(map(int, job.result(30).split("/")) for job in jobs), strict=True)
    client.predict(api_name="/release")
    return {"in order": numbers == (*range(100),), "at once": max(at_once)}


async def cancel_waiting(url: str) -> Any:
    """One that waits is cancelled: it never runs, and those of other clients do."""
    one, other = connect(url), connect(url)
    first = one.submit(api_name="/hold")
    await until_it_is("PROCESSING", first)
    second = other.submit(30, api_name="/slow")
    await until_it_is("IN_QUEUE", second)
    third = one.submit("third", api_name="/go_through")
    await until_it_is("IN_QUEUE", third)
    document = {"cancel": second.cancel(), "status": line(second.status())}
    one.predict(api_name="/release")
    return document | {"told": await story(first, third)}


async def cancel_sibling(url: str) -> Any:
    """One that waits is cancelled while another of the same client runs."""
    client = connect(url)
    running = client.submit(api_name="/hold")
    await until_it_is("PROCESSING", running)
    waiting = client.submit(api_name="/hold")
    await until_it_is("IN_QUEUE", waiting)
    waiting.cancel()
    client.predict(api_name="/release")
    return {"running": outcome(running.result, 3)}


async def cancel_running(url: str) -> Any:
    """One that runs is cancelled: its place is free at once."""
    client = connect(url)
    job = client.submit(30, api_name="/slow")
    await until_it_is("PROCESSING", job)
    return {
        "cancel": job.cancel(),
        "status": line(job.status()),
        "next": outcome(client.submit("next", api_name="/go_through").result, 10),
    }


async def held(url: str) -> Any:
    """Say so when a job runs and another waits, and stay until killed."""
    client = connect(url)
    running = client.submit(api_name="/hold")
    await until_it_is("PROCESSING", running)
    waiting = client.submit(30, api_name="/slow")
    await until_it_is("IN_QUEUE", waiting)
    show("held", "now")
    await asyncio.sleep(60)


async def back(url: str) -> Any:
    """After a client was killed, another gets its turn."""
    client = connect(url)
    client.predict(api_name="/release")
    return outcome(client.submit("back", api_name="/go_through").result, 20)


def show(name: str, document: Any) -> None:
    """Print the line of a scenario."""
    print(json.dumps({"scenario": name, "document": document}), flush=True)


SCENARIOS = {
    play.__name__: play
    for play in (
        *(predict, shapes, iterate, crowd, two_clients, progress, logs, errors, validation),
        *(queue_full, files, batch, view_api, many, cancel_waiting, cancel_running),
        *(cancel_sibling, held, back),
    )
}


async def main(url: str, *names: str) -> None:
    """Play these scenarios, one after the other."""
    for name in names:
        show(name, await SCENARIOS[name](url))


if __name__ == "__main__":
    with FOLDER:
        asyncio.run(main(*sys.argv[1:]))
