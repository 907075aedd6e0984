"""`novelty.npz`: a Gaussian of training images' features in an early layer, for the out-of-distribution score.

The score combines the energy of the logits (see `model_store.novelty`) with the Mahalanobis distance between an early
layer's channel means and those of training images: Lee et al., "A Simple Unified Framework for Detecting
Out-of-Distribution Samples and Adversarial Attacks", arXiv:1807.03888, but with one Gaussian for all classes.
`training.evaluate.novelty_statistics` fits it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_store.arrays import read_arrays
from model_store.errors import ModelError
from model_store.files import MAX_BYTES, NOVELTY
from model_store.network.architecture import Architecture

Floats = NDArray[np.float32]

TINY = np.finfo(np.float32).tiny
DISTANCE_KNEE = np.float32(4)  # standard deviations
ARRAYS = ("mean", "whitening", "centre", "spread")


@dataclass(frozen=True)
class Gaussian:
    """Distribution of training images' features in an early layer, and of validation images' scores."""

    layer: str
    mean: Floats  # (C,): mean of the features, which are the layer's channel means
    whitening: Floats  # (C, C): (features - mean) @ whitening has unit covariance
    centre: Floats  # (2,): mean of validation images' energies, and of their distances
    spread: Floats  # (2,): standard deviations of both

    def distances(self, features: Floats) -> Floats:
        """Return the logarithm (N,) of the squared Mahalanobis distances of features (N, C)."""
        # einsum, because a matrix product may start BLAS's own threads; it costs a hundredth of a convolution.
        white = np.einsum("nc,cd->nd", features - self.mean, self.whitening)
        squared: Floats = np.maximum(np.einsum("nd,nd->n", white, white), TINY)
        return np.log(squared)

    def standardise(self, energy: Floats, features: Floats) -> tuple[Floats, Floats]:
        """Return energies (N,) and distances of features (N, C), in standard deviations above validation images' mean.

        NaN becomes infinite: the most novel.
        """
        measures = zip((energy, self.distances(features)), self.centre, self.spread, strict=True)
        last, early = ((values - centre) / spread for values, centre, spread in measures)
        return tuple(np.where(np.isnan(values), np.float32(np.inf), values) for values in (last, early))  # type: ignore[return-value]


def ood_scores(energy: Floats, distance: Floats) -> Floats:
    """Return out-of-distribution scores (N,) of standardised energies and distances, from which novelty follows.

    The score is the Euclidean norm of the two if both are above the mean, else the larger one.
    """
    scores: Floats = np.hypot(np.maximum(energy, 0), np.maximum(distance, 0))
    return scores + np.minimum(np.maximum(energy, distance), 0)


def rejection_scores(energy: Floats, distance: Floats) -> Floats:
    """Return scores (N,) of standardised energies and distances, above which the verdict is `none_of_these`.

    The energy, which is low where the network is confident, counts alone up to `DISTANCE_KNEE`; only a distance beyond
    that adds to it. Resized photographs of known classes are often one to three standard deviations away. After SIRC:
    Xia and Bouganis, arXiv:2207.07506.
    """
    scores: Floats = energy + np.maximum(distance - DISTANCE_KNEE, 0)
    return scores


def write_gaussian(gaussian: Gaussian, path: Path) -> None:
    """Write `novelty.npz`: the layer's name, and the float32 arrays of `Gaussian`."""
    arrays = {name: getattr(gaussian, name) for name in ARRAYS}
    np.savez(path, layer=np.array(gaussian.layer), **arrays)


def read_gaussian(content: bytes, architecture: Architecture) -> Gaussian:
    """Read `novelty.npz`; pickled objects are refused.

    Raises:
        ModelError: it cannot be read, or does not fit a layer of the network whose output is images.
    """
    fields = read_arrays(content, NOVELTY, ("layer", *ARRAYS), MAX_BYTES[NOVELTY])
    layer = str(fields.pop("layer"))
    images = (node for node in architecture.nodes[1:] if len(node.shape) == 3 and not node.layer.is_identity)
    shapes = {node.layer.name: node.shape for node in images}
    if layer not in shapes:
        raise ModelError(f"{NOVELTY} names {layer[:80]!r}, which is not a layer of this network whose output is images")
    channels = shapes[layer][2]
    for name, shape in zip(ARRAYS, ((channels,), (channels, channels), (2,), (2,)), strict=True):
        array = fields[name]
        if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
            raise ModelError(
                f"{NOVELTY} holds {name} {array.dtype} {array.shape}, not finite float32 {shape}, "
                f"as {layer!r} with {channels} channels needs"
            )
    if not (fields["spread"] > 0).all():
        raise ModelError(f"{NOVELTY}: both values of spread must be above 0, they are {fields['spread'].tolist()}")
    return Gaussian(layer, **fields)
