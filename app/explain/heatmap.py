"""Draws PNG files: the network's input, the heatmap of a saliency map, and the heatmap over the input.

Knows arrays and PNG, but nothing about the network or HTTP.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.explain.saliency import Floats
from model_store.images.pixels import to_image
from model_store.manifest import ChannelOrder

PICTURE_SIDE = 256  # longer side of a heatmap, in pixels
OPACITY = 0.75  # of the hottest pixel; the image below stays recognisable
# Matplotlib's "inferno" (Smith and van der Walt, 2015, CC0) from 0.3 up: its lightness rises evenly, also for the
# colour-blind. The darker colours below 0.3 would only blacken a photo.
COLOURS = np.array([(101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164)])


def draw_pixels(seen: NDArray[np.uint8], channel_order: ChannelOrder = "RGB") -> bytes:
    """Draw the pixels (H, W, C) in the network's channel order unchanged, as RGB or grey."""
    return _png(to_image(seen, channel_order))


def draw_heatmap(saliency: Floats, height: int, width: int) -> bytes:
    """Draw the map (32, 32) of an image alone, as RGBA; the less a pixel matters, the more transparent it is.

    The longer side is 256 pixels, in the image's proportions.
    """
    return _png(_heatmap(saliency, height, width))


def draw_overlay(seen: NDArray[np.uint8], saliency: Floats, channel_order: ChannelOrder = "RGB") -> bytes:
    """Draw the map (32, 32) over the pixels (H, W, C), as RGB of the size of `draw_heatmap`."""
    heatmap = _heatmap(saliency, *seen.shape[:2])
    # Grey pixels leave all colour to the map; enlarging them without smoothing shows how few the network sees.
    grey = to_image(seen, channel_order).convert("L")
    picture = grey.resize(heatmap.size, Image.Resampling.NEAREST).convert("RGB")
    picture.paste(heatmap, mask=heatmap)
    return _png(picture)


def _heatmap(saliency: Floats, height: int, width: int) -> Image.Image:
    size = round(PICTURE_SIDE * width / max(height, width)), round(PICTURE_SIDE * height / max(height, width))
    large = Image.fromarray(saliency).resize(size, Image.Resampling.BICUBIC)
    levels = np.rint(np.asarray(large).clip(0, 1) * 255).astype(np.uint8)
    return Image.fromarray(_PALETTE[levels])


def _palette() -> NDArray[np.uint8]:
    """Interpolate the RGBA colour (256, 4) of every level."""
    levels, knots = np.linspace(0, 1, 256), np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(levels, knots, channel) for channel in COLOURS.T]
    colours: NDArray[np.uint8] = np.rint(np.stack([*channels, 255 * OPACITY * levels], 1)).astype(np.uint8)
    return colours


_PALETTE = _palette()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)  # takes a third of the default's time
    return buffer.getvalue()
