"""`Pipeline` chooses the version that answers requests, admits them, and says why it cannot.

Knows settings and `model_store`, but nothing about HTTP.
"""

import asyncio
import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from app.admission import BODY_COPIES, Admission, ImageMemory
from app.decoders import Decoders
from app.errors import Problem
from app.explain.saliency import Masks, sample_masks
from app.monitoring.metrics import Metrics
from app.process.core_share import ONE_CORE, CoreShare
from app.process.stop import Deadlines
from app.settings import Limits, Settings
from app.versions.follow import FOLLOW_SECONDS, RETRY_SECONDS, Follower, Look, load_warm
from app.versions.loading import (
    MAX_REASON_CHARACTERS,
    NoneServable,
    Skipped,
    choose,
    in_daemon_thread,
    skipped_versions,
)
from app.versions.serving import MAX_BATCH, Serving
from model_store.errors import ModelError
from model_store.network.architecture import MAX_BATCH as MAX_NETWORK_BATCH
from model_store.version import Loaded

logger = logging.getLogger("app")
# Of CIFAR10_TIMEOUT_SECONDS, for an image to wait for a decoder, and for an explanation to wait for others: the rest is
# for the work itself, so that overload is refused with 503 and not found out by a timeout.
MAX_WAIT_SHARE = 1 / 3


