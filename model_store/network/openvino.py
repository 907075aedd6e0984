"""Build an OpenVINO model from a `Network`: uint8 pixels in, probabilities out.

Images are channels first inside, so that no convolution needs a transpose: there is one at the input and one before a
Flatten of more than one position.
"""

from dataclasses import replace

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from openvino.opset1 import max_pool

from model_store.network.model import Network
from model_store.network.openvino_layers import Value, build_layer
from model_store.network.quantization import STEPS


def build_network(network: Network, separate_rounding: bool = False) -> ov.Model:
    """Build the whole computation as one model: uint8 pixels in, probabilities out.

    With `network.ranges`, the outputs of those layers and the kernels of the convolutions that read them are rounded
    to 8 bits, and OpenVINO computes those convolutions in integers. The temperature divides logits before softmax;
    Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599.

    Args:
        separate_rounding: round the output of a convolution and SiLU in a step of its own, which is faster with AMX.

    Returns:
        A model from `images` (N, H, W, C) uint8, for any N, to `probabilities` (N, K) float32; if the network ends
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
        value = build_layer(node.layer, inputs, network.weights.get(name, {}), architecture.input_shape(node))
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
