"""The table of error codes, and the one place that turns exceptions into responses.

Responses are problem documents (RFC 9457) with a stable `code`. Errors are raised where they are detected, with a text
for the client.
"""

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.batcher import QueueFullError
from app.monitoring.logs import request_id
from model_store.errors import ImageError, OutOfMemory, UnsupportedImage

logger = logging.getLogger("app")
RETRY_AFTER_SECONDS = 1
PROBLEM = "application/problem+json"
CLIENT_LEFT = 499  # nginx's status for a request whose client has closed the connection

# code -> (status, meaning); docs/api.md has the same table.
CODES: dict[str, tuple[int, str]] = {
    "malformed_request": (400, "The body is not a valid multipart form, or the form lacks the file."),
    "key_required": (401, "The request has no key; send one as Authorization: Bearer KEY or X-API-Key: KEY."),
    "key_unknown": (401, "The request's key is not one of the service's keys."),
    "not_found": (404, "The address does not exist."),
    "method_not_allowed": (405, "The address does not support this method."),
    "slow_upload": (408, "The body did not arrive in time, or arrives too slowly."),
    "too_large": (413, "The body has more bytes, or the batch more files, than the service accepts."),
    "unsupported_image": (415, "The bytes are not an image in a supported format."),
    "unknown_host": (421, "The Host header names another host than this service's."),
    "unusable_image": (422, "The image is truncated or damaged, or has too many pixels or frames."),
    "invalid_parameter": (422, "A query parameter has an invalid value."),
    "rate_exceeded": (429, "The key has used up its images a second; try again after Retry-After seconds."),
    "internal": (500, "The service failed; its log gives the cause under the request id."),
    "overloaded": (
        503,
        "Too many requests or images are waiting or fill the memory; try again after Retry-After seconds.",
    ),
    "not_ready": (503, "No model is ready, or the service is shutting down; try again after Retry-After seconds."),
    "timeout": (504, "The answer was not ready in time."),
}


@dataclass
class Problem(Exception):
    """An error with a stable code and a public text."""

    code: str
    detail: str
    headers: Mapping[str, str] | None = None  # of its response, besides Retry-After for status 503

    @property
    def status(self) -> int:
        """The code's HTTP status."""
        return CODES[self.code][0]

    def document(self) -> dict[str, object]:
        """Build the RFC 9457 problem document."""
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "request_id": request_id.get(),
        }

    def response(self) -> Response:
        """Build the HTTP response."""
        return Response(json.dumps(self.document()), self.status, self._headers(), PROBLEM)

    def short_response(self) -> Response:
        """Build the response of other servers' protocols: one text, and status 400 if an image cannot be used."""
        status = 400 if self.status in (415, 422) else self.status
        return Response(json.dumps({"error": self.detail}), status, self._headers(), "application/json")

    def _headers(self) -> Mapping[str, str] | None:
        return {"Retry-After": str(RETRY_AFTER_SECONDS)} if self.status == 503 else self.headers


def problem_from_error(error: Exception, path: str = "") -> Problem:
    """Convert any exception, of a request for `path`, to the problem that the client sees.

    Logs a lack of memory, which no client can act on.
    """
    match error:
        case Problem():
            return error
        case UnsupportedImage():
            return Problem("unsupported_image", str(error))
        case OutOfMemory() | MemoryError():
            detail = str(error) or "the server has too little memory for this request; try again"
            logger.error("out of memory: %s", detail)
            return Problem("overloaded", detail)
        case ImageError():
            return Problem("unusable_image", str(error))
        case QueueFullError():
            return Problem("overloaded", f"{error}; try again")
        case RequestValidationError():
            first = error.errors()[0]
            return Problem(
                "invalid_parameter",
                f"{'.'.join(map(str, first['loc']))}: {first['msg']}, not {str(first['input'])[:64]!r}",
            )
        case HTTPException(status_code=404) if path.endswith("/"):
            remedy = f"ask for {path[:80].rstrip('/') or '/'!r}, without the slash at the end"
            return Problem("not_found", f"this address does not exist; {remedy}")
        case HTTPException(status_code=404):
            return Problem("not_found", "this address does not exist; GET /docs and docs/clients.md list those that do")
        case HTTPException(status_code=405):
            return Problem(
                "method_not_allowed",
                f"this address supports only {(error.headers or {}).get('Allow', 'other methods')}",
            )
        case HTTPException():
            return Problem("malformed_request", str(error.detail))
    return Problem("internal", "the service failed; give its operator the request_id")


def allowed_methods(methods: Collection[str]) -> str:
    """Write a route's methods as an Allow header: GET includes HEAD, and OPTIONS is answered everywhere."""
    answered = {*methods, "OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    return ", ".join(sorted(answered))


async def answer_error(request: Request, error: Exception) -> Response:
    """Handle every exception: count it, log it if unexpected, and respond with a problem document."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLIENT_LEFT)  # for the log and the metrics
    if isinstance(error, HTTPException) and error.headers and "Allow" in error.headers:
        error.headers = {**error.headers, "Allow": allowed_methods(error.headers["Allow"].split(", "))}
    path = request.scope["path"]
    problem = problem_from_error(error, path)
    request.scope["problem"] = problem.code
    request.app.state.metrics.count_refusal(problem.code)
    if problem.code == "internal":
        logger.error("request failed", exc_info=error)
    response = problem.short_response() if _has_short_errors(request) else problem.response()
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


def _has_short_errors(request: Request) -> bool:
    """True below the paths of other servers' protocols."""
    root: str = request.scope.get("app_root_path", request.scope.get("root_path", ""))
    segment = request.scope["path"].removeprefix(root).lstrip("/").partition("/")[0]
    return segment in request.app.state.short_error_paths
