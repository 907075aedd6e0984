"""Golden images: every load of a version must reproduce the probabilities recorded when it was published."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_store.arrays import read_arrays
from model_store.classifier import Classifier
from model_store.errors import ModelError
from model_store.files import GOLDEN, MAX_BYTES
from model_store.manifest import Manifest


@dataclass(frozen=True)
class Golden:
    """Images and their probabilities, computed by Keras in float32 when the version was published."""

    images: NDArray[np.uint8]  # (M, H, W, C), as the network takes them
    probabilities: NDArray[np.float32]  # (M, K)


def write_golden(golden: Golden, path: Path) -> None:
    """Write `golden.npz`."""
    np.savez_compressed(path, images=golden.images, probabilities=golden.probabilities)


def read_golden(content: bytes, shape: tuple[int, ...]) -> Golden:
    """Read `golden.npz` of images of a shape (H, W, C); pickled objects are refused.

    Raises:
        ModelError: the file cannot be read, or an array has another shape or dtype.
    """
    golden = Golden(**read_arrays(content, GOLDEN, ("images", "probabilities"), MAX_BYTES[GOLDEN]))
    images = golden.images
    if images.dtype != np.uint8 or images.shape[1:] != shape or len(images) == 0:
        expected = ", ".join(map(str, shape))
        raise ModelError(f"{GOLDEN} holds images {images.dtype} {images.shape}, not uint8 (M, {expected})")
    if golden.probabilities.dtype != np.float32:
        raise ModelError(f"{GOLDEN} holds probabilities {golden.probabilities.dtype}, not float32")
    return golden


def replay(manifest: Manifest, classifier: Classifier, golden: Golden) -> float:
    """Return the largest difference between the golden probabilities and the classifier's.

    Raises:
        ModelError: it exceeds the manifest's tolerance for the classifier's precision.
    """
    probabilities = classifier.predict(golden.images).probabilities
    if probabilities.shape != golden.probabilities.shape:
        raise ModelError(
            f"{GOLDEN} has probabilities {golden.probabilities.shape}, the network gives {probabilities.shape}"
        )
    difference = float(np.abs(probabilities - golden.probabilities).max())
    tolerance = manifest.golden_tolerance.get(classifier.precision)
    if tolerance is None or not difference <= tolerance:
        raise ModelError(
            f"probabilities of the golden images differ by {difference:.5f}, the tolerance for {classifier.precision} "
            f"is {tolerance}; try CIFAR10_PRECISION=float32, or publish the version again"
        )
    return difference
