"""Build one ONNX model from pixels to probabilities, layer by layer, without a converter.

Owns the operators that stand for each layer. They are of operator set 14 with every padding spelled out, so that
runtimes of many years take them. Images are channels first inside, as in `model_store.network.openvino`; knows neither
Keras nor TensorFlow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial, reduce, singledispatch
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper

from model_store.network import layers
from model_store.network.layers import Layer, Shape
from model_store.network.model import Network
from model_store.network.openvino import Arrays
from model_store.os_errors import naming

Constant: TypeAlias = NDArray[np.floating] | float

OPSET = 14  # the first in which BatchNormalization says that it is not in training


@dataclass(frozen=True)
class Graph:
    """The operators and constants so far. A value is known by its name."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, *inputs: str | Constant, **attributes: Any) -> str:
        """The value that an operator gives for values, or for numbers and arrays, which become float32 constants."""
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [name], name, **attributes))
        return name

    def _constant(self, value: Constant) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, np.float32, order="C"), name))
        return name


def write_onnx(network: Network, path: Path) -> None:
    """Write an .onnx file: `images` (N, 32, 32, 3), float32 in 0..1, in, `probabilities` (N, K), float32, out."""
    model = build_onnx(network)
    checker.check_model(model, full_check=True)
    with naming(path):
        onnx.save(model, path)


def build_onnx(network: Network) -> onnx.ModelProto:
    """The whole computation as one ONNX model, as `write_onnx` writes it."""
    graph = Graph()
    _compute(graph, network)
    ends = [_tensor("images", *network.architecture.input)], [_tensor("probabilities", network.architecture.classes)]
    body = helper.make_graph(graph.nodes, "classifier", *ends, graph.constants)
    opsets = [helper.make_opsetid("", OPSET)]
    # Left alone, the file would claim the newest format, which runtimes older than the onnx package refuse.
    return helper.make_model(body, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))


def _tensor(name: str, *shape: int) -> onnx.ValueInfoProto:
    dimensions: list[str | int | None] = ["N", *shape]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dimensions)


def _compute(graph: Graph, network: Network) -> None:
    """Everything between `images` and `probabilities`."""
    architecture = network.architecture
    values = {architecture.nodes[0].layer.name: _normalise(graph, network)}
    for node in architecture.nodes[1:]:
        inputs = [values[name] for name in node.inputs]
        weights = network.weights.get(node.layer.name, {})
        values[node.layer.name] = _layer(node.layer, graph, inputs, weights, architecture.input_shape(node))
    last = values[architecture.nodes[-1].layer.name]
    if network.output == "logits":
        last = graph.add("Softmax", graph.add("Mul", last, 1 / network.temperature), axis=1)
    graph.nodes.append(helper.make_node("Identity", [last], ["probabilities"], "probabilities"))


def _normalise(graph: Graph, network: Network) -> str:
    scale, shift = network.preprocessing.scale_and_shift(white=1)
    normalised = graph.add("Add", graph.add("Mul", "images", scale), shift)
    return graph.add("Transpose", normalised, perm=[0, 3, 1, 2])


@singledispatch
def _layer(layer: Layer, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    """One layer's value. `shape` is its first input's, channels last and without the batch."""
    raise AssertionError(f"{type(layer).__name__} is admitted by the architecture but not written here")


@_layer.register
def _(layer: layers.Conv2D, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    constants = [weights["kernel"].transpose(3, 2, 0, 1), *([weights["bias"]] if layer.use_bias else [])]
    window = _window(layer.kernel_size, layer.strides, layer.padding, shape)
    return _activate(graph, layer.activation, graph.add("Conv", inputs[0], *constants, **window))


@_layer.register
def _(layer: layers.Dense, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    constants = [weights["kernel"], *([weights["bias"]] if layer.use_bias else [])]
    return _activate(graph, layer.activation, graph.add("Gemm", inputs[0], *constants))


@_layer.register
def _(layer: layers.BatchNormalization, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    absent = {"gamma": np.ones(shape[-1], np.float32), "beta": np.zeros(shape[-1], np.float32)}
    constants = [(absent | weights)[name] for name in ("gamma", "beta", "moving_mean", "moving_variance")]
    return graph.add("BatchNormalization", inputs[0], *constants, epsilon=layer.epsilon)


@_layer.register
def _(layer: layers.Activation, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return _activate(graph, layer.activation, inputs[0])


@_layer.register
def _(layer: layers.MaxPooling2D, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return graph.add("MaxPool", inputs[0], **_window(layer.pool_size, layer.strides, layer.padding, shape))


@_layer.register
def _(layer: layers.AveragePooling2D, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    window = _window(layer.pool_size, layer.strides, layer.padding, shape)
    return graph.add("AveragePool", inputs[0], count_include_pad=0, **window)


@_layer.register
def _(layer: layers.GlobalAveragePooling2D, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return graph.add("Flatten", graph.add("GlobalAveragePool", inputs[0]), axis=1)


@_layer.register
def _(layer: layers.GlobalMaxPooling2D, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return graph.add("Flatten", graph.add("GlobalMaxPool", inputs[0]), axis=1)


@_layer.register
def _(layer: layers.Flatten, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    one_position = math.prod(shape[:-1]) == 1
    channels_last = inputs[0] if one_position else graph.add("Transpose", inputs[0], perm=[0, 2, 3, 1])
    return graph.add("Flatten", channels_last, axis=1)


@_layer.register
def _(layer: layers.Dropout, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return inputs[0]


@_layer.register
def _(layer: layers.Rescaling, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return graph.add("Add", graph.add("Mul", inputs[0], layer.scale), layer.offset)


@_layer.register
def _(layer: layers.Add, graph: Graph, inputs: list[str], weights: Arrays, shape: Shape) -> str:
    return reduce(partial(graph.add, "Add"), inputs)


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
        case "relu" | "sigmoid" | "tanh":
            return graph.add(activation.capitalize(), value)


def _window(size: Sequence[int], strides: Sequence[int], padding: layers.Padding, shape: Shape) -> dict[str, list[int]]:
    """A sliding window's attributes; what padding adds stands half before and half after, an odd one after."""
    sides = zip(shape[:2], size, strides, strict=True)
    added = [max((math.ceil(side / stride) - 1) * stride + reach - side, 0) for side, reach, stride in sides]
    before = [total // 2 if padding == "same" else 0 for total in added]
    after = [total - total // 2 if padding == "same" else 0 for total in added]
    return {"kernel_shape": list(size), "strides": list(strides), "pads": before + after}
