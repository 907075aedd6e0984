"""Prometheus metrics for /metrics: numbers under fixed names, without any data from requests.

All processes write to memory-mapped files in one directory, so any of them can report for all. Every label value that
is known at the start is there from then on, with 0: Prometheus's `rate` misses the first event of a new series.
"""

import collections
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app import __version__
from app.monitoring.drift import Drift
from app.monitoring.logs import RequestRecord
from app.monitoring.metric_files import render_files, share_values
from app.monitoring.replicas import Model, Report, drift_counts, render_replicas

SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


STAGES = "receive", "decode", "queue", "infer", "serialize"
RESULTS = "served", "refused"  # of a version that the store chose
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4_096


@dataclass(frozen=True)
class Sample:
    """The work of this process at one moment, and the counts since the last sample."""

    in_flight: int = 0  # requests for predictions whose bodies have arrived
    uploads: int = 0  # bodies that are arriving
    waiting: int = 0  # images in the queue
    connections: int = 0
    skipped_versions: int = 0  # better than the one that is served, but unusable
    has_store_problem: bool = False  # the store cannot be followed
    closed: Mapping[str, int] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)  # of other processes, by reason


class Metrics:
    """Records the metrics of this process and renders those of all processes."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory` is shared by the processes; None for this process alone.

        prometheus_client reads it from the environment when it is imported: see process/shared_directory.py.
        """
        self._directory = directory
        self._number = share_values(directory) if directory else None  # open for as long as it is this process's
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
        self._in_flight = self._gauge("in_flight_requests", "Requests for predictions whose bodies have arrived")
        self._uploads = self._gauge("uploads", "Bodies of such requests that are arriving")
        self._waiting = self._gauge("waiting_images", "Images that wait for the network")
        self._connections = self._gauge("connections", "Open connections")
        self._memory = self._gauge("resident_bytes", "Resident memory of all processes; what they share counts in each")
        self._files = self._gauge("open_files", "Open file descriptors of all processes")
        self._processes = self._gauge("processes", "Processes of the service")
        self._expected = self._shared("expected_processes", "Processes that the service should have")
        self._memory_limit = self._shared("memory_limit_bytes", "Memory that all processes together may take")
        self._skipped = self._shared("skipped_versions", "Better versions that cannot be served")
        self._store_problem = self._shared("store_problem", "1 while the store cannot be followed, else 0")
        self._restarts = Counter(
            "cifar10_process_restarts",
            "Processes that ended or hung and were replaced, by reason",
            ["reason"],
            registry=self._registry,
        )
        self._closed = Counter(
            "cifar10_connections_closed",
            "Connections closed because of their clients, by reason",
            ["reason"],
            registry=self._registry,
        )
        self._build = self._info("build", "Version of the service", ["service"])
        self._build.labels(__version__).set(1)
        self._served = self._info("model", "The served model", ["model", "version", "engine", "precision"])
        self._refusals = Counter(
            "cifar10_refusals", "Requests answered with a problem, by error code", ["code"], registry=self._registry
        )
        self._dropped_lines = Counter(
            "cifar10_log_lines_dropped", "Log lines that stderr did not take", registry=self._registry
        )
        self._versions = Counter(
            "cifar10_version_changes",
            "Versions of the store that took over, or were refused, since the start",
            ["result"],
            registry=self._registry,
        )
        self._serving = self._gauge("serving_processes", "Processes that serve this version", ["model", "version"])
        self.before_report: Callable[[], None] = lambda: None  # adds finished requests that are not counted yet
        self._model: Model = ("", "")
        self._served_labels: tuple[str, ...] = ()
        self._drift: Drift | None = None
        self._request_series, self._stage_series = cache(self._requests.labels), cache(self._stages.labels)
        self._batch_series = cache(self._batches.labels)

    def _gauge(self, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
        return Gauge(f"cifar10_{name}", text, tuple(labels), multiprocess_mode="livesum", registry=self._registry)

    def _info(self, name: str, text: str, labels: Iterable[str]) -> Gauge:
        """Make a gauge that is 1, for its labels."""
        return self._shared(f"{name}_info", text, labels)

    def _shared(self, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
        """Make a gauge that has the same value in every process."""
        return Gauge(f"cifar10_{name}", text, tuple(labels), multiprocess_mode="livemax", registry=self._registry)

    def declare(
        self, codes: Iterable[str], routes: Iterable[str], reasons: Iterable[str], end_reasons: Iterable[str]
    ) -> None:
        """Report 0 for these error codes, routes of predictions, and reasons for closed connections and restarts."""
        for code in codes:
            self._refusals.labels(code)
        for route in routes:
            for status in (200, 503):
                self._request_series(route, status)
        for reason in reasons:
            self._closed.labels(reason)
        for reason in end_reasons:
            self._restarts.labels(reason)
        for result in RESULTS:
            self._versions.labels(result)

    def set_limits(self, processes: int, memory_bytes: int) -> None:
        """Report the number of processes the service should have, and the memory they may take together."""
        self._expected.set(processes)
        self._memory_limit.set(memory_bytes)

    def watch_model(self, model: Model, engine: str, precision: str, drift: Drift) -> None:
        """Report this model as the one that is served, with its drift."""
        if self._served_labels:
            self._serving.labels(*self._model).set(0)
            self._served.labels(*self._served_labels).set(0)
        self._served_labels = *model, engine, precision
        self._serving.labels(*model).set(1)
        self._served.labels(*self._served_labels).set(1)
        self._batch_series(*model)
        for stage in STAGES:
            self._stage_series(stage, *model)
        self._model, self._drift = model, drift

    def count_version(self, result: Literal["served", "refused"]) -> None:
        """Count a version that took over from another, or was refused."""
        self._versions.labels(result).inc()

    def sample(self, sample: Sample) -> None:
        """Report the work and the resources of this process now."""
        self._in_flight.set(sample.in_flight)
        self._uploads.set(sample.uploads)
        self._waiting.set(sample.waiting)
        self._connections.set(sample.connections)
        self._skipped.set(sample.skipped_versions)
        self._store_problem.set(sample.has_store_problem)
        self._processes.set(1)
        for reason, count in sample.closed.items():
            self._closed.labels(reason).inc(count)
        for reason, count in sample.restarts.items():
            self._restarts.labels(reason).inc(count)
        try:
            self._memory.set(int(Path("/proc/self/statm").read_bytes().split()[1]) * PAGE_BYTES)
            self._files.set(sum(1 for _ in Path("/proc/self/fd").iterdir()))
        except OSError:  # not Linux
            pass

    def observe_requests(self, records: Sequence[RequestRecord]) -> None:
        """Record the durations of finished requests and of their stages."""
        seconds: collections.defaultdict[Histogram, list[float]] = collections.defaultdict(list)
        for record in records:
            seconds[self._request_series(record.route, record.status)].append(record.seconds)
            model = record.model or self._model  # None if the request was refused before it was admitted
            for stage, (began, ended) in record.stages.items():
                seconds[self._stage_series(stage, *model)].append(ended - began)
        for series, durations in seconds.items():
            _observe_all(series, durations)

    def observe_batch(self, model: Model, images: int) -> None:
        """Record one call of the network."""
        self._batch_series(*model).observe(images)

    def count_refusal(self, code: str) -> None:
        """Count one problem document."""
        self._refusals.labels(code).inc()

    def count_dropped_lines(self, lines: int) -> None:
        """Count log lines that could not be written."""
        self._dropped_lines.inc(lines)

    def render(self, replicas: Sequence[Report] = ()) -> bytes:
        """Render all processes' metrics in Prometheus's text format; only this one's if the files cannot be read.

        Args:
            replicas: what the replicas of this service have counted; their metrics in place of this process's.
        """
        self.before_report()
        rendered, drift = render_replicas(replicas) if replicas else self._render(), CollectorRegistry()
        if self._drift:
            drift.register(DriftGauges(self._drift, self._model, drift_counts(replicas, self._model)))
        return rendered + generate_latest(drift)

    def report(self, replica: str) -> Report:
        """Return what this process has counted, for another replica."""
        self.before_report()
        counts = self._drift.counts() if self._drift else None
        return Report(replica, self._render(), {} if counts is None else {self._model: counts})

    def _render(self) -> bytes:
        rendered = render_files(self._directory) if self._directory else None
        return rendered or generate_latest(self._registry)


def _observe_all(series: Histogram, values: Sequence[float]) -> None:
    """Do what `series.observe` does for each value, but write each number once: writes cost more than all else."""
    series._sum.inc(sum(values))
    for bucket, count in collections.Counter(bisect_left(series._upper_bounds, value) for value in values).items():
        series._buckets[bucket].inc(count)


class DriftGauges(Collector):
    """Gauges of the served version's drift. They already cover all processes, so they are not shared files."""

    def __init__(self, drift: Drift, model: Model, counts: NDArray[np.int64] | None) -> None:
        self._drift, self._model, self._counts = drift, model, counts

    def collect(self) -> Iterator[Metric]:
        """Report the current drift, without an index while there are too few images."""
        count, comparisons = self._drift.compare_recent(self._counts)
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
