"""Build stock Keras layers on TensorFlow from a `Network`, for services with `CIFAR10_ENGINE=tensorflow`.

Builds from the validated `Architecture`, never from the JSON, so Keras deserialises nothing. The only module of the
store that imports TensorFlow, imported only when that engine is chosen.
"""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from model_store.network.model import Network


def build_infer(network: Network) -> Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]:
    """Build a function from uint8 (N, H, W, C) to `openvino.build_network`'s outputs, in that order, as float32."""
    model = build_keras(network)
    if network.gaussian:
        model = keras.Model(model.input, [model.output, model.get_layer(network.gaussian.layer).output])
    scale, shift = network.preprocessing.scale_and_shift()

    @tf.function(input_signature=[tf.TensorSpec((None, *network.architecture.input), tf.uint8)])  # type: ignore[untyped-decorator]
    def compute(images: Any) -> Any:
        tensors = model(tf.cast(images, tf.float32) * scale + shift, training=False)
        last, *maps = tensors if network.gaussian else [tensors]
        outputs = [tf.nn.softmax(last / network.temperature), last] if network.output == "logits" else [last]
        return outputs + [tf.reduce_mean(values, [1, 2]) for values in maps]

    def infer(images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return [output.numpy() for output in compute(images)]

    return infer


def build_keras(network: Network) -> keras.Model:
    """Build a float32 Keras model of normalised images (N, H, W, C) with the network's layers and weights."""
    first, *rest = network.architecture.nodes
    inputs = keras.Input(network.architecture.input, name=first.layer.name)
    values = {first.layer.name: inputs}
    for node in rest:
        node_inputs = [values[name] for name in node.inputs]
        if node.layer.is_identity:
            values[node.layer.name] = node_inputs[0]
            continue
        layer = getattr(keras.layers, type(node.layer).__name__)(**node.layer.inference_config())
        values[node.layer.name] = layer(node_inputs if node.layer.takes_several_inputs else node_inputs[0])
        arrays = network.weights.get(node.layer.name, {}).values()
        layer.load_own_variables({str(index): array for index, array in enumerate(arrays)})
    return keras.Model(inputs, values[rest[-1].layer.name])
