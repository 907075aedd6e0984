"""`Layer`, the attributes that several layers have, and the shapes that they accept."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from model_store.errors import ModelError
from model_store.manifest import Frozen

Shape: TypeAlias = tuple[int, ...]  # of one image's tensor, channels last, without the batch


def _policy_name(value: Any) -> Any:
    """Unwrap Keras's `{"class_name": "DTypePolicy", "config": {"name": "float32"}}`."""
    return value["config"].get("name") if isinstance(value, dict) and isinstance(value.get("config"), dict) else value


Size = Annotated[int, Field(ge=1, le=65_536)]
Pair = tuple[Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=1, le=64)]]
Coefficient = Annotated[float, Field(ge=-1e30, le=1e30)]  # finite in float32
Float32 = Annotated[Literal["float32"], BeforeValidator(_policy_name)]
ActivationName = Literal[
    "linear",
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "silu",
    "gelu",
    "mish",
    "sigmoid",
    "hard_sigmoid",
    "hard_silu",
    "tanh",
    "softplus",
    "softsign",
    "exponential",
    "softmax",
]
Padding = Literal["same", "valid"]
TrainingOnly = Any
ChannelsLast = Literal["channels_last"]


class Layer(Frozen):
    """A layer's configuration. Each subclass is named after its Keras layer."""

    is_convolution: ClassVar[bool] = False
    is_rounded: ClassVar[bool] = False  # in int8: reads 8-bit values and multiplies them with 8-bit kernels
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
        return only_input(self, inputs)

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shapes of the weights for an input of this shape, in Keras's order."""
        return {}

    def multiply_adds(self, shape: Shape) -> int:
        """Count the multiply-adds for one image, given the shape of the input."""
        return 0


def only_input(layer: Layer, inputs: Sequence[Shape]) -> Shape:
    """Return the shape of the one input.

    Raises:
        ModelError: the layer has several.
    """
    if len(inputs) != 1:
        raise ModelError(f"layer {layer.name!r} takes one input, not {len(inputs)}")
    return inputs[0]


def image_input(layer: Layer, inputs: Sequence[Shape]) -> Shape:
    """Return the shape (height, width, channels) of the one input.

    Raises:
        ModelError: the layer has several, or reads vectors.
    """
    shape = only_input(layer, inputs)
    if len(shape) != 3:
        raise ModelError(f"layer {layer.name!r} takes images (height, width, channels), its input is {shape}")
    return shape


def slide(layer: Layer, sides: Shape, size: Shape, strides: Shape, padding: Padding) -> Shape:
    """Return the output height and width of a sliding window, by TensorFlow's rules.

    Raises:
        ModelError: the window is larger than the input.
    """
    lost = (0, 0) if padding == "same" else (size[0] - 1, size[1] - 1)
    output = tuple(-(-(side - less) // stride) for side, less, stride in zip(sides, lost, strides, strict=True))
    if min(output) < 1:
        raise ModelError(f"layer {layer.name!r} has a window of {size}, larger than its input of {sides}")
    return output


def check_last_axis(layer: Layer, axis: int, shape: Shape) -> None:
    """Check that an axis, counted from the batch on, is the one of the channels.

    Raises:
        ModelError: it is another one.
    """
    if axis not in (-1, len(shape)):
        raise ModelError(
            f"layer {layer.name!r} ({type(layer).__name__}) has axis {axis}; only the last axis, -1, is supported"
        )
