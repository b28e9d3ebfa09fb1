"""Records what clients see of Gradio's own server: `python -m tests.gradio.record`.

It installs that into `.bench`, beside the other servers that aioqueue is measured against. What it
writes is what `test_twins.py` compares with.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from contextlib import AbstractAsyncContextManager

from benchmarks.peers import HOMES, Peers
from tests.gradio.playing import FOLDER, PROGRAMS, RECORDED, missing, play_all
from tests.processes import ServerProcess, server_process


async def main() -> None:
    """Let each client play all scenarios, with a server of its own."""
    for client in PROGRAMS:
        print(f"Recording {client} ...", flush=True)
        async with real_app() as wide, real_app(MAX_SIZE="2") as narrow:
            told = await play_all(client, wide.url, narrow.url)
        text = json.dumps(told, indent=1, ensure_ascii=False)
        (RECORDED / f"{client}.json").write_text(text + "\n")


def real_app(**env: str) -> AbstractAsyncContextManager[ServerProcess]:
    """Gradio's server, which needs its time to start."""
    return server_process(
        FOLDER / "real_app.py",
        port=free_port(),
        env={"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"} | env,
        timeout=60,
        python=HOMES["gradio"].python,
    )


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    peers = Peers.set_up(["gradio"])
    for why in (*peers.missing.values(), *filter(None, map(missing, PROGRAMS))):
        sys.exit(why)
    RECORDED.mkdir(exist_ok=True)
    asyncio.run(main())
