"""How strange an image is to a network, and what an answer is worth because of it.

Owns the score and the verdict, as arrays and numbers; the thresholds are the manifest's, and how they were fitted is
`training.verdicts`'s business. An image's energy, -log Σ exp(logits), is low where some class fits well: Liu et al.,
"Energy-based Out-of-distribution Detection", arXiv:2010.03759.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model_store.manifest import Verdicts

Verdict = Literal["confident", "unsure", "none_of_these"]


def energies(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The energy (N,) of images with these logits (N, K), which no temperature divides."""
    top = logits.max(axis=1, keepdims=True)
    found: NDArray[np.float32] = -(np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0])
    return found


def novelty(energy: NDArray[np.float32], fitted: NDArray[np.float64]) -> NDArray[np.float32]:
    """For each energy (N,) the share of the fitted images that have a lower one, from 0 to 1.

    Args:
        fitted: the energies (S,) of `Verdicts`, as an array.
    """
    return (np.interp(energy, fitted, np.arange(len(fitted))) / (len(fitted) - 1)).astype(np.float32)


def verdict(confidence: float, novelty: float, verdicts: Verdicts) -> Verdict:
    """What to make of an answer with that confidence for an image of that novelty."""
    if novelty > verdicts.novelty_above:
        return "none_of_these"
    return "unsure" if confidence < verdicts.confidence_below else "confident"
