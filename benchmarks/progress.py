"""How far a run is, for whoever waits for it."""

import sys
import time
from collections.abc import Hashable, Iterable, Sequence

from attrs import frozen


@frozen
class Step:
    """One turn of one peer, and how many seconds it may take."""

    label: str
    kind: Hashable
    """Steps of one kind take about the same time."""
    guess: float


class Progress:
    """Says on standard error which step is under way and how long the rest will take."""

    def __init__(self, steps: Sequence[Step]) -> None:
        """Begin before the first of `steps`."""
        self._left = list(steps)
        self._last_took: dict[Hashable, float] = {}
        self._terminal = sys.stderr.isatty()

    def begin(self) -> None:
        """Show the step that begins now."""
        self._began = time.monotonic()
        seconds = round(sum(self._last_took.get(step.kind, step.guess) for step in self._left))
        self._show(f"{self._left[0].label}, about {seconds // 60}:{seconds % 60:02} left")

    def end(self) -> None:
        """Learn from the step that has ended."""
        step = self._left.pop(0)
        self._last_took[step.kind] = time.monotonic() - self._began
        if not self._left:
            self.clear()

    def skip(self, steps: Iterable[Step]) -> None:
        """Leave out what is left of the steps of these kinds."""
        kinds = {step.kind for step in steps}
        self._left = [step for step in self._left if step.kind not in kinds]

    def clear(self) -> None:
        """Make room for other output."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _show(self, line: str) -> None:
        if self._terminal:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)
