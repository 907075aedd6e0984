"""Served predictions equal Keras's on TensorFlow, and rounding to 8 bits changes little."""

from dataclasses import replace
from typing import get_args

import keras
import numpy as np
import openvino as ov
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from keras import layers

from model_store.classifier import choose_precision
from model_store.network.architecture import parse_architecture
from model_store.network.gaussian import Gaussian
from model_store.network.layers import ActivationName
from model_store.network.openvino import build_float_network, build_network
from model_store.network.quantization import quantizable
from tests.model_store.network.keras_models import (
    as_network,
    assert_same,
    chain,
    keras_values,
    random_images,
    randomised,
    saved,
    served,
    softmax,
)
from training.fit.networks import airbench, notebook_cnn
from training.recipes import Airbench

IMAGES = random_images(3)
FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}


def classifier_of(last):
    return randomised(chain(layers.Conv2D(8, 3, strides=2, activation="relu"), layers.Flatten(), *last))


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_logits_are_divided_by_the_temperature_before_softmax(engine, temperature):
    model = classifier_of([layers.Dense(4)])
    expected = softmax(keras_values(model, IMAGES) / temperature)
    assert_same(served(as_network(model, "logits", temperature), IMAGES, engine), expected)


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_probabilities_are_served_as_the_network_gives_them(engine):
    model = classifier_of([layers.Dense(4, activation="softmax")])
    assert_same(served(as_network(model), IMAGES, engine), keras_values(model, IMAGES))


def notebook():
    return notebook_cnn(10), "probabilities"


def airbench_small():
    sample = random_images(20, seed=1) / np.float32(255)
    return airbench(Airbench((8, 16, 16), "gelu", batch_norm_momentum=0.6), 10, sample), "logits"


