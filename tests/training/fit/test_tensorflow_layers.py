"""The layers that TensorFlow trains faster compute what Keras's own do."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from training.fit import networks, tensorflow_layers
from training.fit.device import dtype_policy
from training.recipes import Airbench

pytestmark = pytest.mark.slow

IMAGES = np.random.default_rng(0).normal(size=(24, 32, 32, 3)).astype(np.float32)
TARGETS = np.eye(10, dtype=np.float32)[np.arange(24) % 10]
BFLOAT16_ROUNDING = 2.0**-8  # largest relative error of one rounding to 8 significant bits
SMALL = Airbench(widths=(8, 16, 24), activation="silu", batch_norm_momentum=0.6, convolutions=3)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def stepped(model):
    """Logits, gradients and statistics of one step in training, as float32 arrays."""
    with tf.GradientTape() as tape:
        logits = model(IMAGES, training=True)
        loss = tf.nn.softmax_cross_entropy_with_logits(TARGETS, logits)
    gradients = tape.gradient(loss, model.trainable_variables)
    values = [logits, *gradients, *(v.value for v in model.non_trainable_variables)]
    return [np.asarray(tf.cast(value, tf.float32)) for value in values]


def stepped_in(policy):
    """A step of the stock network and of the fast one, in the same precision."""
    with dtype_policy(policy):
        stock = networks.build(SMALL, 10, IMAGES, seed=0)
        fast = tensorflow_layers.accelerate(stock)
    assert [layer.compute_dtype for layer in fast.layers] == [layer.compute_dtype for layer in stock.layers]
    return stepped(stock), stepped(fast)


def test_a_step_is_that_of_the_stock_network():
    for expected, actual in zip(*stepped_in("float32"), strict=True):
        assert actual.shape == expected.shape
        assert np.linalg.norm(actual - expected) <= 1e-4 * np.linalg.norm(expected) + 1e-6


def test_a_step_in_bfloat16_is_as_near_to_float32_as_that_of_the_stock_network():
    exact, _ = stepped_in("float32")
    for expected, stock, fast in zip(exact, *stepped_in("mixed_bfloat16"), strict=True):
        stock_error, fast_error = (np.linalg.norm(values - expected) for values in (stock, fast))
        assert fast_error <= 1.3 * stock_error + 0.02 * np.linalg.norm(expected)


def test_the_weights_come_along_and_go_back():
    stock = networks.build(SMALL, 10, IMAGES, seed=1)
    fast = tensorflow_layers.accelerate(stock)
    np.testing.assert_allclose(fast.predict(IMAGES, verbose=0), stock.predict(IMAGES, verbose=0), atol=1e-5)
    kinds = {type(layer) for layer in fast.layers}
    assert {tensorflow_layers.FusedBatchNormalization, tensorflow_layers.NarrowConv2D} <= kinds
    back = networks.build(SMALL, 10, IMAGES, seed=2)
    back.set_weights(fast.get_weights())
    np.testing.assert_array_equal(back.predict(IMAGES, verbose=0), stock.predict(IMAGES, verbose=0))


@pytest.mark.parametrize("shape", [(5, 7, 7, 4, 6), (3, 3, 3, 8, 2), (2, 4, 6, 3, 5), (1, 1, 1, 2, 2)])
def test_the_gradient_of_a_kernel_from_whole_matrices(rng, shape):
    n, height, width, inputs, outputs = shape
    images = tf.constant(rng.normal(size=(n, height, width, inputs)), tf.float32)
    kernel = tf.constant(rng.normal(size=(3, 3, inputs, outputs)), tf.float32)
    upstream = tf.constant(rng.normal(size=(n, height, width, outputs)), tf.float32)

    def gradients(convolution):
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            convolved = convolution(images, kernel)
        return convolved, *tape.gradient(convolved, [images, kernel], upstream)

    stock = gradients(lambda *operands: tf.nn.conv2d(*operands, 1, "SAME"))
    for expected, actual in zip(stock, gradients(tensorflow_layers.convolve), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"padding": "valid"}, {"strides": 2}, {"dilation_rate": 2}, {"groups": 2}])
def test_what_is_no_ordinary_convolution_is_left_to_keras(rng, options):
    with dtype_policy("mixed_bfloat16"):
        stock = keras.Sequential([keras.Input((7, 7, 4)), layers.Conv2D(6, 3, **options)])
        fast = tensorflow_layers.accelerate(stock)
        images = rng.normal(size=(3, 7, 7, 4)).astype(np.float32)
        np.testing.assert_allclose(*(np.float32(model(images, training=True)) for model in (stock, fast)), atol=1e-2)


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}, {"axis": 1}, {"renorm": True}])
@pytest.mark.parametrize("shape", [(6, 5, 3), (4,)])
def test_batch_normalisation(rng, options, shape):
    stock = keras.Sequential([keras.Input(shape), layers.BatchNormalization(momentum=0.7, **options)])
    fast = tensorflow_layers.accelerate(stock)
    batch = rng.normal(2, 3, size=(8, *shape)).astype(np.float32)
    for training in (True, False):  # the second uses the statistics that the first one left
        np.testing.assert_allclose(fast(batch, training=training), stock(batch, training=training), atol=1e-4)
    for actual, expected in zip(fast.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_frozen_statistics_stay(rng):
    stock = keras.Sequential([keras.Input((6, 5, 3)), layers.BatchNormalization()])
    stock.layers[0].trainable = False
    fast = tensorflow_layers.accelerate(stock)
    fast(rng.normal(2, 3, size=(8, 6, 5, 3)).astype(np.float32), training=True)
    np.testing.assert_array_equal(fast.layers[0].moving_mean, np.zeros(3))


@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 0), ("bfloat16", BFLOAT16_ROUNDING)])
def test_silu_and_its_gradient(rng, dtype, rounding):
    values, upstream = (tf.cast(rng.normal(0, 4, size=(4, 50)), dtype) for _ in range(2))
    with tf.GradientTape() as tape:
        tape.watch(values)
        activated = tensorflow_layers.silu(values)
    gradient = tape.gradient(activated, values, upstream)
    x, factor = (np.float64(np.float32(tensor)) for tensor in (values, upstream))
    gate = 1 / (1 + np.exp(-x))
    # Computed in float32, to 1e-5 here, and rounded once; Keras's gradient in bfloat16 rounds after every operation.
    np.testing.assert_allclose(np.float32(gradient), factor * gate * (1 + x * (1 - gate)), rtol=rounding, atol=1e-5)
    np.testing.assert_array_equal(np.float32(activated), np.float32(keras.activations.silu(values)))
