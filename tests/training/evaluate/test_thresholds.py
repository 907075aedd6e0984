from dataclasses import replace

import numpy as np
import pytest

from model_store.classifier import Predictions
from training.errors import TrainingError
from training.evaluate.thresholds import (
    ACCEPTED_SHARE,
    CONFIDENT_ACCURACY,
    count_verdicts,
    find_min_confidence,
    fit_rejection,
    fit_thresholds,
)


def draw_predictions(count: int = 2_000, seed: int = 0) -> tuple[Predictions, np.ndarray]:
    """Predictions between two classes that are right as often as their confidence says."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1, count)
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


@pytest.mark.parametrize(
    ("confidence", "right", "lowest"),
    [
        pytest.param([0.9, 0.8, 0.7], [True, True, True], 0.7, id="all right"),
        pytest.param([0.9, 0.8, 0.7], [False, True, True], 1.0, id="wrong at the top"),
        pytest.param([0.9, 0.8, 0.7], [True, True, False], 0.8, id="wrong at the bottom"),
        pytest.param([0.7, 0.9, 0.8], [False, True, True], 0.8, id="in any order"),
        pytest.param([], [], 1.0, id="none"),
    ],
)
def test_the_lowest_confidence_is_where_enough_are_right(confidence, right, lowest):
    received = find_min_confidence(np.array(confidence, np.float32), np.array(right, bool))
    assert received == pytest.approx(lowest)
