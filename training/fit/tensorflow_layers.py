"""Keras layers with fewer passes over memory, for training with TensorFlow on a CPU.

Each computes the same as the stock layer, within rounding, with the same weights and configuration. They are used only
in training; networks are written and served with stock layers. docs/training.md has their speed-ups.
"""

from typing import Any

import keras
import tensorflow as tf
from keras import layers

# Up to this side oneDNN's bfloat16 weight gradients leave AMX mostly idle: they process one image row at a time.
NARROW_SIDE = 8


def accelerate(model: keras.Model) -> keras.Model:
    """Copy a network and its weights, with stock layers replaced by the layers of this module."""

    def copy(layer: layers.Layer) -> layers.Layer:
        config = layer.get_config()
        match layer:
            case layers.BatchNormalization():
                return FusedBatchNormalization.from_config(config)
            case layers.Conv2D():
                return NarrowConv2D.from_config(config)
            case layers.Activation() if layer.activation is keras.activations.silu:
                return layers.Activation.from_config(config | {"activation": silu})
        return type(layer).from_config(config)

    copied = keras.models.clone_model(model, clone_function=copy)
    copied.set_weights(model.get_weights())
    return copied


class FusedBatchNormalization(layers.BatchNormalization):  # type: ignore[misc]
    """Batch normalisation of (N, H, W, C) by TensorFlow's fused kernel, which reads its input once.

    Keras builds it and its gradient from float32 operations that pass over memory once each.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Call the stock layer, except in training on channels-last images without a mask."""
        fits = len(inputs.shape) == 4 and self.axis in (-1, 3) and mask is None and not self.renorm
        if not (training and self.trainable and fits):
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma) if self.scale else tf.ones(channels),
            offset=tf.convert_to_tensor(self.beta) if self.center else tf.zeros(channels),
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=self.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.size(inputs) // channels, "float32")
        biased = variance * (count - 1) / count  # the kernel divides by count - 1, Keras by count
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, biased)):
            moving.assign(moving * self.momentum + now * (1 - self.momentum))
        return outputs


class NarrowConv2D(layers.Conv2D):  # type: ignore[misc]
    """Convolution that computes its weight gradient as nine matrix products if it is 3×3 and its images are narrow."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Keras's hook for the convolution itself."""
        ordinary = (self.kernel_size, self.strides, self.dilation_rate, self.groups) == ((3, 3), (1, 1), (1, 1), 1)
        same = self.padding == "same" and self.data_format == "channels_last"
        narrow = all(side is not None and side <= NARROW_SIDE for side in inputs.shape[1:3])
        if ordinary and same and narrow and inputs.dtype == tf.bfloat16:
            return convolve(inputs, tf.convert_to_tensor(kernel))
        return super().convolution_op(inputs, kernel)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def convolve(images: Any, kernel: Any) -> Any:
    """Convolve images (N, H, W, I) with a kernel (3, 3, I, O), stride 1, same padding, to (N, H, W, O)."""

    def gradient(upstream: Any) -> tuple[Any, Any]:
        to_images = tf.nn.conv2d_transpose(upstream, kernel, tf.shape(images), 1, "SAME")
        return to_images, weight_gradient(images, upstream)

    return tf.nn.conv2d(images, kernel, 1, "SAME"), gradient


def weight_gradient(images: Any, upstream: Any) -> Any:
    """Return `convolve`'s kernel gradient (3, 3, I, O), from images (N, H, W, I) and `upstream` (N, H, W, O).

    Each row is padded with a zero pixel, each image with a row of zeros, and the batch with an image of zeros at both
    ends. In the flat list of all pixels, every pixel's neighbour in one direction then lies at a constant offset, so
    that shifted images are slices and need no copies.
    """
    _, height, width, channels = images.shape
    row = width + 1
    after = [[0, 0], [0, 1], [0, 1], [0, 0]]
    pixels = tf.reshape(tf.pad(images, [[1, 1], *after[1:]]), (-1, channels))
    gradients = tf.reshape(tf.pad(upstream, after), (-1, upstream.shape[-1]))
    first, count = (height + 1) * row, tf.shape(gradients)[0]
    starts = [first + (y - 1) * row + x - 1 for y in range(3) for x in range(3)]
    products = [tf.matmul(pixels[start : start + count], gradients, transpose_a=True) for start in starts]
    return tf.reshape(tf.stack(products), (3, 3, channels, upstream.shape[-1]))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def silu(values: Any) -> Any:
    """SiLU with a one-pass gradient. Keras's uses TensorFlow's bfloat16 sigmoid, which computes value by value."""
    return tf.nn.silu(values), lambda upstream: _silu_gradient(values, upstream)


@tf.function(jit_compile=True, reduce_retracing=True)  # type: ignore[untyped-decorator]
def _silu_gradient(values: Any, upstream: Any) -> Any:
    x = tf.cast(values, "float32")
    gate = tf.sigmoid(x)
    return tf.cast(tf.cast(upstream, "float32") * gate * (1 + x * (1 - gate)), values.dtype)
