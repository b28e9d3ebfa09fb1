"""Jobs that wait for jobs, and whether that can ever end.

A job that waits inside itself for another one keeps its own slot meanwhile.  Where everybody who
could make room for a job waits like that, nobody ever will: whoever would complete the circle gets
an error instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ._errors import AioqueueError
from ._job import JobRecord, QueuePolicy
from ._scheduler import Scheduler

__all__ = ["Waits"]


class Waits:
    """Which running jobs of this process wait for which others.

    Args:
        scheduler: what knows who holds which places.
        policies: the queues, with their limits.
    """

    def __init__(self, scheduler: Scheduler, policies: Mapping[str, QueuePolicy]) -> None:
        self._scheduler = scheduler
        self._policies = policies
        self._waits: dict[str, list[JobRecord]] = {}  # by the id of the job that waits

    @contextmanager
    def wait(self, job_id: str, target: JobRecord) -> Iterator[None]:
        """Note that a running job waits for another one, from here to the end of the block.

        Raises:
            AioqueueError: it would wait for ever.
        """
        targets = self._waits.setdefault(job_id, [])
        targets.append(target)
        try:
            if self._never_ends(job_id, target):
                raise AioqueueError(
                    f"this job would wait for ever: all that could make room for {target.function} "
                    f"in the queue {target.queue!r} wait for jobs themselves. Give "
                    f"{target.function} a queue of its own (concurrency_id=…), or raise "
                    "concurrency_limit, or max_running_per_client if there is one."
                )
            yield
        finally:
            targets.remove(target)
            if not targets:
                del self._waits[job_id]

    def _never_ends(self, job_id: str, target: JobRecord) -> bool:
        stuck = set(self._waits)
        if not self._never_comes(target, stuck):
            return False  # by far the most common case: somebody at work will make room
        while ends := [one for one in stuck if not self._is_stuck(one, stuck)]:
            stuck.difference_update(ends)
        return job_id in stuck

    def _is_stuck(self, job_id: str, stuck: set[str]) -> bool:
        return any(self._never_comes(target, stuck) for target in self._waits[job_id])

    def _never_comes(self, target: JobRecord, stuck: set[str]) -> bool:
        """Whether the end of a job can't come while those that are stuck are."""
        holder = self._scheduler.holder(target.id)
        if holder is not None:
            return holder in stuck
        if not self._scheduler.waits(target.id):
            return False  # it has just ended, or is another process's
        slots, places = self._scheduler.holders(target)
        policy = self._policies[target.queue]
        cap = policy.max_running_per_client
        if cap is not None and target.client is not None:
            mine = self._scheduler.holders_of_client(target)
            if len(mine) >= cap and stuck.issuperset(mine):
                return True  # it is held beside the line
        limit = policy.concurrency_limit
        full = limit is not None and len(slots) >= limit
        if full and stuck.issuperset(slots):
            return True
        return not self._scheduler.can_start(target.function) and stuck.issuperset(places)
