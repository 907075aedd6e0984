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
from itertools import chain
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, C)
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
        """Start the thread; needs a running event loop.

        Args:
            predict: computes images (N, H, W, C) and returns a row for each.
            capacity: most images that may wait.
            on_batch: called with the number of images of each call of the network.
            clock: clock in seconds, for `Output`.
            initializer: called in the thread when it starts.
        """
        self._predict, self._max_batch, self._capacity = predict, max_batch, capacity
        self._on_batch, self._clock = on_batch, clock
        self._queue: deque[QueuedImage[Row]] = deque()
        self._computing: list[QueuedImage[Row]] = []  # the batch in the thread
        self._seconds_per_image = math.inf
        self._is_dispatching = False  # soon
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference", initializer=initializer)

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
        now = self._clock()
        queued = [QueuedImage(image, self._loop.create_future(), now) for image in images]
        self._queue += queued
        if not self._is_dispatching:
            self._is_dispatching = True
            self._loop.call_soon(self._dispatch_queued)  # with the other images of this turn
        return [each.future for each in queued]

    async def close(self) -> None:
        """Stop the thread and cancel the futures of all images. Call it once."""
        for queued in chain(self._queue, self._computing):
            queued.future.cancel()
        self._queue.clear()
        self._thread.shutdown()

    def _dispatch_queued(self) -> None:
        self._is_dispatching = False
        if not self._computing:
            self._dispatch(in_place=True)

    def _dispatch(self, in_place: bool) -> None:
        """Compute the next batch, if images wait.

        Args:
            in_place: no answers wait for this call to end, so it may compute a lone image itself.
        """
        batch = self._take()
        if not batch:
            return
        self._on_batch(len(batch))
        if in_place and len(batch) == 1 and self._seconds_per_image <= IN_PLACE_SECONDS:
            self._answer(batch, *self._compute(batch))
        else:
            self._computing = batch
            self._thread.submit(self._compute_in_thread, batch)

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

    def _compute_in_thread(self, batch: list[QueuedImage[Row]]) -> None:
        self._loop.call_soon_threadsafe(self._finish, batch, *self._compute(batch))

    def _compute(self, batch: Sequence[QueuedImage[Row]]) -> tuple[Sequence[Row] | Exception, float, float]:
        """Return the rows or what the network raised, and when it began and ended."""
        began = self._clock()
        try:
            return self._predict(np.stack([queued.image for queued in batch])), began, self._clock()
        except Exception as error:  # noqa: BLE001 every error must reach the callers
            return error, began, self._clock()

    def _finish(
        self, batch: list[QueuedImage[Row]], rows: Sequence[Row] | Exception, began: float, ended: float
    ) -> None:
        self._computing = []
        self._dispatch(in_place=False)  # first, so that the network computes while the event loop answers
        self._answer(batch, rows, began, ended)

    def _answer(
        self, batch: Sequence[QueuedImage[Row]], rows: Sequence[Row] | Exception, began: float, ended: float
    ) -> None:
        waiting = [queued for queued in batch if not queued.future.done()]
        if isinstance(rows, Exception):
            for queued in waiting:
                queued.future.set_exception(rows)
            return
        self._seconds_per_image = (ended - began) / len(batch)
        for queued, row in zip(batch, rows, strict=True):
            if not queued.future.done():
                queued.future.set_result(Output(row, (queued.since, began), (began, ended), len(batch)))
