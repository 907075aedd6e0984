"""Energy of a prediction, novelty of its image, and the verdict on both.

The energy of the logits, -log Σ exp(logits), is low if some class fits well: Liu et al., "Energy-based
Out-of-distribution Detection", arXiv:2010.03759. Versions without `network.gaussian` use it as their
out-of-distribution score. The thresholds are in the manifest; `training.evaluate.thresholds` fits them.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model_store.manifest import Verdicts

Verdict = Literal["confident", "unsure", "none_of_these"]
Floats = NDArray[np.float32]


def energies(logits: Floats) -> Floats:
    """Return the energies (N,) of logits (N, K), not divided by the temperature."""
    top = logits.max(axis=1, keepdims=True)
    log_sum: Floats = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    return -log_sum


def novelty(scores: Floats, val_scores: NDArray[np.float64]) -> Floats:
    """Return the fraction of validation images with a lower score, for each of the scores (N,).

    Args:
        val_scores: the quantiles (S,) in `Verdicts.scores`, as an array.
    """
    return (np.interp(scores, val_scores, np.arange(len(val_scores))) / (len(val_scores) - 1)).astype(np.float32)


def is_rejected(novelty: Floats, rejection_score: Floats, verdicts: Verdicts) -> NDArray[np.bool_]:
    """Tell for each image (N,) if its verdict is `none_of_these`."""
    if verdicts.rejection_above is None:
        return novelty > np.float64(verdicts.novelty_above)
    return rejection_score > np.float64(verdicts.rejection_above)


def verdict(confidence: float, rejected: bool, verdicts: Verdicts) -> Verdict:
    """Judge a prediction by its confidence, unless its image is rejected."""
    if rejected:
        return "none_of_these"
    return "unsure" if confidence < verdicts.confidence_below else "confident"
