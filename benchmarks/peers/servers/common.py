"""Network, decoding and answer shared by peer servers, in $PROCESSES processes with $THREADS network threads each.

These peers run in environments of their own and import only this folder of ours; the others use `ours.py`.
"""

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from PIL import Image

PROCESSES, THREADS = (int(os.environ[name]) for name in ("PROCESSES", "THREADS"))
LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def load() -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return predict(uint8 (N, 32, 32, 3)) -> float32 (N, 10) for the OpenVINO IR at $MODEL_XML."""
    core = ov.Core()
    network = core.read_model(os.environ["MODEL_XML"])
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS, "ENABLE_CPU_PINNING": PROCESSES == 1}
    compiled = core.compile_model(network, "CPU", options)
    request, output = compiled.create_infer_request(), compiled.output(0)
    wants_float = compiled.input(0).element_type == ov.Type.f32

    def predict(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = request.infer(batch.astype(np.float32) / 255 if wants_float else batch)[output]
        return rows.copy()

    return predict


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode with plain Pillow, as a competent user of any of these servers would."""
    image = Image.open(io.BytesIO(data)).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
    return np.asarray(image)


def answer(row: NDArray[np.float32]) -> dict[str, Any]:
    """Return the label and all probabilities."""
    return {"label": LABELS[int(row.argmax())], "probabilities": dict(zip(LABELS, map(float, row), strict=True))}
