"""LitServe with a function that does nothing."""

import os

import litserve


class Noop(litserve.LitAPI):
    """Does nothing."""

    def setup(self, device: str) -> None:
        """No model is to be loaded."""

    def decode_request(self, request: dict[str, object]) -> dict[str, object]:
        """Take it as it is."""
        return request

    def predict(self, request: dict[str, object]) -> str:
        """Do nothing."""
        return "done"

    def encode_response(self, output: str) -> str:
        """Send it as it is."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Noop(api_path="/noop"), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCHMARK_PORT"]),
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
