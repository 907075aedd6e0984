"""Parse Keras architecture JSON into validated, connected layers, without deserialising any Keras object.

Reads Sequential and Functional models, connects their layers and checks every size limit.
"""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import ValidationError

from model_store.errors import ModelError
from model_store.network.layers import LAYERS, InputLayer, Layer, Shape
from model_store.reading import MAX_JSON_BYTES, parse_json

MAX_LAYERS = 1_000
MAX_ELEMENTS = 16_000_000  # of one tensor of one image
MAX_PARAMETERS = 100_000_000
MAX_MULTIPLY_ADDS = 20_000_000_000
# Of one call of an engine. Larger calls are no faster; they take more memory, and requests that arrive wait longer.
MAX_BATCH = 64
MAX_BATCH_ELEMENTS = 1 << 25  # of one tensor: 134 MB in float32
MAX_BATCH_MULTIPLY_ADDS = 1 << 34  # half a second on two cores of 2020


@dataclass(frozen=True)
class Node:
    """A layer, the names of its input layers, and the shape of its output."""

    layer: Layer
    inputs: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True)
class Architecture:
    """A validated network. Nodes are in topological order; the last one is the output."""

    nodes: tuple[Node, ...]

    @property
    def input(self) -> Shape:
        """Shape of the images, (height, width, channels)."""
        return self.nodes[0].shape

    def input_shape(self, node: Node) -> Shape:
        """Return the shape of a node's first input."""
        return next(source.shape for source in self.nodes if source.layer.name == node.inputs[0])

    @property
    def classes(self) -> int:
        """Number of outputs, one for each label."""
        return self.nodes[-1].shape[0]

    def weight_shapes(self) -> dict[str, dict[str, Shape]]:
        """Return {layer name: {weight name: shape}} of all layers with weights, in the weight file's order."""
        shapes = {
            node.layer.name: node.layer.weight_shapes(self.input_shape(node)) for node in self.nodes if node.inputs
        }
        return {name: weights for name, weights in shapes.items() if weights}

    @property
    def parameters(self) -> int:
        """Number of weights, including batch-norm statistics."""
        return sum(math.prod(shape) for weights in self.weight_shapes().values() for shape in weights.values())

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one image."""
        return sum(node.layer.multiply_adds(self.input_shape(node)) for node in self.nodes if node.inputs)

    @property
    def max_batch(self) -> int:
        """Most images in one call of an engine: 64, or for large networks a smaller power of two."""
        elements = max(math.prod(node.shape) for node in self.nodes)
        by_work = MAX_BATCH_MULTIPLY_ADDS // max(self.multiply_adds, 1)
        limit = max(1, min(MAX_BATCH, MAX_BATCH_ELEMENTS // elements, by_work))
        return 1 << (limit.bit_length() - 1)


def parse_architecture(text: str | bytes) -> Architecture:
    """Validate the JSON that `keras.Model.to_json()` returns for a Sequential or Functional model.

    Raises:
        ModelError: it is not such JSON, or a layer, attribute, connection, shape or size is not served; the text names
            the layer and the value received.
    """
    text = text.encode() if isinstance(text, str) else text
    if len(text) > MAX_JSON_BYTES:
        raise ModelError(f"the architecture has {len(text):,} bytes, the limit is {MAX_JSON_BYTES:,}")
    try:
        document = parse_json(text)
        kind, config = document["class_name"], document["config"]
        layers = config["layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"the architecture is not the JSON of a Keras model: {error!r}") from None
    if kind not in ("Sequential", "Functional"):
        raise ModelError(f"the model is a {kind!r}; only Sequential and Functional models are served")
    if not isinstance(layers, list) or not 2 <= len(layers) <= MAX_LAYERS:
        raise ModelError(f"the model must have 2 to {MAX_LAYERS:,} layers")
    connections = _sequential(layers) if kind == "Sequential" else _functional(layers, config)
    return _checked(connections)


def parse_layer(entry: Any) -> Layer:
    """Validate one layer's entry in Keras 3's JSON.

    Raises:
        ModelError: the layer, or one of its attributes, is not served.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict):
        raise ModelError(f"a layer of the architecture is not an object with a config: {str(entry)[:80]}")
    kind, config = str(entry.get("class_name")), entry["config"]
    name = config.get("name")
    if kind not in LAYERS or entry.get("module") != "keras.layers" or entry.get("registered_name"):
        raise ModelError(
            f"layer {name!r} is a {entry.get('module')}.{kind}, which is not served; "
            f"served are Keras's own {', '.join(LAYERS)}"
        )
    try:
        return LAYERS[kind].model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        attribute = ".".join(map(str, first["loc"]))
        raise ModelError(
            f"layer {name!r} ({kind}): attribute {attribute!r} is {str(first['input'])[:80]!r}: {first['msg']}"
        ) from None


