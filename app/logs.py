"""Logs as one JSON object a line on stderr, each with the id of the request it belongs to."""

import json
import logging
import logging.config
import os
import sys
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache

request_id: ContextVar[str] = ContextVar("request_id", default="")
access = logging.getLogger("app.access")


class JsonFormatter(logging.Formatter):
    """time, level, process, logger, message, request_id, then what the caller passed as `extra={"fields": …}`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if identity := request_id.get():
            line["request_id"] = identity
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_request(method: str, route: str, status: int, seconds: float) -> None:
    """Write the line of an answered request as the formatter would, which takes five times as long."""
    if not access.isEnabledFor(logging.INFO):
        return
    now = time.time()
    when, milliseconds = f"{_second(int(now))}.{int(now % 1 * 1000):03d}+00:00", f"{seconds * 1000:.2f}"
    sys.stderr.write(
        f'{{"time": "{when}", "level": "info", "process": {os.getpid()}, "logger": "app.access", "message": "request", '
        f'"request_id": "{request_id.get()}", "method": {json.dumps(method)}, "route": "{route}", "status": {status}, '
        f'"milliseconds": {milliseconds}}}\n'
    )


@lru_cache(1)
def _second(since_epoch: int) -> str:
    return datetime.fromtimestamp(since_epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def configure_logging(level: str) -> None:
    """Send every logger's lines, uvicorn's included, through the one formatter."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": JsonFormatter}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
            "root": {"handlers": ["stderr"], "level": level.upper()},
            "loggers": {name: {"handlers": [], "propagate": True} for name in ("uvicorn", "uvicorn.error")},
        }
    )
