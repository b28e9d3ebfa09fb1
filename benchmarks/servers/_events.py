"""Events of the size aioqueue sends, for the peers that have no queue to take them from."""

from typing import Any

_JOB = "pZ3kq0vX7cYwR1mB2nT5aQ"

EVENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "state",
        {
            "type": "state",
            "job": _JOB,
            "id": _JOB,
            "function": "noop",
            "state": "queued",
            "position": 1,
            "queue_size": 1,
            "eta": 0.1,
            "eta_high": 0.2,
            "progress": None,
            "cancel_requested": False,
            "created": "2026-11-23T15:44:26.101Z",
            "started": None,
            "finished": None,
            "expires": None,
            "result": None,
            "error": None,
            "links": {
                "self": f"/queue/jobs/{_JOB}",
                "events": f"/queue/jobs/{_JOB}/events",
                "result": f"/queue/jobs/{_JOB}/result",
            },
            "truncated": False,
        },
    ),
    ("started", {"type": "started", "job": _JOB, "eta": 0.1}),
    ("succeeded", {"type": "succeeded", "job": _JOB, "result": "done"}),
)
