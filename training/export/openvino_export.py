"""Export a network as OpenVINO IR, and read IR and ONNX with OpenVINO."""

from pathlib import Path

import openvino as ov

from model_store.network.model import Network
from model_store.network.openvino import build_float_network
from model_store.network.processor import new_core
from model_store.os_errors import from_text, naming
from training.export.formats import Predict


def write_openvino(network: Network, path: Path) -> None:
    """Write OpenVINO IR in float32, `path` and the .bin beside it."""
    model = build_float_network(network)
    size = sum(array.nbytes for weights in network.weights.values() for array in weights.values())
    with naming(path):
        path.with_suffix(".bin").write_bytes(bytes(size))  # OpenVINO does not say why it cannot write
    try:
        ov.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:
        raise from_text(str(error)) from None


def open_openvino(path: Path) -> Predict:
    """Open IR or ONNX with OpenVINO, computing in float32."""
    core = new_core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: compiled(images)["probabilities"]
