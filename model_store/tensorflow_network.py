"""The same validated layers as stock Keras layers on TensorFlow, for whoever serves with `CIFAR10_ENGINE=tensorflow`.

Builds from `architecture.Architecture`, never from the JSON: no Keras deserialisation happens here either. The only
module of the store that imports TensorFlow, and only when that engine is chosen.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from model_store.architecture import INPUT_SHAPE, Add, InputLayer, Layer

if TYPE_CHECKING:
    from model_store.classifier import Network

NOT_CONSTRUCTOR_ARGUMENTS = {"trainable", "quantization_config", "renorm", "renorm_clipping", "renorm_momentum", "dtype"}


def build_infer(network: "Network") -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """A function from uint8 (N, 32, 32, 3) to probabilities (N, K) float32."""
    model = build_keras(network)
    scale = 1 / (255 * np.float32(network.preprocessing.std))
    shift = -np.float32(network.preprocessing.mean) / np.float32(network.preprocessing.std)

    @tf.function(input_signature=[tf.TensorSpec((None, *INPUT_SHAPE), tf.uint8)])  # type: ignore[untyped-decorator]
    def answer(images: Any) -> Any:
        out = model(tf.cast(images, tf.float32) * scale + shift, training=False)
        return tf.nn.softmax(out / network.temperature) if network.output == "logits" else out

    def infer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = answer(images).numpy()
        return rows

    return infer


def build_keras(network: "Network") -> keras.Model:
    """A float32 Keras model of normalised images (N, 32, 32, 3) with the network's layers and weights."""
    first, *rest = network.architecture.nodes
    inputs = keras.Input(INPUT_SHAPE, name=first.layer.name)
    values = {first.layer.name: inputs}
    for node in rest:
        layer, read = _keras_layer(node.layer), [values[name] for name in node.inputs]
        values[node.layer.name] = layer(read if isinstance(node.layer, Add) else read[0])
        layer.set_weights(list(network.weights.get(node.layer.name, {}).values()))
    return keras.Model(inputs, values[rest[-1].layer.name])


def _keras_layer(layer: Layer) -> keras.layers.Layer:
    assert not isinstance(layer, InputLayer)
    given = layer.model_dump(exclude_unset=True)
    arguments = {
        key: value for key, value in given.items() if key in layer.inference_attributes() or key in ("name", "rate")
    }
    return getattr(keras.layers, type(layer).__name__)(**arguments, dtype="float32")
