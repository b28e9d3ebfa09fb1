"""Time that stands still until a test moves it."""


class ManualClock:
    """Stands in for `time.monotonic`: call it for the seconds, `advance` it to let them pass."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let seconds pass; never backwards, as a monotonic clock promises."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot go back by {-seconds} s")
        self.now += seconds
