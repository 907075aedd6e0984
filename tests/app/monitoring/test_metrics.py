"""/metrics, of one process and of several."""

import os
import re
import signal
import subprocess
import sys

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Histogram

from app import __version__
from app.errors import CODES
from app.monitoring.metrics import SECONDS, _observe_all
from app.process.open_connections import REASONS
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


def test_metrics_are_sent_compressed_to_those_that_accept_it(client):
    compressed = client.get("/metrics", headers={"Accept-Encoding": "gzip"})
    plain = client.get("/metrics", headers={"Accept-Encoding": "identity"})
    assert compressed.headers["content-encoding"] == "gzip" and "content-encoding" not in plain.headers
    assert compressed.num_bytes_downloaded < plain.num_bytes_downloaded / 8
    assert compressed.text.splitlines()[:5] == plain.text.splitlines()[:5]


def test_what_is_known_at_the_start_is_there_with_zero(client_with):
    lines = client_with().get("/metrics").text.splitlines()
    for code in CODES:
        assert f'cifar10_refusals_total{{code="{code}"}} 0.0' in lines or code == "not_ready"  # asked while it started
    for reason in REASONS:
        assert f'cifar10_connections_closed_total{{reason="{reason}"}} 0.0' in lines
    for route in ("/predict", "/predict/batch", "/explain", "/v2/models/{model}/infer", "/invocations"):
        assert f'cifar10_request_seconds_count{{route="{route}",status="200"}} 0.0' in lines
        assert f'cifar10_request_seconds_count{{route="{route}",status="503"}} 0.0' in lines
    for result in ("served", "refused"):
        assert f'cifar10_version_changes_total{{result="{result}"}} 0.0' in lines
    for stage in STAGES:
        assert any(line.startswith("cifar10_stage_seconds_count") and f'stage="{stage}"' in line for line in lines)
    assert f'cifar10_build_info{{service="{__version__}"}} 1.0' in lines
    assert any(line.startswith("cifar10_model_info") and line.endswith(" 1.0") for line in lines)


def sampled(client, name: str) -> float:
    (value,) = re.findall(rf"^cifar10_{name} (.+)$", client.get("/metrics").text, re.MULTILINE)
    return float(value)


def test_gauges_follow_what_the_service_is_doing(client_with):
    client = client_with(max_memory_mb=900)
    pipeline = client.app.state.pipeline
    wait_until(lambda: sampled(client, "resident_bytes") > 50e6)
    assert sampled(client, "processes") == sampled(client, "expected_processes") == 1
    assert sampled(client, "memory_limit_bytes") == 900e6 and sampled(client, "open_files") > 3
    assert sampled(client, "in_flight_requests") == sampled(client, "waiting_images") == sampled(client, "uploads") == 0
    serving = pipeline.admit()
    wait_until(lambda: sampled(client, "in_flight_requests") == 1)
    pipeline.release(serving)
    wait_until(lambda: sampled(client, "in_flight_requests") == 0)  # although nothing else arrives


@pytest.mark.process
def test_connections_are_counted_and_those_that_wait_too_long_by_reason(tmp_path):
    with serving(tmp_path, workers="1", drain_seconds="0", keep_alive_seconds="1") as server:
        idle = server.connect()
        idle.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(1_000)
        count = re.compile(r'^cifar10_connections_closed_total{reason="idle"} (.+)$', re.MULTILINE)
        wait_until(lambda: float(count.findall(httpx2.get(server.url("/metrics")).text)[0]) == 1)
        assert idle.recv(1_000) == b""
        idle.close()


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
        lines = httpx2.get(server.url("/metrics")).text.splitlines()
        assert {"cifar10_processes 2.0", "cifar10_expected_processes 2.0"} <= set(lines)


@pytest.mark.process
@needs_reuseport
def test_processes_that_have_ended_are_left_out_of_gauges(tmp_path):
    with serving(tmp_path, workers="2", drain_seconds="0") as server:
        wait_until(lambda: len(server.processes(message="ready")) == 2, server.log.read_text)
        server.process.send_signal(signal.SIGHUP)  # a stand-in comes and goes
        wait_until(lambda: len([line for line in server.lines() if line["message"] == "ready"]) == 5)
        wait_until(lambda: "cifar10_processes 2.0" in httpx2.get(server.url("/metrics")).text, server.log.read_text)
        assert 'cifar10_serving_processes{model="cifar10",version="8"} 2.0' in httpx2.get(server.url("/metrics")).text


def predictions(metrics: str) -> float:
    """The number of successful requests to /predict."""
    start = 'cifar10_request_seconds_count{route="/predict",status="200"} '
    (line,) = [line for line in metrics.splitlines() if line.startswith(start)]
    return float(line.removeprefix(start))


@given(st.lists(st.one_of(st.integers(0, 20_000).map(lambda ms: ms / 1_000), st.sampled_from(SECONDS)), min_size=1))
def test_values_counted_together_are_counted_as_prometheus_client_counts_each(values):
    together, apart = (Histogram("seconds", "", buckets=SECONDS, registry=None) for _ in range(2))
    _observe_all(together, values)
    for value in values:
        apart.observe(value)
    ours, theirs = (
        {
            (sample.name, *sample.labels.values()): sample.value
            for sample in metric.samples
            if "created" not in sample.name
        }
        for histogram in (together, apart)
        for metric in histogram.collect()
    )
    assert ours == pytest.approx(theirs)


OBSERVE = """
import resource, sys
from pathlib import Path
from app.monitoring.logs import RequestRecord
from app.monitoring.metrics import Metrics
metrics = Metrics(Path(sys.argv[1]))
for number in range(20):
    metrics.observe_requests([RequestRecord("", "POST", f"/{number}", 200, 0.0, 0.1, {}, None)])
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
