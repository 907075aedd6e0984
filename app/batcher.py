"""Dynamic batching: combines the images of concurrent callers into one call of the network at a time.

As soon as the network is free, it gets the largest power of two of the waiting images, up to a maximum. No timer is
needed: an idle service adds no delay, and under load batches form while the network is busy. Knows arrays, capacity
and cancellation, but nothing about HTTP, models or processes.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (32, 32, 3)
Row = TypeVar("Row")  # the network's output for one image
# A single image is computed in the event loop's thread if the last batch took at most this long per image: handing it
# to another thread and back costs a twentieth of a request's time, and more where cores are scarce.
IN_PLACE_SECONDS = 0.005


class Output(NamedTuple, Generic[Row]):
    """The network's output for one image, and its timings."""

    row: Row
    queued: tuple[float, float]  # when its time in the queue began and ended
    inferred: tuple[float, float]  # when the call of the network began and ended
    batch_images: int  # in that call


class QueuedImage(NamedTuple, Generic[Row]):
    """An image that waits for the network."""

    image: Image
    future: "asyncio.Future[Output[Row]]"
    since: float


class QueueFullError(Exception):
    """The queue is full; with more images in it, the wait would be too long."""


class Batcher(Generic[Row]):
    """A bounded queue in front of the network, which computes one batch at a time in its own thread.

    A single image is computed in the event loop's thread if that is quick.
    """

    def __init__(
        self,
        predict: Callable[[Image], Sequence[Row]],
        max_batch: int,
        capacity: int,
        on_batch: Callable[[int], None] = lambda images: None,
        clock: Callable[[], float] = time.perf_counter,
        initializer: Callable[[], None] | None = None,
    ) -> None:
        """Start the queue; needs a running event loop.

        Args:
            predict: maps uint8 (N, 32, 32, 3) to N rows; never called concurrently.
            max_batch: largest N.
            capacity: maximum number of images in the queue.
            on_batch: called with the size of each batch.
            clock: clock in seconds, for the timings in the outputs.
            initializer: called in the network's thread when it starts.
        """
        self._predict, self._max_batch, self._capacity, self._on_batch = predict, max_batch, capacity, on_batch
        self._clock = clock
        self._queue: deque[QueuedImage[Row]] = deque()
        self._arrived = asyncio.Event()
        self._seconds_per_image = math.inf
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference", initializer=initializer)
        self._task = asyncio.create_task(self._run())

    @property
    def waiting(self) -> int:
        """The number of images in the queue."""
        return len(self._queue)

    async def submit(self, image: Image) -> Output[Row]:
        """Compute one image.

        Raises:
            QueueFullError: the queue is full.
        """
        (future,) = self.enqueue([image])
        return await future

    async def submit_all(self, images: Sequence[Image]) -> list[Output[Row]]:
        """Compute several images and return their outputs in the same order.

        Raises:
            QueueFullError: the queue has too little room for all of them, so none was queued.
        """
        futures = self.enqueue(images)
        try:
            return [await future for future in futures]
        finally:
            for future in futures:
                future.cancel()  # after an error the caller wants none of them; no effect on finished ones

    def enqueue(self, images: Sequence[Image]) -> list[asyncio.Future[Output[Row]]]:
        """Queue several images. Cancelling a future removes its image from the queue.

        Raises:
            QueueFullError: the queue has too little room for all of them, so none was queued.
        """
        if len(self._queue) + len(images) > self._capacity:
            raise QueueFullError(f"{len(self._queue)} images are waiting, the limit is {self._capacity}")
        loop, now = asyncio.get_running_loop(), self._clock()
        futures: list[asyncio.Future[Output[Row]]] = [loop.create_future() for _ in images]
        self._queue.extend(QueuedImage(image, future, now) for image, future in zip(images, futures, strict=True))
        self._arrived.set()
        return futures

    async def close(self) -> None:
        """Stop the network's thread and cancel the futures of all queued images. Call it once."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        del self._task  # its traceback leads back here: without this cycle, the network's memory is returned at once
        for queued in self._queue:
            queued.future.cancel()
        self._thread.shutdown()

    async def _run(self) -> None:
        while True:
            idle = not self._arrived.is_set()
            await self._arrived.wait()
            if not await self._compute_next(idle):
                self._arrived.clear()

    async def _compute_next(self, idle: bool) -> bool:
        """Compute one batch and return True, or return False if the queue is empty.

        `idle` says that the network was idle when the first image arrived.
        """
        batch = self._take()
        if not batch:
            return False
        self._on_batch(len(batch))
        images, began = np.stack([queued.image for queued in batch]), self._clock()
        try:
            if idle and len(batch) == 1 and self._seconds_per_image <= IN_PLACE_SECONDS:
                rows = self._predict(images)
            else:
                rows = await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, images)
        except asyncio.CancelledError:
            for queued in batch:
                queued.future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 every error must reach the callers
            _fail(batch, error)
            return True
        ended = self._clock()
        self._seconds_per_image = (ended - began) / len(batch)
        for queued, row in zip(batch, rows, strict=True):
            if not queued.future.done():
                queued.future.set_result(Output(row, (queued.since, began), (began, ended), len(batch)))
        return True

    def _take(self) -> list[QueuedImage[Row]]:
        """Take up to `max_batch` images from the queue, skipping those whose callers are gone.

        The number is rounded down to a power of two, and the rest wait for the next batch: OpenVINO compiles kernels
        for every batch size, which takes 10 to 30 ms and keeps 2 MB.
        """
        batch: list[QueuedImage[Row]] = []
        while self._queue and len(batch) < self._max_batch:
            queued = self._queue.popleft()
            if not queued.future.done():
                batch.append(queued)
        size = 1 << len(batch).bit_length() >> 1
        self._queue.extendleft(reversed(batch[size:]))
        return batch[:size]


def _fail(batch: Sequence[QueuedImage[Row]], error: Exception) -> None:
    for queued in batch:
        if not queued.future.done():
            queued.future.set_exception(error)
