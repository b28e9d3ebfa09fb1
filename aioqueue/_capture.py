"""What functions say to ``logging``, for the clients of their jobs."""

from __future__ import annotations

import logging

from ._running import CURRENT, capture

__all__ = ["start_capturing", "stop_capturing"]


class _Capture(logging.Handler):
    """Hands each record to the job around it, if there is one that wants it.

    The text only: a traceback is for the server's own log.  Its ``handle`` takes no lock, since a
    thread that holds one while the loop logs, too, would stop the loop.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        job = CURRENT.get(None)
        if job is not None and record.name != "aioqueue":
            try:
                capture(job, record.getMessage(), record.levelname.lower())
            except Exception:
                self.handleError(record)
        # In an app that never configured logging Python prints warnings by itself, but only while
        # there is no handler at all.
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and _is_the_only_one(record.name):
            last.handle(record)
        return True


_HANDLER = _Capture()


def _is_the_only_one(name: str) -> bool:
    """Whether no other handler gets the records of this logger."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if any(handler is not _HANDLER for handler in logger.handlers):
            return False
        logger = logger.parent
    return True


_apps = 0


def start_capturing() -> None:
    """Look at every record that reaches the root logger, until as many have stopped as started."""
    global _apps
    _apps += 1
    logging.getLogger().addHandler(_HANDLER)  # once, however often


def stop_capturing() -> None:
    """Stop, if nobody else captures."""
    global _apps
    _apps -= 1
    if not _apps:
        logging.getLogger().removeHandler(_HANDLER)
