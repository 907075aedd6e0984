"""Encoded images → probabilities, and whether the service can give them: the loaded model, its queue and its decoders.

Knows settings and `model_store`; nothing of HTTP.
"""

import asyncio
import gc
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from app.admission import Backlog
from app.batcher import Answer, Batcher, QueueFullError
from app.errors import Problem
from app.explain.explainer import CHUNK, Explainer, Explanation
from app.explain.saliency import random_masks
from app.monitoring.drift import Drift
from app.monitoring.metrics import Metrics
from app.prediction import Prediction, predict_each
from app.process.supervisor import give_way, shared_directory
from app.settings import Settings
from model_store.errors import ImageError, ModelError
from model_store.images.decode import decode, read_header
from model_store.store import Store
from model_store.version import Loaded, load

logger = logging.getLogger("app")
Stages = dict[str, float]  # seconds by stage, for one request
# Up to these sizes an image is decoded in about a millisecond, which is less than it costs to hand it to another thread
# and to get back from there. A JPEG is decoded at a reduced scale; where many requests are under way even a millisecond
# each is too long, since those that must be refused wait for it.
SMALL_BYTES = 65_536
SMALL_PIXELS, SMALL_JPEG_PIXELS, BUSY_REQUESTS = 96 * 96, 640 * 480, 32
# Images in one call of the network. Over HTTP larger calls gain nothing (docs/performance.md, "Images in one call"),
# and delay the requests that arrive meanwhile. OpenVINO keeps 2 MB of kernels for each size.
MAX_BATCH = 32


