"""Bars of tqdm's as the progress of jobs.

This module needs tqdm, which aioqueue does not: it is imported when somebody asks for it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tqdm.std import tqdm as plain_tqdm

from ._running import CURRENT, Job, let_go_of_bar, show_bar, tracks_tqdm

__all__ = ["start_tracking", "stop_tracking", "tqdm"]


if TYPE_CHECKING:
    _Base = plain_tqdm[Any]
else:
    _Base = plain_tqdm


class tqdm(_Base):
    """A tqdm bar that is the progress of the job around it, and an ordinary bar elsewhere.

    Of nested bars the outermost counts.  In a cancelled job ``update``, and the loop over the bar,
    raise JobCancelled.

    Example::

        for page in aioqueue.tqdm(pages, desc="pages"):
            read(page)
    """

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Show how far it is.  Called by tqdm ten times a second at most."""
        _show(CURRENT.get(None), self)
        return super().display(msg, pos)

    def update(self, n: float | None = 1) -> bool | None:
        """Go ``n`` steps on.

        Raises:
            JobCancelled: the job around it was cancelled.
        """
        updated = super().update(n)
        _stop_if_cancelled(CURRENT.get(None))
        return updated

    def close(self) -> None:
        """Be at the end."""
        super().close()
        _let_go(self)


def _show(job: Job | None, bar: plain_tqdm[Any]) -> None:
    # A bar is its maker's, where it was shown first: tqdm.write() in a job shows all bars again.
    job = vars(bar).setdefault("_aioqueue_job", job)
    if job is not None:
        # Nothing may be raised here: tqdm holds a lock of all bars, and would keep it.
        with suppress(Exception):
            show_bar(job, bar, bar.n, bar.total, bar.desc)


def _stop_if_cancelled(job: Job | None) -> None:
    if job is not None:
        job.raise_if_cancelled()


def _let_go(bar: plain_tqdm[Any]) -> None:
    job = vars(bar).get("_aioqueue_job")
    if job is not None:
        let_go_of_bar(job, bar)


# Any bar, in the functions that want it

_display, _update, _close = plain_tqdm.display, plain_tqdm.update, plain_tqdm.close
_apps = 0


def start_tracking() -> None:
    """Look at every bar, until as many have stopped as started."""
    global _apps
    _apps += 1
    _patch(_tracked_display, _tracked_update, _tracked_close)


def stop_tracking() -> None:
    """Stop, if nobody else tracks."""
    global _apps
    _apps -= 1
    if not _apps:
        _patch(_display, _update, _close)


def _patch(display: Any, update: Any, close: Any) -> None:
    bars: Any = plain_tqdm
    bars.display, bars.update, bars.close = display, update, close


def _tracking_job() -> Job | None:
    job = CURRENT.get(None)
    return job if job is not None and tracks_tqdm(job) else None


def _tracked_display(bar: plain_tqdm[Any], msg: str | None = None, pos: int | None = None) -> Any:
    _show(_tracking_job(), bar)
    return _display(bar, msg, pos)


def _tracked_update(bar: plain_tqdm[Any], n: float | None = 1) -> bool | None:
    updated = _update(bar, n)
    _stop_if_cancelled(_tracking_job())
    return updated


def _tracked_close(bar: plain_tqdm[Any]) -> None:
    _close(bar)
    _let_go(bar)
