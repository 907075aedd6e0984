"""Decide what is done with the pixels before an imported network, and doubt it where it looks wrong.

Two things scale pixels: layers at the network's front, which are taken off it, and what was done before the network in
training, which only a person knows.
"""

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from model_store.manifest import ChannelOrder, Preprocessing
from model_store.network.architecture import Architecture
from model_store.network.layers import BatchNormalization
from training.errors import TrainingError
from training.publish.keras_files.scaling import Scaling, identity

# `preprocess_input` of keras.applications, by Keras's names of its modes: mean and std of pixel / 255, and the order.
PREPROCESS_INPUT: dict[str, tuple[tuple[float, ...], tuple[float, ...], ChannelOrder]] = {
    "raw": ((0,), (1 / 255,), "RGB"),
    "tf": ((0.5,), (0.5,), "RGB"),
    "torch": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "RGB"),
    "caffe": ((103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255,), "BGR"),
}
# Values that networks are trained on span from 1, of pixel / 255, to 255, of pixels. Ten times more or less of a
# narrow-ranged data set is thinkable; 1/255 and 255 × 2 are not.
MIN_SPAN, MAX_SPAN = 0.1, 300.0
MAX_VARIANCE_RATIO = 1_000.0  # 1/255 too small or too large makes 65,025


@dataclass(frozen=True)
class Before:
    """What is said to have been done before the network: (pixel / 255 - mean) / std, channels in the order given."""

    mean: tuple[float, ...] = (0,)
    std: tuple[float, ...] = (1,)
    channel_order: ChannelOrder = "RGB"

    def scaling(self, channels: int) -> Scaling:
        """Return it for pixels of 0 to 255.

        Raises:
            TrainingError: there are neither one number nor one for each channel.
        """
        for option, values in (("--mean", self.mean), ("--std", self.std)):
            if len(values) not in (1, channels):
                raise TrainingError(
                    f"{option} has {len(values)} numbers, but the network's images have {channels} channel"
                    f"{'s' if channels > 1 else ''}; pass one for each, or one for all"
                )
        if self.channel_order == "BGR" and channels != 3:
            raise TrainingError("--channel-order BGR needs images of three channels; leave it out")
        mean, std = (np.broadcast_to(np.asarray(values, float), channels) for values in (self.mean, self.std))
        return Scaling(1 / (255 * std), -mean / std, self.channel_order == "BGR")


def scaling_before(before: Before | None, own: tuple[str, ...], channels: int) -> Scaling:
    """Return what is done before the network: what is said, or else pixels as they are if it scales them itself.

    Args:
        own: names of the layers by which the network scales its input itself.
    """
    if before:
        return before.scaling(channels)
    return identity(channels) if own else Before().scaling(channels)


def as_preprocessing(scaling: Scaling, height: int, width: int) -> Preprocessing:
    """Return the preprocessing that does the same, its numbers rounded to what float32 tells apart.

    Raises:
        TrainingError: the numbers are so large or small that float32 does not hold them.
    """
    with np.errstate(all="ignore"):
        std = 1 / (255 * scaling.scale)
        mean = -scaling.offset * std
    order = "BGR" if scaling.reversed else "RGB"
    try:
        return Preprocessing(mean=_rounded(mean), std=_rounded(std), height=height, width=width, channel_order=order)
    except ValidationError:
        raise TrainingError(
            f"before its other layers the network makes pixel * {scaling.scale.tolist()} + {scaling.offset.tolist()} "
            "of a pixel, which float32 does not hold; look at the layers at its front, --mean and --std"
        ) from None


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.9g}") + 0.0 for value in values)


def doubt_span(scaling: Scaling, own: tuple[str, ...], before: Before | None) -> str | None:
    """Say if the layers at the network's front and what is done before them cannot both be right.

    Raises:
        TrainingError: nothing was said, and the layers at the front do not fit pixels as they are.
    """
    low, high = scaling.offset.min(), (255 * scaling.scale + scaling.offset).max()
    if not own or MIN_SPAN <= (255 * scaling.scale).max() <= MAX_SPAN:
        return None
    begins = f"the network begins with {', '.join(own)}, which"
    if before:
        return (
            f"{begins} scales its input itself: with --mean and --std the pixels become {low:.4g} to {high:.4g} after "
            "it; leave them out if the network was trained on pixels of 0 to 255"
        )
    raise TrainingError(
        f"{begins} makes {low:.4g} to {high:.4g} of pixels of 0 to 255, so they were scaled before it in training; say "
        "how with --mean and --std (0 and 1 for pixel / 255)"
    )


def doubt_statistics(model: keras.Model, architecture: Architecture, images: NDArray[np.float32]) -> str | None:
    """Say if the first batch normalisation gets values of another scale than those it saw in training.

    Args:
        images: normalised, (N, H, W, C).
    """
    name = next((node.layer.name for node in architecture.nodes if isinstance(node.layer, BatchNormalization)), None)
    if name is None:
        return None
    layer = model.get_layer(name)
    values = keras.Model(model.inputs, layer.input).predict(images, batch_size=32, verbose=0)
    received = float(np.median(values.var(axis=tuple(range(values.ndim - 1)))))
    trained = float(np.median(np.asarray(layer.moving_variance)))
    ratio = received / max(trained, 1e-30)
    if 1 / MAX_VARIANCE_RATIO <= ratio <= MAX_VARIANCE_RATIO:
        return None
    return (
        f"layer {name!r} (BatchNormalization) gets values whose variance is {received:.3g}, in training it was "
        f"{trained:.3g}; the pixels were probably scaled otherwise: pass --mean and --std, or --preprocess-input"
    )
