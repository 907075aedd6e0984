"""How throughput grows with the images in one call, of `Classifier.predict` and of `/predict/batch` over HTTP."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from app.pipeline import load_chosen
from app.settings import Settings
from benchmarks import bodies
from benchmarks.machine import Machine
from benchmarks.server import serving
from benchmarks.tables import number, table
from benchmarks.wrk import Load, closed_loop
from model_store.classifier import Classifier

LARGEST = 1_024
CONNECTIONS = 2  # twice as many fit into one process, should an earlier load have left some behind
CALL_SECONDS = 1.0
WARM_UP_CALLS = 3


@dataclass(frozen=True)
class Calls:
    """Calls of `Classifier.predict` with so many images, on all cores."""

    images: int
    calls: int
    milliseconds: float  # of a call

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images * 1_000 / self.milliseconds


@dataclass(frozen=True)
class BatchStudy:
    """Both, at each power of two; over HTTP up to the service's limit."""

    machine: Machine
    seconds: int
    calls: list[Calls]
    loads: list[Load]


def study(here: Machine, seconds: int) -> BatchStudy:
    """Measure both."""
    classifier = load_chosen(Settings()).classifier
    calls = [_calls(classifier, images) for images in _powers(LARGEST)]
    png, _ = bodies.pictures()
    with serving() as server:
        wanted = [bodies.batch(png, images) for images in _powers(Settings().max_files)]
        loads = [closed_loop(server.pid, server.port, body, CONNECTIONS, seconds) for body in wanted]
    return BatchStudy(here, seconds, calls, loads)


def _powers(largest: int) -> Iterator[int]:
    """1, 2, 4 and so on."""
    return (1 << exponent for exponent in range(largest.bit_length()))


def _calls(classifier: Classifier, count: int) -> Calls:
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    for _ in range(WARM_UP_CALLS):
        classifier.predict(images)
    began, calls = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < CALL_SECONDS:
        classifier.predict(images)
        calls += 1
    return Calls(count, calls, passed * 1_000 / calls)


def batches_table(found: BatchStudy) -> str:
    """A row for each number of images."""
    head = ["images", "predict: n", "ms a call", "images/s", "HTTP: n", "requests/s", "images/s", "p50 ms", "p99 ms"]
    loads = {load.images: load for load in found.loads}
    return table(head, [_row(calls, loads.get(calls.images)) for calls in found.calls])


def _row(calls: Calls, load: Load | None) -> list[str]:
    own = [str(calls.images), str(calls.calls), number(calls.milliseconds), number(calls.rate)]
    if load is None:
        return own + ["–"] * 5
    return [*own, str(load.requests), *map(number, (load.rate, load.rate * load.images, load.p50_ms, load.p99_ms))]
