"""mosec with a function that does nothing."""

import os
import sys

from mosec import Server, Worker


class Noop(Worker):
    """Does nothing."""

    def forward(self, data: object) -> str:
        """Do nothing."""
        return "done"


if __name__ == "__main__":
    sys.argv += ["--address", "127.0.0.1", "--port", os.environ["BENCHMARK_PORT"]]
    sys.argv += ["--log-level", "warning"]
    server = Server()
    server.append_worker(Noop, route="/noop")
    server.run()
