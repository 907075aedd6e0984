import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluate.calibration import fit_temperature


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def draw(temperature, count=20_000, seed=0):
    """Predictions of a network whose logits are `temperature` times too large, and labels drawn from the true ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, 10))
    cumulated = softmax(logits).cumsum(1)
    labels = (rng.random((count, 1)) > cumulated[:, :-1]).sum(1).astype(np.int32)
    return softmax(logits * temperature), labels


@settings(max_examples=12, deadline=None)
@given(st.floats(0.3, 4))
def test_finds_the_temperature_that_labels_were_drawn_with(temperature):
    assert fit_temperature(*draw(temperature)).temperature == pytest.approx(temperature, rel=0.05)


def test_the_likelihood_is_better_and_best_there():
    probabilities, labels = draw(3)
    calibration = fit_temperature(probabilities, labels)
    assert calibration.after < calibration.before and calibration.images == len(labels)
    own = lambda p: -np.log(p[np.arange(len(labels)), labels]).mean()  # noqa: E731
    logs = np.log(probabilities.astype(np.float64))
    assert own(softmax(logs / calibration.temperature)) == pytest.approx(calibration.after, abs=1e-5)
    for other in (calibration.temperature * 1.1, calibration.temperature / 1.1):
        assert own(softmax(logs / other)) > calibration.after


def test_without_a_mistake_there_is_nothing_to_fit():
    labels = np.arange(10, dtype=np.int32)
    assert fit_temperature(np.full((10, 10), 0.01, np.float32) + np.eye(10, dtype=np.float32) * 0.9, labels) is None


def test_a_probability_of_zero_is_survived():
    probabilities, labels = draw(3)
    probabilities[0] = 0
    probabilities[0, (labels[0] + 1) % 10] = 1
    assert np.isfinite(fit_temperature(probabilities, labels).after)
