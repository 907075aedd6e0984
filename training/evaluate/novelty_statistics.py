"""Fit the Gaussian of an early layer's features on training images, by which `model_store.novelty` measures distances.

Owns the choice of the layer and the two fits; `training.publish.fitting` says on which images and network.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model_store.classifier import Classifier, Predictions
from model_store.network.architecture import Architecture
from model_store.network.gaussian import Gaussian
from training.data.dataset import sample_evenly

GAUSSIAN_IMAGES = 10_000
SHRINKAGE = 0.1  # of the correlations towards none: directions that hardly vary do not decide, and few images suffice


def early_layer(architecture: Architecture) -> str | None:
    """Name the layer feeding the convolution at which feature maps first shrink to a quarter of the input or less.

    In the networks of our recipes it is the end of the first block: of all layers tried, distances there told
    out-of-distribution images best. None without such a convolution, or if it reads the images themselves.
    """
    nodes = {node.layer.name: node for node in architecture.nodes}
    quarter = max(architecture.input[:2]) // 4
    small = (node for node in architecture.nodes if len(node.shape) == 3 and 1 < max(node.shape[:2]) <= quarter)
    node = next(small, None)
    while node and node.inputs and not node.layer.is_convolution:
        node = nodes[node.inputs[0]]
    if node is None or not node.inputs:
        return None
    source = nodes[node.inputs[0]]
    while source.layer.is_identity:
        source = nodes[source.inputs[0]]
    return source.layer.name if source.inputs else None


def standard_gaussian(architecture: Architecture) -> Gaussian | None:
    """Build the Gaussian of mean 0 and covariance 1 of the early layer; None without one.

    A network compiled with it gives the features that `fit_gaussian` and `standardise` fit another one on.
    """
    layer = early_layer(architecture)
    if layer is None:
        return None
    channels = next(node.shape[2] for node in architecture.nodes if node.layer.name == layer)
    unscaled = np.zeros(2, np.float32), np.ones(2, np.float32)
    return Gaussian(layer, np.zeros(channels, np.float32), np.eye(channels, dtype=np.float32), *unscaled)


def fit_gaussian(gaussian: Gaussian, classifier: Classifier, pixels: NDArray[np.uint8]) -> Gaussian:
    """Fit mean and whitening on some training images (N, H, W, C); `standardise` fits the scales.

    Args:
        classifier: of the network with a Gaussian of the same layer, at the served precision.
    """
    features = classifier.predict(sample_evenly(pixels, GAUSSIAN_IMAGES)).features
    assert features is not None
    return replace(gaussian, mean=features.mean(0), whitening=compute_whitening(features))


def compute_whitening(means: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the matrix (C, C) that gives channels' means (N, C), less their mean, about unit covariance.

    Correlations are shrunk by a tenth. A channel that never varies counts as varying as much as the others do.
    """
    deviation = means.std(axis=0, dtype=np.float64)
    deviation = np.where(deviation > 1e-6 * deviation.max(), deviation, deviation.mean() or 1.0)
    standard = (means - means.mean(axis=0, dtype=np.float64)) / deviation
    correlation = (1 - SHRINKAGE) * standard.T @ standard / len(means)
    np.fill_diagonal(correlation, 1)
    matrix = np.linalg.inv(np.linalg.cholesky(correlation)).T / deviation[:, None]
    return np.asarray(matrix, np.float32)


def standardise(gaussian: Gaussian, predictions: Predictions) -> Gaussian:
    """Set the Gaussian's scales to those of the energies and distances of validation images."""
    assert predictions.energy is not None and predictions.features is not None
    both = np.stack([predictions.energy, gaussian.distances(predictions.features)], 1).astype(np.float64)
    spread = np.maximum(both.std(0), 1e-6)
    return replace(gaussian, centre=both.mean(0).astype(np.float32), spread=spread.astype(np.float32))
