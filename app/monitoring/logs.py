"""Logging to stderr: one JSON object per line, with the id of the request it belongs to.

Writing never waits: a log reader that stops reading must not stop the service.
"""

import io
import json
import logging
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

from app.monitoring.stages import Stages

if TYPE_CHECKING:
    from app.monitoring.spans import RequestSpan


class TraceIds(NamedTuple):
    """The ids of a request's span, in hexadecimal, under the names that OpenTelemetry gives them in logs."""

    trace_id: str
    span_id: str
    trace_flags: str


request_id: ContextVar[str] = ContextVar("request_id", default="")
trace_ids: ContextVar[TraceIds | None] = ContextVar("trace_ids", default=None)
access = logging.getLogger("app.access")
logger = logging.getLogger("app")
ATOMIC_BYTES = 4_096  # PIPE_BUF: up to this size a pipe takes all or nothing, and processes' lines do not mix
REPORT_SECONDS = 60.0  # between two lines that say how many were dropped


class RequestRecord(NamedTuple):
    """A finished request, for the log and the metrics."""

    identity: str
    method: str
    route: str
    status: int  # 0 without an answer
    ended: float  # seconds since the epoch
    seconds: float
    stages: Stages
    model: tuple[str, str] | None  # name and version that answered, None if none did
    key: str | None = None  # name of the client's key
    span: "RequestSpan | None" = None


class JsonFormatter(logging.Formatter):
    """Formats time, level, process, logger, message, request_id, trace ids and the fields in `extra={"fields": …}`."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line of JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if identity := request_id.get():
            line["request_id"] = identity
        if ids := trace_ids.get():
            line |= ids._asdict()
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class DroppingStream(io.TextIOBase):
    """Text written to a file descriptor without waiting. Lines that it does not take are dropped and counted."""

    def __init__(self, descriptor: int) -> None:
        self._send, self._release = _sender(descriptor)
        self._lock = threading.Lock()
        self._rest = b""  # of a line that was begun
        self._uncounted = self._unreported = 0  # dropped lines: for the metric, for the log
        self._next_report = 0.0

    def write(self, text: str) -> int:
        """Write whole lines or drop them."""
        with self._lock:
            written, report = False, 0
            for lines in _split(text.encode(errors="backslashreplace")):
                written = self._put(lines)
                if not written:
                    self._uncounted += lines.count(b"\n")
                    self._unreported += lines.count(b"\n")
            if self._unreported and written and not self._rest and time.monotonic() >= self._next_report:
                report, self._unreported = self._unreported, 0
                self._next_report = time.monotonic() + REPORT_SECONDS
        if report:
            logger.warning("%s log lines were dropped because stderr did not take them; check its reader", report)
        return len(text)

    def close(self) -> None:
        """Close the copy of the descriptor; the descriptor itself stays open."""
        if not self.closed:
            self._release()
        super().close()

    def take_dropped(self) -> int:
        """Return the number of lines dropped since the last call."""
        with self._lock:
            dropped, self._uncounted = self._uncounted, 0
        return dropped

    def _put(self, lines: bytes) -> bool:
        try:
            while self._rest:
                self._rest = self._rest[self._send(self._rest) :]
            self._rest = lines[self._send(lines) :]
        except OSError:  # full, closed by its reader, or on a full disk
            return False
        return True


def _sender(descriptor: int) -> tuple[Callable[[bytes], int], Callable[[], None]]:
    """Return a write that never waits, and how to release it. Only files on a disk are trusted to take everything."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):  # as systemd's journal
        peer = socket.socket(fileno=os.dup(descriptor))
        return lambda data: peer.send(data, socket.MSG_DONTWAIT), peer.close
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        try:  # a second opening, so that other programs on this pipe or terminal still wait
            opened = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            return partial(os.write, opened), partial(os.close, opened)
        except OSError:  # not Linux, or the pipe is another user's
            os.set_blocking(descriptor, False)
    return partial(os.write, descriptor), lambda: None


def _split(data: bytes) -> Iterator[bytes]:
    """Split into groups of whole lines, each as large as a pipe takes at once if its first line allows."""
    start = 0
    while len(data) - start > ATOMIC_BYTES:
        end = data.rfind(b"\n", start, start + ATOMIC_BYTES) + 1 or data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]


def log_requests(records: Sequence[RequestRecord]) -> int:
    """Write the access lines of requests that finished. `JsonFormatter` would take five times as long.

    Returns the number of log lines of any kind that were dropped since the last call.
    """
    if access.isEnabledFor(logging.INFO):
        sys.stderr.write(_access_lines(records))
    return sys.stderr.take_dropped() if isinstance(sys.stderr, DroppingStream) else 0


def _access_lines(records: Sequence[RequestRecord]) -> str:
    process = os.getpid()
    lines = [
        f'{{"time": "{_timestamp(record.ended)}", "level": "info", "process": {process}, "logger": "app.access", '
        f'"message": "request", "request_id": "{record.identity}", "method": {json.dumps(record.method)}, '
        f'"route": "{record.route}", "status": {record.status}, "milliseconds": {record.seconds * 1000:.2f}'
        f"{_key_field(record.key)}{_trace_fields(record.span) if record.span else ''}}}\n"
        for record in records
    ]
    return "".join(lines)


def _timestamp(since_epoch: float) -> str:
    return f"{_second(int(since_epoch))}.{int(since_epoch % 1 * 1000):03d}+00:00"


def _key_field(key: str | None) -> str:
    return f', "key": "{key}"' if key else ""


def _trace_fields(span: "RequestSpan") -> str:
    ids = span.ids._asdict() if span.ids else {}
    return "".join(f', "{name}": "{value}"' for name, value in ids.items())


@lru_cache(1)
def _second(since_epoch: int) -> str:
    return datetime.fromtimestamp(since_epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def configure_logging(level: str) -> None:
    """Format the records of every logger, uvicorn's included, with `JsonFormatter`, and write without waiting."""
    if not isinstance(sys.stderr, DroppingStream):
        sys.stderr = DroppingStream(sys.stderr.fileno())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    # Not `dictConfig`: it closes the handlers of all loggers, also Ray Serve's.
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
