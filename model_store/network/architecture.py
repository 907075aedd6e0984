"""Keras architecture JSON → validated layers: a closed list of stock layers, and nothing is ever deserialised.

Owns which layers and attributes can be served, the shapes they give, the weights they need and the size limits. Knows
neither Keras nor OpenVINO. An attribute that is not declared here is refused, because it might change the mathematics;
one declared `TrainingOnly` has no effect at inference.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationError

from model_store.errors import ModelError
from model_store.manifest import Frozen

Shape: TypeAlias = tuple[int, ...]  # of one image's tensor, channels last, without the batch
INPUT_SHAPE: Shape = (32, 32, 3)

MAX_JSON_BYTES = 4_000_000
MAX_LAYERS = 1_000
MAX_ELEMENTS = 16_000_000  # of one tensor of one image
MAX_PARAMETERS = 100_000_000
MAX_MULTIPLY_ADDS = 20_000_000_000


def _policy_name(value: Any) -> Any:
    """`"float32"` and Keras's `{"class_name": "DTypePolicy", "config": {"name": "float32"}}` are the same."""
    return value["config"].get("name") if isinstance(value, dict) and isinstance(value.get("config"), dict) else value


Size = Annotated[int, Field(ge=1, le=65_536)]
Pair = tuple[Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=1, le=64)]]
Coefficient = Annotated[float, Field(ge=-1e30, le=1e30)]  # finite in float32
Float32 = Annotated[Literal["float32"], BeforeValidator(_policy_name)]
ActivationName = Literal["linear", "relu", "silu", "gelu", "sigmoid", "tanh", "softmax"]
Padding = Literal["same", "valid"]
TrainingOnly = Any
ChannelsLast = Literal["channels_last"]


class Layer(Frozen):
    """One layer's configuration. Subclasses are named as Keras names the layer."""

    name: str = Field(min_length=1, max_length=200)
    trainable: TrainingOnly = True
    dtype: Float32 = "float32"

    def inference_config(self) -> dict[str, Any]:
        """The attributes that matter at inference, by Keras's names."""
        return {
            key: getattr(self, key) for key, field in type(self).model_fields.items() if field.annotation is not Any
        }

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape this layer gives for inputs of these shapes. Raises ModelError where it takes no such input."""
        return _only(self, inputs)

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Its weights for an input of this shape, in the order Keras stores them."""
        return {}

    def multiply_adds(self, shape: Shape) -> int:
        """What one image costs, given the input's shape."""
        return 0


class InputLayer(Layer):
    """Where normalised images come in."""

    batch_shape: tuple[None, Literal[32], Literal[32], Literal[3]]
    sparse: Literal[False] = False
    ragged: Literal[False] = False
    optional: Literal[False] = False


class Conv2D(Layer):
    """Convolution with an optional bias and activation."""

    filters: Size
    kernel_size: Pair
    strides: Pair = (1, 1)
    padding: Padding = "valid"
    data_format: ChannelsLast = "channels_last"
    dilation_rate: tuple[Literal[1], Literal[1]] = (1, 1)
    groups: Literal[1] = 1
    activation: ActivationName = "linear"
    use_bias: bool = True
    kernel_initializer: TrainingOnly = None
    bias_initializer: TrainingOnly = None
    kernel_regularizer: TrainingOnly = None
    bias_regularizer: TrainingOnly = None
    activity_regularizer: TrainingOnly = None
    kernel_constraint: TrainingOnly = None
    bias_constraint: TrainingOnly = None

    def output_shape(self, *inputs: Shape) -> Shape:
        """(height, width, filters)."""
        height, width, _ = _image(self, inputs)
        return (*_window(self, (height, width), self.kernel_size, self.strides, self.padding), self.filters)

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Kernel (height, width, in, out) and bias (out,)."""
        kernel = {"kernel": (*self.kernel_size, shape[2], self.filters)}
        return kernel | ({"bias": (self.filters,)} if self.use_bias else {})

    def multiply_adds(self, shape: Shape) -> int:
        """One per kernel weight and output position."""
        return math.prod(self.output_shape(shape)) * math.prod(self.kernel_size) * shape[2]


class Dense(Layer):
    """Fully connected, on vectors only."""

    units: Size
    activation: ActivationName = "linear"
    use_bias: bool = True
    kernel_initializer: TrainingOnly = None
    bias_initializer: TrainingOnly = None
    kernel_regularizer: TrainingOnly = None
    bias_regularizer: TrainingOnly = None
    activity_regularizer: TrainingOnly = None
    kernel_constraint: TrainingOnly = None
    bias_constraint: TrainingOnly = None
    quantization_config: None = None

    def output_shape(self, *inputs: Shape) -> Shape:
        """(units,)."""
        if len(_only(self, inputs)) != 1:
            raise ModelError(
                f"layer {self.name!r} (Dense) takes vectors, its input is {inputs[0]}; put a Flatten before it"
            )
        return (self.units,)

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Kernel (in, out) and bias (out,)."""
        return {"kernel": (shape[0], self.units)} | ({"bias": (self.units,)} if self.use_bias else {})

    def multiply_adds(self, shape: Shape) -> int:
        """One per kernel weight."""
        return shape[0] * self.units


