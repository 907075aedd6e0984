"""Which files are images, and their names in Unicode."""

import os
from pathlib import Path

from model_store.errors import ImageError, UnsupportedImage
from model_store.images.decode import read_header

START_BYTES = 1024  # enough to recognise an image format
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff", ".heic", ".heif")


def is_image_name(name: str) -> bool:
    """Tell if a file's name ends like an image's."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def starts_as_image(start: bytes) -> bool:
    """Tell if a file's first START_BYTES are those of an image, damaged or not."""
    try:
        read_header(start)
    except UnsupportedImage:
        return False
    except ImageError:  # an image that is truncated here
        return True
    return True


def file_name(path: Path | str) -> str:
    """Decode a path to Unicode, with undecodable bytes in hexadecimal."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
