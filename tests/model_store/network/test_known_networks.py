"""Networks that many people train give what Keras gives, as a whole, with random weights."""

from itertools import pairwise

import keras
import numpy as np
import pytest
from keras import applications, layers
from keras.src.applications import mobilenet_v3

from tests.model_store.network.keras_models import (
    PIXELS,
    PREPROCESSING,
    as_network,
    assert_same,
    chain,
    keras_values,
    random_images,
    served,
    settled,
)

pytestmark = pytest.mark.slow


def application(build, **options):
    """A network of `keras.applications` for 10 classes that ends in logits."""
    return lambda side: build(
        weights=None, input_shape=(side, side, 3), classes=10, classifier_activation=None, **options
    )


def rescaled_hard_sigmoid(x):
    """As the network is published: arithmetic between layers becomes layers."""
    return layers.Rescaling(1 / 6)(layers.ReLU(6.0)(layers.Rescaling(1.0, 3.0)(x)))


def mobilenet_v3_of(build):
    def of(side):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mobilenet_v3, "hard_sigmoid", rescaled_hard_sigmoid)
            return application(build)(side)

    return of


def efficientnet(side):
    """With the second scaling that it has where its weights come from ImageNet."""
    inputs = keras.Input((side, side, 3))
    x = layers.Rescaling([2.1, 2.0, 1.9])(inputs)
    return keras.Model(inputs, _inlined(application(applications.EfficientNetB0)(side), x))


def _inlined(model, x):
    """The output of a model's layers, but its input, on other values."""
    values = {id(model.inputs[0]): x}
    for layer in model.layers[1:]:
        node = layer._inbound_nodes[0]
        read = [values[id(tensor)] for tensor in node.input_tensors]
        values[id(node.outputs[0])] = layer(read if len(read) > 1 else read[0])
    return values[id(model.outputs[0])]


def vgg16_with_a_head(side):
    body = applications.VGG16(weights=None, include_top=False, input_shape=(side, side, 3))
    x = layers.Dropout(0.5)(layers.Dense(32, activation="relu")(layers.Flatten()(body.output)))
    return keras.Model(body.input, layers.Dense(10)(x))


def convolution(x, filters, size=3, strides=1):
    x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    return layers.Activation("relu")(layers.BatchNormalization()(x))


def keras_cifar10_cnn(side):
    """Keras's example of old, `cifar10_cnn.py`."""
    stack = []
    for filters in (32, 64):
        stack += [layers.Conv2D(filters, 3, padding="same"), layers.Activation("relu")]
        stack += [layers.Conv2D(filters, 3), layers.Activation("relu"), layers.MaxPooling2D(2), layers.Dropout(0.25)]
    stack += [layers.Flatten(), layers.Dense(512), layers.Activation("relu"), layers.Dropout(0.5)]
    return chain(*stack, layers.Dense(10), layers.Activation("softmax"))


def all_cnn(side):
    """Springenberg et al., "Striving for Simplicity", 2014: All-CNN-C."""
    stack = [layers.Dropout(0.2)]
    options = {"activation": "relu", "kernel_initializer": "he_normal"}
    for filters in (96, 192):
        for strides in (1, 1, 2):
            stack.append(layers.Conv2D(filters, 3, strides, padding="same", **options))
        stack.append(layers.Dropout(0.5))
    stack += [layers.Conv2D(192, 3, **options), layers.Conv2D(192, 1, **options)]
    return chain(*stack, layers.Conv2D(10, 1), layers.GlobalAveragePooling2D(), layers.Softmax())


def network_in_network(side):
    """Lin et al., "Network In Network", 2013."""
    stack = []
    for widths, size, pool in (
        ((192, 160, 96), 5, layers.MaxPooling2D(3, 2, "same")),
        ((192, 192, 192), 5, layers.AveragePooling2D(3, 2, "same")),
        ((192, 192, 10), 3, layers.GlobalAveragePooling2D()),
    ):
        for width, kernel in zip(widths, (size, 1, 1), strict=True):
            stack.append(layers.Conv2D(width, kernel, padding="same", activation="relu"))
        stack += [pool] if widths[-1] == 10 else [pool, layers.Dropout(0.5)]
    return chain(*stack)


def simplenet(side):
    """Hasanpour et al., "Lets keep it simple", 2016."""
    stack = []
    for filters in (64, 128, 128, 128, "pool", 128, 128, 256, "pool", 256, 256, "pool", 512, "pool", 256):
        if filters == "pool":
            stack += [layers.MaxPooling2D(2), layers.SpatialDropout2D(0.2)]
        else:
            stack += [layers.Conv2D(filters, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()]
    return chain(*stack, layers.GlobalMaxPooling2D(), layers.GaussianNoise(0.1), layers.Dense(10))


def resnet20(side):
    """He et al., "Deep Residual Learning", 2015, as in Keras's `cifar10_resnet.py`."""
    inputs = keras.Input((side, side, 3))
    x = convolution(inputs, 16)
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(3):
            strides = 2 if stage and not block else 1
            y = layers.BatchNormalization()(
                layers.Conv2D(filters, 3, padding="same")(convolution(x, filters, strides=strides))
            )
            x = layers.Conv2D(filters, 1, strides, padding="same")(x) if strides > 1 else x
            x = layers.Activation("relu")(layers.Add()([x, y]))
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(layers.AveragePooling2D(8)(x))))


