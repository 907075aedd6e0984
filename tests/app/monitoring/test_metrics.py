"""/metrics, of one process and of several."""

import os
import subprocess
import sys

import httpx2
import pytest

from tests.app.conftest import png
from tests.app.service import ROOT, needs_reuseport, serving, wait_for_processes
from tests.waiting import wait_until

STAGES = ["receive", "decode", "queue", "infer", "serialize"]


def test_metrics_count_requests_stages_batches_and_refusals(client_with):
    client = client_with()
    for _ in range(3):
        client.post("/predict", content=png())
    client.post("/predict", content=b"no image")
    client.post("/marked-path", content=png())
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#"))
    version = client.get("/health").json()["model"]["version"]
    served = f'model="cifar10",{{}}version="{version}"'
    assert lines['cifar10_request_seconds_count{route="/predict",status="200"}'] == "3.0"
    assert lines['cifar10_request_seconds_count{route="/predict",status="415"}'] == "1.0"
    assert lines['cifar10_request_seconds_count{route="unknown",status="404"}'] == "1.0"
    assert lines['cifar10_refusals_total{code="unsupported_image"}'] == "1.0"
    assert lines[f"cifar10_batch_images_sum{{{served.format('')}}}"] == "3.0"
    for stage in STAGES:
        name = f'cifar10_stage_seconds_count{{model="cifar10",stage="{stage}",version="{version}"}}'
        assert lines[name] == ("4.0" if stage == "receive" else "3.0")
    assert lines[f'cifar10_stage_seconds_bucket{{le="0.00025",model="cifar10",stage="queue",version="{version}"}}']
    assert lines["cifar10_waiting_images"] == "0.0"
    assert "marked" not in client.get("/metrics").text


@pytest.mark.process
@needs_reuseport
def test_whichever_process_is_asked_its_metrics_are_those_of_all(tmp_path):
    with serving(tmp_path, workers="2", drain_seconds="0") as server:
        wait_for_processes(server, 2)
        for _ in range(30):
            assert httpx2.post(server.url("/predict"), content=png()).status_code == 200
        wait_until(lambda: len([line for line in server.lines() if line.get("route") == "/predict"]) == 30)
        assert len(server.processes(route="/predict")) == 2
        assert {predictions(httpx2.get(server.url("/metrics")).text) for _ in range(10)} == {30.0}


def predictions(metrics: str) -> float:
    """The number of successful requests to /predict."""
    start = 'cifar10_request_seconds_count{route="/predict",status="200"} '
    (line,) = [line for line in metrics.splitlines() if line.startswith(start)]
    return float(line.removeprefix(start))


OBSERVE = """
import resource, sys
from pathlib import Path
from app.monitoring.metrics import Metrics
metrics = Metrics(Path(sys.argv[1]))
for number in range(20):
    metrics.observe_request(f"/{number}", 200, 0.1, {})
    if number == 9 and len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
sys.stdout.write(metrics.render().decode())
"""


def observe(directory, *limit: str) -> subprocess.CompletedProcess:
    """The metrics of a process that has observed one request to each of twenty routes."""
    return subprocess.run(
        [sys.executable, "-c", OBSERVE, str(directory), *limit],
        cwd=ROOT,
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(directory)},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.slow
def test_a_process_goes_on_with_the_counts_of_one_that_ended(tmp_path):
    observe(tmp_path)
    files = set(tmp_path.iterdir())
    counted = [line for line in observe(tmp_path).stdout.splitlines() if "request_seconds_count{" in line]
    assert len(counted) == 20 and all(line.endswith(" 2.0") for line in counted)
    assert set(tmp_path.iterdir()) == files


@pytest.mark.slow
def test_metrics_without_room_are_left_out_and_named_once(tmp_path):
    printed = observe(tmp_path, "40000")
    counted = [line for line in printed.stdout.splitlines() if "request_seconds_count{" in line]
    complete = [line for line in counted if line.endswith(" 1.0")]
    assert 9 <= len(counted) - 1 <= len(complete) < 20  # the last series has lost some of its buckets
    assert printed.stderr.count("are incomplete: File too large") == 1


@pytest.mark.slow
def test_without_the_directory_a_process_reports_its_own_metrics(tmp_path):
    printed = observe(tmp_path / "gone")
    assert printed.stdout.count("request_seconds_count{") == 20
    assert printed.stderr.count("are incomplete") == 1
