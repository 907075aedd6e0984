"""Spans of requests and their stages, as an exporter in memory gets them."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from starlette.testclient import TestClient

from app.access.key_file import append_key
from app.errors import CODES
from app.monitoring.logs import JsonFormatter
from app.monitoring.spans import Spans
from app.settings import Settings
from tests.app.conftest import png, running
from tests.app.monitoring.test_middleware import server_timing
from tests.app.protocols.bodies import b64
from tests.waiting import wait_until

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


class Traced:
    """A client, and the spans of its requests."""

    def __init__(self, client: TestClient, exporter: InMemorySpanExporter) -> None:
        self.client, self.exporter = client, exporter

    def ask(self, method: str, path: str, **request) -> tuple:
        """Send a request and return its answer, its span and those of its stages."""
        response = self.client.request(method, path, **request)
        span = wait_until(lambda: self._span(response.headers["x-request-id"]))
        return response, span, [stage for stage in self.exporter.get_finished_spans() if stage.parent == span.context]

    def _span(self, identity: str) -> ReadableSpan | None:
        """The request's span, which ends after those of its stages."""
        spans = self.exporter.get_finished_spans()
        return next((span for span in spans if span.attributes.get("cifar10.request_id") == identity), None)


@pytest.fixture(scope="module")
def traced_with() -> Iterator[Callable[..., Traced]]:
    """Makes traced services and stops them at the end."""
    with ExitStack() as services:

        def make(**settings) -> Traced:
            exporter = InMemorySpanExporter()
            spans = Spans(SimpleSpanProcessor(exporter))
            return Traced(services.enter_context(running(Settings(**settings), spans=spans)), exporter)

        yield make


@pytest.fixture(scope="module")
def traced(traced_with) -> Traced:
    return traced_with()


FILES = [("files", (f"{n}.png", png(n))) for n in range(4)]
BYTES = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [b64()]}
PREDICTIONS = {
    "body": ("/predict", "/predict", 1, {"content": png()}),
    "form": ("/predict", "/predict", 1, {"files": {"file": ("cat.png", png())}}),
    "parameter": ("/predict?top_k=2", "/predict", 1, {"content": png()}),
    "batch": ("/predict/batch", "/predict/batch", 4, {"files": FILES}),
    "explanation": ("/explain", "/explain", 1, {"content": png()}),
    "v1": ("/v1/models/cifar10:predict", "/v1/models/{model}:predict", 1, {"json": {"instances": [{"b64": b64()}]}}),
    "v2": ("/v2/models/cifar10/infer", "/v2/models/{model}/infer", 1, {"json": {"inputs": [BYTES]}}),
    "sagemaker": ("/invocations", "/invocations", 1, {"content": png()}),
}


@pytest.mark.parametrize(("path", "route", "images", "request_"), PREDICTIONS.values(), ids=PREDICTIONS)
def test_a_request_has_a_span_and_each_of_its_stages_one_inside(traced, path, route, images, request_):
    response, span, stages = traced.ask("POST", path, **request_)
    assert (response.status_code, span.name, span.kind, span.parent) == (200, f"POST {route}", SpanKind.SERVER, None)
    model = traced.client.get("/health").json()["model"]
    assert dict(span.attributes) == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "http.route": route,
        "http.response.status_code": 200,
        "cifar10.request_id": response.headers["x-request-id"],
        "cifar10.model": model["name"],
        "cifar10.version": model["version"],
        "cifar10.images": images,
    }
    assert span.status.status_code is StatusCode.UNSET
    assert all(stage.parent == span.context and stage.kind is SpanKind.INTERNAL for stage in stages)
    assert all(span.start_time <= stage.start_time <= stage.end_time <= span.end_time for stage in stages)


@pytest.mark.parametrize(("path", "route", "images", "request_"), PREDICTIONS.values(), ids=PREDICTIONS)
def test_the_stages_are_those_of_server_timing_with_the_same_times(traced, path, route, images, request_):
    response, _, stages = traced.ask("POST", path, **request_)
    times = server_timing(response)
    del times["total"]
    assert {stage.name: (stage.end_time - stage.start_time) / 1e6 for stage in stages} == pytest.approx(
        times, abs=0.001
    )
    assert [stage.start_time for stage in stages] == sorted(stage.start_time for stage in stages)


def test_the_call_of_the_network_says_how_many_images_it_had(traced):
    _, _, stages = traced.ask("POST", "/predict/batch", files=FILES)
    assert {stage.name: dict(stage.attributes) for stage in stages if stage.attributes} == {
        "infer": {"cifar10.batch_images": 4}
    }


def test_a_request_becomes_part_of_its_clients_trace(traced):
    _, span, stages = traced.ask("POST", "/predict", content=png(), headers=SAMPLED | {"tracestate": "vendor=7,b=c"})
    assert (format_trace_id(span.context.trace_id), format_span_id(span.parent.span_id)) == (TRACE, PARENT)
    assert span.parent.is_remote and dict(span.context.trace_state) == {"vendor": "7", "b": "c"}
    assert {stage.context.trace_id for stage in stages} == {span.context.trace_id}


MALFORMED = {
    "words": "not-a-trace",
    "zeros": f"00-{'0' * 32}-{PARENT}-01",
    "a version that cannot be": f"ff-{TRACE}-{PARENT}-01",
    "long": f"00-{TRACE}-{PARENT}-01-" + "x" * 100_000,
    "not ASCII": b"00-\xff\xfe",
}


