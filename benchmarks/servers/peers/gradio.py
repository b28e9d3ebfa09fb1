"""Gradio, with the functions of the other servers."""

import os
import time

import gradio

SECONDS = 0.01
LIMIT = 8


async def noop() -> str:
    """Do nothing."""
    return "done"


def sleepy() -> str:
    """Do the slow work of the viral minute."""
    time.sleep(SECONDS)
    return "done"


if __name__ == "__main__":
    with gradio.Blocks(analytics_enabled=False) as app:
        gradio.api(noop, api_name="noop", concurrency_limit=None)
        gradio.api(sleepy, api_name="sleepy", concurrency_limit=LIMIT)
    app.queue(max_size=None).launch(
        server_name="127.0.0.1",
        server_port=int(os.environ["BENCHMARK_PORT"]),
        quiet=True,
        share=False,
        ssr_mode=False,
    )
