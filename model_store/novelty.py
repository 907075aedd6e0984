"""How strange an image is to a network, and what an answer is worth because of it.

Owns the score and the verdict, as arrays and numbers, and `novelty.npz`. The thresholds are the manifest's, and how all
of it was fitted is the business of `training.evaluate.novelty_statistics` and `training.evaluate.thresholds`.

Two things are looked at. The energy of the logits, -log Σ exp(logits), is low where some class fits well: Liu et al.,
"Energy-based Out-of-distribution Detection", arXiv:2010.03759. The Mahalanobis distance says how far the channels of
an early layer, each averaged over the image, are from those of training images: Lee et al., "A Simple Unified Framework
for Detecting Out-of-Distribution Samples and Adversarial Attacks", arXiv:1807.03888, but one Gaussian for all classes.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model_store.errors import ModelError
from model_store.manifest import Verdicts
from model_store.network.architecture import Architecture
from model_store.network.layers import Dropout

Verdict = Literal["confident", "unsure", "none_of_these"]
Floats = NDArray[np.float32]

TINY = np.finfo(np.float32).tiny
ARRAYS = ("mean", "whitening", "centre", "spread")


@dataclass(frozen=True)
class Gaussian:
    """What training images look like to an early layer, and how far held-out images are from that."""

    layer: str
    mean: Floats  # (C,), of its channels' means
    whitening: Floats  # (C, C): (means - mean) @ whitening have covariance one
    centre: Floats  # (2,): the mean of held-out images' energies, and of their distances
    spread: Floats  # (2,): the standard deviations of both

    def distances(self, means: Floats) -> Floats:
        """The logarithm of the squared Mahalanobis distance (N,) of channels' means (N, C)."""
        # By einsum, since a matrix product may start BLAS's own threads; this one is a hundredth of a convolution.
        white = np.einsum("nc,cd->nd", means - self.mean, self.whitening)
        found: Floats = np.log(np.maximum(np.einsum("nd,nd->n", white, white), TINY))
        return found

    def scores(self, energy: Floats, means: Floats) -> Floats:
        """How strange images (N,) with these energies (N,) and channels' means (N, C) are.

        Both measures count in standard deviations above the mean of held-out images. Where both are above, they are
        two sides of a right triangle whose third is the score; else the larger one is.
        """
        measured = zip((energy, self.distances(means)), self.centre, self.spread, strict=True)
        last, early = ((values - centre) / spread for values, centre, spread in measured)
        found = np.hypot(np.maximum(last, 0), np.maximum(early, 0)) + np.minimum(np.maximum(last, early), 0)
        return np.where(np.isnan(found), np.float32(np.inf), found)  # what cannot be measured is strange


def energies(logits: Floats) -> Floats:
    """The energy (N,) of images with these logits (N, K), which no temperature divides."""
    top = logits.max(axis=1, keepdims=True)
    found: Floats = -(np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0])
    return found


def novelty(score: Floats, fitted: NDArray[np.float64]) -> Floats:
    """For each score (N,) the share of the fitted images that have a lower one, from 0 to 1.

    Args:
        fitted: the scores (S,) of `Verdicts`, as an array.
    """
    return (np.interp(score, fitted, np.arange(len(fitted))) / (len(fitted) - 1)).astype(np.float32)


def verdict(confidence: float, novelty: float, verdicts: Verdicts) -> Verdict:
    """What to make of an answer with that confidence for an image of that novelty."""
    if novelty > verdicts.novelty_above:
        return "none_of_these"
    return "unsure" if confidence < verdicts.confidence_below else "confident"


def write_gaussian(gaussian: Gaussian, path: Path) -> None:
    """Write `novelty.npz`: the name `layer` (), and the float32 arrays of `Gaussian`."""
    arrays = {name: getattr(gaussian, name) for name in ARRAYS}
    np.savez(path, layer=np.array(gaussian.layer), **arrays)


def read_gaussian(content: bytes, architecture: Architecture) -> Gaussian:
    """Read `novelty.npz`; pickled objects are refused.

    Raises:
        ModelError: it is no such file, or does not fit a layer of images of the network.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            layer, found = str(arrays["layer"]), {name: np.asarray(arrays[name]) for name in ARRAYS}
    except Exception as error:  # noqa: BLE001 there is no end to what NumPy and zipfile raise on damaged files
        raise ModelError(f"novelty.npz cannot be read: {error}") from None
    images = (node for node in architecture.nodes[1:] if len(node.shape) == 3 and not isinstance(node.layer, Dropout))
    shapes = {node.layer.name: node.shape for node in images}
    if layer not in shapes:
        raise ModelError(f"novelty.npz is of the layer {layer[:80]!r}, which is none of the network's layers of images")
    channels = shapes[layer][2]
    for name, shape in zip(ARRAYS, ((channels,), (channels, channels), (2,), (2,)), strict=True):
        array = found[name]
        if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
            raise ModelError(
                f"novelty.npz holds {name} {array.dtype} {array.shape}, not finite float32 {shape}, "
                f"as {layer!r} with {channels} channels needs"
            )
    if not (found["spread"] > 0).all():
        raise ModelError(f"novelty.npz: both of spread must be above 0, they are {found['spread'].tolist()}")
    return Gaussian(layer, **found)
