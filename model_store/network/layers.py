"""Layers that can be served: a closed list of stock Keras layers, each with its shapes, weights and cost.

An attribute that is not declared here is refused, because it might change the result. A `TrainingOnly` attribute
has no effect at inference.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from model_store.errors import ModelError
from model_store.manifest import Frozen

Shape: TypeAlias = tuple[int, ...]  # of one image's tensor, channels last, without the batch
INPUT_SHAPE: Shape = (32, 32, 3)


def _policy_name(value: Any) -> Any:
    """Unwrap Keras's `{"class_name": "DTypePolicy", "config": {"name": "float32"}}`."""
    return value["config"].get("name") if isinstance(value, dict) and isinstance(value.get("config"), dict) else value


Size = Annotated[int, Field(ge=1, le=65_536)]
Side = Annotated[int, Field(ge=16, le=256)]
Pair = tuple[Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=1, le=64)]]
Coefficient = Annotated[float, Field(ge=-1e30, le=1e30)]  # finite in float32
Float32 = Annotated[Literal["float32"], BeforeValidator(_policy_name)]
ActivationName = Literal["linear", "relu", "silu", "gelu", "sigmoid", "tanh", "softmax"]
Padding = Literal["same", "valid"]
TrainingOnly = Any
ChannelsLast = Literal["channels_last"]


class Layer(Frozen):
    """A layer's configuration. Each subclass is named after its Keras layer."""

    is_convolution: ClassVar[bool] = False
    is_identity: ClassVar[bool] = False  # at inference: returns its input unchanged
    takes_several_inputs: ClassVar[bool] = False

    name: str = Field(min_length=1, max_length=200)
    trainable: TrainingOnly = True
    dtype: Float32 = "float32"

    def inference_config(self) -> dict[str, Any]:
        """Return the attributes that affect inference, keyed by Keras's names."""
        return {
            key: getattr(self, key) for key, field in type(self).model_fields.items() if field.annotation is not Any
        }

    def training_config(self) -> dict[str, Any]:
        """Attributes that training needs in addition to `inference_config`, by Keras's names."""
        return {}

    def output_shape(self, *inputs: Shape) -> Shape:
        """Infer the shape of the output; raise ModelError if the layer does not accept these inputs."""
        return _only(self, inputs)

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shapes of the weights for an input of this shape, in Keras's order."""
        return {}

    def multiply_adds(self, shape: Shape) -> int:
        """Count the multiply-adds for one image, given the shape of the input."""
        return 0


class InputLayer(Layer):
    """Normalised images."""

    batch_shape: tuple[None, Side, Side, Literal[1, 3]]
    sparse: Literal[False] = False
    ragged: Literal[False] = False
    optional: Literal[False] = False

    def output_shape(self, *inputs: Shape) -> Shape:
        """(height, width, channels) of the images."""
        return self.batch_shape[1:]


class Conv2D(Layer):
    """Convolution with an optional bias and activation."""

    is_convolution = True

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
    """Fully connected layer on vectors."""

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
    """At inference, a scale and a shift per channel computed from the moving statistics."""

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
        """Same as the input."""
        shape = _only(self, inputs)
        if self.axis not in (-1, len(shape)):
            raise ModelError(
                f"layer {self.name!r} (BatchNormalization) has axis {self.axis}; only the last axis, -1, is supported"
            )
        return shape

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        """gamma, beta, moving_mean and moving_variance, (channels,) each."""
        enabled = {"gamma": self.scale, "beta": self.center, "moving_mean": True, "moving_variance": True}
        return {name: (shape[-1],) for name, is_enabled in enabled.items() if is_enabled}


class Activation(Layer):
    """An element-wise function, or softmax over the last axis."""

    activation: ActivationName


class Pooling2D(Layer):
    """Maximum or average pooling."""

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
    """The mean of each window; without padding."""


class GlobalPooling2D(Layer):
    """Maximum or average over the whole image."""

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
    """Dropout, which does nothing at inference."""

    is_identity = True

    rate: TrainingOnly = None
    seed: TrainingOnly = None
    noise_shape: TrainingOnly = None

    def training_config(self) -> dict[str, Any]:
        """The rate."""
        return {"rate": self.rate}


class Rescaling(Layer):
    """`x * scale + offset` with two numbers."""

    scale: Coefficient
    offset: Coefficient = 0.0


class Add(Layer):
    """The sum of several inputs of the same shape."""

    takes_several_inputs = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """Same as each input."""
        if len(inputs) < 2 or len(set(inputs)) != 1:
            raise ModelError(
                f"layer {self.name!r} (Add) takes two or more inputs of the same shape, not {list(inputs)}"
            )
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
    lost = (0, 0) if padding == "same" else (size[0] - 1, size[1] - 1)
    output = tuple(-(-(side - less) // stride) for side, less, stride in zip(sides, lost, strides, strict=True))
    if min(output) < 1:
        raise ModelError(f"layer {layer.name!r} has a window of {size}, larger than its input of {sides}")
    return output
