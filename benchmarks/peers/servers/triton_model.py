"""Triton's Python backend: base64 image in, probabilities out (dynamic batching on)."""

import base64
import os
import sys
from typing import Any

sys.path[:0] = os.environ["PEER_PATH"].split(":")
import numpy as np  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402
from common import decode, load  # noqa: E402


class TritonPythonModel:
    """One network."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the network, once at the start."""
        self.run = load()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Call the network once for the requests that Triton has batched."""
        images, counts = [], []
        for request in requests:
            items = pb_utils.get_input_tensor_by_name(request, "image").as_numpy().reshape(-1)
            counts.append(len(items))
            images += [decode(base64.b64decode(item)) for item in items]
        rows, responses, start = self.run(np.stack(images)), [], 0
        for count in counts:
            tensor = pb_utils.Tensor("probabilities", rows[start : start + count])
            responses.append(pb_utils.InferenceResponse([tensor]))
            start += count
        return responses
