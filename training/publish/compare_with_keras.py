"""Compare the served probabilities with Keras's on the same two files, at every precision of this machine."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_store.classifier import Classifier
from model_store.manifest import Precision
from model_store.network.model import Network
from training.errors import TrainingError

# The largest difference of any probability from Keras in float32. float32 engines differ in the order of sums only;
# bfloat16 keeps eight bits of each product's factors. int8 moves a few images of thousands far without harm to
# accuracy, so its tolerance is for the golden images alone.
TOLERANCES: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 0.1, "int8": 0.2}
COMPARED_IMAGES = 512
GOLDEN_IMAGES = 16


def check_served(
    classifiers: Sequence[Classifier], images: NDArray[np.uint8], references: NDArray[np.float32]
) -> dict[Precision, float]:
    """Compare served probabilities with Keras's (N, K). Returns the largest difference at each precision.

    Leaves out bfloat16 if a difference is over its tolerance: some networks answer otherwise if numbers are rounded.

    Args:
        classifiers: one of each precision.

    Raises:
        TrainingError: a difference is over the tolerance of float32 or int8.
    """
    differences: dict[Precision, float] = {}
    for classifier in classifiers:
        difference = np.abs(classifier.predict(images).probabilities - references).max(1)
        checked = difference[:GOLDEN_IMAGES] if classifier.precision == "int8" else difference
        is_close = checked.max() <= TOLERANCES[classifier.precision]
        if not is_close and classifier.precision == "bfloat16":
            continue
        if not is_close:
            raise TrainingError(
                f"in {classifier.precision} the served probabilities differ from Keras's by {checked.max():.4f}, "
                f"the tolerance is {TOLERANCES[classifier.precision]}; the version is not published"
            )
        differences[classifier.precision] = float(difference.max())
    return differences


def keras_probabilities(folder: Path, network: Network, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute probabilities (N, K) for uint8 images (N, H, W, C) by Keras itself, from the two files in a folder."""
    from training.fit.networks import load_keras, normalise

    model, batch = load_keras(folder), network.architecture.max_batch
    parts = [images[start : start + batch] for start in range(0, len(images), batch)]
    outputs: NDArray[np.float32] = np.concatenate(
        [model.predict_on_batch(normalise(part, network.preprocessing)) for part in parts]
    )
    return as_probabilities(outputs, network)


def as_probabilities(outputs: NDArray[np.float32], network: Network) -> NDArray[np.float32]:
    """Return the probabilities (N, K) that a network's outputs stand for."""
    return _softmax(outputs / network.temperature) if network.output == "logits" else outputs


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: NDArray[np.float32] = powers / powers.sum(1, keepdims=True)
    return probabilities
