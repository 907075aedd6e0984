"""One core's work: the images of a chunk → rows."""

import itertools
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.bulk.answers import answer_batch, answer_schema
from app.bulk.errors import Rejection, rejection_from_error, too_large
from app.bulk.items import Item
from app.bulk.places import BucketPlace, Place, is_outage, outage
from app.offline.image_files import START_BYTES, starts_as_image
from app.prediction import Prediction, predict_each
from app.settings import Settings
from app.versions.loading import choose
from model_store.errors import ImageError
from model_store.images.decode import decode
from model_store.os_errors import reason, remedy

BATCH = 64  # images in one call of the network
READERS = 32  # files read at once, for storage that takes milliseconds to answer
# Read by every reader at once. One reader at a time reads the rest of a larger image, so that memory stays bounded.
READ_AHEAD_BYTES = 4_000_000

# Pixels (H, W, C), or None for a file in a folder or an archive that is not an image.
Decoded: TypeAlias = NDArray[np.uint8] | Rejection | None


class Answered(NamedTuple):
    """The rows of a chunk."""

    ids: list[str]  # of all its items, in order
    rows: pa.RecordBatch
    errors: Counter[str]  # rows by error code
    others: int  # items without a row


class Worker:
    """A loaded model on one thread, and the threads that read its images. Call it from one thread."""

    def __init__(self, settings: Settings) -> None:
        """Load the model.

        Raises:
            ModelError: it cannot be served.
        """
        self._loaded = choose(settings, threads=1).loaded
        self._schema = answer_schema(self._loaded.manifest.labels)
        self._max_bytes = settings.max_body_bytes
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="read")
        self._decoding = threading.Lock()

    def answer(self, items: Sequence[Item]) -> Answered:
        """Decode and classify the images of a chunk; those that are read from places are read ahead.

        Raises:
            BulkError: a bucket cannot be reached.
        """
        are_places = any(isinstance(item.content, Place) for item in items)
        decoded = self._readers.map(self._decode, items) if are_places else map(self._decode, items)
        ids, outcomes = list[str](), list[Prediction | Rejection]()
        pairs = zip(items, decoded, strict=True)
        while batch := [(item, image) for item, image in itertools.islice(pairs, BATCH) if image is not None]:
            ids += [item.id for item, _ in batch]
            outcomes += self._predict([image for _, image in batch])
        errors = Counter(outcome.code for outcome in outcomes if isinstance(outcome, Rejection))
        rows = answer_batch(self._loaded.manifest, self._schema, ids, outcomes)
        return Answered([item.id for item in items], rows, errors, len(items) - len(ids))

    def _predict(self, images: Sequence[NDArray[np.uint8] | Rejection]) -> list[Prediction | Rejection]:
        pixels = [image for image in images if not isinstance(image, Rejection)]
        predictions = iter(predict_each(self._loaded.classifier, np.stack(pixels)) if pixels else ())
        return [image if isinstance(image, Rejection) else next(predictions) for image in images]

    def _decode(self, item: Item) -> Decoded:
        if isinstance(item.content, Rejection):
            return item.content
        if isinstance(item.content, bytes):
            return self._pixels(item.content, item.is_optional)
        try:
            return self._read(item.content, item.is_optional)
        except OSError as error:
            if isinstance(item.content, BucketPlace) and is_outage(error):
                raise outage(item.content, error) from None
            return Rejection("unreadable", f"{reason(error)}; {remedy(error)}")

    def _read(self, place: Place, is_optional: bool) -> Decoded:
        with place.open() as file:
            data = file.read(START_BYTES if is_optional else READ_AHEAD_BYTES)
            if is_optional and not starts_as_image(data):
                return None
            data += file.read(READ_AHEAD_BYTES - len(data))
            with self._decoding:
                data += file.read(max(0, self._max_bytes + 1 - len(data)))
                return self._pixels(data, is_optional)

    def _pixels(self, data: bytes, is_optional: bool) -> Decoded:
        if is_optional and not starts_as_image(data[:START_BYTES]):
            return None
        if len(data) > self._max_bytes:
            return too_large(self._max_bytes)
        try:
            return decode(data, self._loaded.manifest.preprocessing)
        except ImageError as error:
            return rejection_from_error(error)


def start_worker(settings: Settings) -> None:
    """Prepare a process: it ends with its parent, however that ends."""
    global _worker  # a process has one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = Worker(settings)


def answer_chunk(items: Sequence[Item]) -> Answered:
    """Answer a chunk in a process that `start_worker` prepared."""
    return _worker.answer(items)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        wait([parent.sentinel])
        os._exit(1)


_worker: Worker