class Pipeline:
    """What a running service holds. Not ready until `start` has come to its end."""

    def __init__(self, settings: Settings, metrics: Metrics, threads: int | None = None) -> None:
        self.settings = settings
        self._metrics = metrics
        self._threads = threads
        self.loaded: Loaded | None = None
        self.drift: Drift | None = None
        self.draining = False
        self.reason = "the model is being loaded and tested"
        self.backlog = Backlog()
        self._requests = 0
        self._batcher: Batcher[Prediction] | None = None
        self._explainer: Explainer | None = None
        self._decoders = ThreadPoolExecutor(settings.decode_threads, "decode", initializer=give_way)

    async def start(self) -> None:
        """Load and test the model. A failure leaves the service up, not ready, and saying why."""
        loop = asyncio.get_running_loop()
        try:  # in a thread that gives way, as do then those that the engine starts from there
            loaded = await loop.run_in_executor(self._decoders, load_chosen, self.settings, self._threads)
            masks = await asyncio.to_thread(random_masks)
        except ModelError as error:
            self.reason = str(error)
            logger.error("the model cannot be served: %s", error)
            return
        except Exception as error:
            self.reason = "the model failed to load; the service's log has the cause"
            logger.error("the model failed to load", exc_info=error)
            return
        classifier = loaded.classifier
        self.drift = Drift(loaded.manifest, shared_directory())
        self._metrics.serves(loaded.manifest.name, loaded.manifest.version, self.drift)
        self._batcher = Batcher(
            lambda batch: predict_each(classifier, batch),
            MAX_BATCH,
            self.settings.max_waiting_images,
            self._metrics.batch,
        )
        self._explainer = Explainer(self._batcher, masks, min(CHUNK, self.settings.max_waiting_images))
        gc.freeze()  # what is loaded stays, and need not be looked at again
        self.loaded = loaded
        logger.info(
            "ready",
            extra={
                "fields": {
                    "model": f"{loaded.manifest.name}/{loaded.manifest.version}",
                    "engine": classifier.engine,
                    "precision": classifier.precision,
                    "golden_difference": loaded.golden_difference,
                }
            },
        )

    async def stop(self) -> None:
        """Release threads and the model."""
        self.loaded, self.reason = None, "the service is shutting down"
        self._decoders.shutdown(wait=False, cancel_futures=True)
        if self._batcher:
            await self._batcher.close()
        if self.drift:
            self.drift.close()

    def require_loaded(self) -> Loaded:
        """The model that is being served.

        Raises:
            Problem: there is none; the text says why.
        """
        if self.loaded is None:
            raise Problem("not_ready", self.reason)
        return self.loaded

    @contextmanager
    def admit(self) -> Iterator[Loaded]:
        """The model, for one request. Whoever is let in holds a body in memory, so their number is limited.

        Raises:
            Problem: there is no model, there are too many requests, or they take too long.
        """
        loaded = self.require_loaded()
        if self._requests >= self.settings.max_requests:
            raise Problem("overloaded", f"{self._requests} predictions are under way, the limit; try again")
        if (seconds := self.backlog.seconds) > self.settings.max_wait_seconds:
            raise Problem("overloaded", f"predictions take {seconds:.1f} s at present, which is too long; try again")
        self._requests += 1
        try:
            yield loaded
        finally:
            self._requests -= 1

    async def predict(self, data: bytes, stages: Stages) -> Prediction:
        """What the network says of one encoded image; the seconds that took are put into `stages`.

        Raises:
            ImageError: the bytes are no usable image.
            Problem: too many images are waiting.
        """
        began = time.perf_counter()
        assert self._batcher is not None and self.drift is not None
        with self.backlog.working():
            image = await self._decode(data)
            stages["decode"] = time.perf_counter() - began
            try:
                row, stages["queue"], stages["infer"] = await self._batcher.submit(image)
            except QueueFullError as error:
                raise Problem("overloaded", f"{error}; try again") from None
        self.drift.add([image], [row])
        return row

    async def predict_all(self, files: Sequence[bytes], stages: Stages) -> list[Prediction | ImageError]:
        """What the network says of each encoded image, or what is wrong with it; one bad image spoils no other.

        Raises:
            Problem: too many images are waiting.
        """
        assert self._batcher is not None and self.drift is not None
        decoded: list[NDArray[np.uint8] | ImageError] = []
        pixels: list[NDArray[np.uint8]] = []
        waiting: list[asyncio.Future[Answer[Prediction]]] = []
        stages["decode"] = 0.0
        try:
            for start in range(0, len(files), MAX_BATCH):  # the network has one part while the next is being decoded
                began = time.perf_counter()
                part = await asyncio.gather(*(self._decode_or_error(data) for data in files[start : start + MAX_BATCH]))
                stages["decode"] += time.perf_counter() - began
                usable = [image for image in part if not isinstance(image, ImageError)]
                waiting += self._batcher.enqueue(usable)
                decoded, pixels = decoded + part, pixels + usable
            answers = [await future for future in waiting]
        except QueueFullError as error:
            raise Problem("overloaded", f"{error}; try again") from None
        finally:
            for future in waiting:
                future.cancel()  # of no effect on those that are done
        if answers:  # what came before the last image's batch is waiting, from where that image stands
            _, stages["queue"], stages["infer"] = answers[-1]
        self.drift.add(pixels, [answer.row for answer in answers])
        found = (answer.row for answer in answers)
        return [image if isinstance(image, ImageError) else next(found) for image in decoded]

    async def explain(self, data: bytes, index: int | None, stages: Stages) -> Explanation:
        """Which pixels of one encoded image speak for the class with that index, or for the most probable one.

        Raises:
            ImageError: the bytes are no usable image.
            Problem: too many images are waiting.
        """
        began = time.perf_counter()
        image = await self._decode(data)
        decoded = time.perf_counter()
        stages["decode"] = decoded - began
        assert self._explainer is not None
        try:
            explanation = await self._explainer.explain(image, index)
        except QueueFullError as error:
            raise Problem("overloaded", f"{error}; try again") from None
        stages["explain"] = time.perf_counter() - decoded
        return explanation

    async def _decode(self, data: bytes) -> NDArray[np.uint8]:
        resize = self.require_loaded().manifest.preprocessing.resize
        loop = asyncio.get_running_loop()
        if len(data) > SMALL_BYTES:
            return await loop.run_in_executor(self._decoders, decode, data, resize)
        image = read_header(data)
        small = SMALL_JPEG_PIXELS if image.type == "JPEG" and self._requests < BUSY_REQUESTS else SMALL_PIXELS
        if image.pixels > small:
            return await loop.run_in_executor(self._decoders, image.decode, resize)
        return image.decode(resize)

    async def _decode_or_error(self, data: bytes) -> NDArray[np.uint8] | ImageError:
        try:
            return await self._decode(data)
        except ImageError as error:
            return error


def load_chosen(settings: Settings, threads: int | None = None) -> Loaded:
    """The version that the settings choose, verified and ready to compute on that many threads.

    Raises:
        ModelError: it cannot be served; the text says why.
    """
    store = Store(settings.store)
    version = store.choose(settings.model_name, settings.model_version)
    return load(store.folder(settings.model_name, version), settings.engine, settings.precision, threads)
