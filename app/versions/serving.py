"""A loaded version that answers requests: decode, queue, explain, and count for drift. Knows nothing about HTTP."""

import asyncio
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.admission import BODY_COPIES, Admission, ImageMemory
from app.batcher import Batcher, Output, QueueFullError
from app.decoders import Decoders
from app.explain.explainer import CHUNK, Explainer, Explanation
from app.explain.saliency import Masks
from app.monitoring.drift import Drift
from app.monitoring.metrics import Metrics
from app.monitoring.stages import Stages
from app.prediction import Prediction, predict_each
from app.process.core_share import CoreShare
from app.process.cores import give_way
from model_store.errors import ImageError, UnusableImage
from model_store.images.decode import Encoded, read_header
from model_store.manifest import Preprocessing
from model_store.version import Loaded

Source: TypeAlias = bytes | NDArray[np.uint8]  # an encoded image, or its pixels (H, W, C), RGB or grey
# Images up to these sizes decode in about a millisecond, which is less than it costs to hand them to another thread and
# back. JPEGs may be larger, since they are decoded at a reduced scale; but with this many requests in flight, even a
# millisecond for each delays the refusal of further requests.
SMALL_BYTES = 65_536
SMALL_PIXELS, SMALL_JPEG_PIXELS, BUSY_REQUESTS = 96 * 96, 640 * 480, 32
SMALL_STRETCHED_PIXELS = 256 * 256  # between the steps of resizing
# Images in one call of the network. Over HTTP, larger calls gain nothing (docs/performance.md, "Images in one call"),
# and they delay requests that arrive meanwhile. OpenVINO keeps 2 MB of kernels for each batch size.
MAX_BATCH = 32


