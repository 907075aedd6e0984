"""LitServe with its own batching: `litserve_peer.py PORT`."""

import sys
from typing import Any

import litserve as ls
import numpy as np
from common import PROCESSES, answer, decode, load
from fastapi import Request
from numpy.typing import NDArray


class Api(ls.LitAPI):
    """Decoding, batches and answers as LitServe's hooks."""

    def setup(self, device: str) -> None:
        """Load the network, once per worker."""
        self.run = load()

    def decode_request(self, request: Request) -> NDArray[np.uint8]:
        """Decode the form field `file`. LitServe picks the body parser by this annotation."""
        return decode(request["file"].file.read())

    def batch(self, inputs: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Stack several images."""
        return np.stack(inputs)

    def predict(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Call the network once."""
        return self.run(batch)

    def unbatch(self, output: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Split into one row per image."""
        return list(output)

    def encode_response(self, row: NDArray[np.float32]) -> dict[str, Any]:
        """Return one answer."""
        return answer(row)


if __name__ == "__main__":
    api = Api(max_batch_size=32, batch_timeout=0.002)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=PROCESSES)
    server.run(port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="warning")
