from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from model_store.classifier import Classifier
from model_store.manifest import Preprocessing
from model_store.network.architecture import parse_architecture
from model_store.network.model import Network
from model_store.network.weights import read_weights
from tests.model_store.network.keras_models import chain, random_images, randomised, saved
from training.evaluate.quantization import Quantization, measure_quantization, quantize

PREPROCESSING = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


@pytest.fixture(scope="module")
def network():
    stack = [layers.Conv2D(8, 3, activation="relu", name="first"), layers.Conv2D(8, 3), layers.GlobalAveragePooling2D()]
    architecture, weights = saved(randomised(chain(*stack, layers.Dense(3))))
    parsed = parse_architecture(architecture)
    return Network(parsed, read_weights(weights, parsed), ("a", "b", "c"), PREPROCESSING, "logits")


def test_ranges_hold_what_training_images_give(network):
    ranges = quantize(network, random_images(40)).ranges
    assert list(ranges) == ["first"]
    low, high = ranges["first"]
    assert low == 0 and high > 0.1
    brighter = Network(network.architecture, network.weights, network.labels, replace_scale(2), network.output)
    assert quantize(brighter, random_images(40)).ranges["first"][1] > high


def test_what_a_convolution_reads_through_a_layer_that_changes_nothing_is_measured():
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, padding="same", name="a")(inputs)
    both = layers.Conv2D(8, 3, padding="same")(x), layers.Conv2D(8, 3, padding="same")(layers.Dropout(0.5, name="d")(x))
    last = layers.GlobalAveragePooling2D()(layers.Add()(both))
    architecture, weights = saved(randomised(keras.Model(inputs, layers.Dense(3)(last))))
    parsed = parse_architecture(architecture)
    network = Network(parsed, read_weights(weights, parsed), ("a", "b", "c"), PREPROCESSING, "logits")
    rounded = quantize(network, random_images(40))
    assert rounded.ranges["a"] == rounded.ranges["d"]
    exact, served = (
        Classifier(rounded, precision=precision).predict(random_images(9)) for precision in ("float32", "int8")
    )
    np.testing.assert_allclose(served.probabilities, exact.probabilities, atol=0.1)


def replace_scale(factor: float) -> Preprocessing:
    return PREPROCESSING.model_copy(update={"std": tuple(value / factor for value in PREPROCESSING.std)})


def test_rounding_in_ranges_that_fit_costs_little_and_in_others_much(network):
    colours = np.random.default_rng(1).integers(0, 256, (60, 1, 1, 3), dtype=np.uint8)
    pixels = np.tile(colours, (1, 32, 32, 1))
    unrounded = Classifier(network).predict(pixels)
    labels = unrounded.probabilities.argmax(1).astype(np.int32)
    assert len(set(labels.tolist())) > 1

    def measure(ranges):
        int8 = Classifier(replace(network, ranges=ranges), precision="int8").predict(pixels)
        return measure_quantization(unrounded, int8, labels)

    good = measure(quantize(network, random_images(40)).ranges)
    assert good.images == 60 and good.before == 1.0 and good.after > 0.8
    blind = measure({"first": (0.0, 1e-4)})
    assert blind.before == 1.0 and blind.after < 0.8 and not blind.pays


@pytest.mark.parametrize(("after", "pays"), [(0.94, True), (0.929, True), (0.9285, False)])
def test_a_tenth_of_a_point_is_what_speed_is_worth(after, pays):
    assert Quantization(5_000, 0.93, after).pays is pays
