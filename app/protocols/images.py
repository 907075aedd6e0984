"""Images in requests: tensors of pixels as JSON or bytes, and encoded images in base64.

Pixels are RGB or grey of 8 bits, or numbers from 0 to 1, which are rounded to 8 bits: the network takes uint8.
"""

import binascii
import math
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import Problem
from app.protocols.json_body import describe
from model_store.network.layers import Shape

Pixels = NDArray[np.uint8]  # (H, W, C)
# Base64 is decoded in pieces of whole groups of four characters, because decoding blocks all threads of the process.
PIECE_CHARACTERS = 262_144
SHOWN_DIMENSIONS = 6


def malformed(detail: str) -> Problem:
    """Make the problem of a request that is not as its protocol says."""
    return Problem("malformed_request", detail)


def check_count(count: int, max_images: int) -> None:
    """Refuse a request without images, or with too many.

    Raises:
        Problem: `count` is 0 or more than `max_images`.
    """
    if not count:
        raise malformed("the request has no images; send at least one")
    if count > max_images:
        detail = f"the request has {count:,} images, the limit is {max_images:,}"
        raise Problem("too_large", f"{detail}; send them in several requests")


def flatten(value: Any, shape: Shape) -> list[Any]:
    """Flatten nested lists of a shape, of any values.

    Raises:
        Problem: they have another shape.
    """
    level = [value]
    for size in shape:
        if not all(type(item) is list and len(item) == size for item in level):
            raise malformed(f"a tensor {nested_shape(value, shape)} was received; an image has the shape {list(shape)}")
        level = list(chain.from_iterable(level))
    return level


def nested_shape(value: Any, expected: Shape) -> str:
    """Describe the shape of nested lists, by the first items of each, that have not the expected shape."""
    sizes: list[int] = []
    while isinstance(value, list) and len(sizes) < SHOWN_DIMENSIONS:
        sizes.append(len(value))
        value = value[0] if value else None
    return f"of shape {sizes}" + " whose lists differ in length" * (sizes == list(expected))


def number_types(values: list[Any]) -> set[type]:
    """Return the types of numbers: `int`, `float` or both.

    Raises:
        Problem: a value is not a number.
    """
    types = set(map(type, values))
    if not types <= {int, float}:
        wrong = next(value for value in values if type(value) not in (int, float))
        raise malformed(f"a pixel is {describe(wrong)}; send numbers")
    return types


def pixels_from_integers(values: list[int], shape: Shape) -> Pixels:
    """Convert flat pixels from 0 to 255.

    Raises:
        Problem: one is outside that range.
    """
    try:
        return np.frombuffer(bytes(values), np.uint8).reshape(shape)
    except ValueError:
        received = f"pixels from {describe_number(min(values))} to {describe_number(max(values))}"
        raise malformed(f"{received} were received; whole numbers must be from 0 to 255") from None


def pixels_from_fractions(values: list[float] | NDArray[np.float32], shape: Shape) -> Pixels:
    """Convert flat pixels from 0 to 1, rounded to 8 bits.

    Raises:
        Problem: one is outside that range, or not a number.
    """
    fractions = np.asarray(values, np.float64)
    lowest, highest = float(fractions.min()), float(fractions.max())  # NaN if one is
    if not (lowest >= 0 and highest <= 1):
        if np.isnan(lowest):
            raise malformed("pixels that are NaN were received; send numbers from 0 to 1")
        remedy = "divide them by 255" if lowest >= 0 and highest <= 255 else "undo the normalisation"
        detail = f"pixels from {lowest:.6g} to {highest:.6g} were received; floating-point pixels must be from 0 to 1"
        raise malformed(f"{detail}: {remedy}, or send 8-bit pixels as whole numbers")
    return np.rint(fractions * 255).astype(np.uint8).reshape(shape)


def describe_number(value: float) -> str:
    """Write a number in at most about 20 characters."""
    return str(value) if abs(value) < 1e15 else f"{value:.3e}"


def split_flat(values: Any, count: int, shape: Shape) -> list[list[Any]]:
    """Split data into `count` images' flat values: nested lists of shape (count, *shape), or one flat list.

    Raises:
        Problem: it has another length or shape.
    """
    if not isinstance(values, list):
        raise malformed(f"data is {describe(values)}; send a list of numbers")
    if values and isinstance(values[0], list):
        if len(values) != count:
            raise malformed(f"data has {len(values):,} images, but the shape says {count:,}; make them equal")
        return [flatten(value, shape) for value in values]
    size = math.prod(shape)
    if len(values) != count * size:
        expected = f"{count * size:,} for {count} image{'s' * (count > 1)} of shape {list(shape)}"
        raise malformed(f"data has {len(values):,} values, not {expected}")
    return [values[start : start + size] for start in range(0, len(values), size)]


def decode_base64(text: Any) -> bytes:
    """Decode an encoded image in standard base64; line breaks are ignored.

    Raises:
        Problem: it is not a string in base64.
    """
    if not isinstance(text, str):
        raise malformed(f"the base64 of an image is {describe(text)}; send a string")
    try:
        return _decode_pieces(text)
    except (binascii.Error, ValueError):
        pass
    try:
        return _decode_pieces("".join(text.split()))
    except (binascii.Error, ValueError) as error:
        remedy = "send the bytes of an image file, encoded with + and / and padded with ="
        if text.startswith("data:"):
            remedy = "leave out everything up to the comma of a data: URL"
        raise malformed(f"{describe(text)} is not base64 ({error}); {remedy}") from None


def _decode_pieces(text: str) -> bytes:
    pieces = [text[start : start + PIECE_CHARACTERS] for start in range(0, len(text), PIECE_CHARACTERS)]
    return b"".join([binascii.a2b_base64(piece, strict_mode=True) for piece in pieces])
