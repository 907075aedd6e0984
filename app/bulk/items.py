"""One image of a source, before it is decoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from app.bulk.errors import Rejection, too_large
from app.bulk.places import Place

Wanted: TypeAlias = Callable[[str], bool]  # called with every id, in order, before the image is read


class Item(NamedTuple):
    """An image's id and its bytes, the place to read them from, or why there are none."""

    id: str
    content: bytes | Place | Rejection
    is_optional: bool = False  # found in a folder or archive under another name than an image's: may be something else


Chunk: TypeAlias = Sequence[Item]  # what a process is given at a time


@dataclass(frozen=True)
class Reading:
    """How sources are read."""

    max_bytes: int  # of an image
    column: str | None = None  # of images in Parquet files; None for the only one that can be
    id_column: str | None = None


def bounded(data: bytes, max_bytes: int) -> bytes | Rejection:
    """Return bytes of an image, or a rejection if there are too many."""
    return data if len(data) <= max_bytes else too_large(max_bytes)
