"""Small real Keras models, what Keras saves of them, and what Keras itself answers."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers

from model_store.classifier import Classifier
from model_store.manifest import Preprocessing
from model_store.network.architecture import parse_architecture
from model_store.network.model import Network
from model_store.network.weights import read_weights

INPUT_SHAPE = (32, 32, 3)
PREPROCESSING = Preprocessing(mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
PIXELS = Preprocessing(mean=(0, 0, 0), std=(1 / 255,) * 3)  # as they are, from 0 to 255


@dataclass(frozen=True)
class Tiny:
    """A model's two files, and images with their probabilities by Keras."""

    architecture: str
    weights: bytes
    images: np.ndarray  # (M, 32, 32, 3) uint8
    probabilities: np.ndarray  # (M, 3) float32

    def network(self, **changes) -> Network:
        parsed = parse_architecture(self.architecture)
        weights = read_weights(self.weights, parsed)
        return Network(**{**asdict_network(parsed, weights, "logits", 1.0), "labels": ("a", "b", "c"), **changes})


def chain(*stack: keras.Layer) -> keras.Model:
    """A Sequential model of normalised images."""
    return keras.Sequential([keras.Input(INPUT_SHAPE), *stack])


def tiny_model() -> Tiny:
    keras.utils.clear_session()
    stack = [layers.Conv2D(6, 3, strides=2, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.5)]
    model = randomised(chain(*stack, layers.GlobalAveragePooling2D(), layers.Dense(3)))
    images = random_images(5)
    return Tiny(*saved(model), images, softmax(keras_values(model, images)))


def random_images(count: int, seed: int = 0, shape: tuple[int, int, int] = INPUT_SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def randomised(model: keras.Model, seed: int = 0) -> keras.Model:
    """The model with random weights everywhere, batch-norm statistics included, that keep values moderate."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        drawn = [_random_weight(random, weight.name, tuple(weight.shape)) for weight in layer.weights]
        layer.load_own_variables({str(index): array for index, array in enumerate(drawn)})
    return model


def settled(model: keras.Model, images: np.ndarray, preprocessing: Preprocessing = PREPROCESSING) -> keras.Model:
    """A deep model with random batch-norms, whose statistics are near those of the images: signals stay moderate."""
    random = np.random.default_rng(0)
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    for layer in model.layers:
        if isinstance(layer, layers.Normalization):
            layer.load_own_variables({"0": random.normal(0, 1, 3), "1": random.uniform(0.5, 2, 3), "2": 1})
    for layer in norms:
        layer.momentum = 0
        for weight in (layer.gamma, layer.beta):
            if weight is not None:
                weight.assign(_random_weight(random, weight.name, tuple(weight.shape)))
    model(normalise(images, preprocessing), training=True)
    for layer in norms:
        for weight in (layer.moving_mean, layer.moving_variance):
            weight.assign(weight * random.uniform(0.8, 1.25, tuple(weight.shape)).astype(np.float32))
    return model


def _random_weight(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name in ("variance", "count"):
        return random.uniform(0.25, 2, shape)
    if name == "moving_variance":
        return random.uniform(0.25, 2, shape)
    if name == "gamma":
        return random.uniform(0.5, 1.5, shape) * random.choice([-1, 1], shape)
    fan_in = np.prod(shape[:-1]) if name == "kernel" else 4
    return random.normal(0, 1 / np.sqrt(fan_in), shape)


def saved(model: keras.Model) -> tuple[str, bytes]:
    """What `to_json` and `save_weights` give."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.weights.h5")
        model.save_weights(path)
        return model.to_json(), path.read_bytes()


def as_network(
    model: keras.Model,
    output: str = "probabilities",
    temperature: float = 1.0,
    preprocessing: Preprocessing = PREPROCESSING,
) -> Network:
    """The network that model_store reads from the model's files, whatever its images' size.

    With `output="probabilities"` nothing is done after the last layer, so whatever it gives can be compared.
    """
    text, content = saved(model)
    architecture = parse_architecture(text)
    weights = read_weights(content, architecture)
    height, width, _ = architecture.input
    sized = preprocessing.model_copy(update={"height": height, "width": width})
    return Network(**asdict_network(architecture, weights, output, temperature, sized))


def asdict_network(architecture, weights, output, temperature, preprocessing=PREPROCESSING):
    return {
        "architecture": architecture,
        "weights": weights,
        "labels": tuple(map(str, range(architecture.classes))),
        "preprocessing": preprocessing,
        "output": output,
        "temperature": temperature,
    }


def served(network: Network, images: np.ndarray, engine: str = "openvino", precision: str = "float32") -> np.ndarray:
    return Classifier(network, engine, precision).predict(images).probabilities


def normalise(images: np.ndarray, preprocessing: Preprocessing = PREPROCESSING) -> np.ndarray:
    mean, std = (np.array(values, np.float32) for values in (preprocessing.mean, preprocessing.std))
    return (images / np.float32(255) - mean) / std


def keras_values(model: keras.Model, images: np.ndarray, preprocessing: Preprocessing = PREPROCESSING) -> np.ndarray:
    """What Keras itself gives after the last layer, for the images normalised."""
    return keras.ops.convert_to_numpy(model(normalise(images, preprocessing), training=False))


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def assert_same(received: np.ndarray, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    """Equal within a tolerance that is relative for values above one."""
    assert received.shape == expected.shape
    assert np.isfinite(expected).all()
    difference = np.abs(received - expected).max() / max(1.0, np.abs(expected).max())
    assert difference <= tolerance
