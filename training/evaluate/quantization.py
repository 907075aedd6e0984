"""Measure activation ranges for int8 on training images, and the drop in accuracy on validation images.

Owns the measurements and the allowed loss; `model_store.network.quantization` says which activations are rounded.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store.classifier import Predictions
from model_store.network.model import Network
from model_store.network.openvino import build_network
from model_store.network.processor import new_core
from model_store.network.quantization import quantizable, representable
from training.data.dataset import sample_evenly

RANGE_IMAGES, RANGE_BATCH = 1_024, 128
PERCENTILE = 99.995
MAX_LOSS = 0.001  # of accuracy


@dataclass(frozen=True)
class Quantization:
    """Validation accuracy in the precision served otherwise (`before`) and in int8 (`after`)."""

    images: int
    before: float
    after: float

    @property
    def pays(self) -> bool:
        """Return True if accuracy drops by at most `MAX_LOSS`."""
        return self.after >= self.before - MAX_LOSS - 1e-9

    def document(self) -> dict[str, Any]:
        """Return the figures as a manifest stores them."""
        return {"held_out_images": self.images, "accuracy_before": self.before, "accuracy_after": self.after}


def quantize(network: Network, pixels: NDArray[np.uint8]) -> Network:
    """Return the network with activation ranges measured on a sample of training images (N, H, W, C).

    They reach from the lowest value to the 99.995th percentile (mean over batches), since one outlier would cost all
    others their resolution. Source: Wu et al., "Integer Quantization for Deep Learning Inference", arXiv:2004.09602.
    """
    names = quantizable(network.architecture)
    model = build_network(replace(network, ranges=None, gaussian=None))
    nodes = {node.get_friendly_name(): node for node in model.get_ops()}
    inputs = {node.layer.name: node.inputs for node in network.architecture.nodes}

    def source(name: str) -> str:
        return name if name in nodes else source(inputs[name][0])  # Dropout has no node

    sources = list(dict.fromkeys(map(source, names)))
    first = len(model.outputs)
    model.add_outputs([nodes[name].output(0) for name in sources])
    compiled = new_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    lows: list[list[float]] = []
    highs: list[list[float]] = []
    sample = sample_evenly(pixels, RANGE_IMAGES)
    batch = min(RANGE_BATCH, 2 * network.architecture.max_batch)  # smaller for large networks
    for start in range(0, len(sample), batch):
        outputs = compiled(np.ascontiguousarray(sample[start : start + batch]))
        values = [outputs[first + index] for index in range(len(sources))]
        lows.append([float(value.min()) for value in values])
        highs.append([float(np.percentile(value, PERCENTILE)) for value in values])
    low, high = np.minimum(np.min(lows, 0), 0), np.maximum(np.mean(highs, 0), 1e-6)
    ranges = {name: representable(low[index], high[index]) for index, name in enumerate(sources)}
    return replace(network, ranges={name: ranges[source(name)] for name in names})


def measure_quantization(before: Predictions, after: Predictions, labels: NDArray[np.int32]) -> Quantization:
    """Compare the accuracy without and with int8 on validation images with labels (N,)."""
    accuracies = [float((predictions.probabilities.argmax(1) == labels).mean()) for predictions in (before, after)]
    return Quantization(len(labels), *accuracies)
