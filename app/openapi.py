"""Parts of the OpenAPI document that FastAPI cannot derive from an endpoint's signature."""

import json
from collections.abc import Callable, Collection
from functools import cache
from http import HTTPStatus
from typing import Any, TypeAlias

from fastapi import FastAPI
from pydantic import BaseModel

from app.errors import CODES, PROBLEM
from app.schemas import PROBLEM_EXAMPLE, ProblemAnswer

Responses: TypeAlias = dict[int | str, dict[str, Any]]

BINARY = {"type": "string", "format": "binary"}
CARD: dict[str, Any] = {
    "description": "The model card, generated from the version's manifest and report.",
    "content": {"text/html": {"schema": {"type": "string"}}},
}
REPORT_FILE: dict[str, Any] = {
    "description": "The file as published.",
    "content": {"image/png": {"schema": BINARY}, "application/json": {"schema": {"type": "object"}}},
}
KEY_CODES = "key_required", "key_unknown", "rate_exceeded"
SECURITY_SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
REPORT_NAME: dict[str, Any] = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "example": "evaluation.json",
}


def cached_document(app: FastAPI, root_path: str, keyless: Collection[str] | None = None) -> Callable[[], bytes]:
    """Return a function that gives the document as JSON. The first call takes tens of milliseconds.

    Args:
        keyless: the paths that need no key, for a service that needs one elsewhere.
    """

    @cache
    def document() -> bytes:
        content = app.openapi() | ({"servers": [{"url": root_path}]} if root_path else {})
        if keyless is not None:
            content |= _with_keys(content, keyless)
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()

    return document


def _with_keys(content: dict[str, Any], keyless: Collection[str]) -> dict[str, Any]:
    """Say that operations need a key, in either header, and how requests without one are refused."""
    refusals = {str(status): response for status, response in responses({}, *KEY_CODES).items() if status != 200}
    paths = {
        path: {
            method: operation
            | ({"security": []} if path in keyless else {"responses": operation["responses"] | refusals})
            for method, operation in operations.items()
        }
        for path, operations in content["paths"].items()
    }
    return {
        "components": content["components"] | {"securitySchemes": SECURITY_SCHEMES},
        "security": [{name: []} for name in SECURITY_SCHEMES],
        "paths": paths,
    }


def responses(success: type[BaseModel] | dict[str, Any], *codes: str) -> Responses:
    """Describe a route's responses: `success`, a model or an OpenAPI response object, and the errors `codes`."""
    by_status: Responses = {200: success if isinstance(success, dict) else {"model": success}}
    for code in codes:
        status, meaning = CODES[code]
        response = by_status.setdefault(status, _problem_response())
        response["description"] = f"{response['description']} `{code}`: {meaning}".strip()
        fields = {"title": HTTPStatus(status).phrase, "status": status, "code": code, "detail": meaning}
        response["content"][PROBLEM]["examples"][code] = {"value": PROBLEM_EXAMPLE | fields}
    return by_status


def _problem_response() -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{ProblemAnswer.__name__}"}
    return {"description": "", "content": {PROBLEM: {"schema": schema, "examples": {}}}}


def or_picture(by_status: Responses) -> Responses:
    """Add a PNG as an alternative content of response 200."""
    by_status[200]["content"] = {"image/png": {"schema": BINARY}}
    return by_status


def image_body(field: str, many: bool) -> dict[str, Any]:
    """Describe a request body: a form with one image (or several) in `field`, or the bytes of one image."""
    form = {
        "type": "object",
        "required": [field],
        "properties": {field: {"type": "array", "items": BINARY, "minItems": 1} if many else BINARY},
    }
    return {
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": form}, "image/*": {"schema": BINARY}},
        }
    }
