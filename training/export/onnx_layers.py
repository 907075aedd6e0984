"""Each layer as ONNX operators on images (N, C, H, W) and vectors (N, C).

They are of operator set 14 with every padding spelled out, so that runtimes of many years take them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial, reduce, singledispatch
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from model_store.network import layers
from model_store.network.layers import Layer, Shape
from model_store.network.openvino_layers import Arrays

Constant: TypeAlias = NDArray[np.floating] | NDArray[np.int64] | float


@dataclass(frozen=True)
class Graph:
    """The operators and constants so far. A value is known by its name."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, *inputs: str | Constant, **attributes: Any) -> str:
        """The value that an operator gives for values, or for constants: numbers, float32 or int64 arrays."""
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [name], name, **attributes))
        return name

    def _constant(self, value: Constant) -> str:
        name = f"constant_{len(self.constants)}"
        is_integer = isinstance(value, np.ndarray) and value.dtype == np.int64
        array = np.array(value, np.int64 if is_integer else np.float32, order="C")
        self.constants.append(numpy_helper.from_array(array, name))
        return name


@singledispatch
def add_layer(layer: Layer, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    """Add one layer's operators. `shape` is its first input's, channels last and without the batch."""
    raise AssertionError(f"{type(layer).__name__} is admitted by the architecture but not written here")


@add_layer.register
def _(layer: layers.Conv2D, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return _convolve(graph, layer, inputs[0], weights, shape, weights["kernel"].transpose(3, 2, 0, 1), layer.groups)


@add_layer.register
def _(layer: layers.DepthwiseConv2D, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return _convolve(graph, layer, inputs[0], weights, shape, _by_channel(weights["kernel"]), shape[2])


@add_layer.register
def _(layer: layers.SeparableConv2D, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    window = _sliding(layer, shape)
    deep = graph.add("Conv", inputs[0], _by_channel(weights["depthwise_kernel"]), group=shape[2], **window)
    return _pointwise(graph, layer, deep, weights, weights["pointwise_kernel"][0, 0])


def _convolve(
    graph: Graph,
    layer: layers.Conv2D | layers.DepthwiseConv2D,
    value: str,
    weights: Arrays,
    shape: Shape,
    kernel: NDArray[np.float32],
    groups: int,
) -> str:
    """Convolve with a kernel (out, in / groups, H, W), add the bias and apply the activation."""
    constants = [kernel, *([weights["bias"]] if layer.use_bias else [])]
    out = graph.add("Conv", value, *constants, group=groups, **_sliding(layer, shape))
    return _activate(graph, layer.activation, out)


def _by_channel(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rearrange a depthwise kernel (H, W, C, M) to (C × M, 1, H, W)."""
    return kernel.transpose(2, 3, 0, 1).reshape(-1, 1, *kernel.shape[:2])


def _pointwise(
    graph: Graph,
    layer: layers.SeparableConv2D | layers.Dense,
    value: str,
    weights: Arrays,
    kernel: NDArray[np.float32],
) -> str:
    """Convolve images with a kernel (in, out) of single pixels, add the bias and apply the activation."""
    constants = [kernel.T[:, :, None, None], *([weights["bias"]] if layer.use_bias else [])]
    return _activate(graph, layer.activation, graph.add("Conv", value, *constants))


@add_layer.register
def _(layer: layers.Dense, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    if len(shape) == 3:
        return _pointwise(graph, layer, inputs[0], weights, weights["kernel"])
    constants = [weights["kernel"], *([weights["bias"]] if layer.use_bias else [])]
    return _activate(graph, layer.activation, graph.add("Gemm", inputs[0], *constants))


@add_layer.register
def _(layer: layers.BatchNormalization, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    absent = {"gamma": np.ones(shape[-1], np.float32), "beta": np.zeros(shape[-1], np.float32)}
    constants = [(absent | weights)[name] for name in ("gamma", "beta", "moving_mean", "moving_variance")]
    return graph.add("BatchNormalization", inputs[0], *constants, epsilon=layer.epsilon)


@add_layer.register
def _(layer: layers.Normalization, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    mean, deviation = (_per_channel(numbers, shape) for numbers in layer.mean_and_deviation(weights))
    return graph.add("Div", graph.add("Sub", inputs[0], mean), deviation)


@add_layer.register
def _(layer: layers.Rescaling, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    scaled = graph.add("Mul", inputs[0], _per_channel(layer.scale, shape))
    return graph.add("Add", scaled, _per_channel(layer.offset, shape))


def _per_channel(numbers: Any, shape: Shape) -> NDArray[np.float32]:
    """Shape one number, or one for each channel, for values of a shape (height, width, channels) or (channels,)."""
    return np.asarray(numbers, np.float32).reshape(-1, *[1] * (len(shape) - 1))


@add_layer.register
def _(layer: layers.Activation, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return _activate(graph, layer.activation, inputs[0])


@add_layer.register
def _(layer: layers.MaxPooling2D, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return graph.add("MaxPool", inputs[0], **_window(layer.pool_size, layer.strides, layer.padding, shape))


@add_layer.register
def _(layer: layers.AveragePooling2D, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    window = _window(layer.pool_size, layer.strides, layer.padding, shape)
    return graph.add("AveragePool", inputs[0], count_include_pad=0, **window)


@add_layer.register
def _(layer: layers.GlobalAveragePooling2D, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    pooled = graph.add("GlobalAveragePool", inputs[0])
    return pooled if layer.keepdims else graph.add("Flatten", pooled, axis=1)


@add_layer.register
def _(layer: layers.GlobalMaxPooling2D, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    pooled = graph.add("GlobalMaxPool", inputs[0])
    return pooled if layer.keepdims else graph.add("Flatten", pooled, axis=1)


@add_layer.register
def _(layer: layers.ZeroPadding2D, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    before, after = zip(*layer.padding, strict=True)
    return graph.add("Pad", inputs[0], np.array([0, 0, *before, 0, 0, *after], np.int64), 0.0)


@add_layer.register
def _(layer: layers.Flatten, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return _reshape(graph, inputs[0], shape, layer.output_shape(shape))


@add_layer.register
def _(layer: layers.Reshape, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return _reshape(graph, inputs[0], shape, layer.output_shape(shape))


def _reshape(graph: Graph, value: str, shape: Shape, target: Shape) -> str:
    """Reshape as with channels last; both shapes are (height, width, channels) or (channels,)."""
    if math.prod(shape[:-1]) > 1:
        value = graph.add("Transpose", value, perm=[0, 2, 3, 1])
    if math.prod(target[:-1]) > 1:
        return graph.add("Transpose", graph.add("Reshape", value, np.array([0, *target])), perm=[0, 3, 1, 2])
    return graph.add("Reshape", value, np.array([0, target[-1], *target[:-1]]))


def expand(graph: Graph, value: str) -> str:
    """Make a vector an image of one pixel."""
    return graph.add("Unsqueeze", value, np.array([2, 3]))


@add_layer.register
def _(layer: layers.Identity | layers.Dropout, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return inputs[0]


@add_layer.register
def _(layer: layers.Merge, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return reduce(partial(graph.add, MERGES[type(layer)]), inputs)


@add_layer.register
def _(layer: layers.Average, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return graph.add("Mul", reduce(partial(graph.add, "Add"), inputs), 1 / len(inputs))


@add_layer.register
def _(layer: layers.Concatenate, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return graph.add("Concat", *inputs, axis=1)


@add_layer.register
def _(layer: layers.Softmax, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return _activate(graph, "softmax", inputs[0])


@add_layer.register
def _(layer: layers.ReLU, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    positive = graph.add("Relu", inputs[0])
    if layer.threshold:
        above = graph.add("Cast", graph.add("Greater", inputs[0], layer.threshold), to=TensorProto.FLOAT)
        positive = graph.add("Mul", inputs[0], above)
    if layer.max_value is not None:
        positive = graph.add("Min", positive, layer.max_value)
    if not layer.negative_slope:
        return positive
    below = graph.add("Relu", graph.add("Sub", layer.threshold, inputs[0]))
    return graph.add("Sub", positive, graph.add("Mul", below, layer.negative_slope))


@add_layer.register
def _(layer: layers.LeakyReLU, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return graph.add("LeakyRelu", inputs[0], alpha=layer.negative_slope)


@add_layer.register
def _(layer: layers.PReLU, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    alpha = weights["alpha"]
    return graph.add("PRelu", inputs[0], alpha.transpose(2, 0, 1) if alpha.ndim == 3 else alpha)


@add_layer.register
def _(layer: layers.ELU, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return graph.add("Elu", inputs[0], alpha=layer.alpha)


def _activate(graph: Graph, activation: layers.ActivationName, value: str) -> str:
    match activation:
        case "linear":
            return value
        case "silu":
            return graph.add("Mul", value, graph.add("Sigmoid", value))
        case "gelu":  # an operator of its own only from operator set 20
            error = graph.add("Erf", graph.add("Div", value, math.sqrt(2)))
            return graph.add("Mul", graph.add("Mul", value, graph.add("Add", error, 1.0)), 0.5)
        case "softmax":
            return graph.add("Softmax", value, axis=1)  # the channels, whether of vectors or of images
        case "relu6":
            return graph.add("Clip", value, 0.0, 6.0)
        case "leaky_relu":
            return graph.add("LeakyRelu", value, alpha=0.2)
        case "mish":
            return graph.add("Mul", value, graph.add("Tanh", graph.add("Softplus", value)))
        case "hard_sigmoid":
            return _hard_sigmoid(graph, value)
        case "hard_silu":
            return graph.add("Mul", value, _hard_sigmoid(graph, value))
        case "exponential":
            return graph.add("Exp", value)
        case "relu" | "elu" | "selu" | "sigmoid" | "tanh" | "softplus" | "softsign":
            return graph.add(activation.capitalize(), value)


def _hard_sigmoid(graph: Graph, value: str) -> str:
    return graph.add("HardSigmoid", value, alpha=1 / 6, beta=0.5)


MERGES: dict[type[Layer], str] = {
    layers.Add: "Add",
    layers.Subtract: "Sub",
    layers.Multiply: "Mul",
    layers.Maximum: "Max",
    layers.Minimum: "Min",
}


def _sliding(
    layer: layers.Conv2D | layers.DepthwiseConv2D | layers.SeparableConv2D, shape: Shape
) -> dict[str, list[int]]:
    """A convolution's window, with its dilations."""
    reach = [(size - 1) * rate + 1 for size, rate in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    window = _window(reach, layer.strides, layer.padding, shape)
    return window | {"kernel_shape": list(layer.kernel_size), "dilations": list(layer.dilation_rate)}


def _window(size: Sequence[int], strides: Sequence[int], padding: layers.Padding, shape: Shape) -> dict[str, list[int]]:
    """A sliding window's attributes; what padding adds stands half before and half after, an odd one after."""
    sides = zip(shape[:2], size, strides, strict=True)
    added = [max((math.ceil(side / stride) - 1) * stride + reach - side, 0) for side, reach, stride in sides]
    before = [total // 2 if padding == "same" else 0 for total in added]
    after = [total - total // 2 if padding == "same" else 0 for total in added]
    return {"kernel_shape": list(size), "strides": list(strides), "pads": before + after}