def residual():
    """Two branches of unequal length that join, one of them through a layer of its own."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False)(inputs)
    for width in (6, 9):
        y = layers.Activation("silu")(layers.BatchNormalization()(x))
        y = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(y)
        y = layers.Conv2D(width, 3, padding="same")(layers.Activation("relu")(layers.BatchNormalization()(y)))
        x = layers.Add()([layers.Conv2D(width, 1, strides=2)(x), y])
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x))), "logits"


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
@pytest.mark.parametrize("build", [notebook, airbench_small, residual], ids=lambda build: build.__name__)
def test_a_whole_network_equals_keras(build, engine):
    keras.utils.clear_session()
    model, output = build()
    randomised(model)
    values = keras_values(model, IMAGES)
    assert_same(served(as_network(model, output), IMAGES, engine), values if output != "logits" else softmax(values))


def test_bfloat16_stays_close_to_keras():
    if choose_precision("openvino", "auto") != "bfloat16":
        pytest.skip("this processor has no bfloat16 instructions")
    model, _ = residual()
    randomised(model)
    received = served(as_network(model, "logits"), IMAGES, precision="bfloat16")
    assert_same(received, softmax(keras_values(model, IMAGES)), tolerance=0.05)


def test_int8_stays_close_to_keras_and_is_not_the_same():
    model, _ = residual()
    randomised(model)
    network = as_network(model, "logits")
    rounded = replace(network, ranges=dict.fromkeys(quantizable(network.architecture), (-8.0, 8.0 * 127 / 128)))
    answers = {each: served(rounded, IMAGES, precision=each) for each in ("int8", "float32")}
    unrounded = served(network, IMAGES)  # in bfloat16 where the processor has it
    assert_same(answers["int8"], softmax(keras_values(model, IMAGES)), tolerance=0.15)
    assert np.abs(answers["int8"] - unrounded).max() > 1e-4
    assert_same(answers["float32"], softmax(keras_values(model, IMAGES)))


def test_int8_of_groups_and_beside_depthwise_convolutions_stays_close_to_keras():
    inputs = keras.Input((32, 32, 3))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2)(inputs)))
    y = layers.ZeroPadding2D()(layers.ReLU(6.0)(layers.DepthwiseConv2D(3)(x)))
    z = layers.Conv2D(8, 3, padding="same", groups=4)(x)
    x = layers.Add()([layers.Conv2D(8, 1)(y), z])
    model = randomised(keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x))))
    network = as_network(model, "logits")
    names = quantizable(network.architecture)
    assert len(names) == 2
    rounded = replace(network, ranges=dict.fromkeys(names, (-2.0, 2.0 * 127 / 128)))
    expected = softmax(keras_values(model, IMAGES))
    received = served(rounded, IMAGES, precision="int8")
    assert_same(received, expected, tolerance=0.05)
    assert np.abs(received - expected).max() > 1e-5


def test_int8_holds_the_largest_sums_there_can_be():
    """Every activation and weight at its upper end: without VNNI a processor adds two products in 16 bits."""
    first = layers.Conv2D(16, 1, kernel_initializer="ones", name="first")
    second = layers.Conv2D(16, 3, kernel_initializer=keras.initializers.Constant(1 / 144))
    model = chain(first, second, layers.GlobalAveragePooling2D(), layers.Dense(3, kernel_initializer="ones"))
    brightest = np.full((1, 32, 32, 3), 255, np.uint8)
    expected = keras_values(model, brightest)
    network = replace(as_network(model, "logits"), ranges={"first": (0.0, float(expected[0, 0] / 16))})
    compiled = ov.Core().compile_model(build_network(network), "CPU")
    assert_same(compiled(brightest)["logits"], expected, tolerance=0.02)


def test_separate_rounding_changes_no_prediction():
    model = airbench(
        Airbench((8, 16, 16), "silu", 0.6, convolutions=3), 10, random_images(20, seed=1) / np.float32(255)
    )
    network = as_network(randomised(model), "logits")
    network = replace(network, ranges=dict.fromkeys(quantizable(network.architecture), (-8.0, 8.0 * 127 / 128)))
    graphs = [build_network(network, separate_rounding) for separate_rounding in (False, True)]
    pools = [sum(node.get_type_name() == "MaxPool" for node in graph.get_ops()) for graph in graphs]
    assert pools[1] == pools[0] + 3  # the second of each block's three convolutions: after the others there is more
    fused, separate = (ov.compile_model(graph, "CPU", FLOAT32)(IMAGES)["logits"] for graph in graphs)
    np.testing.assert_array_equal(fused, separate)


def test_layers_keep_their_names_in_the_graph():
    model, _ = residual()
    network = as_network(randomised(model), "logits")
    graph = build_network(network)
    names = {node.get_friendly_name() for node in graph.get_ops()}
    assert set(quantizable(network.architecture)) <= names


def test_the_means_of_a_layers_channels_come_last_and_change_nothing_else():
    model, _ = residual()
    network = as_network(randomised(model), "logits")
    name = quantizable(network.architecture)[0]
    channels = network.architecture.weight_shapes()[name]["kernel"][-1]
    mean, two = np.zeros(channels, np.float32), np.ones(2, np.float32)
    gaussian = Gaussian(name, mean, np.eye(channels, dtype=np.float32), two, two)
    graph = build_network(replace(network, gaussian=gaussian))
    assert [output.get_any_name() for output in graph.outputs] == ["probabilities", "logits", "features"]
    expected, received = (ov.compile_model(built, "CPU", FLOAT32)(IMAGES) for built in (build_network(network), graph))
    assert_same(received["logits"], expected["logits"])
    early = keras.Model(model.input, model.get_layer(name).output)
    assert_same(received["features"], keras_values(early, IMAGES).mean(axis=(1, 2)))


def test_the_float_network_takes_pixels_between_zero_and_one():
    model = classifier_of([layers.Dense(4)])
    network = as_network(model, "logits", 2.0)
    compiled = ov.compile_model(build_float_network(network), "CPU", FLOAT32)
    received = compiled(IMAGES / np.float32(255))["probabilities"]
    assert_same(received, softmax(keras_values(model, IMAGES) / 2))


names = st.sampled_from(get_args(ActivationName))
padding = st.sampled_from(["same", "valid"])
pooling = st.sampled_from([layers.MaxPooling2D, layers.AveragePooling2D])
side = st.integers(1, 3)
blocks = st.one_of(
    st.tuples(st.just("convolution"), st.integers(2, 6), side, side, padding, names, st.booleans()),
    st.tuples(st.just("pool"), pooling, side, side, padding),
    st.tuples(st.just("normalise"), st.booleans(), st.booleans()),
    st.tuples(st.just("activate"), names),
    st.tuples(st.just("drop")),
    st.tuples(st.just("rescale"), st.floats(-2, 2), st.floats(-1, 1)),
    st.tuples(st.just("residual"), side, names),
)
heads = st.sampled_from([layers.Flatten, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D])


def layer_of(block, shape):
    """The Keras layer that a drawn block stands for, its window no larger than the image."""
    fit = min(shape[1:3])
    match block:
        case "convolution", filters, size, stride, pad, activation, bias:
            size = min(size, fit)
            return layers.Conv2D(filters, size, stride, pad, activation=activation, use_bias=bias)
        case "pool", kind, size, stride, pad:
            return kind(min(size, fit), stride, pad)
        case "normalise", center, scale:
            return layers.BatchNormalization(center=center, scale=scale)
        case "activate", activation:
            return layers.Activation(activation)
        case ("drop",):
            return layers.Dropout(0.3)
        case "rescale", scale, offset:
            return layers.Rescaling(scale, offset)
    raise AssertionError(block)


def random_network(drawn, head, hidden):
    """Functional where a block is a residual one, Sequential otherwise."""
    inputs = x = keras.Input((32, 32, 3))
    stack = []
    for block in drawn:
        match block:
            case "residual", size, activation:
                y = layers.Conv2D(x.shape[-1], size, padding="same", activation=activation)(x)
                x = layers.Add()([x, layers.BatchNormalization()(y)])
            case _:
                stack.append(layer_of(block, x.shape))
                x = stack[-1](x)
    end = [head(), *([layers.Dense(6, activation="gelu"), layers.BatchNormalization()] if hidden else [])]
    end.append(layers.Dense(4))
    if not any(block[0] == "residual" for block in drawn):
        return chain(*stack, *end)
    for layer in end:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.mark.slow
@settings(deadline=None, max_examples=25, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(st.lists(blocks, max_size=6), heads, st.booleans())
def test_any_small_network_equals_keras(drawn, head, hidden):
    keras.utils.clear_session()
    model = randomised(random_network(drawn, head, hidden))
    assert_same(served(as_network(model), IMAGES), keras_values(model, IMAGES))


def test_an_admitted_network_has_as_many_parameters_as_keras_counts():
    model, _ = residual()
    assert parse_architecture(saved(model)[0]).parameters == model.count_params()
