"""Prometheus metrics for /metrics: numbers under fixed names, without any data from requests.

All processes write to memory-mapped files in one directory, so any of them can report for all. The files are numbered:
a new process takes over the first free number together with its counts, so there are never more files than processes at
one time.
"""

import logging
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from app.monitoring.drift import Drift
from app.process.shared_directory import claim_file, reserve

logger = logging.getLogger("app")
FILE_BYTES = 4_096  # of a new file, doubled as needed; prometheus_client's 65,536 would mostly stay empty
warned: set[Path] = set()  # directories whose fault is in the log
VALUE_BYTES = 16  # prometheus_client's: a number and its time
SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
Model: TypeAlias = tuple[str, str]  # name and version
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Records the metrics of this process and renders those of all processes."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory` is shared by the processes; None for this process alone.

        prometheus_client reads it from the environment when it is imported: see process/shared_directory.py.
        """
        self._directory = directory
        self._number = _share_values(directory) if directory else None  # open for as long as it is this process's
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "cifar10_request_seconds",
            "Duration of requests, from first byte to answer",
            ["route", "status"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._stages = Histogram(
            "cifar10_stage_seconds",
            "Duration of the stages of a prediction; for a batch, queue and infer are those of its last image",
            ["stage", "model", "version"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "cifar10_batch_images",
            "Images in one call of the network",
            ["model", "version"],
            buckets=IMAGES,
            registry=self._registry,
        )
        self._waiting = Gauge(
            "cifar10_waiting_images",
            "Images left in the queue when the last batch was taken",
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._refusals = Counter(
            "cifar10_refusals", "Requests answered with a problem, by error code", ["code"], registry=self._registry
        )
        self._dropped_lines = Counter(
            "cifar10_log_lines_dropped", "Log lines that stderr did not take", registry=self._registry
        )
        self._versions = Counter(
            "cifar10_version_changes",
            "Versions of the store that took over, or were refused, since the start",
            ["model", "version", "result"],
            registry=self._registry,
        )
        self._serving = Gauge(
            "cifar10_serving_processes",
            "Processes that serve this version",
            ["model", "version"],
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._model: Model = ("", "")
        self._drift: DriftGauges | None = None
        self._request_series, self._stage_series = cache(self._requests.labels), cache(self._stages.labels)
        self._batch_series = cache(self._batches.labels)

    def watch_model(self, model: Model, drift: Drift) -> None:
        """Report this model as the one that is served, with its drift."""
        if self._model != model and self._drift:
            self._serving.labels(*self._model).set(0)
        self._serving.labels(*model).set(1)
        self._model, self._drift = model, DriftGauges(drift, model)

    def count_version(self, model: Model, result: Literal["served", "refused"]) -> None:
        """Count a version that took over from another, or was refused."""
        self._versions.labels(*model, result).inc()

    def observe_request(
        self, route: str, status: int, seconds: float, stages: Mapping[str, float], model: Model | None = None
    ) -> None:
        """Record the duration of a finished request and of its stages, in seconds.

        `model` is that of the answer; None if the request was refused before it was admitted.
        """
        self._request_series(route, status).observe(seconds)
        for stage, stage_seconds in stages.items():
            self._stage_series(stage, *(model or self._model)).observe(stage_seconds)

    def observe_batch(self, model: Model, images: int, waiting: int) -> None:
        """Record one call of the network and the number of images left in the queue."""
        self._batch_series(*model).observe(images)
        self._waiting.set(waiting)

    def count_refusal(self, code: str) -> None:
        """Count one problem document."""
        self._refusals.labels(code).inc()

    def count_dropped_lines(self, lines: int) -> None:
        """Count log lines that could not be written."""
        self._dropped_lines.inc(lines)

    def render(self) -> bytes:
        """Render all processes' metrics in Prometheus's text format; only this one's if the files cannot be read."""
        drift = CollectorRegistry()
        if self._drift:
            drift.register(self._drift)
        return (self._render_files() or generate_latest(self._registry)) + generate_latest(drift)

    def _render_files(self) -> bytes | None:
        if not self._directory:
            return None
        registry = CollectorRegistry()
        try:
            MultiProcessCollector(registry, str(self._directory))  # type: ignore[no-untyped-call]
            return generate_latest(registry)
        except (OSError, ValueError, RuntimeError, struct.error) as error:
            _warn_once(self._directory, str(error))
            return None


