"""aioqueue: a request queue for aiohttp.

``setup(app)``, decorate a route with ``queued``, and a slow function has a queue: requests wait
in order, a set number run at once, and each client sees its position, the time left and the
result, over Server-Sent Events.
"""

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
from ._parameters import Body
from ._running import JOB, Job, current_job
from ._settings import Settings
from .web import SETTINGS, middleware, queued, run_app, setup

__all__ = [
    "JOB",
    "SETTINGS",
    "AioqueueError",
    "Body",
    "ConfigurationError",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "JobHandle",
    "QueuedFunction",
    "Refused",
    "Settings",
    "current_job",
    "middleware",
    "queued",
    "run_app",
    "setup",
]

__version__ = "0.1.0"
