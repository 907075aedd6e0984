"""Every layer alone gives what Keras gives, on both engines."""

from typing import get_args

import keras
import numpy as np
import pytest
from keras import layers

from model_store.network.layers import LAYERS, ActivationName, Identity
from tests.model_store.network.inert_layers import inert
from tests.model_store.network.keras_models import (
    as_network,
    assert_same,
    chain,
    keras_values,
    random_images,
    randomised,
    served,
)

ACTIVATIONS = get_args(ActivationName)
IMAGES = random_images(3)


def odd():
    """31×31×4: an odd side, so that padding is not symmetric."""
    return layers.Conv2D(4, 2)


def small():
    """3×3×5."""
    return layers.Conv2D(5, 4, strides=11)


def image(*stack):
    """A model that ends in an image, flattened: every value of it is compared."""
    return chain(*stack, layers.Flatten())


def vector(*stack):
    """A model whose layers after the first read a vector."""
    return chain(small(), layers.Flatten(), *stack)


def normalised(end, **options):
    return lambda: end(layers.BatchNormalization(epsilon=0.1, **options))


def merged(layer, count=2):
    """Several images of one shape."""

    def build():
        inputs = keras.Input((32, 32, 3))
        branches = [layers.Conv2D(4, 3, strides=4)(inputs) for _ in range(count)]
        return keras.Model(inputs, layers.Flatten()(layer()(branches)))

    return build


def repeated(layer, *shapes, last=False):
    """An image 8×8×4 with others of these shapes, which are repeated."""

    def build():
        inputs = keras.Input((32, 32, 3))
        branches = [layers.Conv2D(4, 3, strides=4)(inputs)]
        for shape in shapes:
            vector = layers.Dense(int(np.prod(shape)))(layers.GlobalAveragePooling2D()(inputs))
            branches.append(layers.Reshape(shape)(vector))
        return keras.Model(inputs, layers.Flatten()(layer()(branches[::-1] if last else branches)))

    return build


def merges(layer, **shapes):
    repeats = {f"{name} {last}": repeated(layer, shape, last=last) for name, shape in shapes.items() for last in (0, 1)}
    return {"of 2": merged(layer), "pixel": repeated(layer, (1, 1, 4))} | repeats


def joined(count):
    """Images that differ in channels only, and vectors, concatenated."""

    def build():
        inputs = keras.Input((32, 32, 3))
        branches = [layers.Conv2D(4 + number, 3, strides=4)(inputs) for number in range(count)]
        image = layers.Concatenate()(branches)
        ends = [layers.GlobalAveragePooling2D()(image), layers.Flatten()(layers.Concatenate(axis=3)(branches[:2]))]
        return keras.Model(inputs, layers.Concatenate(axis=1)(ends))

    return build


def pools(layer):
    return {
        "2": lambda: image(odd(), layer(2)),
        "2 same": lambda: image(odd(), layer(2, padding="same")),
        "3 stride 2": lambda: image(odd(), layer(3, strides=2)),
        "3 stride 2 same": lambda: image(odd(), layer(3, strides=2, padding="same")),
        "3 stride 1 same": lambda: image(odd(), layer(3, strides=1, padding="same")),
        "2 stride 3": lambda: image(odd(), layer(2, strides=3)),
        "2 stride 3 same": lambda: image(odd(), layer(2, strides=3, padding="same")),
        "3x2 stride 1x2 same": lambda: image(odd(), layer((3, 2), strides=(1, 2), padding="same")),
        "whole image": lambda: image(small(), layer(3)),
    }


def convolution(**options):
    return lambda: image(layers.Conv2D(5, **options))


def of(layer, *arguments, **options):
    """A layer on an image with odd sides."""
    return lambda: image(odd(), layer(*arguments, **options))


def relu(end, top, slope, threshold):
    return lambda: end(layers.ReLU(top, slope, threshold))


