"""Build one ONNX model from pixels to probabilities, layer by layer, without a converter.

`onnx_layers` has the operators of each layer. Images are channels first inside, as in `model_store.network.openvino`;
knows neither Keras nor TensorFlow.
"""

from pathlib import Path

import onnx
from onnx import TensorProto, checker, helper

from model_store.network.model import Network
from model_store.os_errors import naming
from training.export.onnx_layers import Graph, add_layer, expand

OPSET = 14  # the first in which BatchNormalization says that it is not in training


def write_onnx(network: Network, path: Path) -> None:
    """Write an .onnx file: `images` (N, H, W, C), float32 in 0..1, in, `probabilities` (N, K), float32, out."""
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
    rank_of = {node.layer.name: len(node.shape) for node in architecture.nodes}
    for node in architecture.nodes[1:]:
        inputs = [values[name] for name in node.inputs]
        ranks = [rank_of[name] for name in node.inputs]
        if len(set(ranks)) > 1:  # a vector stands for every pixel of an image
            inputs = [expand(graph, value) if rank == 1 else value for value, rank in zip(inputs, ranks, strict=True)]
        weights = network.weights.get(node.layer.name, {})
        values[node.layer.name] = add_layer(node.layer, graph, inputs, weights, architecture.input_shape(node))
    last = values[architecture.nodes[-1].layer.name]
    if network.output == "logits":
        last = graph.add("Softmax", graph.add("Mul", last, 1 / network.temperature), axis=1)
    graph.nodes.append(helper.make_node("Identity", [last], ["probabilities"], "probabilities"))


def _normalise(graph: Graph, network: Network) -> str:
    scale, shift = network.preprocessing.scale_and_shift(white=1)
    normalised = graph.add("Add", graph.add("Mul", "images", scale), shift)
    return graph.add("Transpose", normalised, perm=[0, 3, 1, 2])
