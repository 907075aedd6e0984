"""LitServe with its own batching: `litserve_peer.py PORT`."""

import sys
from typing import Any

import litserve as ls
import numpy as np
from common import answer, decode, load
from fastapi import Request
from numpy.typing import NDArray


class Api(ls.LitAPI):
    """Decoding, batches and answers as LitServe's hooks."""

    def setup(self, device: str) -> None:
        """Once in each worker."""
        self.run = load()

    def decode_request(self, request: Request) -> NDArray[np.uint8]:
        """One image in the form field `file`. LitServe parses a body by what this is annotated with."""
        return decode(request["file"].file.read())

    def batch(self, inputs: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Several images as one array."""
        return np.stack(inputs)

    def predict(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One call of the network."""
        return self.run(batch)

    def unbatch(self, output: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """A row for each image."""
        return list(output)

    def encode_response(self, row: NDArray[np.float32]) -> dict[str, Any]:
        """One answer."""
        return answer(row)


if __name__ == "__main__":
    api = Api(max_batch_size=32, batch_timeout=0.002)
    server = ls.LitServer(api, accelerator="cpu")
    server.run(port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="warning")
