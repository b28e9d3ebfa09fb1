"""From the values that a client sends to a job's payload; files come along by their names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import orjson

from .._arrivals import Arrivals
from .._errors import Problem, Refused
from .._job import Content
from .._parameter import Parameter
from .._payload import File
from .._spool import Spool, no_room
from .._upload import Upload, base_name
from ..engines.base import Engine
from ._catalogue import Exposed
from ._fetch import FETCH_SECONDS, Fetcher
from ._refusals import wrong_argument
from ._types import FILE_META
from ._uploads import Uploads

__all__ = ["FileSources", "named_arguments", "payload"]

logger = logging.getLogger("aioqueue")

_MOST_FILES = 1000
"""How many files a job may name, as many as a form may have parts: each costs a look at the disk,
however small it is."""

_MOST_URLS = 10


@attrs.frozen(slots=True)
class FileSources:
    """Where files come from that arguments name.

    Args:
        uploads: those that were uploaded before.
        fetcher: gets those that are named by a URL.
        spool: where all of them go.
        engine: has the results of other jobs, of which some are files.
    """

    uploads: Uploads
    fetcher: Fetcher
    spool: Spool
    engine: Engine

    async def result(self, path: str, owner: str | None) -> Content | None:
        """The file that a job gave back, as its client calls it; somebody else's is none."""
        snapshot = await self.engine.get(path.partition("/")[0])
        if snapshot is None or not snapshot.is_for(owner):
            return None
        result = snapshot.result
        return None if result is None or result.is_value else result


def named_arguments(exposed: Exposed, values: Sequence[Any]) -> dict[str, Any]:
    """Values in the order of the parameters, by name.

    Raises:
        Refused: 422, there are too many.
    """
    names = [one.name for one in exposed.signature.parameters]
    if len(values) > len(names):
        raise wrong_argument("data", f"has {len(values)} values for {len(names)} parameters")
    return dict(zip(names, values, strict=False))


async def payload(
    exposed: Exposed,
    named: Mapping[str, Any],
    sources: FileSources,
    arrivals: Arrivals,
    owner: str | None,
    max_bytes: int,
) -> bytes:
    """Check arguments, and pack them.

    Args:
        exposed: whose arguments they are.
        named: what the client sent, by parameter.
        sources: where files come from.
        arrivals: where they go.
        owner: whose they must be.
        max_bytes: how many bytes there may be in all of them; 0 is no bound.

    Raises:
        Refused: 422, with all that is wrong; 400, they are too deep; 413, there is too much; 500, a
            hook failed; 503, there is no room.
    """
    parameters = {one.name: one for one in exposed.signature.parameters}
    json: dict[str, Any] = {}
    told: list[tuple[Parameter, Any]] = []
    for name, value in named.items():
        parameter = parameters.get(name)
        if value is None and name in exposed.null_is_default:
            continue
        if parameter is not None and parameter.is_file and _has_files(value):
            told.append((parameter, value))
        else:
            json[name] = value
    _check_count([one["path"] for _, value in told for one in _listed(value)])
    deadline = asyncio.get_running_loop().time() + FETCH_SECONDS
    taking = _Taking(sources, arrivals, owner, max_bytes, deadline)
    files = {one.name: await taking.files(one, value) for one, value in told}
    try:
        raw = orjson.dumps(json)
    except TypeError:  # it writes less deep than it reads
        detail = "The arguments are nested too deeply."
        raise Refused(Problem.of("invalid_json", detail)) from None
    taking.count(len(raw))
    return exposed.signature.payload_of_named(raw, files)


def _check_count(paths: Sequence[str]) -> None:
    """Refuse more files than a job may name, before any of them costs something."""
    urls = sum(map(_is_url, paths))
    if len(paths) > _MOST_FILES or urls > _MOST_URLS:
        detail = f"The arguments may have {_MOST_FILES} files, of which {_MOST_URLS} may be URLs."
        raise Refused(Problem.of("payload_too_large", detail))


@attrs.define(slots=True)
class _Taking:
    """Takes the arguments of one job."""

    sources: FileSources
    arrivals: Arrivals
    owner: str | None
    max_bytes: int
    deadline: float
    """When the last file from elsewhere must be here."""
    taken: int = 0

    def count(self, size: int) -> None:
        """Count the bytes of an argument.

        Raises:
            Refused: 413, there are too many.
        """
        self.taken += size
        if self.max_bytes and self.taken > self.max_bytes:
            detail = f"The arguments may have {self.max_bytes} bytes."
            raise Refused(Problem.of("payload_too_large", detail))

    async def files(self, parameter: Parameter, value: Any) -> Any:
        """What a parameter gets for a file, or a list of them."""
        files = [await self._file(parameter, one) for one in _listed(value)]
        return files if isinstance(value, list) or parameter.is_list_of_files else files[0]

    async def _file(self, parameter: Parameter, told: Mapping[str, Any]) -> File:
        try:
            upload = await self._find(parameter, told["path"])
            self.count(upload.size)
            if not parameter.is_on_disk:
                return await self.sources.spool.in_thread(Path.read_bytes, upload.path)
        except FileNotFoundError:
            raise wrong_argument(parameter.name, "is no longer there: upload it again") from None
        except OSError as error:
            logger.error("a file for %s could not be taken: %s", parameter.name, error)
            raise no_room() from None
        name = told.get("orig_name")
        if isinstance(name, str) and base_name(name):
            upload = attrs.evolve(upload, name=base_name(name))
        return upload

    async def _find(self, parameter: Parameter, path: str) -> Upload:
        if _is_url(path):
            left = self.max_bytes and max(1, self.max_bytes - self.taken)
            fetch = self.sources.fetcher.fetch
            return await fetch(parameter.name, path, self.arrivals, left, self.deadline)
        upload = self.sources.uploads.find(path, self.owner)
        if upload is not None:
            return await self._adopt(upload)
        result = await self.sources.result(path, self.owner)
        if result is not None:
            return await self._given_back(result)
        message = "is no file that you have uploaded, or it is no longer kept"
        raise wrong_argument(parameter.name, message)

    async def _adopt(self, upload: Upload) -> Upload:
        adopted: Upload = (await self.arrivals.adopt({"": upload}))[""]
        return adopted

    async def _given_back(self, result: Content) -> Upload:
        """The result of another job: scripts hand on what they get."""
        if result.path is not None:
            name = base_name(result.name or "")
            return await self._adopt(Upload(name, result.content_type, 0, Path(result.path)))
        with self.arrivals.open(result.name, result.content_type) as arrival:
            await arrival.write(result.body)
            return await arrival.end()


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _is_url(path: str) -> bool:
    return path.startswith(("http://", "https://"))


def _has_files(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_told_file, value))
    return _is_told_file(value)


def _is_told_file(value: Any) -> bool:
    """Whether a value is what clients say of a file."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("path"), str)
        and value.get("meta") == FILE_META
    )
