"""What waits in all queues together, against the bounds of whoever enqueues."""

from __future__ import annotations

from .._job import AdmissionLimits, JobRecord
from .base import Enqueued

__all__ = ["Backlog"]


class Backlog:
    """The counts of the waiting jobs of the whole app."""

    def __init__(self) -> None:
        self.size = 0
        self._bytes = 0
        self._by_client: dict[str, int] = {}

    def grow(self, record: JobRecord) -> None:
        """A job begins to wait."""
        self.size += 1
        self._bytes += len(record.payload)
        if record.client is not None:
            self._by_client[record.client] = self._by_client.get(record.client, 0) + 1

    def shrink(self, record: JobRecord) -> None:
        """A job stops waiting."""
        self.size -= 1
        self._bytes -= len(record.payload)
        if record.client is not None:
            self._by_client[record.client] -= 1
            if not self._by_client[record.client]:
                del self._by_client[record.client]

    def refusal(self, record: JobRecord, waiting: int, limits: AdmissionLimits) -> Enqueued | None:
        """Why one more job can't wait, if it can't; so many of its function's wait already."""
        quota = limits.max_queued_per_client
        if quota is not None and record.client is not None:
            size = self._by_client.get(record.client, 0)
            if size >= quota:
                return Enqueued("quota_exceeded", record.id, size, quota)
        for size, bound in (
            (self.size, limits.max_size),
            (waiting, limits.function_max_size),
        ):
            if bound is not None and size >= bound:
                return Enqueued("queue_full", record.id, size, bound)
        if limits.too_long:
            return Enqueued("wait_too_long", record.id, self.size, limits.max_size)
        bound = limits.max_queued_bytes
        if bound is not None and self._bytes + len(record.payload) > bound:
            return Enqueued("queue_full", record.id, self.size, limits.max_size)
        return None
