from dataclasses import replace

import numpy as np
import pytest
from keras import layers

from model_store.classifier import Classifier, Predictions
from model_store.network.architecture import parse_architecture
from model_store.network.gaussian import Gaussian
from tests.model_store.network.keras_models import as_network, chain, randomised, tiny_model
from training.evaluate.novelty_statistics import (
    compute_whitening,
    early_layer,
    fit_gaussian,
    standard_gaussian,
    standardise,
)
from training.fit import networks
from training.recipes import RECIPES, Airbench

SAMPLE = np.random.default_rng(0).normal(size=(20, 32, 32, 3)).astype(np.float32)


def dark(count: int, seed: int) -> np.ndarray:
    """Images (N, 32, 32, 3) of one dark colour each, with a little noise."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 80, (count, 1, 1, 3)) + rng.integers(0, 50, (count, 32, 32, 3))).astype(np.uint8)


@pytest.mark.parametrize("recipe", [name for name, recipe in RECIPES.items() if isinstance(recipe.network, Airbench)])
def test_the_early_layer_of_our_networks_is_what_the_first_block_gives(recipe):
    model = networks.build(RECIPES[recipe].network, 10, SAMPLE, seed=0)
    architecture = parse_architecture(model.to_json())
    node = next(node for node in architecture.nodes if node.layer.name == early_layer(architecture))
    assert node.shape == (15, 15, RECIPES[recipe].network.widths[0])
    assert type(node.layer).__name__ == ("Add" if RECIPES[recipe].network.convolutions == 3 else "Activation")


@pytest.mark.parametrize(
    ("stack", "name"),
    [
        pytest.param(
            [("Conv2D", 4, 3, 2), ("Dropout", 0.5), ("Conv2D", 4, 3, 2), ("Flatten",)], "0", id="strides and dropout"
        ),
        pytest.param(
            [("Conv2D", 4, 3), ("MaxPooling2D", 2), ("Conv2D", 4, 3), ("MaxPooling2D", 2), ("Flatten",)],
            "1",
            id="pooling",
        ),
        pytest.param([("Conv2D", 4, 3, 4), ("Flatten",)], None, id="reads the images themselves"),
        pytest.param([("Conv2D", 4, 3, 2), ("GlobalAveragePooling2D",)], None, id="stays large"),
        pytest.param(
            [("Conv2D", 4, 3), ("Conv2D", 4, 3), ("GlobalAveragePooling2D", None, True), ("Flatten",)],
            None,
            id="a mean is no map",
        ),
        pytest.param([("MaxPooling2D", 4), ("Flatten",)], None, id="no convolution"),
    ],
)
def test_the_early_layer_is_what_the_convolution_to_a_quarter_reads(stack, name):
    built = [getattr(layers, kind)(*values, name=str(index)) for index, (kind, *values) in enumerate(stack)]
    assert early_layer(parse_architecture(chain(*built, layers.Dense(3)).to_json())) == name


def test_whitened_means_of_training_images_vary_alike_in_all_directions():
    rng = np.random.default_rng(0)
    means = (rng.normal(size=(5_000, 4)) @ rng.normal(size=(4, 4)) * [1, 10, 100, 0.1] + 7).astype(np.float32)
    variances = np.linalg.eigvalsh(np.cov((means - means.mean(0)) @ compute_whitening(means), rowvar=False))
    assert variances.max() < 1.2 and variances.min() > 0.02
    assert np.median(variances) == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("count", [3, 200], ids=["fewer images than channels", "many images"])
def test_channels_that_never_vary_and_few_images_leave_it_finite(count):
    means = np.random.default_rng(0).normal(size=(count, 5)).astype(np.float32)
    means[:, 2] = 4
    matrix = compute_whitening(means)
    assert np.isfinite(matrix).all() and np.abs(matrix).max() < 100
    assert np.isfinite(compute_whitening(np.ones((3, 5), np.float32))).all()


def test_what_a_network_was_not_trained_on_is_further_away():
    network = as_network(
        randomised(
            chain(layers.Conv2D(6, 3, 2, activation="relu"), layers.Conv2D(4, 3, 2), layers.Flatten(), layers.Dense(3))
        ),
        "logits",
    )
    plain = standard_gaussian(network.architecture)
    classifier = Classifier(replace(network, gaussian=plain), precision="float32")
    gaussian = fit_gaussian(plain, classifier, dark(300, seed=0))
    known, foreign = (
        gaussian.distances(classifier.predict(images).features)
        for images in (dark(100, seed=1), 255 - dark(100, seed=2))
    )
    assert foreign.min() > known.max()


def test_a_network_without_an_early_layer_has_no_gaussian():
    assert standard_gaussian(tiny_model().network().architecture) is None


def test_standardised_energies_and_distances_of_validation_images_have_mean_0_and_deviation_1():
    rng = np.random.default_rng(0)
    unscaled = np.zeros(2, np.float32), np.ones(2, np.float32)
    plain = Gaussian("layer", np.zeros(3, np.float32), np.eye(3, dtype=np.float32), *unscaled)
    energy, means = rng.normal(-9, 2, 500).astype(np.float32), rng.normal(size=(500, 3)).astype(np.float32)
    fitted = standardise(plain, Predictions(np.ones((500, 2), np.float32) / 2, energy, means))
    both = (np.stack([energy, plain.distances(means)], 1) - fitted.centre) / fitted.spread
    np.testing.assert_allclose(both.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(both.std(0), 1, atol=1e-3)
