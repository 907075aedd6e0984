"""Convolutions and fully connected layers: sums of products with a kernel, with an optional bias and activation."""

import math

from pydantic import model_validator

from model_store.errors import ModelError
from model_store.network.layers.layer import (
    ActivationName,
    ChannelsLast,
    Layer,
    Padding,
    Pair,
    Shape,
    Size,
    TrainingOnly,
    image_input,
    only_input,
    slide,
)


class _Linear(Layer):
    """A kernel, an optional bias and an activation."""

    activation: ActivationName = "linear"
    use_bias: bool = True
    kernel_initializer: TrainingOnly = None
    kernel_regularizer: TrainingOnly = None
    kernel_constraint: TrainingOnly = None
    bias_initializer: TrainingOnly = None
    bias_regularizer: TrainingOnly = None
    bias_constraint: TrainingOnly = None
    activity_regularizer: TrainingOnly = None

    def with_bias(self, kernels: dict[str, Shape], outputs: int) -> dict[str, Shape]:
        """Add the bias (outputs,), if there is one, to the kernels' shapes."""
        return kernels | ({"bias": (outputs,)} if self.use_bias else {})


class _Convolution(_Linear):
    """A kernel that slides over images."""

    is_convolution = True

    kernel_size: Pair
    strides: Pair = (1, 1)
    padding: Padding = "valid"
    data_format: ChannelsLast = "channels_last"
    dilation_rate: Pair = (1, 1)

    @model_validator(mode="after")
    def _check_dilation(self) -> "_Convolution":
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError("only one of strides and dilation_rate may be above 1")
        return self

    def positions(self, shape: Shape) -> Shape:
        """Return height and width of the output for an input of this shape."""
        sizes = zip(self.kernel_size, self.dilation_rate, strict=True)
        reach = tuple((size - 1) * rate + 1 for size, rate in sizes)
        return slide(self, shape[:2], reach, self.strides, self.padding)


class Conv2D(_Convolution):
    """Convolution, also of groups of channels."""

    is_rounded = True

    filters: Size
    groups: Size = 1

    def output_shape(self, *inputs: Shape) -> Shape:
        """(height, width, filters)."""
        shape = image_input(self, inputs)
        if shape[2] % self.groups or self.filters % self.groups:
            raise ModelError(
                f"layer {self.name!r} (Conv2D) has {self.groups} groups, which do not divide its {shape[2]} input "
                f"channels and {self.filters} filters evenly"
            )
        return (*self.positions(shape), self.filters)

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Kernel (height, width, in / groups, out) and bias (out,)."""
        kernel = (*self.kernel_size, shape[2] // self.groups, self.filters)
        return self.with_bias({"kernel": kernel}, self.filters)

    def multiply_adds(self, shape: Shape) -> int:
        """One per kernel weight and output position."""
        return math.prod(self.positions(shape)) * math.prod(self.weight_shapes(shape)["kernel"])


class DepthwiseConv2D(_Convolution):
    """Convolution of each channel on its own, giving `depth_multiplier` channels for each."""

    depth_multiplier: Size = 1
    depthwise_initializer: TrainingOnly = None
    depthwise_regularizer: TrainingOnly = None
    depthwise_constraint: TrainingOnly = None

    @model_validator(mode="after")
    def _check_strides(self) -> "DepthwiseConv2D":
        _check_square(self.strides)
        return self

    def output_shape(self, *inputs: Shape) -> Shape:
        """(height, width, channels × depth_multiplier)."""
        shape = image_input(self, inputs)
        return (*self.positions(shape), shape[2] * self.depth_multiplier)

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Kernel (height, width, in, multiplier) and bias (in × multiplier,)."""
        kernel = (*self.kernel_size, shape[2], self.depth_multiplier)
        return self.with_bias({"kernel": kernel}, shape[2] * self.depth_multiplier)

    def multiply_adds(self, shape: Shape) -> int:
        """One per kernel weight and output position."""
        return math.prod(self.positions(shape)) * math.prod(self.weight_shapes(shape)["kernel"])


class SeparableConv2D(_Convolution):
    """A depthwise convolution, then one of single pixels."""

    filters: Size
    depth_multiplier: Size = 1
    depthwise_initializer: TrainingOnly = None
    depthwise_regularizer: TrainingOnly = None
    depthwise_constraint: TrainingOnly = None
    pointwise_initializer: TrainingOnly = None
    pointwise_regularizer: TrainingOnly = None
    pointwise_constraint: TrainingOnly = None

    @model_validator(mode="after")
    def _check_strides(self) -> "SeparableConv2D":
        _check_square(self.strides)
        return self

    def output_shape(self, *inputs: Shape) -> Shape:
        """(height, width, filters)."""
        return (*self.positions(image_input(self, inputs)), self.filters)

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Both kernels, (height, width, in, multiplier) and (1, 1, in × multiplier, out), and bias (out,)."""
        depthwise = (*self.kernel_size, shape[2], self.depth_multiplier)
        pointwise = (1, 1, shape[2] * self.depth_multiplier, self.filters)
        return self.with_bias({"depthwise_kernel": depthwise, "pointwise_kernel": pointwise}, self.filters)

    def multiply_adds(self, shape: Shape) -> int:
        """One per weight of either kernel and output position."""
        weights = self.weight_shapes(shape)
        kernels = math.prod(weights["depthwise_kernel"]) + math.prod(weights["pointwise_kernel"])
        return math.prod(self.positions(shape)) * kernels


class Dense(_Linear):
    """Fully connected layer on vectors, or on the channels of each pixel."""

    units: Size
    quantization_config: None = None

    def output_shape(self, *inputs: Shape) -> Shape:
        """The input's, with units for channels."""
        return (*only_input(self, inputs)[:-1], self.units)

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Kernel (in, out) and bias (out,)."""
        return self.with_bias({"kernel": (shape[-1], self.units)}, self.units)

    def multiply_adds(self, shape: Shape) -> int:
        """One per kernel weight and position."""
        return math.prod(shape) * self.units


def _check_square(strides: tuple[int, int]) -> None:
    if strides[0] != strides[1]:
        raise ValueError("TensorFlow computes depthwise convolutions with equal strides only")
