"""What several replicas have counted, as the one that is asked tells it. Ray itself is in tests/cluster."""

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.monitoring.replicas import Report, drift_counts
from tests.app.conftest import png


@pytest.fixture
def replicas(client_with):
    """Two services; the first one asks for what both have counted."""
    clients = {name: client_with() for name in ("a", "b")}

    async def ask() -> list[Report]:
        return [client.app.state.metrics.report(name) for name, client in clients.items()]

    clients["a"].app.state.ask_replicas = ask
    return clients["a"], clients["b"]


def test_every_series_of_a_replica_is_there_once_with_its_name(replicas):
    first, second = replicas
    alone = {series(sample) for sample in samples(second) if "drift" not in sample.name}
    for client, count in ((first, 1), (second, 2)):
        for _ in range(count):
            assert client.post("/predict", content=png()).status_code == 200
    together = [sample for sample in samples(first) if "drift" not in sample.name]
    named = {series(sample) for sample in together}
    assert len(named) == len(together)
    assert {(name, labels | {("replica", "b")}) for name, labels in alone} <= named
    asked = {"route": "/predict", "status": "200"}
    counts = {
        sample.labels["replica"]: sample.value
        for sample in together
        if sample.name == "cifar10_request_seconds_count" and asked.items() <= sample.labels.items()
    }
    assert counts == {"a": 1, "b": 2}


def test_drift_is_that_of_all_replicas_together(replicas):
    first, second = replicas
    for client, count in ((first, 2), (second, 3)):
        for _ in range(count):
            assert client.post("/predict", content=png()).status_code == 200
    assert first.get("/model/drift").json()["images"] == 5
    assert second.get("/model/drift").json()["images"] == 3
    assert [sample.value for sample in samples(first) if sample.name == "cifar10_drift_images"] == [5]


def test_replicas_that_serve_another_version_are_left_out_of_drift():
    one, other = ("cifar10", "1"), ("cifar10", "2")
    reports = [
        Report("a", b"", {one: np.array([1, 2])}),
        Report("b", b"", {other: np.array([9])}),
        Report("c", b"", {}),
    ]
    counts = drift_counts(reports, one)
    assert counts is not None and counts.tolist() == [1, 2]
    assert drift_counts(reports, ("cifar10", "3")) is None


def samples(client) -> list:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return [sample for family in families for sample in family.samples]


def series(sample) -> tuple[str, frozenset]:
    return sample.name, frozenset(sample.labels.items())
