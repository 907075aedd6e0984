"""Several inputs joined into one."""

import numpy as np

from model_store.errors import ModelError
from model_store.network.layers.layer import Layer, Shape, check_last_axis


class Merge(Layer):
    """An element-wise function of several inputs; sides of 1 are repeated, and a vector stands for every pixel."""

    takes_several_inputs = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape to which all inputs are repeated."""
        try:
            if len(inputs) < 2:
                raise ValueError
            return np.broadcast_shapes(*inputs)
        except ValueError:
            raise ModelError(
                f"layer {self.name!r} ({type(self).__name__}) takes two or more inputs of the same shape, or with "
                f"sides of 1, not {list(inputs)}"
            ) from None


class Add(Merge):
    """The sum."""


class Multiply(Merge):
    """The product."""


class Average(Merge):
    """The mean."""


class Maximum(Merge):
    """The largest value."""


class Minimum(Merge):
    """The smallest value."""


class Subtract(Merge):
    """The first input less the second."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape to which both inputs are repeated."""
        if len(inputs) != 2:
            raise ModelError(f"layer {self.name!r} (Subtract) takes two inputs, not {len(inputs)}")
        return super().output_shape(*inputs)


class Concatenate(Layer):
    """The channels of all inputs, one after another."""

    takes_several_inputs = True

    axis: int = -1

    def output_shape(self, *inputs: Shape) -> Shape:
        """The inputs', with the sum of their channels."""
        if len(inputs) < 2 or len({shape[:-1] for shape in inputs}) != 1:
            raise ModelError(
                f"layer {self.name!r} (Concatenate) takes two or more inputs of the same height and width, "
                f"not {list(inputs)}"
            )
        check_last_axis(self, self.axis, inputs[0])
        return (*inputs[0][:-1], sum(shape[-1] for shape in inputs))
