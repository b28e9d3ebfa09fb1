"""What changed between two outputs, as the edits that Gradio's clients make.

An edit is ``[action, path, value]``.  These are of the whole value, whose path is empty: the
JavaScript client makes an edit in the very object that it has handed out before, so one further
down would change an output that somebody keeps.
"""

from __future__ import annotations

from typing import Any

from ._messages import encoded

__all__ = ["edits"]

Edit = list[Any]


def edits(old: Any, new: Any) -> list[Edit]:
    """What makes one value the other: a text that grows is told by what is new of it."""
    if isinstance(old, str) and isinstance(new, str) and new.startswith(old):
        return [["append", [], new[len(old) :]]] if new != old else []
    # JSON tells true from 1; Python's == does not.
    return [["replace", [], new]] if encoded(old) != encoded(new) else []
