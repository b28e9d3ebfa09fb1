"""A file from a form, checked and read before it waits: ``curl -F image=@photo.jpg …/describe``."""

import hashlib
import os
from typing import Literal

from aiohttp import web

import aioqueue


@aioqueue.queued(concurrency_limit=2, max_body_size=10 << 20)
def describe(image: bytes, detail: Literal["low", "high"] = "low") -> dict[str, object]:
    """Stand in for a model that looks at a picture."""
    if not image:
        raise aioqueue.JobError("This picture is empty.", status=422)
    digest = hashlib.sha256(image).hexdigest()
    return {"bytes": len(image), "digest": digest if detail == "high" else digest[:8]}


app = web.Application()
app.add_routes([web.post("/describe", describe)])
aioqueue.setup(app)

if __name__ == "__main__":
    aioqueue.run_app(app, port=int(os.environ.get("PORT", "8080")))
