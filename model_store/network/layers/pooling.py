"""Maximum and mean of windows, or of whole images."""

from model_store.network.layers.layer import ChannelsLast, Layer, Padding, Pair, Shape, image_input, slide


class _Pooling2D(Layer):
    """Maximum or average pooling."""

    pool_size: Pair = (2, 2)
    strides: Pair = (2, 2)
    padding: Padding = "valid"
    data_format: ChannelsLast = "channels_last"

    def output_shape(self, *inputs: Shape) -> Shape:
        """(height, width, channels)."""
        height, width, channels = image_input(self, inputs)
        return (*slide(self, (height, width), self.pool_size, self.strides, self.padding), channels)


class MaxPooling2D(_Pooling2D):
    """The largest value of each window."""


class AveragePooling2D(_Pooling2D):
    """The mean of each window; without padding."""


class _GlobalPooling2D(Layer):
    """Maximum or average over the whole image."""

    data_format: ChannelsLast = "channels_last"
    keepdims: bool = False

    def output_shape(self, *inputs: Shape) -> Shape:
        """(channels,), or (1, 1, channels)."""
        channels = image_input(self, inputs)[2:]
        return (1, 1, *channels) if self.keepdims else channels


class GlobalAveragePooling2D(_GlobalPooling2D):
    """The mean over all positions."""


class GlobalMaxPooling2D(_GlobalPooling2D):
    """The maximum over all positions."""
