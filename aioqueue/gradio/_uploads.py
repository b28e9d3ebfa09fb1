"""Files that clients have uploaded, until a job takes them or nobody does."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from .._spool import Spool, no_room
from .._upload import Upload

__all__ = ["Uploads"]


@attrs.frozen(slots=True)
class _Lot:
    """The files of one request."""

    owner: str | None
    files: Sequence[Upload]
    expires: float


class Uploads:
    """The files, by the names that only their clients know.

    A job that takes one gets a link of its own, so the same file may go to several.

    Args:
        spool: where they are.
        ttl: seconds they are kept.
        most: how many requests' files may be there at once.
    """

    def __init__(self, spool: Spool, ttl: float, most: int) -> None:
        self._spool = spool
        self._ttl = ttl
        self._most = most
        self._lots: dict[str, _Lot] = {}  # in the order in which they expire

    def check(self) -> None:
        """Refuse to take more than can be kept.

        Raises:
            Refused: 503.
        """
        if len(self._lots) >= self._most:
            raise no_room()

    def add(self, lot_id: str, owner: str | None, files: Sequence[Upload], now: float) -> list[str]:
        """Keep files, and answer what their client calls them from now on.

        Args:
            lot_id: whose directory they are in.
            owner: whose they are.
            files: the files.
            now: the loop's time.
        """
        self._lots[lot_id] = _Lot(owner, files, now + self._ttl)
        return [f"{lot_id}/{index}/{one.name}" for index, one in enumerate(files)]

    def find(self, path: str, owner: str | None) -> Upload | None:
        """The file that an owner calls so; somebody else's is none."""
        lot_id, _, rest = path.partition("/")
        index = rest.partition("/")[0]
        lot = self._lots.get(lot_id)
        if lot is None or lot.owner != owner or not (index.isascii() and index.isdigit()):
            return None
        return next(iter(lot.files[int(index) : int(index) + 1]), None)

    async def tick(self, now: float) -> None:
        """Remove those whose time is over."""
        while self._lots:
            lot_id = next(iter(self._lots))
            if self._lots[lot_id].expires > now:
                break
            del self._lots[lot_id]
            await self._spool.remove(lot_id)
