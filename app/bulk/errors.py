"""Error codes of single images, and the exception that ends a run."""

from typing import NamedTuple

from model_store.errors import ImageError, OutOfMemory, UnsupportedImage

# code -> meaning; docs/scale.md has the same table.
CODES = {
    "unsupported_image": "The bytes are not an image in a supported format.",
    "unusable_image": "The image is truncated or damaged, or has too many pixels or frames.",
    "out_of_memory": "The image takes more memory than the process gets.",
    "too_large": "The image has more bytes than CIFAR10_MAX_BODY_BYTES.",
    "no_image": "The cell of the Parquet file is null.",
    "address_not_fetched": "The cell of the Parquet file is an address, or a path in a Parquet file of a bucket.",
    "unreadable": "The file, folder or member cannot be read.",
    "damaged_source": "The archive or Parquet file is damaged from here on, or is of another type.",
    "no_image_column": "The Parquet file lacks the column, or the column has neither bytes nor paths.",
}


class BulkError(Exception):
    """The run cannot start or continue. The text says why and what to do."""


class Rejection(NamedTuple):
    """Why there is no prediction for an image: one of CODES, and a sentence."""

    code: str
    detail: str


def rejection_from_error(error: ImageError) -> Rejection:
    """Convert an error of `decode`."""
    match error:
        case UnsupportedImage():
            return Rejection("unsupported_image", str(error))
        case OutOfMemory():
            return Rejection("out_of_memory", str(error))
        case _:
            return Rejection("unusable_image", str(error))


def too_large(max_bytes: int) -> Rejection:
    """Reject an image of more than `max_bytes` bytes."""
    detail = f"the image has more than {max_bytes:,} bytes, the limit that CIFAR10_MAX_BODY_BYTES sets"
    return Rejection("too_large", detail)
