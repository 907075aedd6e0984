"""Each layer as OpenVINO operations on images (N, C, H, W) and vectors (N, C)."""

import math
from collections.abc import Callable, Sequence
from functools import reduce, singledispatch
from typing import Any, TypeAlias

import numpy as np
import openvino.opset13 as ops
from numpy.typing import NDArray
from openvino.opset1 import max_pool

from model_store.network import layers
from model_store.network.layers import Layer, Shape
from model_store.network.quantization import KERNEL_STEPS, STEPS

Arrays: TypeAlias = dict[str, NDArray[np.float32]]
Value: TypeAlias = Any  # an OpenVINO node, of whose outputs the first counts

ACTIVATIONS: dict[layers.ActivationName, Callable[[Value], Value]] = {
    "linear": lambda x: x,
    "relu": ops.relu,
    "relu6": lambda x: ops.clamp(x, 0, 6),
    "leaky_relu": lambda x: ops.prelu(x, np.array([0.2], np.float32)),
    "elu": lambda x: ops.elu(x, 1),
    "selu": lambda x: ops.selu(x, np.float32(1.6732632), np.float32(1.0507009)),
    "silu": ops.swish,
    "gelu": lambda x: ops.gelu(x, "erf"),
    "mish": ops.mish,
    "sigmoid": ops.sigmoid,
    "hard_sigmoid": ops.hsigmoid,
    "hard_silu": ops.hswish,
    "tanh": ops.tanh,
    "softplus": ops.softplus,
    "softsign": ops.softsign,
    "exponential": ops.exp,
    "softmax": lambda x: ops.softmax(x, axis=1),  # the channels, whether of vectors or of images
}
AUTO_PAD = {"same": "same_upper", "valid": "valid"}


