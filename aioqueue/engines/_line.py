"""A line of waiting jobs that knows everybody's place.

A heap finds who is first, but not how many stand before you.  A line keeps its entries sorted in
blocks: joining, leaving and the rank of any entry are bisections, plus a copy inside one block.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import accumulate
from typing import Any

__all__ = ["Line"]

_BLOCK = 2048
"""Large enough that 100,000 entries are 50 blocks, small enough that moving one is nothing."""

Key = tuple[float, int]


class Line:
    """Entries in ascending order.  An entry is a tuple that begins with a unique ``(order, seq)``.

    A rank is asked with that pair alone; whatever else an entry holds is never compared.
    """

    __slots__ = ("_blocks", "_gone", "_lasts", "_size", "_starts")

    def __init__(self) -> None:
        self._blocks: list[list[Any]] = []
        self._lasts: list[Any] = []  # the last entry of each block, to bisect
        # How many entries stand before each block, and how many of these have left at the head
        # since they were counted; None: count again.
        self._starts: list[int] | None = None
        self._gone = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def first(self) -> Any:
        """The entry at the head; None in an empty line."""
        return self._blocks[0][0] if self._blocks else None

    def last(self) -> Any:
        """The entry at the end.  The line must not be empty."""
        return self._lasts[-1]

    def add(self, entry: Any) -> None:
        """Take an entry in, at its place."""
        self._size += 1
        blocks, lasts = self._blocks, self._lasts
        if not blocks or (entry > lasts[-1] and len(blocks[-1]) >= _BLOCK):
            # Nearly everybody joins at the end: a new block there keeps the others full.
            blocks.append([entry])
            lasts.append(entry)
            self._starts = None
            return
        index = min(bisect_left(lasts, entry), len(blocks) - 1)
        if index < len(blocks) - 1 or len(blocks[index]) == 2 * _BLOCK:
            self._starts = None
        block = blocks[index]
        insort(block, entry)
        lasts[index] = block[-1]
        if len(block) > 2 * _BLOCK:
            blocks.insert(index + 1, block[_BLOCK:])
            del block[_BLOCK:]
            lasts.insert(index, block[-1])

    def remove(self, entry: Any) -> None:
        """Let an entry go that is in the line."""
        index = bisect_left(self._lasts, entry)
        block = self._blocks[index]
        del block[bisect_left(block, entry)]
        self._size -= 1
        if index or not block:
            self._starts = None
        else:
            self._gone += 1  # nearly everybody leaves at the head
        if block:
            self._lasts[index] = block[-1]
        else:
            del self._blocks[index], self._lasts[index]

    def rank(self, key: Key) -> int:
        """How many entries stand before this key, whether or not it is in the line itself."""
        index = bisect_left(self._lasts, key)
        if index == len(self._blocks):
            return self._size
        here = bisect_left(self._blocks[index], key)
        if index == 0:
            return here
        if self._starts is None:
            self._starts = [0, *accumulate(map(len, self._blocks))]
            self._gone = 0
        return self._starts[index] - self._gone + here

    def head(self, count: int) -> list[Any]:
        """The first ``count`` entries, or as many as there are."""
        entries: list[Any] = []
        for block in self._blocks:
            entries += block[: count - len(entries)]
            if len(entries) >= count:
                break
        return entries