def wide_resnet(side):
    """Zagoruyko and Komodakis, "Wide Residual Networks", 2016: 16 layers, four times as wide."""
    inputs = keras.Input((side, side, 3))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(inputs)
    for stage, filters in enumerate((64, 128, 256)):
        for block in range(2):
            strides = 2 if stage and not block else 1
            start = layers.LeakyReLU(negative_slope=0.1)(layers.BatchNormalization()(x))
            y = layers.Dropout(0.3)(convolution(start, filters, strides=strides))
            y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
            shortcut = x if block else layers.Conv2D(filters, 1, strides, use_bias=False)(start)
            x = layers.Add()([shortcut, y])
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def densenet_bc(side):
    """Huang et al., "Densely Connected Convolutional Networks", 2016: growth 12, 4 pairs of layers a block."""
    inputs = keras.Input((side, side, 3))
    x = layers.Conv2D(24, 3, padding="same", use_bias=False)(inputs)
    for block in range(3):
        for _ in range(4):
            y = layers.Activation("relu")(layers.BatchNormalization()(x))
            y = layers.Conv2D(12, 3, padding="same", use_bias=False)(convolution(y, 48, 1))
            x = layers.Concatenate()([x, layers.Dropout(0.2)(y)])
        if block < 2:
            x = layers.AveragePooling2D(2)(convolution(x, x.shape[-1] // 2, 1))
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def squeeze_and_excite(side):
    """Separable convolutions with Hu et al., "Squeeze-and-Excitation Networks", 2017, in its three usual forms."""
    inputs = keras.Input((side, side, 3))
    x = inputs
    for number, (before, after) in enumerate(pairwise((16, 24, 32, 48))):
        x = layers.PReLU(shared_axes=[1, 2])(
            layers.SeparableConv2D(after, 3, 2, padding="same", depth_multiplier=2)(convolution(x, before))
        )
        scale = layers.GlobalAveragePooling2D(keepdims=number == 0)(x)
        scale = layers.Reshape((1, 1, after))(scale) if number == 1 else scale
        scale = layers.Dense(after, activation="hard_sigmoid")(layers.Dense(4, activation="relu")(scale))
        x = layers.Multiply()([x, scale])
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


# Each with its side, and the normalisation of its images.
NETWORKS = {
    "MobileNet": (application(applications.MobileNet), 96, PREPROCESSING),
    "MobileNetV2": (application(applications.MobileNetV2), 96, PREPROCESSING),
    "MobileNetV3Small": (mobilenet_v3_of(applications.MobileNetV3Small), 96, PIXELS),
    "MobileNetV3Large": (mobilenet_v3_of(applications.MobileNetV3Large), 64, PIXELS),
    "EfficientNetB0": (efficientnet, 64, PIXELS),
    "ResNet50": (application(applications.ResNet50), 64, PREPROCESSING),
    "ResNet50V2": (application(applications.ResNet50V2), 64, PREPROCESSING),
    "DenseNet121": (application(applications.DenseNet121), 64, PREPROCESSING),
    "VGG16 without its top": (vgg16_with_a_head, 48, PREPROCESSING),
    "Keras's cifar10_cnn": (keras_cifar10_cnn, 32, PREPROCESSING),
    "All-CNN": (all_cnn, 32, PREPROCESSING),
    "Network in Network": (network_in_network, 32, PREPROCESSING),
    "SimpleNet": (simplenet, 32, PREPROCESSING),
    "ResNet-20": (resnet20, 32, PREPROCESSING),
    "Wide ResNet": (wide_resnet, 32, PREPROCESSING),
    "DenseNet-BC": (densenet_bc, 32, PREPROCESSING),
    "Squeeze-and-excite": (squeeze_and_excite, 47, PREPROCESSING),
}


@pytest.mark.parametrize(("build", "side", "preprocessing"), NETWORKS.values(), ids=NETWORKS.keys())
def test_a_known_network_equals_keras(build, side, preprocessing):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    images = random_images(4, shape=(side, side, 3)) // np.arange(1, 5, dtype=np.uint8)[:, None, None, None]
    model = settled(build(side), images, preprocessing)
    network = as_network(model, preprocessing=preprocessing)
    assert network.architecture.parameters == model.count_params()
    expected = keras_values(model, images, preprocessing)
    assert np.ptp(expected, axis=0).max() > 1e-3  # the images are told apart
    assert_same(served(network, images), expected)
