"""What changed between two JSON values, as a list of edits.

An edit is ``[action, path, value]``: ``replace`` sets, ``append`` adds to a text, ``add`` puts in,
``delete`` takes out; a path is the keys and indices from the whole value.  They are applied in
their order.
"""

from __future__ import annotations

from typing import Any

__all__ = ["edits"]

Edit = list[Any]

_MOST = 100
"""More edits than that are dearer than the value itself."""

_DEEP = 32
"""What changes further down is sent with all that is around it there."""


def edits(old: Any, new: Any) -> list[Edit]:
    """What makes one value the other."""
    found: list[Edit] = []
    _compare(old, new, [], found)
    return found if len(found) <= _MOST else [["replace", [], new]]


def _compare(old: Any, new: Any, path: list[str | int], found: list[Edit]) -> None:
    if len(found) > _MOST:
        return
    # JSON tells true from 1; Python's == does not.
    if type(old) is not type(new) or len(path) == _DEEP:
        found.append(["replace", path, new])
    elif isinstance(new, dict):
        _compare_objects(old, new, path, found)
    elif isinstance(new, list):
        _compare_arrays(old, new, path, found)
    elif isinstance(new, str) and new != old and new.startswith(old):
        found.append(["append", path, new[len(old) :]])
    elif new != old:
        found.append(["replace", path, new])


def _compare_objects(
    old: dict[str, Any], new: dict[str, Any], path: list[str | int], found: list[Edit]
) -> None:
    found += [["delete", [*path, key], None] for key in old if key not in new]
    for key, value in new.items():
        if key in old:
            _compare(old[key], value, [*path, key], found)
        else:
            found.append(["add", [*path, key], value])


def _compare_arrays(
    old: list[Any], new: list[Any], path: list[str | int], found: list[Edit]
) -> None:
    for index, (before, after) in enumerate(zip(old, new, strict=False)):
        _compare(before, after, [*path, index], found)
    found += [["delete", [*path, index], None] for index in range(len(old) - 1, len(new) - 1, -1)]
    found += [["add", [*path, index], new[index]] for index in range(len(old), len(new))]
