"""Element-wise functions, and softmax over the channels."""

from typing import Annotated, ClassVar

from pydantic import Field

from model_store.errors import ModelError
from model_store.network.layers.layer import (
    ActivationName,
    Coefficient,
    Layer,
    Shape,
    TrainingOnly,
    check_last_axis,
    only_input,
)

Positive = Annotated[Coefficient, Field(ge=0)]


class Activation(Layer):
    """A function by name."""

    activation: ActivationName


class ReLU(Layer):
    """`x` from `threshold` on, at most `max_value`, and `negative_slope * (x - threshold)` below."""

    activation: ClassVar[ActivationName] = "relu"

    max_value: Positive | None = None
    negative_slope: Positive = 0.0
    threshold: Positive = 0.0


class LeakyReLU(Layer):
    """ReLU with a slope for negative values."""

    activation: ClassVar[ActivationName] = "leaky_relu"

    negative_slope: Positive = 0.3


class PReLU(Layer):
    """ReLU with a trained slope for negative values."""

    activation: ClassVar[ActivationName] = "leaky_relu"

    shared_axes: tuple[Annotated[int, Field(ge=1, le=3)], ...] | None = Field(default=None, max_length=3)
    alpha_initializer: TrainingOnly = None
    alpha_regularizer: TrainingOnly = None
    alpha_constraint: TrainingOnly = None

    def output_shape(self, *inputs: Shape) -> Shape:
        """Same as the input."""
        shape = only_input(self, inputs)
        if max(self.shared_axes or (1,)) > len(shape):
            raise ModelError(
                f"layer {self.name!r} (PReLU) has shared_axes {list(self.shared_axes or ())}, its input is {shape}"
            )
        return shape

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        """alpha, of the input's shape with 1 for every shared axis."""
        shared = self.shared_axes or ()
        return {"alpha": tuple(1 if axis in shared else size for axis, size in enumerate(shape, 1))}


class ELU(Layer):
    """`x` for positive values, `alpha * (exp(x) - 1)` for others."""

    activation: ClassVar[ActivationName] = "elu"

    alpha: Positive = 1.0


class Softmax(Layer):
    """Softmax over the last axis."""

    activation: ClassVar[ActivationName] = "softmax"

    axis: int = -1

    def output_shape(self, *inputs: Shape) -> Shape:
        """Same as the input."""
        shape = only_input(self, inputs)
        check_last_axis(self, self.axis, shape)
        return shape
