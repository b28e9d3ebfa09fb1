"""A job from the values that a client sends, with the standing of its request."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import copy_context
from typing import Any

import attrs
from aiohttp import web

from .._active import Local
from .._arrivals import Arrivals
from .._request_hooks import standing_of
from .._submit import Submitter, new_job_id
from ._arguments import FileSources, payload
from ._catalogue import Exposed

__all__ = ["Submission"]


@attrs.frozen(slots=True)
class Submission:
    """Submits jobs, through the same queues and limits as every door.

    Args:
        submitter: what enqueues them.
        sources: where their files come from.
    """

    submitter: Submitter
    sources: FileSources

    async def submit(
        self,
        request: web.Request,
        exposed: Exposed,
        named: Mapping[str, Any],
        *,
        attached: bool,
    ) -> str:
        """Enqueue a job, and answer its id.

        Args:
            request: who asks.
            exposed: the function.
            named: its arguments.
            attached: whether it is cancelled when nobody listens to it any more.

        Raises:
            Refused: the arguments are wrong, or there is no room for it.
        """
        function, submitter = exposed.registered, self.submitter
        standing = await standing_of(submitter.settings, function, request)
        if any(one.is_file for one in exposed.signature.parameters):
            await submitter.refuse_early(function, request)
        bound = function.max_body_size
        max_bytes = request.client_max_size if bound is None else bound
        job_id = new_job_id()
        arrivals = Arrivals(submitter.spool, job_id)
        try:
            packed = await payload(
                exposed, named, self.sources, arrivals, standing.owner, max_bytes
            )
            is_bound = exposed.subject is not None or arrivals.any
            record = submitter.record(
                function, job_id, packed, standing, is_bound, attached=attached
            )
            app = function.app or request.app
            local = Local(copy_context(), app, exposed.subject)
            await submitter.enqueue(function, record, local, None)
        finally:
            submitter.scheduler.clear(job_id)
        return job_id
