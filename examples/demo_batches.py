"""The demo's second page: files that wait at the same time share a call to the model."""

import asyncio
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from aiohttp import web

import aioqueue

try:
    from magika import Magika
except ImportError as error:
    Magika = None
    missing = str(error)

MODEL: web.AppKey[Any] = web.AppKey("file_types")
CALLS = itertools.count(1)


@aioqueue.queued(
    batch=True,
    max_batch_size=8,
    batch_timeout=0.05,
    concurrency_id="magika",
    max_size=1000,
    max_body_size=20_000_000,
)
def what_is_it(file: list[bytes]) -> list[dict[str, Any]]:
    """Name the types of the files that wait, up to eight in one call."""
    return one_call(file)


@aioqueue.queued(
    batch=True,
    max_batch_size=1,
    concurrency_id="magika",
    max_size=1000,
    max_body_size=20_000_000,
)
def one_at_a_time(file: list[bytes]) -> list[dict[str, Any]]:
    """Do the same with a call for each file, to compare."""
    return one_call(file)


def one_call(files: list[bytes]) -> list[dict[str, Any]]:
    """Call the model once; each file is told which call that was, and how long it took."""
    model = aioqueue.current_job().app[MODEL]
    start = time.perf_counter()
    types = stand_in(files) if model is None else identify(model, files)
    call = {"call": next(CALLS), "seconds": round(time.perf_counter() - start, 5)}
    return [{**one, **call} for one in types]


def identify(model: Any, files: list[bytes]) -> list[dict[str, Any]]:
    """Ask magika: what it takes several of at once are paths."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, str(number)) for number in range(len(files))]
        for path, file in zip(paths, files, strict=True):
            path.write_bytes(file)
        found = model.identify_paths(paths)
    return [{"type": one.output.description, "score": round(one.score, 3)} for one in found]


STARTS = {
    b"\x89PNG\r\n": "PNG image",
    b"\xff\xd8\xff": "JPEG image",
    b"GIF8": "GIF image",
    b"%PDF": "PDF document",
    b"PK\x03\x04": "ZIP archive",
    b"\x1f\x8b": "gzip archive",
    b"RIFF": "RIFF container",
    b"#!": "Script",
    b"<": "Markup",
}


def stand_in(files: list[bytes]) -> list[dict[str, Any]]:
    """Look at the first bytes: what is done where no model runs."""
    time.sleep(0.02)  # what a call costs, however many files it is for
    return [{"type": type_of(file), "score": None} for file in files]


def type_of(file: bytes) -> str:
    """Name what a file starts with."""
    for start, name in STARTS.items():
        if file.startswith(start):
            return name
    try:
        json.loads(file)
    except UnicodeDecodeError:
        return "Unknown binary data"
    except ValueError:
        return "Text"
    return "JSON document"


async def load_model(app: web.Application) -> None:
    """Load the model and let it look at something."""
    app[MODEL] = None
    if Magika is None:
        print(f"File types are told by their first bytes here: {missing}.", flush=True)
    else:
        app[MODEL] = await asyncio.to_thread(Magika)
        await asyncio.to_thread(app[MODEL].identify_bytes, b"warm, and warm again")
