"""Export a network as .keras, SavedModel or LiteRT, and read each format back.

Each reader loads the file as its recipient would, without project code.
"""

import warnings
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from model_store.network.architecture import Architecture
from model_store.network.layers import Conv2D, Shape
from model_store.network.model import Network
from model_store.network.openvino_layers import Arrays
from model_store.network.tensorflow import build_keras
from model_store.os_errors import from_text
from training.errors import TrainingError
from training.export.formats import Predict
from training.fit.networks import normalisation


def build_served(network: Network) -> keras.Model:
    """Build a model from `images` (N, H, W, C), float32 in 0..1, to probabilities (N, K)."""
    images = keras.Input(network.architecture.input, name="images", dtype="float32")
    x = build_keras(network)(normalisation(network.preprocessing, white=1, name="normalisation")(images))
    if network.output == "logits":
        x = layers.Rescaling(1 / network.temperature, name="temperature", dtype="float32")(x)
        x = layers.Softmax(name="probabilities", dtype="float32")(x)
    return keras.Model(images, x, name="served")


def write_keras(network: Network, path: Path) -> None:
    """Write a .keras file of stock layers."""
    build_served(network).save(path)


def open_keras(path: Path) -> Predict:
    """Open with Keras's loader in its safe mode, without custom objects."""
    model = keras.saving.load_model(path)
    return lambda images: keras.ops.convert_to_numpy(model(images, training=False))


def write_saved_model(network: Network, path: Path) -> None:
    """Write a SavedModel directory whose signature `serving_default` takes `images` and gives `probabilities`.

    Raises:
        TrainingError: Keras runs on another backend than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise TrainingError(
            f"Keras runs on {keras.backend.backend()}, but this format needs TensorFlow; set KERAS_BACKEND=tensorflow"
        )
    model = build_served(network)
    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = [tf.TensorSpec((None, *network.architecture.input), tf.float32, name="images")]
    archive.add_endpoint("serve", lambda images: {"probabilities": model(images, training=False)}, signature)
    try:
        archive.write_out(path, verbose=False)
    except tf.errors.OpError as error:
        raise from_text(error.message) from None


def open_saved_model(path: Path) -> Predict:
    """Open with TensorFlow's loader, which knows nothing of Keras."""
    loaded = tf.saved_model.load(path)
    return lambda images: loaded.signatures["serving_default"](images=tf.constant(images))["probabilities"].numpy()


def write_litert(network: Network, path: Path) -> None:
    """Write a .tflite flatbuffer in float32, by way of a SavedModel: its names and its free N come through.

    Raises:
        TrainingError: Keras runs on another backend than TensorFlow.
    """
    with TemporaryDirectory() as folder:
        write_saved_model(remove_negative_padding(network), Path(folder, "saved_model"))
        converter = tf.lite.TFLiteConverter.from_saved_model(str(Path(folder, "saved_model")))
        path.write_bytes(converter.convert())


def remove_negative_padding(network: Network) -> Network:
    """Rewrite "same" convolutions whose stride passes over pixels on one side, without changing the function.

    LiteRT's XNNPACK, as TensorFlow 2.21 has it, computes such a convolution wrongly.
    """
    nodes, weights = [], dict(network.weights)
    for node in network.architecture.nodes:
        layer = node.layer
        if isinstance(layer, Conv2D) and layer.padding == "same":
            wider = _widen_layer(layer, network.architecture.input_shape(node))
            weights[layer.name] = _pad_kernel(weights[layer.name], wider.kernel_size)
            node = replace(node, layer=wider)
        nodes.append(node)
    return replace(network, architecture=Architecture(tuple(nodes)), weights=weights)


def _widen_layer(layer: Conv2D, shape: Shape) -> Conv2D:
    """Drop the padding where none is needed, else widen the kernel to the pixels that the stride would pass over."""
    unpadded = [side - (-(-side // step) - 1) * step for side, step in zip(shape, layer.strides, strict=False)]
    widened = [max(pair) for pair in zip(layer.kernel_size, unpadded, strict=True)]
    if widened == unpadded:
        return layer.model_copy(update={"padding": "valid"})
    return layer.model_copy(update={"kernel_size": tuple(widened)})


def _pad_kernel(arrays: Arrays, size: tuple[int, int]) -> Arrays:
    """Pad the kernel with zeros at the bottom and right."""
    kernel = arrays["kernel"]
    after = [(0, new - old) for new, old in zip((*size, *kernel.shape[2:]), kernel.shape, strict=True)]
    return arrays | {"kernel": np.pad(kernel, after)}


def open_litert(path: Path) -> Predict:
    """Open with TensorFlow's own LiteRT interpreter."""
    with warnings.catch_warnings():
        # It announces its move to a package of its own, which nothing else here needs.
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated", UserWarning)
        interpreter = tf.lite.Interpreter(str(path))
    return lambda images: interpreter.get_signature_runner("serving_default")(images=images)["probabilities"]