class BatchNormalization(Layer):
    """At inference a scale and a shift per channel, from the moving statistics."""

    axis: int = -1
    epsilon: float = Field(default=1e-3, gt=0, lt=1)
    center: bool = True
    scale: bool = True
    momentum: TrainingOnly = 0.99
    beta_initializer: TrainingOnly = None
    gamma_initializer: TrainingOnly = None
    moving_mean_initializer: TrainingOnly = None
    moving_variance_initializer: TrainingOnly = None
    beta_regularizer: TrainingOnly = None
    gamma_regularizer: TrainingOnly = None
    beta_constraint: TrainingOnly = None
    gamma_constraint: TrainingOnly = None
    synchronized: TrainingOnly = False
    renorm: Literal[False] = False
    renorm_clipping: None = None
    renorm_momentum: TrainingOnly = 0.99

    def output_shape(self, *inputs: Shape) -> Shape:
        """As the input."""
        shape = _only(self, inputs)
        if self.axis not in (-1, len(shape)):
            raise ModelError(
                f"layer {self.name!r} (BatchNormalization) has axis {self.axis}; only the last one, -1, is served"
            )
        return shape

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        """gamma, beta, moving_mean and moving_variance, (channels,) each."""
        present = {"gamma": self.scale, "beta": self.center, "moving_mean": True, "moving_variance": True}
        return {name: (shape[-1],) for name, there in present.items() if there}


class Activation(Layer):
    """An element-wise function, or softmax over the last axis."""

    activation: ActivationName


class Pooling2D(Layer):
    """What maximum and average pooling share."""

    pool_size: Pair = (2, 2)
    strides: Pair = (2, 2)
    padding: Padding = "valid"
    data_format: ChannelsLast = "channels_last"

    def output_shape(self, *inputs: Shape) -> Shape:
        """(height, width, channels)."""
        height, width, channels = _image(self, inputs)
        return (*_window(self, (height, width), self.pool_size, self.strides, self.padding), channels)


class MaxPooling2D(Pooling2D):
    """The largest value of each window."""


class AveragePooling2D(Pooling2D):
    """The mean of each window; padding does not count."""


class GlobalPooling2D(Layer):
    """What both poolings over the whole image share."""

    data_format: ChannelsLast = "channels_last"
    keepdims: Literal[False] = False

    def output_shape(self, *inputs: Shape) -> Shape:
        """(channels,)."""
        return _image(self, inputs)[2:]


class GlobalAveragePooling2D(GlobalPooling2D):
    """The mean over all positions."""


class GlobalMaxPooling2D(GlobalPooling2D):
    """The maximum over all positions."""


class Flatten(Layer):
    """An image as one vector, channels varying fastest."""

    data_format: ChannelsLast = "channels_last"

    def output_shape(self, *inputs: Shape) -> Shape:
        """(height × width × channels,)."""
        return (math.prod(_only(self, inputs)),)


