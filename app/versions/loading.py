"""Choose, load and test the version to serve; fall back to an older one if the newest cannot be served."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from app.process.cores import give_way
from app.settings import Settings
from model_store.errors import ModelError
from model_store.store import SHIPPED_STORE, Store
from model_store.version import Loaded, load

MAX_REASONS, MAX_REASON_CHARACTERS = 3, 500  # of skipped versions that are shown: /health is asked every few seconds
T = TypeVar("T")


@dataclass(frozen=True)
class Skipped:
    """A version that should be served but cannot be, and the reason, for clients."""

    version: str
    reason: str


@dataclass(frozen=True)
class Chosen:
    """The version to serve, and the better ones that cannot be served, best first, each with its error.

    `hidden` is a warning that this release ships a newer version, if the store lacks it.
    """

    loaded: Loaded
    errors: dict[int, ModelError]
    hidden: str | None = None


class NoneServable(ModelError):
    """No version that may be served can be; `errors` are those of the versions, best first."""

    def __init__(self, errors: dict[int, ModelError]) -> None:
        reasons = list(errors.items())[:MAX_REASONS]
        more = f"; nor can {len(errors) - MAX_REASONS} older ones" if len(errors) > MAX_REASONS else ""
        super().__init__(
            "; ".join(f"version {version}: {error}" for version, error in reasons) + more,
            "; ".join(f"version {version}: {error.public}" for version, error in reasons) + more,
        )
        self.errors = errors


def skipped_versions(errors: dict[int, ModelError]) -> tuple[Skipped, ...]:
    """Return the best of the versions that cannot be served, as /health shows them."""
    return tuple(
        Skipped(str(version), error.public[:MAX_REASON_CHARACTERS])
        for version, error in list(errors.items())[:MAX_REASONS]
    )


def choose(settings: Settings, threads: int | None = None, wide_threads: int | None = None) -> Chosen:
    """Load and test the pinned or active version, or else the newest that can be served.

    An older version than the pinned or active one would not be what the operator asked for.

    Args:
        threads: threads that compute one call of the network; by default the engine chooses.
        wide_threads: threads that compute a wide call; by default as many.

    Raises:
        ModelError: no such version can be served; the text says why.
    """
    store, name, errors = Store(settings.store), settings.model_name, dict[int, ModelError]()
    for version in store.candidates(name, settings.model_version):
        try:
            loaded = load(store.folder(name, version), settings.engine, settings.precision, threads, wide_threads)
        except ModelError as error:
            errors[version] = error
        else:
            return Chosen(loaded, errors, _warn_of_hidden(settings, version))
    raise NoneServable(errors)


def _warn_of_hidden(settings: Settings, served: int) -> str | None:
    """Compare the store with the one in the release's own package, unless a version is pinned or active.

    Docker fills a new volume from the image, but never adds to it what a later image ships.
    """
    store, package, name = Store(settings.store), Store(SHIPPED_STORE), settings.model_name
    shipped = max(package.versions(name), default=0)
    if shipped <= max(store.versions(name)) or settings.model_version or store.active_version(name):
        return None
    folders = f"{package.folder(name, shipped)} {store.root / name}/"
    return (
        f"this release ships version {shipped} of {name}, but {served} is served from {store.root}; "
        f"to serve {shipped}, run `docker compose run --rm --entrypoint cp training -r {folders}` "
        f"(without Docker: `cp -r {folders}`); to keep {served}, set CIFAR10_MODEL_VERSION={served}"
    )


def in_daemon_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run a function in a low-priority thread that does not keep the process from ending, unlike an executor's.

    Reading from a disk that hangs may take for ever. Threads that the network's engine starts inherit the priority.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # so that a cancelled wait does not disturb the thread

    def run() -> None:
        give_way()
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 raised again where it is awaited
            future.set_exception(error)

    threading.Thread(target=run, name="load", daemon=True).start()
    return asyncio.wrap_future(future)
