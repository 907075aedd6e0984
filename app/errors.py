"""The table of error codes, and the one place where an exception becomes a response.

Answers are problem documents (RFC 9457) with a stable `code`. Errors are raised where they are detected, with a text
for the person who sent the request.
"""

import json
import logging
from dataclasses import dataclass
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.batcher import QueueFullError
from app.monitoring.logs import request_id
from model_store.errors import ImageError, UnsupportedImage

logger = logging.getLogger("app")
RETRY_AFTER_SECONDS = 1
PROBLEM = "application/problem+json"
CLIENT_LEFT = 499  # nginx's status for a request whose client has closed the connection

# code -> (status, meaning); docs/api.md lists them, too.
CODES: dict[str, tuple[int, str]] = {
    "malformed_request": (400, "The body is not the multipart form it says it is, or has no file where one is needed."),
    "not_found": (404, "There is nothing at this address."),
    "method_not_allowed": (405, "The address does not take this method."),
    "slow_upload": (408, "The body did not arrive in time."),
    "too_large": (413, "The body has more bytes, or the batch more files, than the service takes."),
    "unsupported_image": (415, "The bytes are not an image of an accepted type."),
    "unusable_image": (422, "The image is cut short, damaged, or has too many pixels or frames."),
    "invalid_parameter": (422, "A query parameter has a value that is not allowed."),
    "internal": (500, "The service failed; the request id finds the cause in its log."),
    "overloaded": (503, "Too many requests or images are waiting; try again after Retry-After seconds."),
    "not_ready": (503, "No model is being served (yet, or any more); try again after Retry-After seconds."),
    "timeout": (504, "The answer was not ready in time."),
}


@dataclass
class Problem(Exception):
    """An error with a stable code and a public text."""

    code: str
    detail: str

    @property
    def status(self) -> int:
        """The code's HTTP status."""
        return CODES[self.code][0]

    def document(self) -> dict[str, object]:
        """The RFC 9457 problem document."""
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "request_id": request_id.get(),
        }

    def response(self) -> Response:
        """The document as an HTTP answer."""
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if self.status == 503 else None
        return Response(json.dumps(self.document()), self.status, headers, PROBLEM)


def problem_from_error(error: Exception) -> Problem:
    """The problem that clients see for any exception."""
    match error:
        case Problem():
            return error
        case UnsupportedImage():
            return Problem("unsupported_image", str(error))
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
        case HTTPException(status_code=404):
            return Problem("not_found", "there is nothing at this address; GET /docs lists what there is")
        case HTTPException(status_code=405):
            return Problem(
                "method_not_allowed", f"this address takes {(error.headers or {}).get('Allow', 'another method')}"
            )
        case HTTPException():
            return Problem("malformed_request", str(error.detail))
    return Problem("internal", "the service failed to answer; tell its operator the request_id")


async def answer_error(request: Request, error: Exception) -> Response:
    """The one exception handler."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLIENT_LEFT)  # for the log and the metrics
    problem = problem_from_error(error)
    request.app.state.metrics.count_refusal(problem.code)
    if problem.code == "internal":
        logger.error("request failed", exc_info=error)
    response = problem.response()
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response
