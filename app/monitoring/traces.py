"""Turns traces on if a setting asks for them. Only then is `spans.py` imported, and OpenTelemetry's SDK with it."""

import sys
from typing import TYPE_CHECKING

from app.settings import Settings

if TYPE_CHECKING:
    from app.monitoring.spans import Spans


def start_traces(settings: Settings) -> "Spans | None":
    """Return what makes spans, exporting them from a thread of its own; None if traces are off."""
    if settings.traces == "off":
        return None
    from app.monitoring.spans import Spans

    return Spans()


def traces_problem(settings: Settings) -> str | None:
    """Say why traces cannot be made with these settings and the variables OTEL_…; None if they can, or are off."""
    try:
        spans = start_traces(settings)
    except ModuleNotFoundError as error:
        return (
            f"CIFAR10_TRACES is otlp, but {sys.executable} has no {error.name}; install requirements/traces.txt there "
            "(`make traces` does so for .venv; docs/operations.md says how to add it to the image)"
        )
    except (RuntimeError, ValueError) as error:
        return f"CIFAR10_TRACES is otlp, but OpenTelemetry does not start: {error}; correct its variables OTEL_…"
    if spans:
        spans.shutdown()
    return None
