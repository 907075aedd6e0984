"""Follow the store: find the version that it chooses now, and load it while another is being served."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from app.process.core_share import ONE_CORE, CoreShare
from app.settings import Settings
from model_store.errors import ModelError
from model_store.store import Store
from model_store.version import Loaded, load

# Between two looks at the store. A look reads names, sizes and times, which takes a tenth of a millisecond.
FOLLOW_SECONDS = 1.0
# Before a version that failed is tried again with the same files: memory or the disk may have been the cause.
RETRY_SECONDS = 60.0
Fingerprint: TypeAlias = frozenset[tuple[str, int, int, int]]  # path, inode, size, time of change in ns


@dataclass(frozen=True)
class Failure:
    """A version that could not be loaded, with its files' fingerprint at the time."""

    fingerprint: Fingerprint
    error: ModelError
    retry_at: float
    confirmed: bool = False  # a later look found the same files, so nothing is being copied


@dataclass(frozen=True)
class Look:
    """The result of one look at the store.

    `loaded` is a version to serve instead of the present one; None if that stays. `errors` are those of better versions
    that cannot be served, best first; `refused` are those among them that no earlier look returned. `problem` says why
    the store names no version at all.
    """

    loaded: Loaded | None = None
    errors: dict[int, ModelError] = field(default_factory=dict)
    refused: dict[int, ModelError] = field(default_factory=dict)
    problem: ModelError | None = None


class Follower:
    """Loads each version of a store once, and again when its files change. Not thread-safe."""

    def __init__(
        self,
        settings: Settings,
        share: CoreShare = ONE_CORE,
        served: int | None = None,
        errors: Mapping[int, ModelError] = MappingProxyType({}),
        max_batch: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with the version that is being served, if any, and the errors of those that cannot be.

        Args:
            share: cores on which a network is computed.
            max_batch: the largest batch for which a network is made ready.
            clock: clock in seconds.
        """
        self._settings, self._share, self._max_batch, self._clock = settings, share, max_batch, clock
        self._store, self._name = Store(settings.store), settings.model_name
        self._served = None if served is None else (served, self._fingerprint(served))
        retry_at = clock() + RETRY_SECONDS
        self._failures = {
            version: Failure(self._fingerprint(version), error, retry_at, confirmed=True)
            for version, error in errors.items()
        }

    def look(self) -> Look:
        """Load the version that the store chooses, unless it is the one that is being served.

        A version that fails may still be being copied: its error is returned by the first look that finds its files
        unchanged. The present version stays if its files are damaged, since it is in memory.
        """
        try:
            candidates = self._store.candidates(self._name)
        except ModelError as error:
            return Look(problem=error)
        self._failures = {version: failure for version, failure in self._failures.items() if version in candidates}
        errors: dict[int, ModelError] = {}
        refused: dict[int, ModelError] = {}
        for version in candidates:
            fingerprint = self._fingerprint(version)
            if self._served == (version, fingerprint):
                break
            failure = self._failures.get(version)
            if failure is None or failure.fingerprint != fingerprint or self._clock() >= failure.retry_at:
                try:
                    loaded = load_warm(self._settings, version, self._share, self._max_batch)
                except ModelError as error:
                    confirmed = failure is not None and failure.confirmed and failure.fingerprint == fingerprint
                    failure = Failure(fingerprint, error, self._clock() + RETRY_SECONDS, confirmed)
                else:
                    self._served = version, fingerprint
                    return Look(loaded, errors, refused)
            elif not failure.confirmed:
                failure = replace(failure, confirmed=True)
                refused[version] = failure.error
            self._failures[version] = failure
            if failure.confirmed:
                errors[version] = failure.error
            if self._served and self._served[0] == version:
                break
        return Look(None, errors, refused)

    def _fingerprint(self, version: int) -> Fingerprint:
        folder = self._store.folder(self._name, version)
        return frozenset(_describe(folder, path) for path in (folder, *folder.glob("*"), *folder.glob("*/*")))


def load_warm(settings: Settings, version: int, share: CoreShare, max_batch: int) -> Loaded:
    """Load and test a version, and compute a batch of each size, so that no request waits for kernels.

    Raises:
        ModelError: it cannot be served, whatever the cause.
    """
    try:
        folder = Store(settings.store).folder(settings.model_name, version)
        loaded = load(folder, settings.engine, settings.precision, share.own, share.most)
        classifier = loaded.classifier
        for size in (1 << power for power in range(min(max_batch, classifier.max_batch).bit_length())):
            for wide in (False, True):
                classifier.predict(np.zeros((size, *classifier.shape), np.uint8), wide)
    except ModelError:
        raise
    except MemoryError:
        raise ModelError("it does not fit into the memory beside the version in service; raise the limit") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ModelError(
            f"it could not be loaded: {reason}", "it could not be loaded; the log has the cause"
        ) from error
    return loaded


def _describe(folder: Path, path: Path) -> tuple[str, int, int, int]:
    name = path.relative_to(folder).as_posix()
    try:
        status = path.stat()
    except OSError as error:  # removed meanwhile, or a broken link
        return name, 0, 0, error.errno or 0
    return name, status.st_ino, status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)
