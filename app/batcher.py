"""Many waiting callers → one call of the network at a time.

Takes the largest power of two of what waits as soon as the network is free, up to a maximum: no timer, so an idle
service adds no wait and a busy one forms batches by itself. Knows arrays, capacity and cancellation; nothing of HTTP,
images' origin or models.
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

from app.process.cores import give_way

Image = NDArray[np.uint8]  # (32, 32, 3)
Result = TypeVar("Result")  # what the network says of one image
# A lone image is computed in the event loop's own thread if the network took no longer for each of the last ones: the
# way to another thread and back costs a twentieth of a request's time, and more where cores are scarce.
IN_PLACE_SECONDS = 0.005


class Answer(NamedTuple, Generic[Result]):
    """The network's row for one image, and how many seconds the image waited and its batch was computed."""

    row: Result
    queued: float
    inferred: float


class Waiting(NamedTuple, Generic[Result]):
    """An image, who waits for its answer, and since when."""

    image: Image
    future: "asyncio.Future[Answer[Result]]"
    since: float


class QueueFullError(Exception):
    """So many images are waiting already that these would wait too long."""


class Batcher(Generic[Result]):
    """A bounded queue in front of the network, which computes one batch at a time in a thread of its own.

    A lone image that is computed quickly is not worth the way there.
    """

    def __init__(
        self,
        predict: Callable[[Image], Sequence[Result]],
        max_batch: int,
        capacity: int,
        on_batch: Callable[[int, int], None] = lambda images, waiting: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Start waiting for images; needs a running event loop.

        Args:
            predict: uint8 (N, 32, 32, 3) → N rows; one call at a time.
            max_batch: the largest N.
            capacity: how many images may wait.
            on_batch: is told the size of each batch and how many images still wait.
            clock: seconds, for the times in the answers.
        """
        self._predict, self._max_batch, self._capacity, self._on_batch = predict, max_batch, capacity, on_batch
        self._clock = clock
        self._waiting: deque[Waiting[Result]] = deque()
        self._arrived = asyncio.Event()
        self._seconds_each = math.inf
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference", initializer=give_way)
        self._task = asyncio.create_task(self._run())

    async def submit(self, image: Image) -> Answer[Result]:
        """The network's answer for one image.

        Raises:
            QueueFullError: `capacity` images are waiting.
        """
        (future,) = self.enqueue([image])
        return await future

    async def submit_all(self, images: Sequence[Image]) -> list[Answer[Result]]:
        """The network's answers for several images, in their order; all are taken in or none is.

        Raises:
            QueueFullError: with these, more than `capacity` images would be waiting.
        """
        futures = self.enqueue(images)
        try:
            return [await future for future in futures]
        finally:
            for future in futures:
                future.cancel()  # of no effect on those that are done; the rest lost their caller

    def enqueue(self, images: Sequence[Image]) -> list[asyncio.Future[Answer[Result]]]:
        """Let several images wait; who does not want an answer any more cancels its future.

        Raises:
            QueueFullError: with these, more than `capacity` images would be waiting; none is taken in.
        """
        if len(self._waiting) + len(images) > self._capacity:
            raise QueueFullError(f"{len(self._waiting)} images are waiting, the limit is {self._capacity}")
        loop, now = asyncio.get_running_loop(), self._clock()
        futures: list[asyncio.Future[Answer[Result]]] = [loop.create_future() for _ in images]
        self._waiting.extend(Waiting(image, future, now) for image, future in zip(images, futures, strict=True))
        self._arrived.set()
        return futures

    async def close(self) -> None:
        """Stop. Whoever still waits is cancelled."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for waiting in self._waiting:
            waiting.future.cancel()
        self._thread.shutdown()

    async def _run(self) -> None:
        while True:
            idle = not self._arrived.is_set()
            await self._arrived.wait()
            if not await self._compute_next(idle):
                self._arrived.clear()

    async def _compute_next(self, idle: bool) -> bool:
        """Compute one batch, if anybody waits. `idle`: whether the network did nothing when its first image came."""
        batch = self._take()
        if not batch:
            return False
        self._on_batch(len(batch), len(self._waiting))
        images, began = np.stack([waiting.image for waiting in batch]), self._clock()
        try:
            if idle and len(batch) == 1 and self._seconds_each <= IN_PLACE_SECONDS:
                rows = self._predict(images)
            else:
                rows = await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, images)
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 whatever it is, the callers must hear of it
            _fail(batch, error)
            return True
        taken = self._clock() - began
        self._seconds_each = taken / len(batch)
        for waiting, row in zip(batch, rows, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(Answer(row, began - waiting.since, taken))
        return True

    def _take(self) -> list[Waiting[Result]]:
        """Images whose callers are still there, up to `max_batch`; none if nobody waits.

        Their number is a power of two, and what is over waits for the next batch: for every number that it meets
        OpenVINO compiles kernels, which takes 10 to 30 ms, and keeps them, which takes 2 MB.
        """
        batch: list[Waiting[Result]] = []
        while self._waiting and len(batch) < self._max_batch:
            waiting = self._waiting.popleft()
            if not waiting.future.done():
                batch.append(waiting)
        size = 1 << len(batch).bit_length() >> 1
        self._waiting.extendleft(reversed(batch[size:]))
        return batch[:size]


def _fail(batch: Sequence[Waiting[Result]], error: Exception) -> None:
    for waiting in batch:
        if not waiting.future.done():
            waiting.future.set_exception(error)