@singledispatch
def build_layer(layer: Layer, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    """Build one layer's computation. `shape` is its first input's, channels last and without the batch."""
    raise AssertionError(f"{type(layer).__name__} is admitted by the architecture but not built here")


@build_layer.register
def _(layer: layers.Conv2D, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    kernel = weights["kernel"].transpose(3, 2, 0, 1)
    if layer.groups > 1:
        kernel = kernel.reshape(layer.groups, -1, *kernel.shape[1:])
    constant = np.ascontiguousarray(kernel)
    is_rounded = inputs[0].get_type_name() == "FakeQuantize"
    return _finish(layer, _convolve(layer, inputs[0], _rounded_kernel(constant) if is_rounded else constant), weights)


@build_layer.register
def _(layer: layers.DepthwiseConv2D, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return _finish(layer, _convolve(layer, inputs[0], _by_channel(weights["kernel"])), weights)


@build_layer.register
def _(layer: layers.SeparableConv2D, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    deep = _convolve(layer, inputs[0], _by_channel(weights["depthwise_kernel"]))
    return _finish(layer, _pointwise(deep, weights["pointwise_kernel"][0, 0]), weights)


def _by_channel(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rearrange a depthwise kernel (H, W, C, M) to groups of one channel (C, M, 1, H, W)."""
    return np.ascontiguousarray(kernel.transpose(2, 3, 0, 1)[:, :, None])


def _pointwise(value: Value, kernel: NDArray[np.float32]) -> Value:
    """Convolve with a kernel (in, out) of single pixels."""
    constant = np.ascontiguousarray(kernel.T[:, :, None, None])
    return ops.convolution(value, constant, [1, 1], [0, 0], [0, 0], [1, 1])


def _convolve(
    layer: layers.Conv2D | layers.DepthwiseConv2D | layers.SeparableConv2D, value: Value, kernel: Value
) -> Value:
    """Convolve with a kernel (out, in, H, W), or by groups with one (groups, out, in, H, W)."""
    convolve = ops.convolution if len(kernel.shape) == 4 else ops.group_convolution
    padding = {"auto_pad": AUTO_PAD[layer.padding]}
    return convolve(value, kernel, layer.strides, [0, 0], [0, 0], layer.dilation_rate, **padding)


def _rounded_kernel(kernel: NDArray[np.float32]) -> Value:
    """Round a kernel (…, I, H, W) to 2 × `KERNEL_STEPS` + 1 levels around zero, each filter with its own step."""
    largest = np.maximum(np.abs(kernel).max(axis=(-3, -2, -1), keepdims=True), np.finfo(np.float32).tiny)
    ends = largest * np.float32((STEPS // 2) / KERNEL_STEPS)  # of all 255 values that OpenVINO's integers have
    return ops.fake_quantize(ops.constant(kernel), -ends, ends, -ends, ends, STEPS)


def _finish(layer: Any, value: Value, weights: Arrays) -> Value:
    """Add the bias and apply the activation."""
    if layer.use_bias:
        value = ops.add(value, _per_channel(weights["bias"], value))
    return ACTIVATIONS[layer.activation](value)


def _rank(value: Value) -> int:
    return value.output(0).partial_shape.rank.get_length()  # type: ignore[no-any-return]


def _per_channel(numbers: Any, value: Value) -> NDArray[np.float32]:
    """Shape one number, or one for each channel, so that it is applied to a value's channels."""
    return np.asarray(numbers, np.float32).reshape(1, -1, *[1] * (_rank(value) - 2))


@build_layer.register
def _(layer: layers.Dense, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    is_image = len(shape) == 3
    kernel = weights["kernel"]
    out = _pointwise(inputs[0], kernel) if is_image else ops.matmul(inputs[0], kernel, False, False)
    return _finish(layer, out, weights)


@build_layer.register
def _(layer: layers.BatchNormalization, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    scale = weights.get("gamma", np.float32(1)) / np.sqrt(weights["moving_variance"] + np.float32(layer.epsilon))
    shift = weights.get("beta", np.float32(0)) - weights["moving_mean"] * scale
    return _scaled(inputs[0], scale, shift)


@build_layer.register
def _(layer: layers.Normalization, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    mean, deviation = layer.mean_and_deviation(weights)
    return ops.divide(ops.subtract(inputs[0], _per_channel(mean, inputs[0])), _per_channel(deviation, inputs[0]))


@build_layer.register
def _(layer: layers.Rescaling, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return _scaled(inputs[0], layer.scale, layer.offset)


def _scaled(value: Value, scale: Any, shift: Any) -> Value:
    return ops.add(ops.multiply(value, _per_channel(scale, value)), _per_channel(shift, value))


@build_layer.register
def _(layer: layers.Activation, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return ACTIVATIONS[layer.activation](inputs[0])


@build_layer.register
def _(layer: layers.Softmax, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return ACTIVATIONS["softmax"](inputs[0])


@build_layer.register
def _(layer: layers.ReLU, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    x, threshold = inputs[0], np.float32(layer.threshold)
    top = math.inf if layer.max_value is None else layer.max_value
    if layer.threshold:
        above = ops.multiply(x, ops.convert(ops.greater(x, threshold), np.float32))
        positive = above if math.isinf(top) else ops.minimum(above, np.float32(top))
    else:
        positive = ops.relu(x) if math.isinf(top) else ops.clamp(x, 0, top)
    if not layer.negative_slope:
        return positive
    below = ops.relu(ops.subtract(threshold, x))
    return ops.subtract(positive, ops.multiply(below, np.float32(layer.negative_slope)))


@build_layer.register
def _(layer: layers.LeakyReLU, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return ops.prelu(inputs[0], np.array([layer.negative_slope], np.float32))


@build_layer.register
def _(layer: layers.PReLU, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    alpha = weights["alpha"]
    channels_first = alpha.transpose(2, 0, 1) if alpha.ndim == 3 else alpha
    below = ops.multiply(ops.minimum(inputs[0], np.float32(0)), np.ascontiguousarray(channels_first[None]))
    return ops.add(ops.relu(inputs[0]), below)


@build_layer.register
def _(layer: layers.ELU, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return ops.elu(inputs[0], layer.alpha)


@build_layer.register
def _(layer: layers.MaxPooling2D, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    pad = AUTO_PAD[layer.padding]
    # The first operation set's, since later ones give the places of the largest values as a second output.
    return max_pool(inputs[0], layer.strides, [0, 0], [0, 0], layer.pool_size, auto_pad=pad)


@build_layer.register
def _(layer: layers.AveragePooling2D, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    pad = AUTO_PAD[layer.padding]
    return ops.avg_pool(inputs[0], layer.strides, [0, 0], [0, 0], layer.pool_size, True, auto_pad=pad)


@build_layer.register
def _(layer: layers.GlobalAveragePooling2D, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return ops.reduce_mean(inputs[0], [2, 3], layer.keepdims)


@build_layer.register
def _(layer: layers.GlobalMaxPooling2D, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return ops.reduce_max(inputs[0], [2, 3], layer.keepdims)


@build_layer.register
def _(layer: layers.ZeroPadding2D, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    before, after = zip(*layer.padding, strict=True)
    return ops.pad(inputs[0], [0, 0, *before], [0, 0, *after], "constant", np.float32(0))


@build_layer.register
def _(layer: layers.Flatten, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return _reshaped(inputs[0], shape, layer.output_shape(shape))


@build_layer.register
def _(layer: layers.Reshape, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return _reshaped(inputs[0], shape, layer.output_shape(shape))


def _reshaped(value: Value, shape: Shape, target: Shape) -> Value:
    """Reshape as with channels last; both shapes are (height, width, channels) or (channels,)."""
    if math.prod(shape[:-1]) > 1:
        value = ops.transpose(value, [0, 2, 3, 1])
    if math.prod(target[:-1]) > 1:
        return ops.transpose(ops.reshape(value, [0, *target], True), [0, 3, 1, 2])
    return ops.reshape(value, [0, target[-1], *target[:-1]], True)


@build_layer.register
def _(layer: layers.Identity | layers.Dropout, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return inputs[0]


@build_layer.register
def _(layer: layers.Merge, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return reduce(MERGES[type(layer)], _of_one_rank(inputs))


@build_layer.register
def _(layer: layers.Average, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return ops.multiply(reduce(ops.add, _of_one_rank(inputs)), np.float32(1 / len(inputs)))


MERGES: dict[type[Layer], Callable[[Value, Value], Value]] = {
    layers.Add: ops.add,
    layers.Subtract: ops.subtract,
    layers.Multiply: ops.multiply,
    layers.Maximum: ops.maximum,
    layers.Minimum: ops.minimum,
}


def _of_one_rank(inputs: Sequence[Value]) -> list[Value]:
    """Make vectors images of one pixel where other inputs are images."""
    is_mixed = len(set(map(_rank, inputs))) > 1
    return [ops.unsqueeze(value, [2, 3]) if is_mixed and _rank(value) == 2 else value for value in inputs]


@build_layer.register
def _(layer: layers.Concatenate, inputs: list[Value], weights: Arrays, shape: Shape) -> Value:
    return ops.concat(inputs, 1)
