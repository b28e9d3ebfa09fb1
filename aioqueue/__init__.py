"""aioqueue: a request queue for aiohttp.

``setup(app)``, decorate a route with ``queued``, and a slow function has a queue: requests wait
in order, a set number run at once, and each client sees its position, the time left and the
result, over Server-Sent Events.
"""

from typing import TYPE_CHECKING, Any

from ._errors import (
    AioqueueError,
    ConfigurationError,
    JobCancelled,
    JobError,
    JobFailed,
    Refused,
)
from ._function import QueuedFunction
from ._handle import JobHandle
from ._hooks import FinishedJob
from ._parameters import Body
from ._running import JOB, Job, current_job
from ._settings import Settings
from ._upload import Upload
from .web import SETTINGS, middleware, queued, run_app, setup

__all__ = [
    "JOB",
    "SETTINGS",
    "AioqueueError",
    "Body",
    "ConfigurationError",
    "FinishedJob",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "JobHandle",
    "QueuedFunction",
    "Refused",
    "Settings",
    "Upload",
    "current_job",
    "middleware",
    "queued",
    "run_app",
    "setup",
    "tqdm",
]

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ._tqdm import tqdm


def __getattr__(name: str) -> Any:
    """``aioqueue.tqdm``, for those who have tqdm."""
    if name != "tqdm":
        raise AttributeError(f"module 'aioqueue' has no attribute {name!r}")
    try:
        from ._tqdm import tqdm
    except ImportError:
        raise ImportError(
            "aioqueue.tqdm needs tqdm: pip install 'aiohttp-queue[tqdm]', or tqdm itself"
        ) from None
    return tqdm
