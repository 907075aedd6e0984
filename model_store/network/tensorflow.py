"""The same validated layers as stock Keras layers on TensorFlow, for whoever serves with `CIFAR10_ENGINE=tensorflow`.

Builds from `architecture.Architecture`, never from the JSON: no Keras deserialisation happens here either. The only
module of the store that imports TensorFlow, and only when that engine is chosen.
"""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from model_store.network.layers import INPUT_SHAPE, Add, Dropout
from model_store.network.model import Network


def build_infer(network: Network) -> Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]:
    """A function from uint8 (N, 32, 32, 3) to what `network.build_network` gives, in that order, as float32."""
    model = build_keras(network)
    if network.gaussian:
        model = keras.Model(model.input, [model.output, model.get_layer(network.gaussian.layer).output])
    std = np.asarray(network.preprocessing.std, np.float32)
    scale, shift = 1 / (255 * std), -np.asarray(network.preprocessing.mean, np.float32) / std

    @tf.function(input_signature=[tf.TensorSpec((None, *INPUT_SHAPE), tf.uint8)])  # type: ignore[untyped-decorator]
    def answer(images: Any) -> Any:
        found = model(tf.cast(images, tf.float32) * scale + shift, training=False)
        out, *early = found if network.gaussian else [found]
        said = [tf.nn.softmax(out / network.temperature), out] if network.output == "logits" else [out]
        return said + [tf.reduce_mean(values, [1, 2]) for values in early]

    def infer(images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return [rows.numpy() for rows in answer(images)]

    return infer


def build_keras(network: Network) -> keras.Model:
    """A float32 Keras model of normalised images (N, 32, 32, 3) with the network's layers and weights."""
    first, *rest = network.architecture.nodes
    inputs = keras.Input(INPUT_SHAPE, name=first.layer.name)
    values = {first.layer.name: inputs}
    for node in rest:
        read = [values[name] for name in node.inputs]
        if isinstance(node.layer, Dropout):
            values[node.layer.name] = read[0]
            continue
        layer = getattr(keras.layers, type(node.layer).__name__)(**node.layer.inference_config())
        values[node.layer.name] = layer(read if isinstance(node.layer, Add) else read[0])
        layer.set_weights(list(network.weights.get(node.layer.name, {}).values()))
    return keras.Model(inputs, values[rest[-1].layer.name])
