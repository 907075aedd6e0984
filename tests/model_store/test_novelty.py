"""Energy, novelty and the verdict, of made-up logits and of a small network."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from model_store.classifier import Classifier
from model_store.manifest import Verdicts
from model_store.novelty import energies, is_rejected, novelty, verdict

VERDICTS = Verdicts(novelty_above=0.95, confidence_below=0.8, scores=(-8.0, -4.0, -2.0, 0.0))
VAL_SCORES = np.array(VERDICTS.scores)
LOGITS = arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=st.floats(-100, 100, width=32))


@given(LOGITS, st.floats(-50, 50, width=32))
def test_energy_is_minus_the_log_of_the_sum_of_exponentials(logits, shift):
    received = energies(logits)
    exact = -np.log(np.exp(logits.astype(np.float64)).sum(1))
    np.testing.assert_allclose(received, exact, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(energies(logits + np.float32(shift)), received - shift, atol=1e-3)


def test_novelty_is_the_share_of_fitted_images_that_are_less_strange():
    energy = np.array([-9, -8, -4, -3, 0, 7], np.float32)
    np.testing.assert_allclose(novelty(energy, VAL_SCORES), [0, 0, 1 / 3, 0.5, 1, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("confidence", "rejected", "expected"),
    [
        (0.99, False, "confident"),
        (0.8, False, "confident"),
        (0.79, False, "unsure"),
        (0.79, True, "none_of_these"),
        (0.99, True, "none_of_these"),
    ],
)
def test_a_rejected_image_is_none_of_these_however_confident_the_answer(confidence, rejected, expected):
    assert verdict(confidence, rejected, VERDICTS) == expected


@pytest.mark.parametrize(
    ("rejection_above", "rejected"),
    [(None, [False, False, True, True]), (2.5, [False, True, False, True])],
    ids=["older manifests: by novelty", "by the rejection score"],
)
def test_images_are_rejected_by_the_score_that_the_manifest_has_a_threshold_for(rejection_above, rejected):
    verdicts = VERDICTS.model_copy(update={"rejection_above": rejection_above})
    shares, scores = np.array([0.2, 0.95, 0.96, 1], np.float32), np.array([2.5, 2.6, -3, 9], np.float32)
    assert is_rejected(shares, scores, verdicts).tolist() == rejected


def test_scores_that_do_not_ascend_are_refused():
    with pytest.raises(ValidationError, match="ascend"):
        Verdicts(novelty_above=0.95, confidence_below=0.8, scores=(0.0, -1.0))


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_a_classifier_gives_the_novelty_of_its_networks_own_logits_whatever_the_temperature(tiny, engine):
    network = tiny.network(temperature=0.5, verdicts=VERDICTS)
    predictions = Classifier(network, engine, "float32").predict(tiny.images)
    as_logits = Classifier(tiny.network(output="probabilities"), engine, "float32").predict(tiny.images)
    np.testing.assert_allclose(predictions.energy, energies(as_logits.probabilities), atol=1e-4)
    np.testing.assert_array_equal(predictions.novelty, novelty(predictions.energy, VAL_SCORES))


def test_without_logits_there_is_no_energy_and_without_verdicts_no_novelty(tiny):
    assert Classifier(tiny.network(output="probabilities")).predict(tiny.images).energy is None
    predictions = Classifier(tiny.network()).predict(tiny.images)
    assert predictions.energy is not None and predictions.novelty is None
