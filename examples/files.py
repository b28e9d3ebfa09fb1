"""A film in, a film out, and no memory in between: ``curl -F film=@a.mov …/shrink -o small.gz``."""

import gzip
import os
import shutil
from pathlib import Path

from aiohttp import web

import aioqueue


@aioqueue.queued(concurrency_limit=2, max_body_size=2 << 30)
def shrink(film: aioqueue.Upload, job: aioqueue.Job = aioqueue.JOB) -> Path:
    """Stand in for what makes one large file of another."""
    if not film.size:
        raise aioqueue.JobError("This film is empty.", status=422)
    result = job.directory / f"{film.name or 'film'}.gz"
    with film.open() as source, gzip.open(result, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target)
    return result


app = web.Application()
app.add_routes([web.post("/shrink", shrink)])
aioqueue.setup(app, body_timeout=600)

if __name__ == "__main__":
    aioqueue.run_app(app, port=int(os.environ.get("PORT", "8080")))
