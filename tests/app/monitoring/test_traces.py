"""Traces of the real service, at a collector that speaks OTLP, hangs or is missing; and no trace of them when off."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.app.conftest import png
from tests.app.service import ROOT, Server, answering_processes, needs_reuseport, serving, stop, wait_for_processes
from tests.waiting import wait_until

pytestmark = pytest.mark.process
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = ["receive", "decode", "queue", "infer", "serialize"]
LOST = "spans are lost, requests go on"


class Collector(ThreadingHTTPServer):
    """Takes spans as OpenTelemetry's collector does, over HTTP as protobuf."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), TakeSpans)
        self.received: list[ExportTraceServiceRequest] = []

    def spans(self, **wanted: str) -> list[tuple[dict, Span]]:
        """The spans so far whose attributes are these, each with its resource's attributes."""
        found = []
        for request in list(self.received):
            for group in request.resource_spans:
                resource = attributes(group.resource.attributes)
                found += [(resource, span) for scope in group.scope_spans for span in scope.spans]
        return [pair for pair in found if wanted.items() <= attributes(pair[1].attributes).items()]


class TakeSpans(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        known = (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
        if known:
            self.server.received.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def attributes(pairs: list[KeyValue]) -> dict:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        thread = Thread(target=collector.serve_forever)
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


@contextmanager
def unanswering() -> Iterator[int]:
    """A port where connections are made and nothing is answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def tracing(tmp_path: Path, port: int, **settings: str):
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    return serving(tmp_path, **({"traces": "otlp", "drain_seconds": "0", "workers": "1"} | variables | settings))


def predict(server: Server, identity: str = "", **headers: str) -> httpx2.Response:
    sent = {"X-Request-ID": identity} if identity else {}
    return httpx2.post(server.url("/predict"), content=png(), headers=sent | headers)


def lost(server: Server) -> list[str]:
    return [line["message"] for line in server.lines() if line["message"].startswith(LOST)]


def test_a_collector_gets_the_trace_of_a_request_and_the_log_its_ids(tmp_path, collector):
    names = {"OTEL_SERVICE_NAME": "photos", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test"}
    with tracing(tmp_path, collector.server_port, **names) as server:
        predict(server, "traced-1", traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="vendor=7")
        assert stop(server) == 0  # exports what is left
        (line,) = [line for line in server.lines() if line.get("request_id") == "traced-1"]
    ((resource, span),) = collector.spans(**{"cifar10.request_id": "traced-1"})
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("POST /predict", TRACE, PARENT)
    assert (span.kind, span.trace_state) == (Span.SPAN_KIND_SERVER, "vendor=7")
    assert (line["trace_id"], line["span_id"], line["trace_flags"]) == (TRACE, span.span_id.hex(), "01")
    assert (resource["service.name"], resource["deployment.environment"]) == ("photos", "test")
    stages = [stage for _, stage in collector.spans() if stage.parent_span_id == span.span_id]
    assert [stage.name for stage in stages] == STAGES and {stage.trace_id for stage in stages} == {span.trace_id}


@needs_reuseport
def test_every_process_exports_its_own_spans(tmp_path, collector):
    with tracing(tmp_path, collector.server_port, workers="2") as server:
        wait_for_processes(server, 2)

        def exporting() -> set[int]:
            answering_processes(server)
            return {resource["process.pid"] for resource, _ in collector.spans(**{"http.route": "/health"})}

        wait_until(lambda: len(exporting()) == 2, server.log.read_text)
        assert exporting() == answering_processes(server)


def test_the_sampler_of_the_environment_decides_without_a_parent(tmp_path, collector):
    never = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}
    with tracing(tmp_path, collector.server_port, **never) as server:
        predict(server, "alone")
        predict(server, "asked", traceparent=f"00-{TRACE}-{PARENT}-01")
        assert stop(server) == 0
        flags = {line["request_id"]: line["trace_flags"] for line in server.lines() if "trace_flags" in line}
    requests = {attributes(span.attributes).get("cifar10.request_id") for _, span in collector.spans()}
    assert requests - {None} == {"asked"} and (flags["alone"], flags["asked"]) == ("00", "01")


def test_requests_go_on_while_the_collector_hangs_and_the_service_stops_without_it(tmp_path):
    small = {"OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
    with unanswering() as port, tracing(tmp_path, port, **small) as server:
        assert {predict(server).status_code for _ in range(30)} == {200}
        assert stop(server) == 0
        (message,) = lost(server)
        last = server.lines()
    assert "Queue full" in message and "OTEL_TRACES_SAMPLER" in message
    assert [line["message"] for line in last if line["message"].startswith("the last spans are lost")]


def test_requests_go_on_without_a_collector(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]  # nobody's, once it is closed
    with tracing(tmp_path, port, OTEL_EXPORTER_OTLP_TIMEOUT="1") as server:
        assert predict(server).status_code == 200
        wait_until(lambda: lost(server), server.log.read_text)
        assert {predict(server).status_code for _ in range(30)} == {200}
        assert stop(server) == 0
        assert len(lost(server)) == 1 and not [line for line in server.lines() if "opentelemetry" in line["logger"]]


OFF = """
import json, sys
from starlette.testclient import TestClient
from app.monitoring.traces import start_traces, traces_problem
from app.settings import Settings
from tests.app.conftest import png, running
settings = Settings()
assert start_traces(settings) is traces_problem(settings) is None
with running(settings) as client:
    status = client.post("/predict", content=png()).status_code
import app.server
print(json.dumps([status, sorted(sys.modules)]))
"""


def test_off_nothing_of_the_sdk_is_imported_even_if_its_variables_are_set():
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "otlp"}
    run = subprocess.run(
        [sys.executable, "-c", OFF], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True
    )
    status, modules = json.loads(run.stdout.splitlines()[-1])
    assert status == 200 and "app.monitoring.traces" in modules
    # FastAPI itself imports opentelemetry-api, which only forwards to an SDK.
    sdk = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto", "google.protobuf", "requests")
    assert [module for module in modules if module.startswith(sdk) or module == "app.monitoring.spans"] == []


WITHOUT_SDK = "import sys; sys.modules['opentelemetry.sdk'] = None"


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["check"]], ids=["serve", "check"])
@pytest.mark.parametrize(
    ("prepared", "variables", "expected"),
    [
        (WITHOUT_SDK, {}, ["has no opentelemetry.sdk", "requirements/traces.txt", "make traces"]),
        ("", {"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, ["max_queue_size must be a positive integer", "OTEL_"]),
    ],
    ids=["packages are missing", "a variable is wrong"],
)
def test_traces_that_cannot_be_made_stop_the_start_with_a_remedy(tmp_path, command, prepared, variables, expected):
    (tmp_path / "sitecustomize.py").write_text(prepared)
    environment = os.environ | {"CIFAR10_TRACES": "otlp", "PYTHONPATH": str(tmp_path)} | variables
    run = subprocess.run(
        [sys.executable, "-m", "app", *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 2 and run.stderr.startswith("error: CIFAR10_TRACES is otlp, but ")
    assert all(part in run.stderr for part in expected), run.stderr
