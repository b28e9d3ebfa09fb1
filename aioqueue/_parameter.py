"""One parameter of a queued function, and what may fill it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import attrs

from ._annotations import ARRAYS, is_array, kind_of, options_of
from ._convert import Hook
from ._upload import Upload

__all__ = ["Parameter"]


@attrs.frozen(slots=True)
class Parameter:
    """A parameter, with what makes its values."""

    name: str
    annotation: Any
    default: Any
    whole_body: bool
    from_json: Hook
    from_text: Hook

    @property
    def is_list(self) -> bool:
        """Whether a name that is given several times makes sense."""
        return any(kind_of(option) in ARRAYS for option in options_of(self.annotation))

    # Files

    @property
    def is_file(self) -> bool:
        """Whether it is for a file, or several."""
        kinds = options_of(self.annotation)
        return bytes in kinds or Upload in kinds or self.is_list_of_files

    @property
    def is_list_of_files(self) -> bool:
        """Whether it takes all files of its name."""
        return any(kind in (bytes, Upload) for kind in self._listed())

    @property
    def is_on_disk(self) -> bool:
        """Whether its files go to disk as they arrive."""
        return Upload in options_of(self.annotation) or Upload in self._listed()

    @property
    def may_be_file(self) -> bool:
        """Whether a file that came under its name may be right: anything may, for an Any."""
        if self.is_file:
            return True
        try:
            self.from_json(b"", self.annotation)
        except Exception:  # whatever it is, it only says that this does not fit
            return False
        return True

    def _listed(self) -> Iterator[Any]:
        for option in options_of(self.annotation):
            if is_array(option):
                yield from get_args(option)[:1]
