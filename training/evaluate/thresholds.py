"""Fit the thresholds of novelty and confidence from which verdicts follow, on validation images.

Owns the two rules and their figures; `model_store.novelty` computes the score.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store.classifier import Predictions
from model_store.manifest import Verdicts
from model_store.novelty import novelty

ACCEPTED_SHARE = 0.95  # of validation images are not called none of these
CONFIDENT_ACCURACY = 0.99
SCORE_STEPS = 100


def fit_thresholds(predictions: Predictions, labels: NDArray[np.int32]) -> Verdicts:
    """Fit both thresholds on predictions for validation images.

    `novelty_above` accepts 95 % of the images. `confidence_below` is the lowest confidence at which 99 % of the
    predictions for accepted images are right, or 1. Source: Geifman and El-Yaniv, "Selective Classification for Deep
    Neural Networks", arXiv:1705.08500.
    """
    assert predictions.ood_score is not None
    scores = np.quantile(predictions.ood_score.astype(np.float64), np.linspace(0, 1, SCORE_STEPS + 1))
    accepted = predictions.ood_score <= np.quantile(predictions.ood_score, ACCEPTED_SHARE)
    confidence = predictions.probabilities[accepted].max(1)
    right = predictions.probabilities[accepted].argmax(1) == labels[accepted]
    return Verdicts(
        novelty_above=ACCEPTED_SHARE,
        confidence_below=find_min_confidence(confidence, right),
        scores=tuple(np.round(scores, 4).tolist()),
    )


def find_min_confidence(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """Find the lowest of the confidences (N,) from which on a share of `CONFIDENT_ACCURACY` is right, or 1."""
    order = np.argsort(-confidence, kind="stable")
    shares = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    positions = np.flatnonzero(shares >= CONFIDENT_ACCURACY)
    return float(np.round(confidence[order[positions[-1]]], 4)) if len(positions) else 1.0


def count_verdicts(predictions: Predictions, labels: NDArray[np.int32], verdicts: Verdicts) -> dict[str, Any]:
    """Count the verdicts on labelled images (N,) as shares, and measure the accuracy of the confident predictions."""
    assert predictions.ood_score is not None
    accepted = novelty(predictions.ood_score, np.array(verdicts.scores)) <= verdicts.novelty_above
    confident = accepted & (predictions.probabilities.max(1) >= verdicts.confidence_below)
    right = predictions.probabilities.argmax(1) == labels
    return {
        "images": len(labels),
        "none_of_these": round(float(1 - accepted.mean()), 4),
        "unsure": round(float((accepted & ~confident).mean()), 4),
        "confident": round(float(confident.mean()), 4),
        "confident_accuracy": round(float(right[confident].mean()), 4) if confident.any() else None,
    }
