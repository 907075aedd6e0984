"""Layers and arrays → one OpenVINO model from uint8 pixels to probabilities. Knows no threads, files or batching.

Images are channels first inside, so that no convolution needs a transpose: one at the entrance, one before a Flatten
of more than one position.
"""

from collections.abc import Callable
from functools import reduce, singledispatch
from typing import Any, TypeAlias

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from numpy.typing import NDArray
from openvino.opset1 import max_pool

from model_store.manifest import Preprocessing
from model_store.network import layers
from model_store.network.architecture import Architecture
from model_store.network.layers import Layer, Shape
from model_store.network.quantization import KERNEL_STEPS, STEPS, Ranges
from model_store.network.weights import Weights

Arrays: TypeAlias = dict[str, NDArray[np.float32]]
Value: TypeAlias = Any  # an OpenVINO node, of whose outputs the first counts; images are (N, C, H, W) here

ACTIVATIONS: dict[str, Callable[[Value], Value]] = {
    "linear": lambda x: x,
    "relu": ops.relu,
    "silu": ops.swish,
    "gelu": lambda x: ops.gelu(x, "erf"),
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "softmax": lambda x: ops.softmax(x, axis=1),  # the channels, whether of vectors or of images
}
AUTO_PAD = {"same": "same_upper", "valid": "valid"}


def build_network(
    architecture: Architecture,
    weights: Weights,
    preprocessing: Preprocessing,
    output: str,
    temperature: float = 1.0,
    ranges: Ranges | None = None,
    averaged: str | None = None,
    apart: bool = False,
) -> ov.Model:
    """The whole computation as one model: uint8 or float32 pixels in, probabilities out.

    Args:
        output: what the last layer gives, `logits` or `probabilities`.
        temperature: divides logits before softmax; Guo et al., "On Calibration of Modern Neural Networks", 2017.
        ranges: where the outputs of these layers are rounded to 8 bits, and the kernels of the convolutions that read
            them, too; OpenVINO then computes those in integers.
        averaged: a layer of images whose channels' means are to be given, too.
        apart: round what a convolution and SiLU give in a step of its own, which with AMX is the faster way.

    Returns:
        A model from `images` (N, 32, 32, 3) uint8 to `probabilities` (N, K) float32, N being free, to the `logits`
        (N, K) that they were made of, if it ends in such, and to the `features` (N, C), the means of the averaged layer's channels,
        rounded where it is. The node that gives a layer's output bears the layer's name; a layer that changes nothing,
        such as Dropout, has none.
    """
    images = ops.parameter([-1, *layers.INPUT_SHAPE], np.uint8, name="images")
    floats = ops.convert(images, np.float32)
    parts = (architecture, weights, preprocessing, output, temperature)
    outputs = _outputs(floats, *parts, ranges or {}, averaged, apart)
    return ov.Model(outputs, [images])


def build_float_network(
    architecture: Architecture, weights: Weights, preprocessing: Preprocessing, output: str, temperature: float = 1.0
) -> ov.Model:
    """As `build_network`, for other servers: `images` are float32 in 0..1, and `probabilities` all that comes out."""
    images = ops.parameter([-1, *layers.INPUT_SHAPE], np.float32, name="images")
    pixels = ops.multiply(images, np.float32(255))
    probabilities = _outputs(pixels, architecture, weights, preprocessing, output, temperature, {})[0]
    return ov.Model([probabilities], [images])


def _outputs(
    pixels: ov.Output,
    architecture: Architecture,
    weights: Weights,
    preprocessing: Preprocessing,
    output: str,
    temperature: float,
    ranges: Ranges,
    averaged: str | None = None,
    apart: bool = False,
) -> list[ov.Node]:
    std = np.asarray(preprocessing.std, np.float32)
    scale, shift = 1 / (255 * std), -np.asarray(preprocessing.mean, np.float32) / std
    normalised = ops.add(ops.multiply(pixels, scale), shift)
    first = ops.transpose(normalised, [0, 3, 1, 2])
    first.set_friendly_name(architecture.nodes[0].layer.name)
    values = {architecture.nodes[0].layer.name: first}
    for node in architecture.nodes[1:]:
        inputs = [values[name] for name in node.inputs]
        shape = architecture.input_shape(node)
        value = _layer(node.layer, inputs, weights.get(node.layer.name, {}), shape)
        if all(value is not each for each in inputs):
            value.set_friendly_name(node.layer.name)
        if node.layer.name in ranges:
            value = _rounded(_kept_apart(value) if apart else value, *ranges[node.layer.name])
        values[node.layer.name] = value
    last = values[architecture.nodes[-1].layer.name]
    outputs = {"probabilities": last}
    if output == "logits":
        scaled = ops.multiply(last, np.float32(1 / temperature))
        outputs = {"probabilities": ops.softmax(scaled, axis=1), "logits": last}
    if averaged is not None:
        outputs["features"] = ops.reduce_mean(values[averaged], [2, 3], False)
    for name, value in outputs.items():
        value.output(0).get_tensor().set_names({name})
    return list(outputs.values())


