"""The scaling in front of an imported network, what is said about it, and what Keras computes."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.model_store.network.keras_models import chain
from training.errors import TrainingError
from training.publish.import_preprocessing import Before, as_preprocessing, doubt_span, scaling_before
from training.publish.keras_files.network import read_keras_json, read_keras_weights
from training.publish.keras_files.scaling import Scaling, identity

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def normalization():
    return layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[3600.0, 3000.0, 4000.0])


def adapted():
    layer = layers.Normalization()
    layer.adapt(PIXELS)
    return layer


def functional(preprocess):
    images = keras.Input((32, 32, 3))
    return keras.Model(images, preprocess(images))


CASES = {
    "rescaling": lambda: chain(layers.Rescaling(1 / 127.5, offset=-1)),
    "channels": lambda: chain(layers.Rescaling([1 / 58, 1 / 57, 1 / 57.5], [-2.0, -2.1, -1.8])),
    "two": lambda: chain(layers.Rescaling(1 / 255), layers.Normalization(mean=[0.4] * 3, variance=[0.05] * 3)),
    "normalization": lambda: chain(normalization()),
    "adapted": lambda: chain(adapted()),
    "inverted": lambda: chain(layers.Normalization(mean=1.0, variance=4.0, invert=True, axis=None)),
    "augmented": lambda: chain(layers.RandomFlip(), layers.Rescaling(1 / 255), layers.GaussianNoise(0.1)),
    "nested": lambda: chain(chain(chain(layers.Rescaling(1 / 255)), layers.Rescaling(2.0, -1.0))),
    "tf": lambda: functional(keras.applications.mobilenet_v2.preprocess_input),
    "torch": lambda: functional(keras.applications.densenet.preprocess_input),
    "caffe": lambda: functional(keras.applications.resnet50.preprocess_input),
    "operators": lambda: functional(lambda images: (images - 128.0) * 0.01 + 1),
}


@pytest.mark.parametrize("case", CASES)
def test_layers_in_front_become_a_scaling_that_keras_confirms(case, tmp_path):
    front = CASES[case]()
    x = layers.Conv2D(2, 3, strides=2)(front.outputs[0])
    model = keras.Model(front.inputs[0], layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    model.save_weights(tmp_path / "model.weights.h5")
    read = read_keras_json(model.to_json().encode())
    found = read_keras_weights((tmp_path / "model.weights.h5").read_bytes(), read)
    assert [type(node.layer).__name__ for node in read.architecture.nodes[:2]] == ["InputLayer", "Conv2D"]
    expected = keras.ops.convert_to_numpy(front(PIXELS.astype("float32"), training=False))
    np.testing.assert_allclose(found.scaling.apply(PIXELS), expected, rtol=1e-5, atol=1e-4)
    if not found.scaling.reversed:
        scale, shift = as_preprocessing(found.scaling, 32, 32).scale_and_shift()
        np.testing.assert_allclose(PIXELS * scale + shift, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("front", [layers.Rescaling(-1 / 255), layers.Rescaling(0.5)], ids=["negative", "used twice"])
def test_a_rescaling_that_is_no_preprocessing_stays(front):
    images = keras.Input((32, 32, 3))
    scaled = front(images)
    x = layers.Conv2D(3, 3, padding="same")(scaled)
    x = layers.Add()([x, images if front.scale > 0 else scaled])
    read = read_keras_json(keras.Model(images, layers.GlobalAveragePooling2D()(x)).to_json().encode())
    assert read.scaling == ()
    assert "Rescaling" in {type(node.layer).__name__ for node in read.architecture.nodes}


def test_what_was_done_before_comes_first():
    before = Before((0.4, 0.5, 0.6), (0.2, 0.2, 0.2), "BGR").scaling(3)
    both = before.then(Scaling(np.full(3, 2.0), np.array([1.0, 2.0, 3.0]), reversed=True))
    assert not both.reversed  # twice
    np.testing.assert_allclose(both.apply(PIXELS), before.apply(PIXELS)[..., ::-1] * 2 + [1, 2, 3], rtol=1e-5)


def test_pixels_are_divided_by_255_unless_the_network_scales_them():
    assert as_preprocessing(scaling_before(None, (), 3), 32, 32).std == (1, 1, 1)
    assert scaling_before(None, ("rescaling",), 3).scale[0] == 1


def test_scalings_that_do_not_fit_together_are_doubted():
    own = Scaling(np.full(3, 1 / 255), np.zeros(3))
    assert doubt_span(identity(3).then(own), ("rescaling",), None) is None
    doubt = doubt_span(Before().scaling(3).then(own), ("rescaling",), Before())
    assert "begins with rescaling, which scales its input itself" in doubt and "0 to 0.003922" in doubt
    with pytest.raises(TrainingError, match="makes -1 to 509 of pixels of 0 to 255, so they were scaled before it"):
        doubt_span(Scaling(np.full(3, 2.0), np.full(3, -1.0)), ("rescaling",), None)


@pytest.mark.parametrize(
    ("before", "channels", "message"),
    [
        (Before(mean=(0.1, 0.2)), 3, "--mean has 2 numbers, but the network's images have 3 channels"),
        (Before(std=(0.1, 0.2, 0.3)), 1, "--std has 3 numbers, but the network's images have 1 channel;"),
        (Before(channel_order="BGR"), 1, "--channel-order BGR needs images of three channels"),
    ],
)
def test_numbers_that_fit_no_channels_are_refused(before, channels, message):
    with pytest.raises(TrainingError, match=message):
        before.scaling(channels)


@pytest.mark.parametrize("scale", [5e-324, 1e-320, 0.0, np.inf])
def test_numbers_that_float32_does_not_hold_are_refused(scale):
    with pytest.raises(TrainingError, match="which float32 does not hold"):
        as_preprocessing(Scaling(np.array([1.0, 1.0, scale]), np.zeros(3)), 32, 32)
