"""A file that came with a request, as a function gets it."""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path
from typing import BinaryIO

import attrs

from ._errors import encodable

__all__ = ["ANY_BYTES", "Upload", "base_name", "content_type_of"]

ANY_BYTES = "application/octet-stream"
"""The type of bytes of which nothing is known (RFC 2046 section 4.5.1)."""

_MOST = 255
"""How many bytes the name of a file may have on nearly every file system."""

_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


def content_type_of(name: str) -> str:
    """What a file is, going by its name."""
    kind, packed = mimetypes.guess_type(name)
    return (_PACKED.get(packed, ANY_BYTES) if packed else kind) or ANY_BYTES


def base_name(name: str) -> str:
    """The last part of a file name that somebody sent, without what no name should have in it."""
    last = encodable(name).replace("\\", "/").rpartition("/")[2]
    # On Windows a colon would end the name of a drive, or begin that of a stream.
    plain = "".join(letter for letter in last if letter.isprintable() and letter != ":")
    short = plain.encode()[:_MOST].decode(errors="ignore")
    return "" if short in (".", "..") else short


@attrs.frozen(slots=True)
class Upload:
    """A file on disk that belongs to a job, and is removed with it.

    As a parameter (``video: aioqueue.Upload``) it takes a file of a form, of any size: it comes
    straight to disk.  ``list[Upload]`` takes all files of that name, and
    ``Annotated[Upload, aioqueue.Body]`` the whole body.

    Attributes:
        name: what the client calls it, without folders; "" if it does not say.
        content_type: what the client says it is.
        size: its bytes.
        path: where it is.  Its name there has nothing to do with the client's.
    """

    name: str
    content_type: str
    size: int
    path: Path

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Upload:
        """A file of your own, to submit it: the job gets its own link to it, or a copy.

        Raises:
            OSError: it is not there.
        """
        real = Path(path).resolve()
        return cls(Path(path).name, content_type_of(Path(path).name), real.stat().st_size, real)

    def open(self) -> BinaryIO:
        """The file, open for reading."""
        return self.path.open("rb")

    def read(self) -> bytes:
        """All its bytes."""
        return self.path.read_bytes()
