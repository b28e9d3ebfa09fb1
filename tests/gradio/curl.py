"""What those see who call without a client, as Gradio's documentation shows it with curl.

`python curl.py URL SCENARIO…` prints a line of JSON for each scenario.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiohttp import ClientPayloadError, ClientSession, FormData, TCPConnector


class Caller:
    """POST, then GET."""

    def __init__(self, http: ClientSession) -> None:
        self.http = http

    async def post(self, path: str, body: Any) -> str:
        """The id of an event, or the status and body of a refusal."""
        async with self.http.post(path, json=body) as response:
            if response.status != 200:
                return f"{response.status} {await response.text()}"
            event: str = (await response.json())["event_id"]
            return event

    async def get(self, path: str) -> Any:
        """The body of the answer."""
        async with self.http.get(path) as response:
            return await response.json()

    async def events(self, path: str) -> list[str]:
        """What is said of an event, until that ends."""
        async with self.http.get(path) as response:
            said, kind = [f"{response.status} {response.content_type}"], ""
            try:
                async for line in response.content:
                    field, _, value = line.decode().strip().partition(": ")
                    if field == "event":
                        kind = value
                    elif field == "data":
                        said.append(f"{kind} {json.dumps(json.loads(value), ensure_ascii=False)}")
            except ClientPayloadError:
                said.append("cut off")
            return said

    async def call(self, name: str, *data: Any) -> list[str]:
        """Call by position."""
        return await self.follow(f"call/{name}", {"data": data})

    async def call_v2(self, name: str, /, **data: Any) -> list[str]:
        """Call by name."""
        return await self.follow(f"call/v2/{name}", data)

    async def follow(self, path: str, body: Any) -> list[str]:
        """Call; answers what is said then, or the refusal."""
        event = await self.post(path, body)
        return [event] if " " in event else await self.events(f"{path}/{event}")


async def call(curl: Caller) -> Any:
    """Calls by position."""
    return {
        "result": await curl.call("add", 1, 2.5),
        "two outputs": await curl.call("divide", 17, 5),
        "no output": await curl.call("nothing"),
        "generator": await curl.call("spell", "abc"),
        "edits": await curl.call("grow"),
        "another name": await curl.call("hello"),
        "progress": await curl.call("steps", 1),
        "log": await curl.call("notes"),
    }


async def call_by_name(curl: Caller) -> Any:
    """Calls by the names of the parameters."""
    return {
        "result": await curl.call_v2("add", b=2.5, a=1),
        "default": await curl.call_v2("greet", name="Ann"),
        "generator": await curl.call_v2("spell", word="abc"),
        "two outputs": await curl.call_v2("divide", number=17, by=5),
    }


async def failures(curl: Caller) -> Any:
    """What goes wrong, and when."""
    return {
        "with words": await curl.call("broken", "boom"),
        "midway": await curl.call("broken_midway"),
        "without words": await curl.call("divide", 1, 0),
        "unknown name": await curl.call("unknown"),
        "unknown argument": await curl.call_v2("add", a=1, c=2),
        "missing argument": await curl.call_v2("add"),
        "no data": await curl.post("call/add", {}),
        "no list": await curl.post("call/add", {"data": 1}),
        "not valid": await curl.call("half", 2.5),
        "unknown event": await curl.events("call/add/unknown"),
        "hidden": await curl.call("secret"),
    }


async def late(curl: Caller) -> Any:
    """Whoever asks when a job has ended is told all of it."""
    event = await curl.post("call/spell", {"data": ["abc"]})
    await curl.call("spell", "behind it")
    return await curl.events(f"call/spell/{event}")


async def queue_full(curl: Caller) -> Any:
    """One more than may wait is refused."""
    await curl.post("call/slow", {"data": [1]})
    while (await curl.get("queue/status"))["queue_size"]:
        await asyncio.sleep(0.01)
    jobs = [await curl.post("call/go_through", {"data": ["x"]}) for _ in range(2)]
    return {
        "refused": await curl.post("call/go_through", {"data": ["x"]}),
        "others": [await curl.events(f"call/go_through/{job}") for job in jobs],
    }


async def files(curl: Caller) -> Any:
    """A file is uploaded first; only what was uploaded is a file."""
    form = FormData()
    form.add_field("files", b"quiet", filename="quiet.txt")
    async with curl.http.post("upload", data=form) as response:
        (path,) = await response.json()

    def file(path: str) -> dict[str, Any]:
        return {"path": path, "meta": {"_type": "gradio.FileData"}}

    said = await curl.call("shout", file(path))
    (loud,) = json.loads(said[1].removeprefix("complete "))
    async with curl.http.get(f"file={loud['path']}") as response:
        text = await response.text()
    return {
        "events": [said[0], sorted(loud)],
        "text": text,
        "of the server": await curl.call("shout", file(__file__)),
        "of nobody": await curl.call("shout", file("/nowhere/at/all.txt")),
        "read": await status(curl, f"file={__file__}"),
    }


async def status(curl: Caller, path: str) -> int:
    """The status of an answer."""
    async with curl.http.get(path) as response:
        return response.status


SCENARIOS = {
    play.__name__: play for play in (call, call_by_name, failures, late, queue_full, files)
}


async def main(url: str, *names: str) -> None:
    """Play these scenarios, one after the other."""
    connector = TCPConnector(force_close=True)  # each call of curl has a connection of its own
    async with ClientSession(f"{url}/gradio_api/", connector=connector) as http:
        for name in names:
            document = await SCENARIOS[name](Caller(http))
            print(json.dumps({"scenario": name, "document": document}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
