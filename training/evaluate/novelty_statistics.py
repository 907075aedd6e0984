"""What training images look like to an early layer of a network: the Gaussian that `model_store.novelty` measures by.

Owns which layer that is and the two fits; which images and whose network these are is `publish.py`'s business.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model_store.classifier import Classifier, Predictions
from model_store.network.architecture import Architecture
from model_store.network.gaussian import Gaussian
from model_store.network.layers import INPUT_SHAPE, Conv2D, Dropout
from model_store.network.model import Network
from training.data.dataset import spread

IMAGES = 10_000
SHRINKAGE = 0.1  # of the correlations towards none: directions that hardly vary do not decide, and few images suffice


def early_layer(architecture: Architecture) -> str | None:
    """What the convolution reads that first brings images down to a quarter of their side, or less.

    In the networks of our recipes it is what the first block gives: on these, of all layers tried, distances told
    foreign images best. None where there is no such convolution, or it reads the images themselves.
    """
    nodes = {node.layer.name: node for node in architecture.nodes}
    quarter = INPUT_SHAPE[0] // 4
    node = next((each for each in architecture.nodes if len(each.shape) == 3 and max(each.shape[:2]) <= quarter), None)
    while node and node.inputs and not isinstance(node.layer, Conv2D):
        node = nodes[node.inputs[0]]
    if node is None or not node.inputs:
        return None
    read = nodes[node.inputs[0]]
    while isinstance(read.layer, Dropout):
        read = nodes[read.inputs[0]]
    return read.layer.name if read.inputs else None


def with_gaussian(network: Network, pixels: NDArray[np.uint8]) -> Network:
    """The network with the Gaussian of its early layer on some training images (N, 32, 32, 3), at the served precision.

    Neither energies nor distances are standardised yet. A network without an early layer stays as it is.
    """
    layer = early_layer(network.architecture)
    if layer is None:
        return network
    channels = next(node.shape[2] for node in network.architecture.nodes if node.layer.name == layer)
    nothing = np.zeros(2, np.float32), np.ones(2, np.float32)
    plain = Gaussian(layer, np.zeros(channels, np.float32), np.eye(channels, dtype=np.float32), *nothing)
    means = Classifier(replace(network, gaussian=plain)).predict(spread(pixels, IMAGES)).features
    assert means is not None
    return replace(network, gaussian=replace(plain, mean=means.mean(0), whitening=whitening(means)))


def whitening(means: NDArray[np.float32]) -> NDArray[np.float32]:
    """The matrix (C, C) by which channels' means (N, C), less their mean, have about covariance one.

    Correlations are shrunk by a tenth. A channel that never varies counts as one that varies as much as the others do.
    """
    deviation = means.std(axis=0, dtype=np.float64)
    deviation = np.where(deviation > 1e-6 * deviation.max(), deviation, deviation.mean() or 1.0)
    standard = (means - means.mean(axis=0, dtype=np.float64)) / deviation
    correlation = (1 - SHRINKAGE) * standard.T @ standard / len(means)
    np.fill_diagonal(correlation, 1)
    found: NDArray[np.float32] = (np.linalg.inv(np.linalg.cholesky(correlation)).T / deviation[:, None]).astype(
        np.float32
    )
    return found


def standardised(gaussian: Gaussian, said: Predictions) -> Gaussian:
    """The Gaussian with the scale of the energies and distances of held-out images, of which a network says this."""
    assert said.energy is not None and said.features is not None
    both = np.stack([said.energy, gaussian.distances(said.features)], 1).astype(np.float64)
    spread = np.maximum(both.std(0), 1e-6)
    return replace(gaussian, centre=both.mean(0).astype(np.float32), spread=spread.astype(np.float32))
