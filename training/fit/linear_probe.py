"""A linear probe: the best last layer for the features of a network whose other layers stay as they are.

Fine-tuning starts from it, so that random weights of a new last layer do not spoil the layers below.
Source: Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
arXiv:2202.10054.
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from model_store.manifest import Preprocessing
from training.data.dataset import Images
from training.fit.networks import load_keras, normalise
from training.fit.run.directory import RunInfo

STEPS, L2 = 300, 1e-3
PREDICT_BATCH = 500


def fit_head(network: keras.Model, images: Images, preprocessing: Preprocessing) -> None:
    """Fit the weights of a network's last Dense layer on images and their mirror images."""
    *_, head = (layer for layer in network.layers if isinstance(layer, layers.Dense))
    body = keras.Model(network.inputs[0], head.input)
    features = np.concatenate(
        [_predict(body, images.pixels, preprocessing), _predict(body, images.pixels[:, :, ::-1], preprocessing)]
    )
    scale = float(np.sqrt(np.square(features).mean())) or 1.0
    weights = fit_logistic((features / scale).astype(np.float32), np.tile(images.labels, 2), head.units, head.use_bias)
    # What multiplies the layer's outputs on their way to the softmax.
    factor = np.prod([layer.scale for layer in network.layers if isinstance(layer, layers.Rescaling)])
    kernel = weights[: features.shape[1]] / scale / factor
    head.set_weights([kernel, weights[-1] / factor] if head.use_bias else [kernel])


def start_accuracy(folder: Path, info: RunInfo, val: Images) -> float | None:
    """Measure the network in a folder, as it is, among the labels of a run; None if it lacks one of them."""
    if not set(info.labels) <= set(info.start_labels):
        return None
    scores = _predict(load_keras(folder), val.pixels, info.preprocessing)
    columns = [info.start_labels.index(label) for label in info.labels]
    return float((scores[:, columns].argmax(1) == val.labels).mean())


def _predict(network: keras.Model, pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    outputs = [
        keras.ops.convert_to_numpy(
            network(normalise(pixels[first : first + PREDICT_BATCH], preprocessing), training=False)
        )
        for first in range(0, len(pixels), PREDICT_BATCH)
    ]
    return np.concatenate(outputs).astype(np.float32)


def fit_logistic(
    features: NDArray[np.float32], labels: NDArray[np.int32], classes: int, bias: bool
) -> NDArray[np.float32]:
    """Fit multinomial logistic regression with an L2 penalty; return its weights (D, K), or (D + 1, K) with a bias.

    Accelerated gradient descent (Beck and Teboulle, doi:10.1137/080716542), whose step follows from the largest
    eigenvalue.

    Args:
        features: (N, D), of about unit scale.
        labels: (N,), in 0..K-1.
    """
    if bias:
        features = np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1)
    targets = np.eye(classes, dtype=np.float32)[labels]
    step = np.float32(1 / (np.linalg.eigvalsh(features.T @ features / len(features))[-1] / 2 + L2))
    weights = previous = np.zeros((features.shape[1], classes), np.float32)
    for number in range(STEPS):
        ahead = weights + np.float32(number / (number + 3)) * (weights - previous)
        scores = features @ ahead
        powers = np.exp(scores - scores.max(1, keepdims=True))
        slope = features.T @ (powers / powers.sum(1, keepdims=True) - targets) / len(features) + L2 * ahead
        previous, weights = weights, ahead - step * slope
    return weights