class Dropout(Layer):
    """Does nothing at inference."""

    rate: TrainingOnly = None
    seed: TrainingOnly = None
    noise_shape: TrainingOnly = None


class Rescaling(Layer):
    """`x * scale + offset` with two numbers."""

    scale: Coefficient
    offset: Coefficient = 0.0


class Add(Layer):
    """The sum of several inputs of one shape."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """As each input."""
        if len(inputs) < 2 or len(set(inputs)) != 1:
            raise ModelError(f"layer {self.name!r} (Add) takes two or more inputs of one shape, not {list(inputs)}")
        return inputs[0]


LAYERS: dict[str, type[Layer]] = {
    cls.__name__: cls
    for cls in (
        InputLayer,
        Conv2D,
        Dense,
        BatchNormalization,
        Activation,
        MaxPooling2D,
        AveragePooling2D,
        GlobalAveragePooling2D,
        GlobalMaxPooling2D,
        Flatten,
        Dropout,
        Rescaling,
        Add,
    )
}


@dataclass(frozen=True)
class Node:
    """A layer, the names of the layers it reads, and the shape it gives."""

    layer: Layer
    inputs: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True)
class Architecture:
    """A validated network: nodes in an order in which each reads only earlier ones, the last being the output."""

    nodes: tuple[Node, ...]

    def input_shape(self, node: Node) -> Shape:
        """The shape of a node's first input."""
        return next(other.shape for other in self.nodes if other.layer.name == node.inputs[0])

    @property
    def classes(self) -> int:
        """How many answers the network has."""
        return self.nodes[-1].shape[0]

    def weight_shapes(self) -> dict[str, dict[str, Shape]]:
        """{layer name: {weight name: shape}} of the layers that have weights, in the file's order."""
        shapes = {
            node.layer.name: node.layer.weight_shapes(self.input_shape(node)) for node in self.nodes if node.inputs
        }
        return {name: weights for name, weights in shapes.items() if weights}

    @property
    def parameters(self) -> int:
        """The number of weights, batch-norm statistics included."""
        return sum(math.prod(shape) for weights in self.weight_shapes().values() for shape in weights.values())

    @property
    def multiply_adds(self) -> int:
        """What one image costs."""
        return sum(node.layer.multiply_adds(self.input_shape(node)) for node in self.nodes if node.inputs)


def parse_architecture(text: str | bytes) -> Architecture:
    """Validate the JSON that `keras.Model.to_json()` gives for a Sequential or Functional model.

    Raises:
        ModelError: it is not such JSON, or has a layer, attribute, wiring, shape or size that is not served; the text
            names the layer and what was found.
    """
    if len(text) > MAX_JSON_BYTES:
        raise ModelError(f"the architecture has {len(text):,} bytes, the limit is {MAX_JSON_BYTES:,}")
    try:
        document = json.loads(text)
        kind, config = document["class_name"], document["config"]
        layers = config["layers"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"the architecture is not the JSON of a Keras model: {error!r}") from None
    if kind not in ("Sequential", "Functional"):
        raise ModelError(f"the model is a {kind!r}; only Sequential and Functional models are served")
    if not isinstance(layers, list) or not 2 <= len(layers) <= MAX_LAYERS:
        raise ModelError(f"the model must have 2 to {MAX_LAYERS:,} layers")
    wired = _sequential(layers) if kind == "Sequential" else _functional(layers, config)
    return _checked(wired)


def _layer(entry: Any) -> Layer:
    """One validated layer from its JSON entry."""
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


Wired: TypeAlias = list[tuple[Layer, tuple[str, ...]]]


def _sequential(entries: list[Any]) -> Wired:
    layers = [_layer(entry) for entry in entries]
    if not isinstance(layers[0], InputLayer):
        raise ModelError("the model has no InputLayer; begin the Sequential with keras.Input((32, 32, 3))")
    return [(layer, (layers[i - 1].name,) if i else ()) for i, layer in enumerate(layers)]


