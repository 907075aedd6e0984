import numpy as np
import pytest

from model_store.classifier import Predictions
from training.evaluate.thresholds import KEPT, RIGHT, fit_verdicts, judged, lowest_confidence


def answers(count: int = 2_000, seed: int = 0) -> tuple[Predictions, np.ndarray]:
    """Answers between two classes that are right as often as their confidence says."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1, count)
    labels = (rng.random(count) > confidence).astype(np.int32)
    probabilities = np.stack([confidence, 1 - confidence], 1).astype(np.float32)
    return Predictions(probabilities, ood_score=rng.normal(size=count).astype(np.float32)), labels


def test_as_many_as_promised_are_kept_and_the_confident_are_as_right_as_promised():
    said, labels = answers()
    verdicts = fit_verdicts(said, labels)
    found = judged(said, labels, verdicts)
    assert 1 - found["none_of_these"] == pytest.approx(KEPT, abs=0.003)
    assert found["confident_accuracy"] >= RIGHT - 0.002
    assert min(found["unsure"], found["confident"]) > 0
    assert found["none_of_these"] + found["unsure"] + found["confident"] == pytest.approx(1, abs=1e-3)


def test_what_is_promised_holds_on_images_that_nothing_was_fitted_on():
    verdicts = fit_verdicts(*answers(20_000))
    found = judged(*answers(20_000, seed=1), verdicts)
    assert 1 - found["none_of_these"] == pytest.approx(KEPT, abs=0.01)
    assert found["confident_accuracy"] == pytest.approx(RIGHT, abs=0.01)


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
    found = lowest_confidence(np.array(confidence, np.float32), np.array(right, bool))
    assert found == pytest.approx(lowest)
