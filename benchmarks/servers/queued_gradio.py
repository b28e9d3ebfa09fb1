"""The same app, for Gradio's own clients."""

import aioqueue
import aioqueue.gradio
from benchmarks.servers._serving import run_options
from benchmarks.servers.queued import app

aioqueue.gradio.setup(app)

if __name__ == "__main__":
    aioqueue.run_app(app, **run_options())
