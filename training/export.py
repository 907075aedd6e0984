"""The served network in another server's format, read back and compared before it is handed over."""

from pathlib import Path

import numpy as np
import openvino as ov

from model_store.classifier import Network
from model_store.network import build_float_network, build_network
from training.errors import TrainingError

TOLERANCE = 1e-4


def export_openvino(network: Network, out: Path) -> float:
    """Write OpenVINO IR, `out` and the .bin beside it: float32 0..1 (N, 32, 32, 3) in, probabilities (N, K) out.

    Returns the largest difference of any probability from the served network, in float32, on 64 random images.

    Raises:
        TrainingError: `out` does not end in .xml, or what was written gives other answers.
    """
    if out.suffix != ".xml":
        raise TrainingError(f"an OpenVINO network is written as NAME.xml and NAME.bin; --out is {out}")
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = (network.architecture, network.weights, network.preprocessing, network.output, network.temperature)
    ov.save_model(build_float_network(*parts), out, compress_to_fp16=False)
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    written = _run(ov.Core().read_model(out), images.astype(np.float32) / 255)
    difference = float(np.abs(written - _run(build_network(*parts), images)).max())
    if not difference <= TOLERANCE:
        raise TrainingError(f"{out} gives probabilities that differ by {difference}, more than {TOLERANCE}")
    return difference


def _run(model: ov.Model, images: np.ndarray) -> np.ndarray:
    result: np.ndarray = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images)[0]
    return result