Connections: TypeAlias = list[tuple[Layer, tuple[str, ...]]]  # layers with the names of their input layers


def _sequential(entries: list[Any]) -> Connections:
    layers = [parse_layer(entry) for entry in entries]
    if not isinstance(layers[0], InputLayer):
        raise ModelError(
            "the model has no InputLayer; begin the Sequential with keras.Input((HEIGHT, WIDTH, CHANNELS))"
        )
    return [(layer, (layers[i - 1].name,) if i else ()) for i, layer in enumerate(layers)]


def _functional(entries: list[Any], config: dict[str, Any]) -> Connections:
    connections = [(layer, _inbound(layer, entry)) for entry in entries for layer in [parse_layer(entry)]]
    first, last = (_end(config.get(key), key) for key in ("input_layers", "output_layers"))
    if connections[0][0].name != first:
        raise ModelError(f"the first layer is {connections[0][0].name!r} but the model's input is {first!r}")
    if connections[-1][0].name != last:
        raise ModelError(f"the last layer is {connections[-1][0].name!r} but the model's output is {last!r}")
    return connections


def _end(value: Any, key: str) -> str:
    """Return the one layer in `input_layers` or `output_layers`; Keras writes [name, 0, 0] or [[name, 0, 0]]."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    match value:
        case [str(name), 0, 0]:
            return name
    raise ModelError(f"the model must have one input and one output; {key} is {str(value)[:80]}")


def _inbound(layer: Layer, entry: dict[str, Any]) -> tuple[str, ...]:
    calls = entry.get("inbound_nodes")
    match calls:
        case [] if isinstance(layer, InputLayer):
            return ()
        case [{"args": [[*tensors]], "kwargs": {}} | {"args": [*tensors], "kwargs": {}}]:
            kwargs = calls[0]["kwargs"]
            if tensors and all(value in (None, False) for value in kwargs.values()):
                return tuple(_source(layer, tensor) for tensor in tensors)
    raise ModelError(
        f"layer {layer.name!r} is called {len(calls) if isinstance(calls, list) else 'no'} times or with arguments "
        "other than tensors; each layer must be called once"
    )


def _source(layer: Layer, tensor: Any) -> str:
    match tensor:
        case {"class_name": "__keras_tensor__", "config": {"keras_history": [str(name), 0, 0]}}:
            return name
        case {"class_name": "__keras_tensor__", "config": {"keras_history": history}}:
            raise ModelError(
                f"layer {layer.name!r} reads {str(history)[:80]}, not the one output of a layer called once"
            )
    raise ModelError(f"layer {layer.name!r} reads something that is not another layer's output: {str(tensor)[:80]}")


def _checked(connections: Connections) -> Architecture:
    """Infer shapes layer by layer and check every size."""
    nodes: dict[str, Node] = {}
    for layer, inputs in connections:
        if layer.name in nodes:
            raise ModelError(f"two layers are named {layer.name!r}")
        if missing := [name for name in inputs if name not in nodes]:
            raise ModelError(f"layer {layer.name!r} reads {missing[0]!r}, which does not come before it")
        if isinstance(layer, InputLayer) == bool(nodes):
            raise ModelError(f"the model must have exactly one InputLayer, as its first layer; found {layer.name!r}")
        shape = layer.output_shape(*(nodes[name].shape for name in inputs))
        if math.prod(shape) > MAX_ELEMENTS:
            raise ModelError(
                f"layer {layer.name!r} has an output of {shape}, over the limit of {MAX_ELEMENTS:,} values"
            )
        nodes[layer.name] = Node(layer, inputs, shape)
    return _within_limits(Architecture(tuple(nodes.values())))


def _within_limits(architecture: Architecture) -> Architecture:
    inputs = {name for node in architecture.nodes for name in node.inputs}
    if unread := [node.layer.name for node in architecture.nodes[:-1] if node.layer.name not in inputs]:
        raise ModelError(f"nothing reads layer {unread[0]!r}; the model must have one output")
    if len(architecture.nodes[-1].shape) != 1:
        raise ModelError(f"the model's output is {architecture.nodes[-1].shape}; it must be one number per class")
    if architecture.parameters > MAX_PARAMETERS:
        raise ModelError(f"the model has {architecture.parameters:,} weights, the limit is {MAX_PARAMETERS:,}")
    if architecture.multiply_adds > MAX_MULTIPLY_ADDS:
        raise ModelError(
            f"the model takes {architecture.multiply_adds:,} multiply-adds, the limit is {MAX_MULTIPLY_ADDS:,}"
        )
    return architecture
