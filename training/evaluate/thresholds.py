"""From which novelty and which confidence on an answer is to be trusted, fitted on images that were held out.

Owns the two rules and their figures; the score is `model_store.novelty`'s, and which images these are `publish.py`'s.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store.classifier import Predictions
from model_store.manifest import Verdicts
from model_store.novelty import novelty

KEPT = 0.95  # of the held-out images are not called strange
RIGHT = 0.99  # of the confident answers are right
STEPS = 100


def fit_verdicts(said: Predictions, labels: NDArray[np.int32]) -> Verdicts:
    """Thresholds for a network whose answers to held-out images are these.

    `novelty_above` keeps 95 % of the images. `confidence_below` is the lowest at which 99 % of the answers to those
    that are kept are right, 1 if there is none. Source: Geifman and El-Yaniv, "Selective Classification for Deep
    Neural Networks", arXiv:1705.08500.
    """
    assert said.ood_score is not None
    scores = np.quantile(said.ood_score.astype(np.float64), np.linspace(0, 1, STEPS + 1))
    kept = said.ood_score <= np.quantile(said.ood_score, KEPT)
    confidence = said.probabilities[kept].max(1)
    right = said.probabilities[kept].argmax(1) == labels[kept]
    return Verdicts(
        novelty_above=KEPT,
        confidence_below=lowest_confidence(confidence, right),
        scores=tuple(np.round(scores, 4).tolist()),
    )


def lowest_confidence(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """The lowest of the confidences (N,) from which on a share of `RIGHT` is right, or 1."""
    order = np.argsort(-confidence, kind="stable")
    shares = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(shares >= RIGHT)
    return float(np.round(confidence[order[enough[-1]]], 4)) if len(enough) else 1.0


def judged(said: Predictions, labels: NDArray[np.int32], verdicts: Verdicts) -> dict[str, Any]:
    """How many labelled images (N,) get which verdict, and how many of the confident answers are right."""
    assert said.ood_score is not None
    kept = novelty(said.ood_score, np.array(verdicts.scores)) <= verdicts.novelty_above
    confident = kept & (said.probabilities.max(1) >= verdicts.confidence_below)
    right = said.probabilities.argmax(1) == labels
    return {
        "images": len(labels),
        "none_of_these": round(float(1 - kept.mean()), 4),
        "unsure": round(float((kept & ~confident).mean()), 4),
        "confident": round(float(confident.mean()), 4),
        "confident_accuracy": round(float(right[confident].mean()), 4) if confident.any() else None,
    }
