"""Distances and scores of features, and `novelty.npz` read only as it was written."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.classifier import Classifier
from model_store.errors import ModelError
from model_store.manifest import Verdicts
from model_store.network.gaussian import Gaussian, ood_scores, read_gaussian, rejection_scores, write_gaussian
from model_store.novelty import novelty
from tests.model_store.network.keras_models import random_images

VERDICTS = Verdicts(novelty_above=0.95, confidence_below=0.8, scores=(-8.0, -4.0, -2.0, 0.0))
LAYER, CHANNELS = "batch_normalization", 6  # of the tiny network
GAUSSIAN = Gaussian(
    LAYER,
    np.random.default_rng(1).normal(size=CHANNELS).astype(np.float32),
    np.random.default_rng(2).normal(size=(CHANNELS, CHANNELS)).astype(np.float32),
    np.array([-5, 3], np.float32),
    np.array([2, 0.5], np.float32),
)


def distance_of_one() -> Gaussian:
    """A Gaussian of one channel by which the logarithm of the squared distance is 2 log |mean|."""
    one = np.ones(1, np.float32)
    return Gaussian("layer", 0 * one, one[:, None], np.zeros(2, np.float32), np.ones(2, np.float32))


def test_the_distance_is_mahalanobis(tiny):
    means = np.random.default_rng(3).normal(size=(7, CHANNELS)).astype(np.float32)
    inverse = GAUSSIAN.whitening.astype(np.float64) @ GAUSSIAN.whitening.T
    expected = [np.log(gap @ inverse @ gap) for gap in (means - GAUSSIAN.mean).astype(np.float64)]
    np.testing.assert_allclose(GAUSSIAN.distances(means), expected, rtol=1e-4, atol=1e-4)


def test_an_image_just_like_the_training_images_has_a_finite_distance():
    assert np.isfinite(GAUSSIAN.distances(GAUSSIAN.mean[None])).all()


@pytest.mark.parametrize(
    ("energy", "distance", "score"),
    [
        pytest.param(3, 4, 5, id="both above what is usual"),
        pytest.param(3, -1, 3, id="strange to the last layer only"),
        pytest.param(-2, 4, 4, id="strange to the early layer only"),
        pytest.param(-2, -0.5, -0.5, id="neither"),
        pytest.param(0, 0, 0, id="in the middle"),
    ],
)
def test_the_score_is_of_both_where_both_are_above_the_mean_else_of_the_larger(energy, distance, score):
    means = np.exp(np.array([[distance / 2]], np.float32))
    scores = ood_scores(*distance_of_one().standardise(np.array([energy], np.float32), means))
    np.testing.assert_allclose(scores, [score], atol=1e-5)


def test_each_measure_counts_in_its_own_standard_deviations():
    gaussian = replace(distance_of_one(), centre=np.array([-5, 3], np.float32), spread=np.array([2, 0.5], np.float32))
    means = np.exp(np.array([[3 + 0.5 * 4]], np.float32) / 2)
    measures = gaussian.standardise(np.array([-5 + 2 * 3], np.float32), means)
    np.testing.assert_allclose(measures, [[3], [4]], atol=1e-4)


@pytest.mark.parametrize(
    ("energy", "distance", "score"),
    [
        pytest.param(1.5, 3.9, 1.5, id="a distance up to the knee does not count"),
        pytest.param(-2, 10, 4, id="noise of which the network is confident"),
        pytest.param(3, -1, 3, id="an unfamiliar object in a familiar style"),
    ],
)
def test_only_a_large_distance_adds_to_the_energy_in_the_rejection_score(energy, distance, score):
    scores = rejection_scores(np.array([energy], np.float32), np.array([distance], np.float32))
    np.testing.assert_allclose(scores, [score], atol=1e-6)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_score_that_is_not_a_number_counts_as_the_most_novel():
    measures = distance_of_one().standardise(np.array([np.nan], np.float32), np.ones((1, 1), np.float32))
    assert np.isinf(ood_scores(*measures)).all() and np.isinf(rejection_scores(*measures)).all()


@given(*[st.floats(-20, 20, width=32)] * 3, st.floats(0, 5, width=32))
def test_no_measure_makes_an_image_less_strange_by_growing(energy, distance, other, more):
    means = np.exp(np.array([[distance], [distance + more], [distance]], np.float32) / 2)
    energy = np.array([energy, energy, energy + more], np.float32)
    measures = distance_of_one().standardise(energy, means)
    for scores in (ood_scores(*measures), rejection_scores(*measures)):
        least, *grown = scores
        assert min(grown) >= least - 1e-3


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_a_classifier_scores_by_an_early_layer_of_its_network(tiny, engine):
    import keras

    network = tiny.network(verdicts=VERDICTS, gaussian=GAUSSIAN)
    images = random_images(70)  # more than one call of the engine takes
    predictions = Classifier(network, engine, "float32").predict(images)
    model = keras.models.model_from_json(tiny.architecture)
    for layer in model.layers:
        layer.set_weights(list(network.weights.get(layer.name, {}).values()))
    early = keras.Model(model.inputs[0], model.get_layer(LAYER).output)
    preprocessing = network.preprocessing
    normalised = (images / np.float32(255) - np.float32(preprocessing.mean)) / np.float32(preprocessing.std)
    np.testing.assert_allclose(
        predictions.features, keras.ops.convert_to_numpy(early(normalised)).mean((1, 2)), atol=1e-4
    )
    measures = GAUSSIAN.standardise(predictions.energy, predictions.features)
    np.testing.assert_array_equal(predictions.ood_score, ood_scores(*measures))
    np.testing.assert_array_equal(predictions.rejection_score, rejection_scores(*measures))
    np.testing.assert_array_equal(predictions.novelty, novelty(predictions.ood_score, np.array(VERDICTS.scores)))
    alone = Classifier(tiny.network(verdicts=VERDICTS), engine, "float32").predict(images)
    np.testing.assert_allclose(predictions.probabilities, alone.probabilities, atol=1e-6)
    np.testing.assert_array_equal(alone.ood_score, alone.energy)


def test_a_gaussian_is_for_networks_that_end_in_logits(tiny):
    with pytest.raises(ModelError, match="this one ends in softmax"):
        tiny.network(output="probabilities", gaussian=GAUSSIAN)


def packed(**changes) -> bytes:
    file = io.BytesIO()
    fields = {name: getattr(GAUSSIAN, name) for name in ("layer", "mean", "whitening", "centre", "spread")}
    np.savez(file, **{name: value for name, value in (fields | changes).items() if value is not None})
    return file.getvalue()


def test_a_gaussian_is_read_as_it_was_written(tiny, tmp_path):
    write_gaussian(GAUSSIAN, tmp_path / "novelty.npz")
    gaussian = read_gaussian((tmp_path / "novelty.npz").read_bytes(), tiny.network().architecture)
    assert gaussian.layer == LAYER
    for name in ("mean", "whitening", "centre", "spread"):
        np.testing.assert_array_equal(getattr(gaussian, name), getattr(GAUSSIAN, name))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"PK\x03\x04 but no archive", "cannot be read"),
        (packed(mean=None), "cannot be read"),
        (packed(mean=np.array([None] * CHANNELS)), "cannot be read"),
        (packed(layer="nowhere"), "'nowhere', which is not a layer of this network whose output is images"),
        (packed(layer="dense"), "'dense', which is not a layer"),
        (packed(layer="dropout"), "'dropout', which is not a layer"),
        (packed(layer="input_layer"), "'input_layer', which is not a layer"),
        (packed(mean=GAUSSIAN.mean[:5]), r"mean float32 \(5,\), not finite float32 \(6,\)"),
        (packed(mean=GAUSSIAN.mean.astype(np.float64)), "mean float64"),
        (packed(whitening=GAUSSIAN.whitening[:5]), r"whitening float32 \(5, 6\)"),
        (packed(whitening=GAUSSIAN.whitening * np.float32(np.nan)), "not finite"),
        (packed(centre=np.zeros(3, np.float32)), "centre"),
        (packed(spread=np.array([1, 0], np.float32)), "above 0"),
    ],
)
def test_any_other_gaussian_is_refused(tiny, content, message):
    with pytest.raises(ModelError, match=message):
        read_gaussian(content, tiny.network().architecture)