def _functional(entries: list[Any], config: dict[str, Any]) -> Wired:
    wired = [(layer, _inbound(layer, entry)) for entry in entries for layer in [_layer(entry)]]
    first, last = (_end(config.get(key), key) for key in ("input_layers", "output_layers"))
    if wired[0][0].name != first:
        raise ModelError(f"the first layer is {wired[0][0].name!r} but the model's input is {first!r}")
    if wired[-1][0].name != last:
        raise ModelError(f"the last layer is {wired[-1][0].name!r} but the model's output is {last!r}")
    return wired


def _end(value: Any, key: str) -> str:
    """The one layer in `input_layers` or `output_layers`, which Keras writes as [name, 0, 0] or [[name, 0, 0]]."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    match value:
        case [str(name), 0, 0]:
            return name
    raise ModelError(f"the model must have one input and one output; {key} is {str(value)[:80]}")


def _inbound(layer: Layer, entry: dict[str, Any]) -> tuple[str, ...]:
    """The names of the layers that this one reads."""
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


def _checked(wired: Wired) -> Architecture:
    """Shapes inferred layer by layer, and every size within its limit."""
    nodes: dict[str, Node] = {}
    for layer, inputs in wired:
        if layer.name in nodes:
            raise ModelError(f"two layers are named {layer.name!r}")
        if missing := [name for name in inputs if name not in nodes]:
            raise ModelError(f"layer {layer.name!r} reads {missing[0]!r}, which does not come before it")
        if isinstance(layer, InputLayer) == bool(nodes):
            raise ModelError(f"the model must have exactly one InputLayer, as its first layer; found {layer.name!r}")
        shape = layer.output_shape(*(nodes[name].shape for name in inputs)) if inputs else INPUT_SHAPE
        if math.prod(shape) > MAX_ELEMENTS:
            raise ModelError(f"layer {layer.name!r} gives {shape}, over the limit of {MAX_ELEMENTS:,} values an image")
        nodes[layer.name] = Node(layer, inputs, shape)
    return _within_limits(Architecture(tuple(nodes.values())))


def _within_limits(architecture: Architecture) -> Architecture:
    read = {name for node in architecture.nodes for name in node.inputs}
    if unread := [node.layer.name for node in architecture.nodes[:-1] if node.layer.name not in read]:
        raise ModelError(f"nothing reads layer {unread[0]!r}; the model must have one output")
    if len(architecture.nodes[-1].shape) != 1:
        raise ModelError(f"the model gives {architecture.nodes[-1].shape} an image; it must give one number a class")
    if architecture.parameters > MAX_PARAMETERS:
        raise ModelError(f"the model has {architecture.parameters:,} weights, the limit is {MAX_PARAMETERS:,}")
    if architecture.multiply_adds > MAX_MULTIPLY_ADDS:
        raise ModelError(
            f"the model takes {architecture.multiply_adds:,} multiply-adds, the limit is {MAX_MULTIPLY_ADDS:,}"
        )
    return architecture


def _only(layer: Layer, inputs: Sequence[Shape]) -> Shape:
    if len(inputs) != 1:
        raise ModelError(f"layer {layer.name!r} takes one input, not {len(inputs)}")
    return inputs[0]


def _image(layer: Layer, inputs: Sequence[Shape]) -> Shape:
    shape = _only(layer, inputs)
    if len(shape) != 3:
        raise ModelError(f"layer {layer.name!r} takes images (height, width, channels), its input is {shape}")
    return shape


def _window(layer: Layer, sides: Shape, size: Shape, strides: Shape, padding: Padding) -> Shape:
    """Output height and width of a sliding window, by TensorFlow's rules."""
    reach = (0, 0) if padding == "same" else (size[0] - 1, size[1] - 1)
    out = tuple(-(-(side - less) // stride) for side, less, stride in zip(sides, reach, strides, strict=True))
    if min(out) < 1:
        raise ModelError(f"layer {layer.name!r} has a window of {size}, larger than its input of {sides}")
    return out
