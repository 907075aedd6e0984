"""The processes of `classify --to` on a Ray cluster: an actor for each core, on whichever node has one."""

import os
import signal
import socket
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

from app.bulk.errors import BulkError
from app.bulk.items import Chunk
from app.bulk.places import LocalPlace, Place
from app.bulk.worker import Answered, Worker
from app.settings import Settings

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to Ray's makers
CONNECT_SECONDS = 10.0
START_SECONDS = 20.0  # for an actor that has a core to load the model
MAX_ATTEMPTS = 3  # at a chunk whose process dies
LOST = ActorDiedError, ActorUnavailableError


class Actor:
    """A worker on some node, once it is asked to get ready."""

    def get_ready(self, settings: Settings, sources: Sequence[Place]) -> None:
        """Load the model.

        Raises:
            ModelError: it cannot be served.
            BulkError: this node does not see a source.
        """
        unseen = [place.name for place in sources if isinstance(place, LocalPlace) and not place.path.exists()]
        if unseen:
            raise BulkError(
                f"{socket.gethostname()} has no {unseen[0]}; put the images where every node of the cluster sees them "
                "under the same path, such as a shared file system, or into a bucket (s3://)"
            )
        self._worker = Worker(settings)

    def answer(self, chunk: Chunk) -> Answered:
        """Answer a chunk."""
        return self._worker.answer(chunk)


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to a cluster for the length of the block; `local` starts one on this machine's cores.

    Raises:
        BulkError: there is none at this address.
    """
    stop = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        host, colon, port = address.removeprefix("ray://").rpartition(":")
        if colon:  # Ray itself needs minutes to report an address without a cluster
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address, log_to_driver=False, logging_level="warning", **options)
    except Exception as error:  # noqa: BLE001 Ray raises Exception itself if a node does not start
        raise BulkError(
            f"--ray {address}: {error}; start a cluster with `ray start --head`, and name it as `auto` on its nodes, "
            "else as HOST:6379; if it has a token, set RAY_AUTH_MODE=token and copy ~/.ray/auth_token from its head"
        ) from None
    signal.signal(signal.SIGTERM, stop)  # Ray's own handler ends the process without a message
    try:
        yield
    finally:
        ray.shutdown()


def cluster_cores() -> int:
    """Count the cores of the cluster."""
    return int(ray.cluster_resources().get("CPU", 0))


@dataclass
class _Task:
    """A chunk, and how often an actor was given it."""

    number: int
    chunk: Chunk
    attempts: int = 0


class Pool:
    """Actors of which each has a bounded number of chunks; the chunks of one that dies go to others."""

    def __init__(self, settings: Settings, sources: Sequence[Place], workers: int, ahead: int) -> None:
        """Start the actors; those that find no core yet join later.

        Args:
            ahead: chunks of each worker that are read or answered but not yet written.
        """
        self._settings, self._sources, self._workers = settings, sources, workers
        self._ahead, self._window, self._failed_starts = ahead, ahead * workers, 0
        self._loads: dict[Any, int] = {}  # actor that is ready -> chunks that it has
        self._starting: dict[Any, Any] = {}  # reference -> actor
        self._running: dict[Any, tuple[_Task, Any]] = {}  # reference of an answer -> chunk and actor
        self._answered: dict[int, Answered] = {}
        for _ in range(workers):
            self._start()

    def answers(self, chunks: Iterator[Chunk]) -> Generator[Answered, None, None]:
        """Yield the answers of all chunks in order.

        Raises:
            BulkError: an actor does not see the sources, or those that had a chunk died again and again.
            ModelError: an actor cannot serve the model.
        """
        tasks = (_Task(number, chunk) for number, chunk in enumerate(chunks))
        waiting, expected = list[_Task](), 0
        while (task := next(tasks, None)) or waiting or self._running:
            waiting += [task] if task else []
            while waiting or (self._running and not task):
                if waiting and waiting[0].number < expected + self._window and self._has_room():
                    self._submit(waiting.pop(0))
                else:
                    waiting = sorted([*self._collect(), *waiting], key=lambda task: task.number)
                while expected in self._answered:
                    yield self._answered.pop(expected)
                    expected += 1

    def _start(self) -> None:
        actor = ray.remote(num_cpus=1)(Actor).remote()
        self._starting[actor.get_ready.remote(self._settings, self._sources)] = actor

    def _has_room(self) -> bool:
        return min(self._loads.values(), default=self._ahead) < self._ahead

    def _submit(self, task: _Task) -> None:
        actor = min(self._loads, key=self._loads.__getitem__)
        task.attempts += 1
        self._loads[actor] += 1
        self._running[actor.answer.remote(task.chunk)] = task, actor

    def _collect(self) -> list[_Task]:
        """Wait until an actor is ready or has answered; return the chunks whose actor has died."""
        lost = list[_Task]()
        if not self._loads and not self._running and not ray.wait([*self._starting], timeout=START_SECONDS)[0]:
            print("waiting for a free core of the cluster; `ray status` shows what takes them", file=sys.stderr)
        for reference in ray.wait([*self._starting, *self._running])[0]:
            task, actor = self._running.pop(reference, (None, None))
            actor = actor or self._starting.pop(reference)
            try:
                answered = ray.get(reference)
            except LOST as error:
                if task:
                    lost.append(_again(task, error))
                self._replace(actor, task is None, error)
            except RayTaskError as error:
                raise error.cause from None
            else:
                self._note(actor, task, answered)
        return lost

    def _note(self, actor: Any, task: _Task | None, answered: Answered) -> None:
        if task is None:
            self._loads[actor], self._failed_starts = 0, 0
            return
        self._answered[task.number] = answered
        if actor in self._loads:  # else it has died since
            self._loads[actor] -= 1

    def _replace(self, actor: Any, was_starting: bool, error: Exception) -> None:
        """Start another actor, once for each that has died.

        Raises:
            BulkError: too many have died before they were ready.
        """
        self._failed_starts += was_starting
        if self._failed_starts >= MAX_ATTEMPTS * self._workers:
            raise BulkError(f"processes end before the model is loaded, probably for lack of memory: {error}")
        if was_starting or self._loads.pop(actor, None) is not None:
            self._start()


def _again(task: _Task, error: Exception) -> _Task:
    """Return a chunk that is to be tried again.

    Raises:
        BulkError: it was tried often enough.
    """
    if task.attempts < MAX_ATTEMPTS:
        return task
    raise BulkError(
        f"{MAX_ATTEMPTS} processes ended while they had the images from {task.chunk[0].id} on: {error}; look at their "
        "memory, or leave these images out"
    )
