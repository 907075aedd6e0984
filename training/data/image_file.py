"""Read an image file for the jobs: decoded as in the service, and HEIC as well if pillow-heif is installed.

pillow-heif is no dependency, because its libraries have licences of their own; the service does not read HEIC.
"""

import hashlib
import io
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_store.errors import ImageError, UnsupportedImage, UnusableImage
from model_store.images.decode import decode
from model_store.images.formats import HEIC, check_size
from model_store.manifest import UNNORMALISED, Preprocessing

MAX_BYTES = 32_000_000
HEIF_ERRORS = OSError, EOFError, RuntimeError, SyntaxError, ValueError  # what pillow-heif raises on damaged bytes


class EmptyFile(UnsupportedImage):
    """The file has no bytes."""


class HeicUnavailable(UnsupportedImage):
    """The file is HEIC, and pillow-heif is not installed."""


def skip_reason(error: ImageError | OSError) -> str:
    """Return the reason for skipping the file that raised this error, as a plural for `Skipped`."""
    match error:
        case EmptyFile():
            return "empty files"
        case HeicUnavailable():
            return "HEIC photos, which can be read after `pip install pillow-heif`"
        case UnsupportedImage():
            return "files that are not images of an accepted type"
        case ImageError():
            return "images that are damaged or over a limit"
        case OSError():
            return "files that cannot be read"


def problem(error: ImageError) -> str:
    """Return the problem without the remedy, which addresses the sender of an upload."""
    return str(error).partition(";")[0]


def read_image_file(path: Path) -> bytes:
    """Read a file of up to 32 MB, the service's default limit.

    Raises:
        UnusableImage: it is larger.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UnusableImage(f"it has more than {MAX_BYTES:,} bytes")
    return data


def read_training_image(path: Path, preprocessing: Preprocessing = UNNORMALISED) -> tuple[str, NDArray[np.uint8]]:
    """Return the SHA-256 of a file and its pixels (H, W, 3) RGB, of the size that a network takes.

    Raises:
        ImageError: the file is no image that can be used; `skip_reason` says why.
    """
    data = read_image_file(path)
    if not data:
        raise EmptyFile("it has no bytes")
    return hashlib.sha256(data).hexdigest(), decode_with_heic(data, preprocessing.as_rgb)


def decode_with_heic(data: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Decode an image file as the service does, and HEIC as well if pillow-heif is installed.

    Raises:
        ImageError: the bytes are no image that can be used; `skip_reason` says why.
    """
    try:
        return decode(data, preprocessing)
    except UnsupportedImage:
        if not re.match(HEIC, data):
            raise
    return decode(_heic_to_png(data), preprocessing)


def _heic_to_png(data: bytes) -> bytes:
    """Convert the main picture, turned upright, to an uncompressed PNG."""
    try:
        import pillow_heif
    except ImportError:
        raise HeicUnavailable("pillow-heif is not installed") from None
    png = io.BytesIO()
    try:
        heic = pillow_heif.open_heif(data)
        check_size(*heic.size)  # before any pixel is decoded
        heic.to_pillow().save(png, "PNG", compress_level=0)
    except HEIF_ERRORS:
        raise UnusableImage("the HEIC file ends early or is damaged") from None
    return png.getvalue()
