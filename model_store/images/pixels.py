"""Stored numbers to colours: alpha, transparent colours, polarity and bit depth, as an image file's tags define them.

docs/reliability.md compares the results with another decoder's.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from model_store.manifest import ChannelOrder

TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_FILL_ORDER, TIFF_PLANES, TIFF_EXTRA_SAMPLES = 258, 262, 266, 284, 338
WHITE_IS_ZERO = 0  # a photometric interpretation
SEPARATE = 2  # planes
REVERSED = 2  # fill order
SIXTEEN_BITS_TO_EIGHT = np.rint(np.arange(65_536) / 257).astype(np.uint8)
PNG_SCALE = {"L;2": 85, "L;4": 17}  # Pillow scales pixels of 2 and 4 bits to 8, but not their transparent colour


def can_read_planes(image: ImageFile.ImageFile) -> bool:
    """Tell whether a TIFF's channels lie together, or apart (PlanarConfiguration 2) where Pillow gets them right."""
    if _tag(image, TIFF_PLANES) != SEPARATE or image.mode in ("1", "L", "P"):
        return True
    by_pillow = image.tile[0].codec_name == "raw"  # not by libtiff, which reads compressed and tiled files
    mixed_up = _tag(image, TIFF_FILL_ORDER) == REVERSED or (by_pillow and _tag(image, TIFF_BITS) != 8)
    return image.mode in ("RGB", "RGBA", "CMYK") and not mixed_up


def averageable(image: ImageFile.ImageFile) -> Image.Image:
    """Decode the pixels into a mode that can be averaged: no palette indices, bits or inks.

    The mode is L, LA, RGB, RGBA, or for grey of more than 8 bits I;16, I or F.
    """
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    raw_mode = _raw_mode(image)
    if image.mode.startswith("I;16"):
        return _sixteen_bits(image, raw_mode)
    if image.mode in ("I", "F"):
        return Image.fromarray(-np.asarray(image)) if _white_is_zero(image) else image
    if image.mode in ("LA", "RGBA"):
        return image.convert("RGB") if _fourth_sample_is_unused(image) else image
    if image.mode == "La":
        return image.convert("LA")
    if image.format == "PNG" and "transparency" in image.info:
        image.info["transparency"] = _transparent_colour(image.info["transparency"], image.mode, raw_mode)
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a small averageable image to RGB: transparency over white, more than 8 bits scaled to 8."""
    if image.mode in ("LA", "RGBA"):
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, (0, 0), image)
        return white
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    return image if image.mode == "RGB" else image.convert("RGB")


def to_image(pixels: NDArray[np.uint8], channel_order: ChannelOrder) -> Image.Image:
    """Make an RGB or grey image of a network's input (H, W, C)."""
    if pixels.shape[2] == 1:
        return Image.fromarray(pixels[..., 0])
    return Image.fromarray(pixels if channel_order == "RGB" else pixels[..., ::-1])


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Layout of the samples in the file, in Pillow's words; only known before they are decoded."""
    arguments = image.tile[0].args if image.tile else ""
    layout = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return layout if isinstance(layout, str) else ""


def _tag(image: ImageFile.ImageFile, tag: int) -> object:
    """First value of a TIFF's tag, or None."""
    if image.format != "TIFF":
        return None
    value = image.tag_v2.get(tag)  # type: ignore[attr-defined]
    return value[0] if isinstance(value, tuple) and value else value


def _white_is_zero(image: ImageFile.ImageFile) -> bool:
    """Tell a TIFF whose lightest pixels have the smallest numbers. Pillow inverts them up to 8 bits only."""
    return _tag(image, TIFF_PHOTOMETRIC) == WHITE_IS_ZERO


def _fourth_sample_is_unused(image: ImageFile.ImageFile) -> bool:
    """Tell an image that would be invisible because its writer left the bytes beside RGB zero, as Windows does.

    In other types, and in a TIFF that declares its fourth sample as alpha, zero everywhere means invisible.
    """
    may_be_unused = image.format == "BMP" or (image.format == "TIFF" and _tag(image, TIFF_EXTRA_SAMPLES) is None)
    return may_be_unused and image.getbbox(alpha_only=True) is None


def _sixteen_bits(image: ImageFile.ImageFile, raw_mode: str) -> Image.Image:
    """Decode grey of 12 or 16 bits to I;16 in this machine's byte order: Pillow cannot resize the other one."""
    if image.mode == "I;16" and raw_mode != "I;12" and not _white_is_zero(image) and "transparency" not in image.info:
        return image
    values: NDArray[np.uint16] = np.asarray(image).astype(np.uint16, copy=False)
    if raw_mode == "I;12":
        values = (values << 4 | values >> 8).astype(np.uint16)
    if _white_is_zero(image):
        values = ~values
    if "transparency" not in image.info:
        return Image.fromarray(values)
    grey = Image.fromarray(_eight_bits(values))
    grey.putalpha(Image.fromarray(np.where(values == image.info["transparency"], np.uint8(0), np.uint8(255))))
    return grey


def _transparent_colour(colour: object, mode: str, raw_mode: str) -> object:
    """Scale a PNG's transparent colour as Pillow scales its pixels.

    Of a colour with 16 bits a channel only the upper 8 count, as Pillow drops the others from the pixels.
    """
    if mode == "RGB" and isinstance(colour, tuple):
        return tuple(channel >> 8 if raw_mode == "RGB;16B" else channel & 255 for channel in colour)
    if mode == "L" and isinstance(colour, int):
        scale = PNG_SCALE.get(raw_mode, 1)
        return (colour * scale) & 255 if scale == 1 else (colour & 255 // scale) * scale
    return colour


def _eight_bits(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale (H, W) uint16 by its full range, int32 and float32 by the range in use; NaN and infinities count as 0."""
    if grey.dtype.itemsize == 2:
        return np.take(SIXTEEN_BITS_TO_EIGHT, grey.astype(np.uint16, copy=False))
    with np.errstate(invalid="ignore"):
        values = np.where(np.isfinite(grey), grey, 0).astype(np.float64)
    low, high = values.min(), values.max()
    scaled: NDArray[np.float64] = (values - low) / ((high - low) or 1) * 255
    return np.rint(scaled).astype(np.uint8)
