"""Prometheus metrics for /metrics: numbers under fixed names, without any data from requests.

All processes write to memory-mapped files in one directory, so any of them can report for all.
"""

import os
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from app.monitoring.drift import Drift

SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Records the metrics of this process and renders those of all processes."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory` is shared by the processes; None for this process alone.

        prometheus_client reads it from the environment when it is imported: see process/shared_directory.py.
        """
        self._directory = directory
        if directory:
            # By default every increment calls getpid() to detect a fork. The service never forks.
            values.ValueClass = values.MultiProcessValue(partial(int, os.getpid()))  # type: ignore[no-untyped-call]
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
        self._model: tuple[str, str] = ("", "")
        self._drift: DriftGauges | None = None
        self._request_series, self._stage_series = cache(self._requests.labels), cache(self._stages.labels)

    def watch_model(self, name: str, version: int, drift: Drift) -> None:
        """Label metrics with this model from now on, and report its drift."""
        self._model = (name, str(version))
        self._drift = DriftGauges(drift, self._model)

    def observe_request(self, route: str, status: int, seconds: float, stages: Mapping[str, float]) -> None:
        """Record the duration of a finished request and of its stages, in seconds."""
        self._request_series(route, status).observe(seconds)
        for stage, stage_seconds in stages.items():
            self._stage_series(stage, *self._model).observe(stage_seconds)

    def observe_batch(self, images: int, waiting: int) -> None:
        """Record one call of the network and the number of images left in the queue."""
        self._batches.labels(*self._model).observe(images)
        self._waiting.set(waiting)

    def count_refusal(self, code: str) -> None:
        """Count one problem document."""
        self._refusals.labels(code).inc()

    def render(self) -> bytes:
        """Render all processes' metrics in Prometheus's text format."""
        registry = self._registry
        if self._directory:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, str(self._directory))  # type: ignore[no-untyped-call]
        drift = CollectorRegistry()
        if self._drift:
            drift.register(self._drift)
        return generate_latest(registry) + generate_latest(drift)


class DriftGauges(Collector):
    """Gauges of the served version's drift. They already cover all processes, so they are not shared files."""

    def __init__(self, drift: Drift, model: tuple[str, str]) -> None:
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


def forget_process(directory: Path | None, pid: int) -> None:
    """Remove a dead process's gauges from the shared directory; its counters stay."""
    if directory:
        mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]