class Serving:
    """A loaded version with its queue, explainer and drift; answers requests."""

    def __init__(
        self,
        loaded: Loaded,
        masks: Masks,
        max_waiting_images: int,
        max_wait_seconds: float,
        metrics: Metrics,
        metrics_directory: Path | None,
        admission: Admission,
        memory: ImageMemory,
        decoders: Decoders,
        share: CoreShare,
    ) -> None:
        """Start the queue; needs a running event loop.

        Args:
            max_wait_seconds: how long an explanation may wait for others.
        """
        self.loaded, self._admission, self._memory, self._decoders = loaded, admission, memory, decoders
        is_watched = loaded.manifest.reference is not None
        self.model = loaded.manifest.name, str(loaded.manifest.version)
        self.drift = Drift(loaded.manifest, metrics_directory)
        self._preprocessing = loaded.manifest.preprocessing
        self._max_batch = min(MAX_BATCH, loaded.classifier.max_batch)
        self.documents: dict[str, str] = {}  # about the version, by name, once rendered
        self._batcher = Batcher(
            lambda images: predict_each(loaded.classifier, images, share.has_all(), is_watched),
            self._max_batch,
            max_waiting_images,
            partial(metrics.observe_batch, self.model),
            initializer=give_way,
        )
        self._explainer = Explainer(
            self._batcher, masks, max_wait_seconds, min(CHUNK, self._max_batch, max_waiting_images)
        )
        self._max_waiting_images, self._batched = max_waiting_images, 0  # images of batches in progress
        self._requests, self._unused = 0, asyncio.Event()

    @property
    def waiting_images(self) -> int:
        """The number of images that wait for the network."""
        return self._batcher.waiting

    def begin_request(self) -> None:
        """Keep the version in memory for a request, until `end_request`, even if another takes its place meanwhile."""
        self._requests += 1
        self._unused.clear()

    def end_request(self) -> None:
        """End a request that uses this version."""
        self._requests -= 1
        if not self._requests:
            self._unused.set()

    async def retire(self) -> None:
        """Wait for the requests that use this version, then close it."""
        if self._requests:
            await self._unused.wait()
        await self.close()

    async def close(self) -> None:
        """Stop the queue and release the drift counts."""
        await self._batcher.close()
        self.drift.close()

    async def predict(self, source: Source, stages: Stages) -> Prediction:
        """Predict one image, and store when each stage began and ended in `stages`.

        Raises:
            ImageError: the bytes are not a usable image.
            QueueFullError: too many images are waiting.
        """
        row, _ = await self.predict_seen(source, stages)
        return row

    async def predict_seen(self, source: Source, stages: Stages) -> tuple[Prediction, NDArray[np.uint8]]:
        """Predict one image like `predict`, and return its pixels (H, W, C) as the network saw them as well."""
        began = time.perf_counter()
        with self._admission.backlog:
            image = await self._decode(source)
            stages["decode"] = began, time.perf_counter()
            row, stages["queue"], stages["infer"], stages.batch_images = await self._batcher.submit(image)
        self.drift.add([row])
        return row, image

    async def predict_all(self, sources: Sequence[Source], stages: Stages) -> list[Prediction | ImageError]:
        """Predict several images; an unusable one gets an error in its place and does not affect the others.

        Raises:
            QueueFullError: too many images are waiting.
            Problem: the memory for their pixels is taken by other images.
        """
        with self._memory.reserve() as reservation:
            reservation.grow(len(sources) * math.prod(self._preprocessing.shape))
            return await self._predict_all(sources, stages)

    async def _predict_all(self, sources: Sequence[Source], stages: Stages) -> list[Prediction | ImageError]:
        decoded: list[NDArray[np.uint8] | ImageError] = []
        futures: list[asyncio.Future[Output[Prediction]]] = []
        began = time.perf_counter()
        self._begin_batch(len(sources))
        try:
            for start in range(0, len(sources), self._max_batch):  # decodes a part while the network computes the last
                part = await self._decode_all(sources[start : start + self._max_batch])
                stages["decode"] = began, time.perf_counter()
                decoded += part
                futures += self._batcher.enqueue(_images(part))
                await asyncio.sleep(0)  # for the network to begin, and for other requests
            outputs = [await future for future in futures]
        finally:
            self._batched -= len(sources)
            for future in futures:
                future.cancel()  # no effect on finished ones
        if outputs:  # report the last image, which was queued when decoding ended
            _, stages["queue"], stages["infer"], stages.batch_images = outputs[-1]
        rows = [output.row for output in outputs]
        self.drift.add(rows)
        remaining = iter(rows)
        return [image if isinstance(image, ImageError) else next(remaining) for image in decoded]

    def _begin_batch(self, count: int) -> None:
        """Count the images of a batch, which are queued part by part, before the first part.

        Otherwise batches that together fill the queue would all be refused half-way, and none be answered.
        """
        if self._batched and self._batched + count > self._max_waiting_images:
            waiting = f"batches of {self._batched} images are in progress"
            raise QueueFullError(f"{waiting}, the limit is {self._max_waiting_images}")
        self._batched += count

    async def explain(self, source: Source, index: int | None, stages: Stages, client: str = "") -> Explanation:
        """Explain the class `index`, by default the most probable one, for an image.

        Raises:
            ImageError: the bytes are not a usable image.
            QueueFullError: too many images are waiting.
        """
        began = time.perf_counter()
        image = await self._decode(source)
        decoded = time.perf_counter()
        stages["decode"] = began, decoded
        explanation = await self._explainer.explain(image, index, client)
        stages["explain"] = decoded, time.perf_counter()
        return explanation

    async def _decode(self, source: Source) -> NDArray[np.uint8]:
        pixels = self._decode_in_place(source)
        return await self._decode_in_thread(pixels) if isinstance(pixels, Large) else pixels

    def _decode_in_place(self, source: Source) -> "NDArray[np.uint8] | Large":
        """Decode an image that takes about a millisecond at most."""
        if isinstance(source, np.ndarray):
            return self._in_channel_order(source)
        if len(source) > SMALL_BYTES:
            return Large(source)
        image = read_header(source)
        busy = self._admission.requests >= BUSY_REQUESTS
        small = SMALL_JPEG_PIXELS if image.is_reduced(self._preprocessing) and not busy else SMALL_PIXELS
        if image.pixels > small or image.stretched_pixels(self._preprocessing) > SMALL_STRETCHED_PIXELS:
            return Large(source, image)
        return image.decode(self._preprocessing)

    def _in_channel_order(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn a client's pixels into the network's.

        Raises:
            UnusableImage: they were read for another version, whose images have another shape.
        """
        if pixels.shape != self._preprocessing.shape:
            received = f"the image has the shape {list(pixels.shape)}, and the version in service has just changed"
            raise UnusableImage(f"{received}; send the shape {list(self._preprocessing.shape)}")
        return pixels[..., ::-1] if self._preprocessing.channel_order == "BGR" else pixels

    async def _decode_in_thread(self, large: "Large") -> NDArray[np.uint8]:
        return await self._decoders.run(decode_large, self._memory, large.data, self._preprocessing, large.image)

    async def _decode_all(self, sources: Sequence[Source]) -> list[NDArray[np.uint8] | ImageError]:
        """Decode the large ones in threads at the same time, and the small ones without a task for each."""
        decoded: list[NDArray[np.uint8] | Large | ImageError] = []
        for source in sources:
            try:
                decoded.append(self._decode_in_place(source))
            except ImageError as error:
                decoded.append(error)
        larges = [image for image in decoded if isinstance(image, Large)]
        pixels = iter(await asyncio.gather(*map(self._decode_or_error, larges)))
        return [next(pixels) if isinstance(image, Large) else image for image in decoded]

    async def _decode_or_error(self, large: "Large") -> NDArray[np.uint8] | ImageError:
        try:
            return await self._decode_in_thread(large)
        except ImageError as error:
            return error


class Large(NamedTuple):
    """An image for a decoder's thread; its header is read if it has few bytes."""

    data: bytes
    image: Encoded | None = None


def decode_large(
    memory: ImageMemory, data: bytes, preprocessing: Preprocessing, image: Encoded | None = None
) -> NDArray[np.uint8]:
    """Decode an image within the memory; smaller ones, which decode in the event loop, take too little to count.

    Raises:
        ImageError: the bytes are not a usable image, or their pixels take more memory than the process has.
        Problem: the memory is taken by other images.
    """
    image = image or read_header(data)
    size = image.peak_bytes(preprocessing)
    if size + BODY_COPIES * len(data) > memory.capacity:
        taken, capacity = size // 1_000_000, memory.capacity // 1_000_000
        received = f"decoding this {image.type} of {image.pixels:,} pixels takes {taken} MB"
        raise UnusableImage(f"{received}, and the server has {capacity} MB for images; resize it before uploading")
    with memory.reserve() as reservation:
        reservation.grow(size)
        return image.decode(preprocessing)


def _images(decoded: Sequence[NDArray[np.uint8] | ImageError]) -> list[NDArray[np.uint8]]:
    return [image for image in decoded if not isinstance(image, ImageError)]
