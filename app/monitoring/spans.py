"""A span for each request and for each of its stages, made with OpenTelemetry's SDK.

The SDK reads the variables OTEL_…: endpoint, headers, sampler, resource, sizes of the queue. Spans are made of the
record of a finished request, after its answer was sent. They name routes, never paths, which may have file names.
"""

import logging
import os
import time

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AnyValue
from starlette.datastructures import Headers
from starlette.types import Scope

from app import __version__
from app.monitoring.logs import REPORT_SECONDS, RequestRecord, TraceIds

logger = logging.getLogger("app")
SERVICE = "cifar10"
# Those of the HTTP conventions; clients can make up others, and a span's name must have few values.
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
SAMPLED = 1  # of the trace flags
_PROPAGATOR = TraceContextTextMapPropagator()


class Spans:
    """Makes the spans of requests and has them exported."""

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        """`processor` takes the finished spans; by default it exports them over OTLP, from a thread of its own."""
        _report_losses()
        # The SDK's handler at exit would wait 30 s for a collector that hangs.
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("app", __version__)

    def begin(self, scope: Scope, began: float) -> "RequestSpan":
        """Begin the span of a request that began then, as part of its client's trace if it sent `traceparent`."""
        headers = Headers(scope=scope)
        context = _PROPAGATOR.extract(headers, Context(), _GETTER) if "traceparent" in headers else Context()
        epoch = time.time_ns() - _nanoseconds(began)
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        attributes = {"http.request.method": method, "url.scheme": scope.get("scheme", "http")}
        start = epoch + _nanoseconds(began)
        span = self._tracer.start_span(_name(method), context, SpanKind.SERVER, attributes, start_time=start)
        return RequestSpan(self._tracer, span, scope, began, epoch)

    def shutdown(self) -> None:
        """Export what is left. It takes as long as the collector lets it, so do not wait for all of it."""
        self._provider.shutdown()


class RequestSpan:
    """The span of one request."""

    def __init__(self, tracer: Tracer, span: Span, scope: Scope, began: float, epoch: int) -> None:
        """`epoch` is the time of day, in nanoseconds, at which the clock of `began` and the stages was 0."""
        self._tracer, self._span, self._scope, self._began, self._epoch = tracer, span, scope, began, epoch
        self.ids = _ids(span)

    def end(self, record: RequestRecord) -> None:
        """End it as the record says, and add a span for each stage."""
        if self._span.is_recording():
            self._describe(record)
            self._add_stages(record)
        self._span.end(self._at(self._began + record.seconds))

    def _describe(self, record: RequestRecord) -> None:
        span = self._span
        span.set_attribute("cifar10.request_id", record.identity)
        if record.route != "unknown":
            method = record.method if record.method in METHODS else "_OTHER"
            span.update_name(f"{_name(method)} {record.route}")
            span.set_attribute("http.route", record.route)
        if record.status:
            span.set_attribute("http.response.status_code", record.status)
        if record.model:
            span.set_attribute("cifar10.model", record.model[0])
            span.set_attribute("cifar10.version", record.model[1])
            span.set_attribute("cifar10.images", self._scope.get("images", 1))
        problem: str | None = self._scope.get("problem")
        failed = record.status >= 500 or not record.status
        if failed:
            span.set_status(StatusCode.ERROR)
        if problem or failed:
            span.set_attribute("error.type", problem or str(record.status or "no_answer"))

    def _add_stages(self, record: RequestRecord) -> None:
        context = set_span_in_context(self._span, Context())
        for stage, (began, ended) in record.stages.items():
            attributes = {"cifar10.batch_images": record.stages.batch_images} if stage == "infer" else None
            start = self._at(began)
            self._tracer.start_span(stage, context, attributes=attributes, start_time=start).end(self._at(ended))

    def _at(self, seconds: float) -> int:
        return self._epoch + _nanoseconds(seconds)


class _HeadersGetter(Getter[Headers]):
    def get(self, carrier: Headers, key: str) -> list[str] | None:
        return carrier.getlist(key) or None

    def keys(self, carrier: Headers) -> list[str]:
        return carrier.keys()


_GETTER = _HeadersGetter()


class _Losses(logging.Handler):
    """Turns the SDK's messages about lost spans, one for each span or batch, into a line a minute at most."""

    _next_report = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + REPORT_SECONDS
            reason = record.getMessage().rstrip(".")
            logger.warning(
                "spans are lost, requests go on: %s; check the collector and OTEL_EXPORTER_OTLP_ENDPOINT, or sample "
                "fewer requests with OTEL_TRACES_SAMPLER",
                reason,
            )


def _report_losses() -> None:
    losses = _Losses()
    levels = {"exporter.otlp.proto.http.trace_exporter": logging.ERROR, "sdk._shared_internal": logging.WARNING}
    for name, level in levels.items():
        source = logging.getLogger(f"opentelemetry.{name}")
        source.handlers, source.propagate = [losses], False
        source.setLevel(level)
    # It warns of malformed headers, with their text: any client could fill the log.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)


def _resource() -> Resource:
    """Return the name of the service and what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, which comes first."""
    ours: dict[str, AnyValue] = {"service.name": SERVICE, "service.version": __version__, "process.pid": os.getpid()}
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


def _ids(span: Span) -> TraceIds | None:
    context = span.get_span_context()
    if not context.is_valid:  # OTEL_SDK_DISABLED
        return None
    flags = f"{context.trace_flags & SAMPLED:02x}"
    return TraceIds(format_trace_id(context.trace_id), format_span_id(context.span_id), flags)


def _name(method: str) -> str:
    return "HTTP" if method == "_OTHER" else method


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
