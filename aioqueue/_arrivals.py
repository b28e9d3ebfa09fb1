"""Files on their way to a job's directory: from a client, or from code."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ._errors import encodable
from ._spool import Spool, link, no_room
from ._upload import ANY_BYTES, Upload, base_name

__all__ = ["Arrival", "Arrivals"]

logger = logging.getLogger("aioqueue")

_GATHERED = 256 << 10
"""How many bytes go to disk at once: fewer cost more switches to a thread, more cost memory."""


class Arrivals:
    """The files of one job, as they arrive.

    Args:
        spool: where they go.
        job_id: whose they are.
        fingerprints: whether what makes them the same is asked for.
    """

    def __init__(self, spool: Spool, job_id: str, *, fingerprints: bool = False) -> None:
        self.job_id = job_id
        self._spool = spool
        self._fingerprints = fingerprints
        self._count = 0
        self.any = False
        """Whether there is at least one."""
        self.digests: dict[Path, bytes] = {}
        """The SHA-256 of each, if fingerprints are asked for."""

    def _path(self) -> Path:
        # Not the name that a client gave: it would have to be looked at like a stranger's code.
        # Nor one that a client can guess: a function may use the client's names beside it.
        self.any = True
        self._count += 1
        name = f"upload-{self._count}-{secrets.token_hex(4)}"
        return self._spool.folder(self.job_id) / name

    def open(self, name: str | None, content_type: str | None) -> Arrival:
        """A file that begins to arrive, with what its client says of it."""
        kind = encodable(content_type or ANY_BYTES)
        upload = Upload(base_name(name or ""), kind, 0, self._path())
        digests = self.digests if self._fingerprints else None
        return Arrival(upload, self._spool, self.job_id, digests)

    async def adopt(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call; files that are somewhere already have a place here, too.

        Raises:
            Refused: there is no room for them.
            OSError: one is gone.
        """
        return {
            name: [await self._adopt(one) for one in value]
            if isinstance(value, list)
            else await self._adopt(value)
            for name, value in arguments.items()
        }

    async def _adopt(self, upload: Any) -> Any:
        if not isinstance(upload, Upload):
            return upload
        size = (await self._spool.in_thread(os.stat, upload.path)).st_size
        self._spool.take(self.job_id, size)
        path = await self._spool.in_thread(link, upload.path, self._path())
        return attrs.evolve(upload, size=size, path=path)


class Arrival:
    """One file as it arrives.  Use it as a context manager: it is closed at the end.

    What goes wrong with the disk is a refusal: the client has done nothing wrong.
    """

    def __init__(
        self,
        upload: Upload,
        spool: Spool,
        job_id: str,
        digests: dict[Path, bytes] | None,
    ) -> None:
        self._upload = upload
        self._spool = spool
        self._job_id = job_id
        self._digests = digests
        self._digest = None if digests is None else hashlib.sha256()
        self._gathered = bytearray()
        self._size = 0
        self._file: int | None = None

    def __enter__(self) -> Arrival:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    async def write(self, chunk: bytes) -> None:
        """Add bytes to it.

        Raises:
            Refused: there is no room for them.
        """
        self._spool.take(self._job_id, len(chunk))
        self._size += len(chunk)
        self._gathered += chunk
        if len(self._gathered) >= _GATHERED:
            await self._put()

    async def end(self) -> Upload:
        """It is whole.

        Raises:
            Refused: there is no room for its last bytes.
        """
        await self._put()
        if self._digests is not None and self._digest is not None:
            self._digests[self._upload.path] = self._digest.digest()
        return attrs.evolve(self._upload, size=self._size)

    async def _put(self) -> None:
        """Write what was gathered, in a thread: a slow disk must not stop everybody else."""
        gathered, self._gathered = self._gathered, bytearray()
        try:
            await self._spool.in_thread(self._write, gathered)
        except OSError as error:
            logger.error("a file could not be written: %s", error)
            raise no_room() from None

    def _write(self, data: bytearray) -> None:
        path = self._upload.path
        if self._file is None:
            path.parent.mkdir(0o700, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
        if self._digest is not None:
            self._digest.update(data)
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]


_BINARY: int = getattr(os, "O_BINARY", 0)
"""Windows would write two bytes for each newline."""