def _kept_apart(value: Value) -> Value:
    """The same value, which OpenVINO does not round inside the convolution that it comes from.

    For SiLU and rounding together, after a convolution by AMX to 192 channels, oneDNN takes three times as long as for
    all three one after the other. A pooling of single pixels changes nothing, and it cannot be computed inside.
    """
    if value.get_type_name() != "Swish":
        return value
    before = value.input_value(0).get_node()
    while before.get_type_name() in ("Add", "Multiply"):  # bias and batch-norm
        before = before.input_value(0).get_node()
    if before.get_type_name() != "Convolution" or before.input_value(0).get_node().get_type_name() != "FakeQuantize":
        return value
    return max_pool(value, [1, 1], [0, 0], [0, 0], [1, 1])


def _rounded(value: Value, low: float, high: float) -> Value:
    ends = [np.float32(low), np.float32(high)]
    return ops.fake_quantize(value, *ends, *ends, STEPS + 1)


def _rounded_kernel(kernel: NDArray[np.float32]) -> Value:
    """A kernel (O, I, H, W) in whole steps of each filter's own, from -`KERNEL_STEPS` to `KERNEL_STEPS` of them."""
    largest = np.maximum(np.abs(kernel).max(axis=(1, 2, 3), keepdims=True), np.finfo(np.float32).tiny)
    ends = largest * np.float32((STEPS // 2) / KERNEL_STEPS)  # of all 255 values that OpenVINO's integers have
    return ops.fake_quantize(ops.constant(kernel), -ends, ends, -ends, ends, STEPS)


@singledispatch
def _layer(layer: Layer, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    """One layer's computation. `shape` is its first input's, channels last and without the batch."""
    raise AssertionError(f"{type(layer).__name__} is admitted by the architecture but not built here")


@_layer.register
def _(layer: layers.Conv2D, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    kernel = np.ascontiguousarray(weights["kernel"].transpose(3, 2, 0, 1))
    if inputs[0].get_type_name() == "FakeQuantize":
        kernel = _rounded_kernel(kernel)
    out = ops.convolution(inputs[0], kernel, layer.strides, [0, 0], [0, 0], [1, 1], auto_pad=AUTO_PAD[layer.padding])
    if layer.use_bias:
        out = ops.add(out, weights["bias"].reshape(1, -1, 1, 1))
    return ACTIVATIONS[layer.activation](out)


@_layer.register
def _(layer: layers.Dense, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    out = ops.matmul(inputs[0], weights["kernel"], False, False)
    if layer.use_bias:
        out = ops.add(out, weights["bias"].reshape(1, -1))
    return ACTIVATIONS[layer.activation](out)


@_layer.register
def _(layer: layers.BatchNormalization, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    scale = weights.get("gamma", np.float32(1)) / np.sqrt(weights["moving_variance"] + np.float32(layer.epsilon))
    shift = weights.get("beta", np.float32(0)) - weights["moving_mean"] * scale
    per_channel = (1, -1) + (1,) * (len(shape) - 1)
    return ops.add(ops.multiply(inputs[0], scale.reshape(per_channel)), shift.reshape(per_channel))


@_layer.register
def _(layer: layers.Activation, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return ACTIVATIONS[layer.activation](inputs[0])


@_layer.register
def _(layer: layers.MaxPooling2D, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    pad = AUTO_PAD[layer.padding]
    # The first operation set's, since later ones give the places of the largest values as a second output.
    return max_pool(inputs[0], layer.strides, [0, 0], [0, 0], layer.pool_size, auto_pad=pad)


@_layer.register
def _(layer: layers.AveragePooling2D, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    pad = AUTO_PAD[layer.padding]
    return ops.avg_pool(inputs[0], layer.strides, [0, 0], [0, 0], layer.pool_size, True, auto_pad=pad)


@_layer.register
def _(layer: layers.GlobalAveragePooling2D, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return ops.reduce_mean(inputs[0], [2, 3], False)


@_layer.register
def _(layer: layers.GlobalMaxPooling2D, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return ops.reduce_max(inputs[0], [2, 3], False)


@_layer.register
def _(layer: layers.Flatten, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    one_position = len(shape) == 1 or shape[0] * shape[1] == 1
    channels_last = inputs[0] if one_position else ops.transpose(inputs[0], [0, 2, 3, 1])
    return ops.reshape(channels_last, [0, *layer.output_shape(shape)], True)


@_layer.register
def _(layer: layers.Dropout, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return inputs[0]


@_layer.register
def _(layer: layers.Rescaling, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return ops.add(ops.multiply(inputs[0], np.float32(layer.scale)), np.float32(layer.offset))


@_layer.register
def _(layer: layers.Add, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return reduce(ops.add, inputs)
