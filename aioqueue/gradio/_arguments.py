"""From the values that a client sends to a job's payload; files come along by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import orjson

from .._arrivals import Arrivals
from .._errors import Problem, Refused
from .._parameter import Parameter
from .._payload import File
from .._spool import Spool
from .._upload import Upload, base_name
from ._catalogue import Exposed
from ._fetch import Fetcher
from ._refusals import wrong_argument
from ._types import FILE_META
from ._uploads import Uploads

__all__ = ["FileSources", "named_arguments", "payload"]


@attrs.frozen(slots=True)
class FileSources:
    """Where files come from that arguments name.

    Args:
        uploads: those that were uploaded before.
        fetcher: gets those that are named by a URL.
        spool: where all of them go.
    """

    uploads: Uploads
    fetcher: Fetcher
    spool: Spool


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
        Refused: 422, with all that is wrong; 400, they are too deep; 413, there is too much; 503,
            there is no room.
    """
    parameters = {one.name: one for one in exposed.signature.parameters}
    taking = _Taking(sources, arrivals, owner, max_bytes)
    json: dict[str, Any] = {}
    files: dict[str, Any] = {}
    for name, value in named.items():
        parameter = parameters.get(name)
        if value is None and name in exposed.null_is_default:
            continue
        if parameter is not None and parameter.is_file and _has_files(value):
            files[name] = await taking.files(parameter, value)
        else:
            json[name] = value
    try:
        raw = orjson.dumps(json)
    except TypeError:  # it writes less deep than it reads
        detail = "The arguments are nested too deeply."
        raise Refused(Problem.of("invalid_json", detail)) from None
    taking.count(len(raw))
    return exposed.signature.payload_of_named(raw, files)


@attrs.define(slots=True)
class _Taking:
    """Takes the arguments of one job."""

    sources: FileSources
    arrivals: Arrivals
    owner: str | None
    max_bytes: int
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
        if isinstance(value, list):
            return [await self._file(parameter, one) for one in value]
        file = await self._file(parameter, value)
        return [file] if parameter.is_list_of_files else file

    async def _file(self, parameter: Parameter, told: Mapping[str, Any]) -> File:
        try:
            upload = await self._find(parameter, told["path"])
            self.count(upload.size)
            if not parameter.is_on_disk:
                return await self.sources.spool.in_thread(Path.read_bytes, upload.path)
        except OSError:
            raise wrong_argument(parameter.name, "is no longer there: upload it again") from None
        name = told.get("orig_name")
        if isinstance(name, str) and base_name(name):
            upload = attrs.evolve(upload, name=base_name(name))
        return upload

    async def _find(self, parameter: Parameter, path: str) -> Upload:
        if path.startswith(("http://", "https://")):
            left = self.max_bytes and max(1, self.max_bytes - self.taken)
            return await self.sources.fetcher.fetch(parameter.name, path, self.arrivals, left)
        upload = self.sources.uploads.find(path, self.owner)
        if upload is None:
            message = "is no file that you have uploaded, or it is no longer kept"
            raise wrong_argument(parameter.name, message)
        adopted: Upload = (await self.arrivals.adopt({"": upload}))[""]
        return adopted


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