@pytest.mark.parametrize("traceparent", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_traceparent_begins_a_trace(traced, traceparent):
    response, span, _ = traced.ask("GET", "/health/live", headers={"traceparent": traceparent})
    assert (response.status_code, span.parent) == (200, None)
    assert format_trace_id(span.context.trace_id) != TRACE


@pytest.mark.parametrize("tracestate", ["a=1," * 5_000, " \t" * 50_000, "\t,=" * 30_000, "a=1,a=2"])
def test_a_malformed_tracestate_is_ignored(traced, tracestate):
    _, span, _ = traced.ask("GET", "/health/live", headers=SAMPLED | {"tracestate": tracestate})
    assert (format_trace_id(span.context.trace_id), dict(span.context.trace_state)) == (TRACE, {})


def test_headers_of_clients_are_not_logged(traced, caplog):
    with caplog.at_level(logging.DEBUG):
        traced.ask("GET", "/health/live", headers=SAMPLED | {"tracestate": "marked"})
    assert "marked" not in caplog.text


def test_a_trace_that_its_client_does_not_sample_has_no_spans_here(traced):
    traces = {flags: f"{number:032x}" for number, flags in enumerate(("00", "01"), 1)}
    for flags, trace in traces.items():  # in this order, so the last span comes after any of the first request
        headers = {"traceparent": f"00-{trace}-{PARENT}-{flags}"}
        assert traced.client.post("/predict", content=png(), headers=headers).status_code == 200

    def seen() -> set[str]:
        return {format_trace_id(span.context.trace_id) for span in traced.exporter.get_finished_spans()}

    wait_until(lambda: traces["01"] in seen())
    assert traces["00"] not in seen()


REFUSALS = {
    "too_large": ("POST", "/predict", {"content": b"x" * 1_001}),
    "unsupported_image": ("POST", "/predict", {"content": b"no image"}),
    "malformed_request": ("POST", "/v1/models/cifar10:predict", {"content": b"no JSON"}),
    "invalid_parameter": ("POST", "/predict?top_k=none", {"content": b"x"}),
    "not_found": ("GET", "/nothing-here", {}),
    "method_not_allowed": ("DELETE", "/predict", {}),
    "not_ready": ("POST", "/predict", {"content": b"x"}),
    "key_required": ("POST", "/predict", {"content": b"x"}),
}
SETTINGS = {"not_ready": {"store": "/nowhere"}, "key_required": {"access": "keys"}}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_has_a_span_with_its_code(traced_with, tmp_path, code):
    append_key(tmp_path / "keys", "somebody", None)
    keys = {"keys_file": tmp_path / "keys"} if code == "key_required" else {}
    method, path, request = REFUSALS[code]
    traced = traced_with(max_body_bytes=1_000, **SETTINGS.get(code, {}), **keys)
    response, span, _ = traced.ask(method, path, **request)
    status = CODES[code][0]
    assert (response.status_code, span.attributes["http.response.status_code"]) == (status, status)
    assert span.attributes["error.type"] == code
    assert span.status.status_code is (StatusCode.ERROR if status >= 500 else StatusCode.UNSET)


def test_a_span_has_a_route_or_only_a_method_never_a_path(traced):
    assert traced.ask("GET", "/holiday-photo.jpg")[1].name == "GET"
    assert traced.ask("BREW", "/predict")[1].name == "HTTP /predict"
    assert traced.ask("HEAD", "/health")[1].name == "HEAD /health"


def test_nothing_of_an_upload_is_in_its_spans(traced):
    word = "marked"
    files = {"file": (f"{word}.png", png() + word.encode())}
    headers = {"User-Agent": word, "Referer": f"http://{word}/"}
    spans = []
    for path in (
        "/predict",
        f"/predict?note={word}",
        f"/{word}.png",
        f"/model/report/{word}",
        f"/v1/models/{word}:predict",
    ):
        _, span, stages = traced.ask("POST", path, files=files, headers=headers)
        spans += [span, *stages]
    assert len(spans) > 10 and word not in "".join(span.to_json() for span in spans)


def test_an_error_nobody_foresaw_is_in_the_log_under_the_ids_of_its_span(traced_with, tmp_path):
    def broken() -> None:
        raise RuntimeError("secret")

    traced = traced_with(store=tmp_path)
    traced.client.app.add_api_route("/broken", broken)
    formatted = Formatted()
    logging.getLogger("app").addFilter(formatted)
    try:
        _, span, _ = traced.ask("GET", "/broken")
    finally:
        logging.getLogger("app").removeFilter(formatted)
    assert span.status.status_code is StatusCode.ERROR and span.attributes["error.type"] == "internal"
    (line,) = [line for line in formatted.lines if line["message"] == "request failed"]
    context = span.context
    ids = format_trace_id(context.trace_id), format_span_id(context.span_id), "01"
    assert (line["trace_id"], line["span_id"], line["trace_flags"]) == ids
    assert "RuntimeError: secret" in line["exception"] and "secret" not in span.to_json()


class Formatted(logging.Filter):
    """Keeps log lines as they are written, with the ids of the request that they belong to."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict] = []

    def filter(self, record: logging.LogRecord) -> bool:
        self.lines.append(json.loads(JsonFormatter().format(record)))
        return True


def test_the_service_has_a_name_that_the_environment_may_replace(traced, monkeypatch):
    _, span, _ = traced.ask("GET", "/health/live")
    assert span.resource.attributes["service.name"] == "cifar10"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "photos")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    exporter = InMemorySpanExporter()
    spans = Spans(SimpleSpanProcessor(exporter))
    with running(Settings(store="/nowhere"), spans=spans) as client:
        _, span, _ = Traced(client, exporter).ask("GET", "/health/live")
    assert span.resource.attributes["service.name"] == "photos"
    assert span.resource.attributes["deployment.environment"] == "test"
