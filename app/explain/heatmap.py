"""Draws PNG files: the network's input, the heatmap of a saliency map, and the heatmap over the input.

Knows arrays and PNG, but nothing about the network or HTTP.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.explain.saliency import Floats

PICTURE_SIDE = 256  # side of a heatmap, in pixels
OPACITY = 0.75  # of the hottest pixel; the image below stays recognisable
# Matplotlib's "inferno" (Smith and van der Walt, 2015, CC0) from 0.3 up: its lightness rises evenly, also for the
# colour-blind. The darker colours below 0.3 would only blacken a photo.
COLOURS = np.array([(101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164)])


def draw_pixels(seen: NDArray[np.uint8]) -> bytes:
    """Draw the pixels (H, W, 3) unchanged."""
    return _png(Image.fromarray(seen))


def draw_heatmap(saliency: Floats) -> bytes:
    """Draw the map (32, 32) alone, as 256×256 RGBA; the less a pixel matters, the more transparent it is."""
    return _png(_heatmap(saliency))


def draw_overlay(seen: NDArray[np.uint8], saliency: Floats) -> bytes:
    """Draw the map (32, 32) over the pixels (32, 32, 3), as 256×256 RGB."""
    # Grey pixels leave all colour to the map; enlarging them without smoothing shows how few the network sees.
    picture = (
        Image.fromarray(seen).convert("L").resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.NEAREST).convert("RGB")
    )
    heatmap = _heatmap(saliency)
    picture.paste(heatmap, mask=heatmap)
    return _png(picture)


def _heatmap(saliency: Floats) -> Image.Image:
    large = Image.fromarray(saliency).resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BICUBIC)
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
