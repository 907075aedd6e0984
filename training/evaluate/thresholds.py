"""Fit the thresholds from which verdicts follow, on images that the network has not seen.

Owns the rules and their figures; `model_store.novelty` applies them.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store.classifier import Predictions
from model_store.manifest import Verdicts
from model_store.novelty import is_rejected, novelty
from training.errors import TrainingError

ACCEPTED_SHARE = 0.95  # of validation images, and of these as uploads, are not rejected
ACCEPTED_PHOTOGRAPHS = 0.9
MIN_PHOTOGRAPHS = 50  # below, the standard error of the accepted share exceeds 4 points
CONFIDENT_ACCURACY, SIGNIFICANCE = 0.99, 0.05
COVERAGES = 20
SCORE_STEPS = 100


def fit_thresholds(val: Predictions, uploads: Predictions, labels: NDArray[np.int32]) -> Verdicts:
    """Fit the thresholds on predictions for validation images (N,), as they are and as simulated uploads.

    `rejection_above` accepts 95 % of both together. `confidence_below` is the lowest confidence at which 99 % of the
    predictions for accepted images are right with a significance of 5 %, or 1. Source: Geifman and El-Yaniv, "Selective
    Classification for Deep Neural Networks", arXiv:1705.08500. `scores` are of the images as they are.
    """
    assert val.ood_score is not None and val.rejection_score is not None and uploads.rejection_score is not None
    scores = np.quantile(val.ood_score.astype(np.float64), np.linspace(0, 1, SCORE_STEPS + 1))
    rejection_scores = np.concatenate([val.rejection_score, uploads.rejection_score])
    rejection_above = float(np.quantile(rejection_scores, ACCEPTED_SHARE))
    accepted = rejection_scores <= rejection_above
    probabilities = np.concatenate([val.probabilities, uploads.probabilities])[accepted]
    right = probabilities.argmax(1) == np.tile(labels, 2)[accepted]
    return Verdicts(
        novelty_above=ACCEPTED_SHARE,
        rejection_above=round(rejection_above, 4),
        confidence_below=find_min_confidence(probabilities.max(1), right, views=2),
        scores=tuple(np.round(scores, 4).tolist()),
    )


def fit_rejection(photographs: Predictions, verdicts: Verdicts) -> Verdicts:
    """Replace `rejection_above` by the threshold that accepts 90 % of photographs of the classifier's classes.

    Raises:
        TrainingError: there are fewer than `MIN_PHOTOGRAPHS`.
    """
    scores = photographs.rejection_score
    assert scores is not None
    if len(scores) < MIN_PHOTOGRAPHS:
        raise TrainingError(f"{len(scores)} photographs are too few to fit a threshold; pass {MIN_PHOTOGRAPHS} or more")
    rejection_above = round(float(np.quantile(scores, ACCEPTED_PHOTOGRAPHS)), 4)
    return verdicts.model_copy(update={"rejection_above": rejection_above})


def find_min_confidence(confidence: NDArray[np.float32], right: NDArray[np.bool_], views: int = 1) -> float:
    """Find the lowest of the confidences (N,) from which on 99 % are right with a significance of 5 %; 1 if none is.

    The thresholds that keep 5 %, 10 %, … or all of the predictions are tested. Each test has its part of the
    significance (Bonferroni), so that trying many does not make it likelier that one passes by chance.

    Args:
        views: how many of the predictions are for the same image. They are not independent, so each counts as a part.
    """
    order = np.argsort(-confidence, kind="stable")
    mistakes = np.cumsum(~right[order])
    for kept in range(COVERAGES, 0, -1):
        count = len(order) * kept // COVERAGES
        if not count:
            break
        bound = bound_risk(math.ceil(mistakes[count - 1] / views), count // views, SIGNIFICANCE / COVERAGES)
        if bound <= 1 - CONFIDENT_ACCURACY:
            return float(np.round(confidence[order[count - 1]], 4))
    return 1.0


def bound_risk(mistakes: int, count: int, significance: float) -> float:
    """Bound the share of mistakes of which `count` independent samples had so many.

    The true share exceeds the bound with a probability of at most `significance` (Clopper and Pearson, 1934).
    """
    if mistakes >= count:
        return 1.0
    logs = np.array(
        [math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) for k in range(mistakes + 1)]
    )
    numbers = np.arange(mistakes + 1)
    low, high = mistakes / count, 1.0
    for _ in range(40):
        share = (low + high) / 2
        likely = np.exp(logs + numbers * math.log(share) + (count - numbers) * math.log1p(-share)).sum()
        low, high = (share, high) if likely > significance else (low, share)
    return high


def count_verdicts(predictions: Predictions, labels: NDArray[np.int32], verdicts: Verdicts) -> dict[str, Any]:
    """Count the verdicts on labelled images (N,) as shares, and measure the accuracy of the confident predictions."""
    assert predictions.ood_score is not None and predictions.rejection_score is not None
    share = novelty(predictions.ood_score, np.array(verdicts.scores))
    accepted = ~is_rejected(share, predictions.rejection_score, verdicts)
    confident = accepted & (predictions.probabilities.max(1) >= verdicts.confidence_below)
    right = predictions.probabilities.argmax(1) == labels
    return {
        "images": len(labels),
        "none_of_these": round(float(1 - accepted.mean()), 4),
        "unsure": round(float((accepted & ~confident).mean()), 4),
        "confident": round(float(confident.mean()), 4),
        "confident_accuracy": round(float(right[confident].mean()), 4) if confident.any() else None,
    }
