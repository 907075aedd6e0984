"""A scale and a shift for each channel."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from model_store.errors import ModelError
from model_store.network.layers.layer import (
    Coefficient,
    Layer,
    Shape,
    TrainingOnly,
    check_last_axis,
    only_input,
)

Numbers: TypeAlias = NDArray[np.float32]
PerChannel: TypeAlias = Coefficient | tuple[Coefficient, ...]  # one number, or one for each channel
SMALLEST_DEVIATION = np.float32(1e-7)  # Keras's epsilon


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
        shape = only_input(self, inputs)
        check_last_axis(self, self.axis, shape)
        return shape

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        """gamma, beta, moving_mean and moving_variance, (channels,) each."""
        enabled = {"gamma": self.scale, "beta": self.center, "moving_mean": True, "moving_variance": True}
        return {name: (shape[-1],) for name, is_enabled in enabled.items() if is_enabled}


class Normalization(Layer):
    """`(x - mean) / sqrt(variance)`, with both as attributes or as weights."""

    axis: int | tuple[int, ...] | None = -1
    mean: PerChannel | None = None
    variance: PerChannel | None = None
    invert: Literal[False] = False

    @model_validator(mode="after")
    def _check_both(self) -> "Normalization":
        if (self.mean is None) != (self.variance is None):
            raise ValueError("mean and variance must be given together")
        if isinstance(self.variance, tuple) and min(self.variance, default=0) < 0:
            raise ValueError("variance must not be negative")
        return self

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes with statistics of their own: the channels', or none."""
        return (self.axis,) if isinstance(self.axis, int) else self.axis or ()

    def output_shape(self, *inputs: Shape) -> Shape:
        """Same as the input."""
        shape = only_input(self, inputs)
        if len(self.axes) > 1:
            raise ModelError(
                f"layer {self.name!r} (Normalization) has axis {list(self.axes)}; "
                "only the last axis, -1, or none is supported"
            )
        for axis in self.axes:
            check_last_axis(self, axis, shape)
        _check_length(self, "mean", self.mean, shape)
        _check_length(self, "variance", self.variance, shape)
        return shape

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        """The statistics, (channels,) or () each, and the number of values that they are of, ()."""
        statistics = shape[-1:] if self.axes else ()
        return {} if self.mean is not None else {"mean": statistics, "variance": statistics, "count": ()}

    def mean_and_deviation(self, weights: Mapping[str, Numbers]) -> tuple[Numbers, Numbers]:
        """Return the mean and the standard deviation, at least Keras's smallest number, each () or (channels,)."""
        mean, variance = (weights["mean"], weights["variance"]) if weights else (self.mean, self.variance)
        deviation = np.maximum(np.sqrt(np.asarray(variance, np.float32)), SMALLEST_DEVIATION)
        return np.asarray(mean, np.float32), deviation


class Rescaling(Layer):
    """`x * scale + offset`."""

    scale: PerChannel
    offset: PerChannel = 0.0

    def output_shape(self, *inputs: Shape) -> Shape:
        """Same as the input."""
        shape = only_input(self, inputs)
        _check_length(self, "scale", self.scale, shape)
        _check_length(self, "offset", self.offset, shape)
        return shape


def _check_length(layer: Layer, attribute: str, values: PerChannel | None, shape: Shape) -> None:
    if isinstance(values, tuple) and len(values) != shape[-1]:
        raise ModelError(
            f"layer {layer.name!r} ({type(layer).__name__}) has {len(values)} values of {attribute} "
            f"for {shape[-1]} channels"
        )
