"""A job from code: its files adopted, its arguments packed, its standing that of the job around."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import copy_context
from typing import Any

import attrs
import orjson
from aiohttp import web

from ._active import Local
from ._arrivals import Arrivals
from ._encoding import compact
from ._handle import SubmitOptions
from ._job import Order, QueuePolicy
from ._registry import Registered
from ._request_hooks import Standing, owner_text
from ._running import CURRENT, standing_of
from ._scheduler import Scheduler
from ._spool import Spool
from ._submit import Submitter, new_job_id

__all__ = ["Calls"]


@attrs.frozen(slots=True, kw_only=True)
class Calls:
    """Takes calls from code, through the same queues and limits as every request."""

    app: web.Application
    scheduler: Scheduler
    submitter: Submitter
    spool: Spool
    policies: Mapping[str, QueuePolicy]

    async def submit(
        self,
        registered: Registered,
        arguments: Mapping[str, Any],
        subject: Any,
        options: SubmitOptions,
    ) -> str:
        """Enqueue a job, and answer its id.

        Raises:
            Refused: there is no room for it.
            TypeError: the arguments have no JSON form, or are not what the function takes.
        """
        assert registered.function is not None
        job_id = new_job_id()
        arrivals = Arrivals(self.spool, job_id)
        try:
            adopted = await arrivals.adopt(arguments)
            payload = registered.function.signature.payload_of_call(adopted)
            is_bound = subject is not None or arrivals.any
            standing = self._standing(registered, options)
            record = self.submitter.record(
                registered, job_id, payload, standing, is_bound, attached=False
            )
            around = CURRENT.get(None)
            app = registered.app or (around.app if around is not None else self.app)
            local = Local(copy_context(), app, subject)
            return (await self.submitter.enqueue(registered, record, local, None)).job_id
        finally:
            self.scheduler.clear(job_id)

    def _standing(self, registered: Registered, options: SubmitOptions) -> Standing:
        """Whose it is; what its options leave out is that of the job around."""
        around = CURRENT.get(None)
        owner, metadata = owner_text(options.owner), options.metadata
        client, priority = owner_text(options.client), options.priority
        if around is not None:
            its_client, its_priority = standing_of(around)
            owner = around.owner if owner is None else owner
            metadata = around.metadata if metadata is None else metadata
            client = its_client if client is None else client
            queue = self.scheduler.queue_of(around.id)
            if priority is None and queue and self.policies[queue].order is Order.PRIORITY:
                priority = its_priority
        if priority is None:
            priority = registered.priority if isinstance(registered.priority, int | float) else 0.0
        kept = None if metadata is None else compact(orjson.dumps(metadata))
        return Standing(owner, client, priority, kept)
