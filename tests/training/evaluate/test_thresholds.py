from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from model_store.classifier import Predictions
from training.errors import TrainingError
from training.evaluate.thresholds import (
    ACCEPTED_SHARE,
    CONFIDENT_ACCURACY,
    bound_risk,
    count_verdicts,
    find_min_confidence,
    fit_rejection,
    fit_thresholds,
)


def draw_predictions(count: int = 2_000, seed: int = 0) -> tuple[Predictions, np.ndarray]:
    """Predictions between two classes that are right as often as their confidence says."""
    rng = np.random.default_rng(seed)
    confidence = 1 - 0.5 * rng.random(count) ** 3
    labels = (rng.random(count) > confidence).astype(np.int32)
    probabilities = np.stack([confidence, 1 - confidence], 1).astype(np.float32)
    ood_score, rejection_score = rng.normal(size=(2, count)).astype(np.float32)
    return Predictions(probabilities, ood_score=ood_score, rejection_score=rejection_score), labels


def test_as_many_as_promised_are_accepted_and_the_confident_are_as_right_as_promised():
    predictions, labels = draw_predictions()
    verdicts = fit_thresholds(predictions, predictions, labels)
    shares = count_verdicts(predictions, labels, verdicts)
    assert 1 - shares["none_of_these"] == pytest.approx(ACCEPTED_SHARE, abs=0.003)
    assert shares["confident_accuracy"] >= CONFIDENT_ACCURACY - 0.002
    assert min(shares["unsure"], shares["confident"]) > 0
    assert shares["none_of_these"] + shares["unsure"] + shares["confident"] == pytest.approx(1, abs=1e-3)


def test_what_is_promised_holds_on_images_that_nothing_was_fitted_on():
    val, labels = draw_predictions(20_000)
    verdicts = fit_thresholds(val, val, labels)
    shares = count_verdicts(*draw_predictions(20_000, seed=1), verdicts)
    assert 1 - shares["none_of_these"] == pytest.approx(ACCEPTED_SHARE, abs=0.01)
    assert shares["confident_accuracy"] == pytest.approx(CONFIDENT_ACCURACY, abs=0.01)


def test_uploads_count_as_much_as_the_images_as_they_are():
    val, labels = draw_predictions()
    uploads = replace(val, rejection_score=val.rejection_score + np.float32(10))
    verdicts = fit_thresholds(val, uploads, labels)
    assert count_verdicts(val, labels, verdicts)["none_of_these"] == 0
    assert count_verdicts(uploads, labels, verdicts)["none_of_these"] == pytest.approx(
        2 * (1 - ACCEPTED_SHARE), abs=0.01
    )
    assert verdicts.scores == fit_thresholds(val, val, labels).scores


def test_photographs_move_only_the_threshold_of_rejection():
    val, labels = draw_predictions()
    verdicts = fit_thresholds(val, val, labels)
    photographs, photograph_labels = draw_predictions(100, seed=3)
    moved = fit_rejection(photographs, verdicts)
    assert count_verdicts(photographs, photograph_labels, moved)["none_of_these"] == pytest.approx(0.1, abs=0.011)
    assert moved.model_copy(update={"rejection_above": None}) == verdicts.model_copy(update={"rejection_above": None})
    few, _ = draw_predictions(49)
    with pytest.raises(TrainingError, match="49 photographs are too few to fit a threshold; pass 50 or more"):
        fit_rejection(few, verdicts)


def certain(count: int, mistakes: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Confidences from 1 down to 0.5, and predictions that are right but at the given positions."""
    right = np.ones(count, bool)
    right[list(mistakes)] = False
    return np.linspace(1, 0.5, count, dtype=np.float32), right


@pytest.mark.parametrize(
    ("count", "mistakes", "lowest"),
    [
        pytest.param(1_000, [], 0.5, id="all right"),
        pytest.param(500, [], 1.0, id="all right, but too few to show it"),
        pytest.param(0, [], 1.0, id="none"),
        pytest.param(2_000, range(1_000, 2_000), 0.75, id="wrong at the bottom"),
        pytest.param(2_000, range(40), 1.0, id="wrong at the top"),
        pytest.param(2_000, [0], 0.5, id="one mistake"),
    ],
)
def test_the_lowest_confidence_is_where_enough_are_surely_right(count, mistakes, lowest):
    confidence, right = certain(count, mistakes)
    order = np.random.default_rng(0).permutation(count)
    assert find_min_confidence(confidence[order], right[order]) == pytest.approx(lowest, abs=0.001)


def test_two_predictions_for_the_same_image_are_no_more_than_one():
    confidence, right = certain(1_100)
    assert find_min_confidence(confidence, right) < 1
    assert find_min_confidence(confidence, right, views=2) == 1


def test_the_promise_is_broken_in_at_most_one_fit_of_twenty():
    rng = np.random.default_rng(0)
    broken = 0
    for _ in range(200):
        confidence = rng.uniform(0.9, 1, 2_000).astype(np.float32)
        threshold = find_min_confidence(confidence, rng.random(2_000) < confidence**0.25)
        kept = np.linspace(threshold, 1, 1_000)
        broken += threshold < 1 and (kept**0.25).mean() < CONFIDENT_ACCURACY
    assert broken <= 10


@pytest.mark.parametrize(
    ("mistakes", "count", "bound"),
    [(0, 299, 0.00997), (5, 1_000, 0.01048), (10, 10, 1.0), (0, 1, 0.95), (1, 10, 0.3942)],
)
def test_risk_is_bounded_as_by_clopper_and_pearson(mistakes, count, bound):
    assert bound_risk(mistakes, count, 0.05) == pytest.approx(bound, abs=1e-4)
