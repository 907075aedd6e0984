"""Build an OpenVINO model from a `Network`: uint8 pixels in, probabilities out.

Images are channels first inside, so that no convolution needs a transpose: there is one at the input and one before a
Flatten of more than one position.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import reduce, singledispatch
from typing import Any, TypeAlias

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from numpy.typing import NDArray
from openvino.opset1 import max_pool

from model_store.network import layers
from model_store.network.layers import Layer, Shape
from model_store.network.model import Network
from model_store.network.quantization import KERNEL_STEPS, STEPS

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


def build_network(network: Network, separate_rounding: bool = False) -> ov.Model:
    """Build the whole computation as one model: uint8 pixels in, probabilities out.

    With `network.ranges`, the outputs of those layers and the kernels of the convolutions that read them are rounded
    to 8 bits, and OpenVINO computes those convolutions in integers. The temperature divides logits before softmax;
    Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599.

    Args:
        separate_rounding: round the output of a convolution and SiLU in a step of its own, which is faster with AMX.

    Returns:
        A model from `images` (N, 32, 32, 3) uint8, for any N, to `probabilities` (N, K) float32; if the network ends
        in logits, to `logits` (N, K); and with `network.gaussian`, to `features` (N, C), the channel means of its
        layer. The node of a layer's output has the layer's name; layers that change nothing, such as Dropout, have no
        node.
    """
    images = ops.parameter([-1, *network.architecture.input], np.uint8, name="images")
    normalised = _normalise(network, ops.convert(images, np.float32))
    outputs = _outputs(network, normalised, separate_rounding)
    return ov.Model(list(outputs.values()), [images])


def build_float_network(network: Network) -> ov.Model:
    """Build the unrounded network for other servers: `images` are float32 in 0..1, the only output `probabilities`."""
    images = ops.parameter([-1, *network.architecture.input], np.float32, name="images")
    outputs = _outputs(replace(network, ranges=None), _normalise(network, images, white=1))
    return ov.Model([outputs["probabilities"]], [images])


def _normalise(network: Network, pixels: Value, white: float = 255) -> Value:
    scale, shift = network.preprocessing.scale_and_shift(white)
    return ops.add(ops.multiply(pixels, scale), shift)


def _outputs(network: Network, normalised: Value, separate_rounding: bool = False) -> dict[str, ov.Node]:
    """Build the output nodes, by name, for normalised images (N, H, W, C)."""
    architecture, ranges = network.architecture, network.ranges or {}
    first = ops.transpose(normalised, [0, 3, 1, 2])
    first.set_friendly_name(architecture.nodes[0].layer.name)
    values = {architecture.nodes[0].layer.name: first}
    for node in architecture.nodes[1:]:
        name, inputs = node.layer.name, [values[name] for name in node.inputs]
        value = _layer(node.layer, inputs, network.weights.get(name, {}), architecture.input_shape(node))
        if all(value is not input_value for input_value in inputs):
            value.set_friendly_name(name)
        if name in ranges:
            value = _rounded(_unfused(value) if separate_rounding else value, *ranges[name])
        values[name] = value
    last = values[architecture.nodes[-1].layer.name]
    outputs = {"probabilities": last}
    if network.output == "logits":
        scaled = ops.multiply(last, np.float32(1 / network.temperature))
        outputs = {"probabilities": ops.softmax(scaled, axis=1), "logits": last}
    if network.gaussian:
        outputs["features"] = ops.reduce_mean(values[network.gaussian.layer], [2, 3], False)
    for name, value in outputs.items():
        value.output(0).get_tensor().set_names({name})
    return outputs


def _unfused(value: Value) -> Value:
    """Keep OpenVINO from rounding SiLU's output inside the convolution before it, by a pooling of single pixels.

    For a convolution to 192 channels by AMX with SiLU and rounding fused into it, oneDNN takes three times as long as
    for the three in turn. The pooling changes no value and cannot be fused.
    """
    if value.get_type_name() != "Swish":
        return value
    producer = value.input_value(0).get_node()
    while producer.get_type_name() in ("Add", "Multiply"):  # bias and batch-norm
        producer = producer.input_value(0).get_node()
    if producer.get_type_name() != "Convolution":
        return value
    if producer.input_value(0).get_node().get_type_name() != "FakeQuantize":
        return value
    return max_pool(value, [1, 1], [0, 0], [0, 0], [1, 1])


def _rounded(value: Value, low: float, high: float) -> Value:
    ends = [np.float32(low), np.float32(high)]
    return ops.fake_quantize(value, *ends, *ends, STEPS + 1)


def _rounded_kernel(kernel: NDArray[np.float32]) -> Value:
    """Round a kernel (O, I, H, W) to 2 × `KERNEL_STEPS` + 1 levels around zero, each filter with its own step."""
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