class Pipeline:
    """Admits requests once a version is loaded; until then, `reason` says why it is not ready.

    `skipped` are better versions that cannot be served. A worker gets them from the first process, which chooses for
    it and warns of them. `store_problem` says why the store cannot be followed.
    """

    def __init__(
        self,
        settings: Settings,
        limits: Limits,
        metrics: Metrics,
        share: CoreShare = ONE_CORE,
        skipped: tuple[Skipped, ...] = (),
        is_worker: bool = False,
    ) -> None:
        self.settings, self.skipped, self._warns = settings, skipped, not is_worker
        # The first process pins its version for the workers, so their setting says if it follows the store.
        self.follows = settings.follow if is_worker else settings.follows
        self.admission = Admission(limits.max_requests, settings.max_wait_seconds, share)
        self.memory = ImageMemory(limits.image_bytes)
        # The largest body for which ImageMemory has room, if it is alone.
        self.max_body_bytes = min(settings.max_body_bytes, limits.image_bytes // 2 // BODY_COPIES)
        self.serving: Serving | None = None
        self.reason = "the model is being loaded and tested"
        self.store_problem: str | None = None
        self.draining = False
        self._limits, self._metrics, self._share = limits, metrics, share
        self.deadlines = Deadlines(settings.timeout_seconds)
        self._max_wait_seconds = settings.timeout_seconds * MAX_WAIT_SHARE
        self.decoders = Decoders(limits.decode_threads, self._max_wait_seconds)
        self._masks: Masks | None = None
        self._errors: Mapping[int, ModelError] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Load and test the model. If that fails, the service stays up but not ready, and `reason` says why."""
        try:
            choice = await in_daemon_thread(lambda: choose(self.settings, self._share.own, self._share.most))
        except ModelError as error:
            self.reason = error.public
            logger.error("the model cannot be served: %s", error)
            self._errors = error.errors if isinstance(error, NoneServable) else {}
            self.store_problem = None if self._errors else error.public
            return
        except Exception as error:
            self.reason = "the model could not be loaded; the service's log has the cause"
            logger.error("the model could not be loaded", exc_info=error)
            return
        if self._warns:
            for version, reason in choice.errors.items():
                served = choice.loaded.manifest.version
                logger.warning(
                    "version %s of %s is skipped for %s: %s", version, self.settings.model_name, served, reason
                )
            if choice.hidden:
                logger.warning(choice.hidden)
        self._errors = choice.errors
        self.skipped += skipped_versions(choice.errors)
        await self._serve(choice.loaded)

    async def follow(self, changed: Callable[[], None]) -> None:
        """Serve the version that the store chooses, and another when the store chooses another, until cancelled.

        Args:
            changed: called when another version is served, or others are skipped.
        """
        served, errors = self.serving.loaded.manifest.version if self.serving else None, self._errors
        follower = await in_daemon_thread(lambda: Follower(self.settings, self._share, served, errors, MAX_BATCH))
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                look = await in_daemon_thread(follower.look)
            except Exception as error:
                look = Look(problem=ModelError("an unexpected error, which the log has above"))
                logger.error("looking at the store failed", exc_info=error)
                await asyncio.sleep(RETRY_SECONDS)
            self._note_problem(look.problem)
            if look.problem:
                continue
            former, self.skipped = self.skipped, skipped_versions(look.errors)
            if look.loaded:
                await self._serve(look.loaded)
                self._metrics.count_version("served")
            self._note_refused(look.refused)
            if look.errors and not self.serving:
                self.reason = NoneServable(look.errors).public
            if look.loaded or self.skipped != former:
                changed()

    async def serve_version(self, version: int, skipped: Sequence[Sequence[str]]) -> None:
        """Serve this version, as the first process does.

        Args:
            skipped: the versions that it skips, each with the reason.

        Raises:
            ModelError: this process cannot serve it.
        """
        self.skipped = tuple(Skipped(*pair) for pair in skipped)
        if self.serving is None or self.serving.loaded.manifest.version != version:
            await self._serve(
                await in_daemon_thread(partial(load_warm, self.settings, version, self._share, MAX_BATCH))
            )

    async def _serve(self, loaded: Loaded) -> None:
        """Take this version for all requests from now on. Those that began with another one finish with it."""
        if self._masks is None:
            self._masks = await asyncio.to_thread(sample_masks)
        former, serving = self.serving, self._make_serving(loaded, self._masks)
        classifier = loaded.classifier
        self._metrics.watch_model(serving.model, classifier.engine, classifier.precision, serving.drift)
        self.serving = serving
        logger.info(
            "ready",
            extra={
                "fields": {
                    "model": "/".join(serving.model),
                    "engine": loaded.classifier.engine,
                    "precision": loaded.classifier.precision,
                    "golden_difference": loaded.golden_difference,
                }
            },
        )
        if former:
            task = asyncio.create_task(former.retire())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        else:
            gc.freeze()  # what exists now stays for as long as the process, so the garbage collector can skip it

    def _make_serving(self, loaded: Loaded, masks: Masks) -> Serving:
        return Serving(
            loaded,
            masks,
            self._max_waiting_images(loaded),
            self._max_wait_seconds,
            self._metrics,
            self.settings.metrics_directory,
            self.admission,
            self.memory,
            self.decoders,
            self._share,
        )

    def _max_waiting_images(self, loaded: Loaded) -> int:
        """Fewer images of a network that computes fewer at once, but always room for a whole batch request."""
        limit = self._limits.max_waiting_images
        return max(limit * loaded.classifier.max_batch // MAX_NETWORK_BATCH, min(self.settings.max_files, limit))

    def _note_refused(self, errors: Mapping[int, ModelError]) -> None:
        name = self.settings.model_name
        for version, error in errors.items():
            self._metrics.count_version("refused")
            if self.serving:
                logger.warning("version %s of %s is skipped for %s: %s", version, name, self.serving.model[1], error)
            else:
                logger.error("version %s of %s cannot be served: %s", version, name, error)

    def _note_problem(self, problem: ModelError | None) -> None:
        """Log once that the store cannot be followed, and that it can be again."""
        former = self.store_problem
        self.store_problem = problem.public[:MAX_REASON_CHARACTERS] if problem else None
        if problem and self.store_problem != former:
            logger.error("the store cannot be followed: %s; the version in service stays", problem)
        elif former and not problem:
            logger.info("the store can be followed again")
        if problem and not self.serving:
            self.reason = problem.public

    async def stop(self) -> None:
        """Release the threads and the model."""
        serving, self.serving, self.reason = self.serving, None, "the service is shutting down"
        self.decoders.close()
        for task in self._retiring:
            task.cancel()
        if serving:
            await serving.close()

    def require_serving(self) -> Serving:
        """Return the served version.

        Raises:
            Problem: no version is loaded; the text says why.
        """
        if self.serving is None:
            raise Problem("not_ready", self.reason)
        return self.serving

    def require_ready(self) -> Serving:
        """Return the served version while new requests are welcome.

        Raises:
            Problem: no version is loaded, or the service is shutting down.
        """
        serving = self.require_serving()
        if self.draining:
            raise Problem("not_ready", "the service is shutting down and only finishes requests in flight")
        return serving

    def check(self, client: str = "") -> None:
        """Refuse a request that `admit` would refuse, before its body is read.

        Raises:
            Problem: as `admit`.
        """
        self.require_serving()
        self.admission.check(client)

    def admit(self, client: str = "") -> Serving:
        """Admit one request whose body has arrived, until `release`, to the version that is served now.

        Raises:
            Problem: no version is loaded, too many requests are in flight, or predictions take too long.
        """
        serving = self.require_serving()
        self.admission.enter(client)
        serving.begin_request()
        return serving

    def release(self, serving: Serving, client: str = "") -> None:
        """End a request that `admit` admitted."""
        serving.end_request()
        self.admission.leave(client)
