"""Files that clients have uploaded, until a job takes them or nobody does."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from .._spool import Spool, no_room
from .._upload import Upload

__all__ = ["Uploads"]

_MOST_FILES = 10_000

_LEAST_BYTES = 4 << 10
"""What a file counts at least: an empty one takes an entry in a directory, too."""

_MOST_DIGITS = 4
"""Of the number of a file in its request, which has a thousand parts at most."""


@attrs.frozen(slots=True)
class _Lot:
    """The files of one request."""

    owner: str | None
    files: Sequence[Upload]
    expires: float

    @property
    def size(self) -> int:
        """What they count, together."""
        return sum(max(_LEAST_BYTES, one.size) for one in self.files)


class Uploads:
    """The files, by the names that only their clients know.

    A job that takes one gets a link of its own, so the same file may go to several.  They have a
    bound of their own, so that who uploads and calls nothing leaves room for those who do.

    Args:
        spool: where they are.
        ttl: seconds they are kept.
        max_bytes: how many bytes may be there at once.
    """

    def __init__(self, spool: Spool, ttl: float, max_bytes: int) -> None:
        self._spool = spool
        self._ttl = ttl
        self._max_bytes = max_bytes
        self._bytes = 0
        self._count = 0
        self._lots: dict[str, _Lot] = {}  # in the order in which they expire

    def check(self, size: int, count: int = 1) -> None:
        """Refuse to take more than can be kept.

        Args:
            size: the bytes that come.
            count: in how many files.

        Raises:
            Refused: 503.
        """
        size = max(_LEAST_BYTES, size)
        if self._bytes + size > self._max_bytes or self._count + count > _MOST_FILES:
            raise no_room()

    def add(self, lot_id: str, owner: str | None, files: Sequence[Upload], now: float) -> list[str]:
        """Keep files, and answer what their client calls them from now on.

        Args:
            lot_id: whose directory they are in.
            owner: whose they are.
            files: the files.
            now: the loop's time.

        Raises:
            Refused: 503, they are more than can be kept.
        """
        lot = _Lot(owner, files, now + self._ttl)
        self.check(lot.size, len(files))
        self._lots[lot_id] = lot
        self._bytes += lot.size
        self._count += len(files)
        return [f"{lot_id}/{index}/{one.name}" for index, one in enumerate(files)]

    def find(self, path: str, owner: str | None) -> Upload | None:
        """The file that an owner calls so; somebody else's is none."""
        lot_id, _, rest = path.partition("/")
        index = rest.partition("/")[0]
        lot = self._lots.get(lot_id)
        is_number = index.isascii() and index.isdigit() and len(index) <= _MOST_DIGITS
        if lot is None or lot.owner != owner or not is_number:
            return None
        return next(iter(lot.files[int(index) : int(index) + 1]), None)

    async def tick(self, now: float) -> None:
        """Remove those whose time is over."""
        while self._lots:
            lot_id = next(iter(self._lots))
            if self._lots[lot_id].expires > now:
                break
            lot = self._lots.pop(lot_id)
            self._bytes -= lot.size
            self._count -= len(lot.files)
            await self._spool.remove(lot_id)
