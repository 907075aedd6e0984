"""The ranges that int8 rounds in: measured on training images, adopted only if the held-out images do not mind.

Owns the measuring and the rule; what is rounded is `model_store.network.quantization`'s.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from model_store.classifier import Classifier, PrecisionChoice
from model_store.network.model import Network
from model_store.network.openvino import build_network
from model_store.network.quantization import quantizable, representable
from training.data.dataset import Images, spread
from training.evaluate.accuracy import predict

IMAGES, BATCH = 1_024, 128
PERCENTILE = 99.995
ALLOWED_LOSS = 0.001  # of accuracy


@dataclass(frozen=True)
class Quantization:
    """What the held-out images say of int8: accuracy at the precision without it, and with it."""

    images: int
    before: float
    after: float

    @property
    def pays(self) -> bool:
        """Whether the loss is one that the speed is worth."""
        return self.after >= self.before - ALLOWED_LOSS - 1e-9

    def document(self) -> dict[str, Any]:
        """Ready for a manifest."""
        return {"held_out_images": self.images, "accuracy_before": self.before, "accuracy_after": self.after}


def quantized(network: Network, pixels: NDArray[np.uint8]) -> Network:
    """The network with the ranges of its activations on some training images (N, 32, 32, 3).

    From the lowest value to the 99.995th percentile (mean over batches), since one outlier would cost all others their
    resolution. Source: Wu et al., "Integer Quantization for Deep Learning Inference", arXiv:2004.09602.
    """
    names = quantizable(network.architecture)
    model = build_network(replace(network, ranges=None, gaussian=None))
    nodes = {node.get_friendly_name(): node for node in model.get_ops()}
    inputs = {node.layer.name: node.inputs for node in network.architecture.nodes}

    def source(name: str) -> str:
        return name if name in nodes else source(inputs[name][0])  # a layer that changes nothing has no node

    measured = list(dict.fromkeys(map(source, names)))
    first = len(model.outputs)
    model.add_outputs([nodes[name].output(0) for name in measured])
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    lows: list[list[float]] = []
    highs: list[list[float]] = []
    sample = spread(pixels, IMAGES)
    for start in range(0, len(sample), BATCH):
        outputs = compiled(np.ascontiguousarray(sample[start : start + BATCH]))
        values = [outputs[first + index] for index in range(len(measured))]
        lows.append([float(value.min()) for value in values])
        highs.append([float(np.percentile(value, PERCENTILE)) for value in values])
    low, high = np.minimum(np.min(lows, 0), 0), np.maximum(np.mean(highs, 0), 1e-6)
    ranges = {name: representable(low[index], high[index]) for index, name in enumerate(measured)}
    return replace(network, ranges={name: ranges[source(name)] for name in names})


def measure(network: Network, held_out: Images) -> Quantization:
    """Compare a quantized network with itself without its ranges, on images that it did not learn from."""

    def accuracy(candidate: Network, precision: PrecisionChoice) -> float:
        called = predict(Classifier(candidate, precision=precision), held_out.pixels).argmax(1)
        return float((called == held_out.labels).mean())

    before = accuracy(replace(network, ranges=None), "auto")
    return Quantization(len(held_out), before, accuracy(network, "int8"))