ALONE = {
    "InputLayer": {"alone": lambda: image()},
    "Conv2D": {
        f"{size} stride {stride} {padding}": convolution(kernel_size=size, strides=stride, padding=padding)
        for size in (1, 2, 3, 5)
        for stride in (1, 2)
        for padding in ("same", "valid")
    }
    | {
        "no bias": convolution(kernel_size=3, use_bias=False),
        "3x1 stride 1x2": convolution(kernel_size=(3, 1), strides=(1, 2), padding="same"),
        "after another": lambda: image(odd(), layers.Conv2D(6, 3)),
        "dilated": convolution(kernel_size=3, dilation_rate=(2, 3)),
        "dilated same": convolution(kernel_size=(2, 3), dilation_rate=2, padding="same"),
        "groups": lambda: image(odd(), layers.Conv2D(6, 3, strides=2, padding="same", groups=2)),
        "a group for each channel": lambda: image(odd(), layers.Conv2D(8, 3, groups=4)),
    }
    | {name: convolution(kernel_size=2, strides=3, activation=name) for name in ACTIVATIONS},
    "Dense": {
        "no bias": lambda: vector(layers.Dense(7, use_bias=False)),
        "image": lambda: image(odd(), layers.Dense(6, activation="relu")),
    }
    | {name: lambda name=name: chain(layers.Flatten(), layers.Dense(7, activation=name)) for name in ACTIVATIONS},
    "BatchNormalization": {
        f"{end.__name__} center {center} scale {scale}": normalised(end, center=center, scale=scale)
        for end in (image, vector)
        for center in (True, False)
        for scale in (True, False)
    },
    "Activation": {f"{name} image": lambda name=name: image(small(), layers.Activation(name)) for name in ACTIVATIONS}
    | {f"{name} vector": lambda name=name: chain(layers.Flatten(), layers.Activation(name)) for name in ACTIVATIONS}
    | {
        "softmax over channels, then pooled": lambda: image(
            odd(), layers.Activation("softmax"), layers.AveragePooling2D(3)
        )
    },
    "MaxPooling2D": pools(layers.MaxPooling2D),
    "AveragePooling2D": pools(layers.AveragePooling2D),
    "GlobalAveragePooling2D": {
        "vector": lambda: chain(odd(), layers.GlobalAveragePooling2D()),
        "pixel": of(layers.GlobalAveragePooling2D, keepdims=True),
    },
    "GlobalMaxPooling2D": {
        "vector": lambda: chain(odd(), layers.GlobalMaxPooling2D()),
        "pixel": of(layers.GlobalMaxPooling2D, keepdims=True),
    },
    "Flatten": {
        "several positions": lambda: chain(small(), layers.Flatten()),
        "one row": lambda: chain(layers.Conv2D(3, (32, 8), strides=8), layers.Flatten()),
        "one position": lambda: chain(layers.Conv2D(6, 32), layers.Flatten()),
        "a vector": lambda: chain(small(), layers.Flatten(), layers.Flatten()),
    },
    "Dropout": {"image": lambda: image(layers.Dropout(0.5)), "seeded": lambda: image(layers.Dropout(0.9, seed=3))},
    "Rescaling": {
        "image": lambda: image(layers.Rescaling(-2.5, 0.75)),
        "vector": lambda: chain(layers.Flatten(), layers.Rescaling(1 / 9)),
        "by channel": lambda: image(layers.Rescaling([0.5, 2.0, -1.0], [0.1, 0.0, 3.0])),
    },
    "DepthwiseConv2D": {
        f"{size} stride {stride} {padding}": of(layers.DepthwiseConv2D, size, stride, padding)
        for size in (2, 3)
        for stride in (1, 2, 3)
        for padding in ("same", "valid")
    }
    | {
        "multiplier": of(layers.DepthwiseConv2D, 3, depth_multiplier=3, activation="relu6"),
        "multiplier, no bias": of(layers.DepthwiseConv2D, (3, 2), 2, "same", depth_multiplier=2, use_bias=False),
        "dilated": of(layers.DepthwiseConv2D, 3, dilation_rate=(2, 3)),
        "dilated same": of(layers.DepthwiseConv2D, (2, 3), padding="same", dilation_rate=3),
        "one position": lambda: chain(layers.DepthwiseConv2D(32), layers.Flatten()),
    },
    "SeparableConv2D": {
        f"{size} stride {stride} {padding}": of(layers.SeparableConv2D, 5, size, stride, padding)
        for size in (1, 3)
        for stride in (1, 2)
        for padding in ("same", "valid")
    }
    | {
        "multiplier": of(layers.SeparableConv2D, 5, 3, depth_multiplier=3, activation="relu6"),
        "no bias": of(layers.SeparableConv2D, 5, (3, 2), use_bias=False),
        "dilated same": of(layers.SeparableConv2D, 5, (2, 3), padding="same", dilation_rate=2),
    },
    "Normalization": {
        "attributes": of(layers.Normalization, mean=[0.1, -0.2, 3.0, 0.5], variance=[0.5, 2.0, 0.0, 1.0]),
        "one number": of(layers.Normalization, mean=0.25, variance=3.0),
        "weights": of(layers.Normalization),
        "no axis": of(layers.Normalization, axis=None),
        "attributes, no axis": of(layers.Normalization, axis=None, mean=0.25, variance=3.0),
        "axis by number": of(layers.Normalization, axis=3),
        "vector": lambda: vector(layers.Normalization()),
    },
    "ReLU": {
        f"at most {top}, slope {slope}, from {threshold} {end.__name__}": relu(end, top, slope, threshold)
        for end in (image, vector)
        for top, slope, threshold in (
            (None, 0, 0),
            (0.5, 0, 0),
            (6, 0, 0),
            (None, 0.3, 0),
            (None, 0, 0.25),
            (0.5, 0.3, 0.25),
        )
    },
    "LeakyReLU": {"default": of(layers.LeakyReLU), "vector": lambda: vector(layers.LeakyReLU(0.1))},
    "PReLU": {
        "every value": of(layers.PReLU),
        "by channel": of(layers.PReLU, shared_axes=[1, 2]),
        "by row": of(layers.PReLU, shared_axes=[2, 3]),
        "one": of(layers.PReLU, shared_axes=[1, 2, 3]),
        "vector": lambda: vector(layers.PReLU()),
    },
    "ELU": {"default": of(layers.ELU), "vector": lambda: vector(layers.ELU(0.4))},
    "Softmax": {
        "image": of(layers.Softmax),
        "last axis": of(layers.Softmax, axis=3),
        "vector": lambda: vector(layers.Softmax()),
    },
    "ZeroPadding2D": {
        "1": of(layers.ZeroPadding2D),
        "by side": of(layers.ZeroPadding2D, ((0, 1), (2, 3))),
        "then a convolution": lambda: image(odd(), layers.ZeroPadding2D(((0, 1), (0, 1))), layers.Conv2D(5, 3, 2)),
        "then depthwise": lambda: image(odd(), layers.ZeroPadding2D(2), layers.DepthwiseConv2D(3, 2)),
        "then a maximum of negative values": lambda: image(
            layers.Rescaling(-0.01, -5.0), layers.ZeroPadding2D(1), layers.MaxPooling2D(3, 2)
        ),
        "then a mean": lambda: image(odd(), layers.ZeroPadding2D(1), layers.AveragePooling2D(3, 2, "same")),
    },
    "Reshape": {
        "to a pixel": lambda: chain(
            odd(), layers.GlobalAveragePooling2D(), layers.Reshape((1, 1, 4)), layers.Flatten()
        ),
        "to a vector": lambda: chain(small(), layers.Reshape((45,))),
        "rest": lambda: chain(small(), layers.Reshape((-1,))),
        "to another image": lambda: chain(small(), layers.Reshape((5, -1, 3)), layers.Conv2D(4, 2), layers.Flatten()),
        "of a vector": lambda: vector(layers.Reshape((3, 5, 3)), layers.Conv2D(4, 2), layers.Flatten()),
    },
    "Add": merges(layers.Add) | {"of 3": merged(layers.Add, 3)},
    "Subtract": merges(layers.Subtract),
    "Multiply": merges(layers.Multiply, vector=(4,), map=(8, 8, 1), row=(1, 8, 1))
    | {"of 3": merged(layers.Multiply, 3)},
    "Average": merges(layers.Average) | {"of 3": merged(layers.Average, 3)},
    "Maximum": merges(layers.Maximum) | {"of 3": merged(layers.Maximum, 3)},
    "Minimum": merges(layers.Minimum) | {"of 3": merged(layers.Minimum, 3)},
    "Concatenate": {f"of {count}": joined(count) for count in (2, 3)},
}
for kind in (name for name, layer in LAYERS.items() if issubclass(layer, Identity)):
    ALONE[kind] = {"image": lambda kind=kind: image(inert(kind), odd())}


def test_every_layer_that_is_served_has_a_parity_case():
    assert ALONE.keys() == LAYERS.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "build"),
    [pytest.param(kind, build, id=f"{kind}-{name}") for kind, cases in ALONE.items() for name, build in cases.items()],
)
def test_a_layer_alone_equals_keras(kind, build):
    keras.utils.clear_session()
    model = randomised(build())
    network = as_network(model)
    assert kind in {type(node.layer).__name__ for node in network.architecture.nodes}
    assert_same(served(network, IMAGES), keras_values(model, IMAGES))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALONE)
def test_the_other_engine_equals_keras(kind):
    for build in list(ALONE[kind].values())[-3:]:
        keras.utils.clear_session()
        model = randomised(build())
        assert_same(served(as_network(model), IMAGES, "tensorflow"), keras_values(model, IMAGES))