class DriftGauges(Collector):
    """Gauges of the served version's drift. They already cover all processes, so they are not shared files."""

    def __init__(self, drift: Drift, model: Model) -> None:
        self._drift, self._model = drift, model

    def collect(self) -> Iterator[Metric]:
        """Report the current drift, without an index while there are too few images."""
        count, comparisons = self._drift.compare_recent()
        images = GaugeMetricFamily(
            "cifar10_drift_images", "Images counted in the last hour", labels=["model", "version"]
        )
        images.add_metric(self._model, count)
        index = GaugeMetricFamily(
            "cifar10_drift_psi",
            "Population stability index of the last hour's images",
            labels=["feature", "model", "version"],
        )
        for feature, comparison in comparisons.items():
            if comparison.status != "too_few_images":
                index.add_metric((feature, *self._model), comparison.psi)
        yield from (images, index) if comparisons else ()


class ReservedValues(MmapedDict):
    """prometheus_client's file of values, with its blocks allocated. A value without room is counted, not reported.

    Such values share the last bytes of the file, which are never read.
    """

    def __init__(self, filename: str) -> None:
        path = Path(filename)
        try:
            with path.open("ab") as file:
                reserve(file, FILE_BYTES)
        except OSError as error:
            _warn_once(path.parent, str(error.strerror))
            path.unlink(missing_ok=True)
            self._f = None  # type: ignore[assignment]
            self._m, self._used = mmap.mmap(-1, FILE_BYTES), 8
            self._capacity, self._positions = FILE_BYTES, {}
        else:
            super().__init__(filename)  # type: ignore[no-untyped-call]
        self._capacity -= VALUE_BYTES
        self._full = self._f is None

    def _init_value(self, key: str) -> None:
        length = len(key.encode())
        size = 4 + length + (8 - (length + 4) % 8) + VALUE_BYTES
        while self._used + size > self._capacity and not self._full:
            self._grow()
        if self._used + size <= self._capacity:
            super()._init_value(key)  # type: ignore[no-untyped-call]
        else:
            self._m[self._capacity :] = bytes(VALUE_BYTES)
            self._positions[key] = self._capacity

    def _grow(self) -> None:
        size = 2 * (self._capacity + VALUE_BYTES)
        try:
            reserve(self._f, size)
        except OSError as error:
            _warn_once(Path(self._f.name).parent, str(error.strerror))
            self._full = True
        else:
            self._m = mmap.mmap(self._f.fileno(), size)
            self._capacity = size - VALUE_BYTES


def _share_values(directory: Path) -> BinaryIO | None:
    """Keep this process's values in files of the directory from now on. The result reserves their number."""
    number, file = os.getpid(), None
    try:
        number, file = claim_file(directory, "", ".number")
        mark_process_dead(number, str(directory))  # type: ignore[no-untyped-call]  # its last owner's gauges
    except OSError as error:
        _warn_once(directory, str(error.strerror))
    values.MmapedDict = ReservedValues  # type: ignore[assignment,attr-defined]
    # By default every increment calls getpid() to detect a fork. The service never forks.
    values.ValueClass = values.MultiProcessValue(partial(int, number))  # type: ignore[no-untyped-call]
    return file


def _warn_once(directory: Path, reason: str) -> None:
    if directory in warned:
        return
    warned.add(directory)
    logger.warning(
        "metrics in %s are incomplete: %s; requests are answered as before; make room there and restart the service",
        directory,
        reason,
    )
