"""Middleware around every request: request id, security headers, timings and an access log line.

Pure ASGI, and never touches a body. Endpoints store the times of their stages in `scope["stages"]`, the model that
answers in `scope["served_by"]` and the number of images, if it is not 1, in `scope["images"]`; `errors.py` stores the
code of an error in `scope["problem"]`, and `access/gate.py` the name of the client's key in `scope["key"]`.
"""

import random
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.monitoring.finished import FinishedRequests
from app.monitoring.logs import RequestRecord, request_id, trace_ids
from app.monitoring.stages import Stages

if TYPE_CHECKING:
    from app.monitoring.spans import Spans

ACCEPTED_ID = re.compile(rb"^[A-Za-z0-9._-]{1,128}$")

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def security_headers(frame_ancestors: Sequence[str] = ()) -> dict[str, str]:
    """Return the headers of every answer; pages of `frame_ancestors`, origins or *, may show it in a frame."""
    ancestors = " ".join(frame_ancestors) or "'none'"
    return {name: value.replace("{ancestors}", ancestors) for name, value in SECURITY_HEADERS.items()}


class RequestContext:
    """Accepts or creates `X-Request-ID`, adds the headers, and logs the outcome without any user data."""

    def __init__(
        self,
        app: ASGIApp,
        finished: FinishedRequests,
        frame_ancestors: Sequence[str] = (),
        spans: "Spans | None" = None,
    ) -> None:
        """`spans` makes those of every request; None if traces are off."""
        self.app, self._finished, self._spans = app, finished, spans
        headers = security_headers(frame_ancestors)
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an HTTP request; pass anything else through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        identity = _identity(scope)
        request_id.set(identity)
        began, status = time.perf_counter(), 0
        stages = scope["stages"] = Stages()
        span = self._spans.begin(scope, began) if self._spans else None
        if span:
            trace_ids.set(span.ids)

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = (b"x-request-id", identity.encode()), (b"server-timing", _server_timing(stages, began))
                message["headers"] = [*message["headers"], *added, *self._headers]
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            record = RequestRecord(
                identity,
                scope["method"],
                _route(scope),
                status,
                time.time(),
                time.perf_counter() - began,
                stages,
                scope.get("served_by"),
                scope.get("key"),
                span,
            )
            self._finished.add(record)


def _identity(scope: Scope) -> str:
    """Return the id that the client proposes, if it is acceptable, or a random one."""
    proposed: bytes = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return proposed.decode() if ACCEPTED_ID.fullmatch(proposed) else f"{random.getrandbits(128):032x}"


def _route(scope: Scope) -> str:
    """Return the route's template rather than the path, which may contain a file name."""
    return getattr(scope.get("route"), "path", None) or "unknown"


def _server_timing(stages: Stages, began: float) -> bytes:
    """Format the stages and the total as W3C Server Timing, in milliseconds."""
    times = [f"{name};dur={(ended - start) * 1000:.3f}" for name, (start, ended) in stages.items()]
    times.append(f"total;dur={(time.perf_counter() - began) * 1000:.3f}")
    return ", ".join(times).encode()
