"""Draws saliency as PNG files: the pixels, the heatmap, and the heatmap over the pixels.

Knows arrays and PNG; nothing of the network or HTTP.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.explain.saliency import Floats

PICTURE_SIDE = 256  # of the drawings, in pixels
OPACITY = 0.75  # of the hottest pixel: the image under it stays recognisable
# Matplotlib's "inferno" (Smith and van der Walt, 2015, CC0) from 0.3 up: lighter evenly as it grows, also for those who
# do not see all colours. Its dark beginning would only blacken a photo.
COLOURS = np.array([(101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164)])


def draw_pixels(seen: NDArray[np.uint8]) -> bytes:
    """Draw the pixels (H, W, 3) themselves."""
    return _png(Image.fromarray(seen))


def draw_heatmap(saliency: Floats) -> bytes:
    """Draw the map (32, 32) alone, 256×256 RGBA; pixels that matter less are more transparent."""
    return _png(_heatmap(saliency))


def draw_overlay(seen: NDArray[np.uint8], saliency: Floats) -> bytes:
    """Draw the map (32, 32) over the pixels (32, 32, 3), 256×256 RGB."""
    # In grey, so that every colour is the map's; enlarged without smoothing, so that nobody takes it for a photo.
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
    """RGBA (256, 4) for every level."""
    levels, knots = np.linspace(0, 1, 256), np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(levels, knots, channel) for channel in COLOURS.T]
    colours: NDArray[np.uint8] = np.rint(np.stack([*channels, 255 * OPACITY * levels], 1)).astype(np.uint8)
    return colours


_PALETTE = _palette()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)  # a third of the default's time
    return buffer.getvalue()
