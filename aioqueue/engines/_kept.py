"""The jobs an engine knows, and how long it remembers those that have ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ._entry import Entry
from .base import Dedup, Enqueued, Retention

__all__ = ["Kept"]


class Kept:
    """Every job by its id, its idempotency key and its group, until it is forgotten."""

    def __init__(self) -> None:
        self.retention = Retention()
        self._jobs: dict[str, Entry] = {}
        self.get = self._jobs.get
        """A job by its id, if it is known; the dictionary's own, since it is asked so often."""
        self._ended: deque[Entry] = deque()  # by the time of their end
        self._keys: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._groups: dict[str, dict[str, None]] = {}
        self._result_bytes = 0

    def members(self, group: str) -> Sequence[str]:
        """The ids of the jobs with this label."""
        return tuple(self._groups.get(group, ()))

    def recognise(self, dedup: Dedup) -> Enqueued | None:
        """What to answer to an idempotency key that was used before."""
        known = self._keys.get((dedup.scope, dedup.key))
        if known is None:
            return None
        job_id, fingerprint = known
        return Enqueued("duplicate" if fingerprint == dedup.fingerprint else "conflict", job_id)

    def add(self, entry: Entry, dedup: Dedup | None, group: str | None) -> None:
        """Get to know a job."""
        job_id = entry.record.id
        self._jobs[job_id] = entry
        if dedup is not None:
            entry.dedup = (dedup.scope, dedup.key)
            self._keys[entry.dedup] = (job_id, dedup.fingerprint)
        if group is not None:
            entry.group = group
            self._groups.setdefault(group, {})[job_id] = None

    def end(self, entry: Entry, now: float) -> None:
        """A job has ended: remember it for its time, if it is to be remembered at all."""
        if not entry.record.retained:
            self._forget(entry)
            return
        self._ended.append(entry)
        self._result_bytes += entry.result_size()
        self.evict(now)

    def evict(self, now: float) -> None:
        """Forget the oldest ended jobs: those past their time, and those beyond the bounds."""
        kept, ended = self.retention, self._ended
        while ended:
            oldest = ended[0]
            assert oldest.finished is not None
            if not (
                len(ended) > kept.max_results
                or (self._result_bytes > kept.max_result_bytes and len(ended) > 1)
                or now >= oldest.finished + kept.result_ttl
            ):
                break
            ended.popleft()
            self._result_bytes -= oldest.result_size()
            self._forget(oldest)

    def _forget(self, entry: Entry) -> None:
        job_id = entry.record.id
        del self._jobs[job_id]
        if entry.dedup is not None:
            del self._keys[entry.dedup]
        if entry.group is not None:
            group = self._groups[entry.group]
            del group[job_id]
            if not group:
                del self._groups[entry.group]
        entry.notify()
