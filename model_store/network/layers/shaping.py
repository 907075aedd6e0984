"""Images and vectors in another shape."""

import math
from typing import Annotated, Literal

from pydantic import Field

from model_store.errors import ModelError
from model_store.manifest import Side
from model_store.network.layers.layer import ChannelsLast, Layer, Shape, image_input, only_input

Border = tuple[Annotated[int, Field(ge=0, le=64)], Annotated[int, Field(ge=0, le=64)]]  # before and after


class InputLayer(Layer):
    """Normalised images."""

    batch_shape: tuple[None, Side, Side, Literal[1, 3]]
    sparse: Literal[False] = False
    ragged: Literal[False] = False
    optional: Literal[False] = False

    def output_shape(self, *inputs: Shape) -> Shape:
        """(height, width, channels) of the images."""
        return self.batch_shape[1:]


class ZeroPadding2D(Layer):
    """Zeros around an image."""

    padding: tuple[Border, Border]
    data_format: ChannelsLast = "channels_last"

    def output_shape(self, *inputs: Shape) -> Shape:
        """(height, width, channels), with the zeros."""
        height, width, channels = image_input(self, inputs)
        return height + sum(self.padding[0]), width + sum(self.padding[1]), channels


class Flatten(Layer):
    """An image as one vector, channels varying fastest."""

    data_format: ChannelsLast = "channels_last"

    def output_shape(self, *inputs: Shape) -> Shape:
        """(height × width × channels,)."""
        return (math.prod(only_input(self, inputs)),)


class Reshape(Layer):
    """The same values as a vector or an image, channels varying fastest."""

    target_shape: tuple[Annotated[int, Field(ge=-1, le=16_000_000)], ...] = Field(max_length=3)

    def output_shape(self, *inputs: Shape) -> Shape:
        """The target shape, with the number that its -1 stands for."""
        values = math.prod(only_input(self, inputs))
        stated = math.prod(size for size in self.target_shape if size != -1)
        rest = values // stated if stated else 0
        shape = tuple(rest if size == -1 else size for size in self.target_shape)
        if len(shape) not in (1, 3) or self.target_shape.count(-1) > 1 or math.prod(shape) != values:
            raise ModelError(
                f"layer {self.name!r} (Reshape) has target_shape {list(self.target_shape)}; it must be "
                f"an image (height, width, channels) or a vector of the {values} values of its input {inputs[0]}"
            )
        return shape
