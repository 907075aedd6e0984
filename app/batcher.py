"""Many waiting callers → one call of the network at a time.

Takes whatever waits as soon as the network is free, up to a maximum: no timer, so an idle service adds no wait and a
busy one forms batches by itself. Knows arrays, capacity and cancellation; nothing of HTTP, images' origin or models.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (32, 32, 3)
Row = NDArray[np.float32]  # (K,)


class QueueFullError(Exception):
    """So many images are waiting already that these would wait too long."""


class Batcher:
    """A bounded queue in front of one inference thread."""

    def __init__(self, predict: Callable[[Image], Row], max_batch: int, capacity: int) -> None:
        """Start waiting for images; needs a running event loop.

        Args:
            predict: uint8 (N, 32, 32, 3) → float32 (N, K); called in a thread of its own, one call at a time.
            max_batch: the largest N.
            capacity: how many images may wait.
        """
        self._predict, self._max_batch, self._capacity = predict, max_batch, capacity
        self._waiting: deque[tuple[Image, asyncio.Future[Row]]] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._task = asyncio.create_task(self._run())

    async def submit(self, image: Image) -> Row:
        """The network's row for one image.

        Raises:
            QueueFullError: `capacity` images are waiting.
        """
        (future,) = self._enqueue([image])
        return await future

    async def submit_all(self, images: Sequence[Image]) -> list[Row]:
        """The network's rows for several images, in their order; all are taken in or none is.

        Raises:
            QueueFullError: with these, more than `capacity` images would be waiting.
        """
        futures = self._enqueue(images)
        try:
            return [await future for future in futures]
        finally:
            for future in futures:
                future.cancel()  # of no effect on those that are done; the rest lost their caller

    def _enqueue(self, images: Sequence[Image]) -> list[asyncio.Future[Row]]:
        if len(self._waiting) + len(images) > self._capacity:
            raise QueueFullError(f"{len(self._waiting)} images are waiting, the limit is {self._capacity}")
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Row]] = [loop.create_future() for _ in images]
        self._waiting.extend(zip(images, futures, strict=True))
        self._arrived.set()
        return futures

    async def close(self) -> None:
        """Stop. Whoever still waits is cancelled."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for _, future in self._waiting:
            future.cancel()
        self._thread.shutdown()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            batch = self._take()
            if not batch:
                self._arrived.clear()
                continue
            images = np.stack([image for image, _ in batch])
            try:
                rows = await loop.run_in_executor(self._thread, self._predict, images)
            except asyncio.CancelledError:
                for _, future in batch:
                    future.cancel()
                raise
            except Exception as error:  # noqa: BLE001 whatever it is, the callers must hear of it
                _fail(batch, error)
            else:
                for (_, future), row in zip(batch, rows, strict=True):
                    if not future.done():
                        future.set_result(row)

    def _take(self) -> list[tuple[Image, asyncio.Future[Row]]]:
        """Up to `max_batch` images whose callers are still there."""
        batch: list[tuple[Image, asyncio.Future[Row]]] = []
        while self._waiting and len(batch) < self._max_batch:
            image, future = self._waiting.popleft()
            if not future.done():
                batch.append((image, future))
        return batch


def _fail(batch: list[tuple[Image, asyncio.Future[Row]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
