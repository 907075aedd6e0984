"""What replicas of the service on several machines have counted, brought together by the one that is asked."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

Model: TypeAlias = tuple[str, str]  # name and version


class Report(NamedTuple):
    """What one replica has counted."""

    replica: str  # unique among those of the service
    metrics: bytes  # in Prometheus's text format, without drift
    drift: dict[Model, NDArray[np.int64]]  # images of the last hour in each bin (bins,), by version


async def ask_nobody() -> Sequence[Report]:
    """Return the reports of no replicas: this service counts for itself."""
    return ()


def render_replicas(reports: Sequence[Report]) -> bytes:
    """Render the metrics of all replicas in Prometheus's text format, each series with the label `replica`.

    A sum would fall when a replica ends, which `rate` takes for a restart of all.
    """
    registry = CollectorRegistry()
    registry.register(_Families(reports))
    return generate_latest(registry)


def drift_counts(reports: Sequence[Report], model: Model) -> NDArray[np.int64] | None:
    """Sum the recent images of the replicas that serve this version (bins,); None if there are none."""
    counts = [report.drift[model] for report in reports if model in report.drift]
    return np.sum(counts, axis=0, dtype=np.int64) if counts else None


class _Families(Collector):
    def __init__(self, reports: Sequence[Report]) -> None:
        self._reports = reports

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for report in self._reports:
            for family in text_string_to_metric_families(report.metrics.decode()):
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                merged.samples += [_named(sample, report.replica) for sample in family.samples]
        yield from families.values()


def _named(sample: Sample, replica: str) -> Sample:
    return sample._replace(labels=sample.labels | {"replica": replica})
