"""The endpoints: each one straight function from request to answer."""

import asyncio
import json
from collections.abc import Awaitable
from typing import Annotated, Any, TypeAlias, TypeVar

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel

from app import schemas
from app.errors import CODES, Problem, problem_of
from app.pipeline import Pipeline, Row
from app.uploads import files_in, read_body
from model_store.errors import ImageError
from model_store.manifest import Manifest
from model_store.store import Loaded

Answer = TypeVar("Answer")
router = APIRouter()
TopK = Annotated[int | None, Query(ge=1, le=1000, description="keep the k largest probabilities, largest first")]


Responses: TypeAlias = dict[int | str, dict[str, Any]]


def _answers(good: type[BaseModel], *codes: str) -> Responses:
    """The `responses` of a route that answers with `good` or with one of these errors."""
    answers: Responses = {200: {"model": good}}
    for code in codes:
        status, meaning = CODES[code]
        said = f"`{code}`: {meaning}"
        before = answers.get(status, {}).get("description")
        example = schemas.PROBLEM_EXAMPLE | {"status": status, "code": code, "title": meaning, "detail": meaning}
        content = {"application/problem+json": {"example": example}}
        answers[status] = {
            "model": schemas.ProblemAnswer,
            "description": f"{before} {said}" if before else said,
            "content": content,
        }
    return answers


def _image_body(field: str, many: bool) -> dict[str, Any]:
    one = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "required": [field],
        "properties": {field: {"type": "array", "items": one} if many else one},
    }
    return {
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": form}, "image/*": {"schema": one}},
        }
    }


REFUSALS = ("malformed_request", "slow_upload", "too_large", "invalid_parameter", "overloaded", "not_ready", "timeout")


@router.post(
    "/predict",
    summary="Classify one image",
    responses=_answers(schemas.PredictionAnswer, "unsupported_image", "unusable_image", "internal", *REFUSALS),
    openapi_extra=_image_body("file", many=False),
)
async def predict(request: Request, top_k: TopK = None) -> Response:
    """Send the image as the form field `file`, or as the body itself with any other content type."""
    pipeline: Pipeline = request.app.state.pipeline
    with pipeline.admit() as loaded:
        files = await _receive(request, pipeline, "file", 1)
        row = await _in_time(pipeline, pipeline.predict(files[0]))
        return _json(prediction(loaded.manifest, row, top_k))


@router.post(
    "/predict/batch",
    summary="Classify several images",
    responses=_answers(schemas.BatchAnswer, "internal", *REFUSALS),
    openapi_extra=_image_body("files", many=True),
)
async def predict_batch(request: Request, top_k: TopK = None) -> Response:
    """Send the images as form fields `files`. An image that cannot be used has a problem in its place."""
    pipeline: Pipeline = request.app.state.pipeline
    with pipeline.admit() as loaded:
        files = await _receive(request, pipeline, "files", pipeline.settings.max_files)
        answers = await _in_time(pipeline, pipeline.predict_all(files))
        return _json({"results": [_result(loaded, answer, top_k) for answer in answers]})


@router.get(
    "/health",
    summary="Whether a model is being served, and which",
    responses=_answers(schemas.HealthAnswer, "not_ready"),
)
async def health(request: Request) -> Response:
    """200 once the version's hashes, golden images and warm-up have passed; 503 with the reason otherwise."""
    pipeline: Pipeline = request.app.state.pipeline
    loaded = pipeline.require_loaded()
    if pipeline.draining:
        raise Problem("not_ready", "the service is shutting down; requests under way are being finished")
    classifier = loaded.classifier
    return _json(
        {
            "status": "ready",
            "model": _model(loaded.manifest),
            "engine": classifier.engine,
            "precision": classifier.precision,
        }
    )


@router.get(
    "/health/ready",
    summary="Readiness: as /health",
    responses=_answers(schemas.HealthAnswer, "not_ready"),
)
async def ready(request: Request) -> Response:
    """For orchestrators: send traffic only on 200."""
    return await health(request)


@router.get("/health/live", summary="Liveness")
async def live() -> dict[str, str]:
    """200 as long as the process answers at all, whatever the model does."""
    return {"status": "alive"}


@router.get(
    "/model",
    summary="The served version's manifest and metrics",
    responses=_answers(schemas.ModelAnswer, "not_ready"),
)
async def model(request: Request) -> Response:
    """Labels, preprocessing, files with their SHA-256, metrics and how the network was trained."""
    loaded = request.app.state.pipeline.require_loaded()
    return _json(
        {
            "manifest": loaded.manifest.model_dump(mode="json"),
            "engine": loaded.classifier.engine,
            "precision": loaded.classifier.precision,
            "golden_difference": loaded.golden_difference,
        }
    )


@router.get("/", include_in_schema=False)
async def index(request: Request) -> FileResponse:
    """The page on which to try an image."""
    return FileResponse(request.app.state.page / "index.html")


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> FileResponse:
    """The API's documentation, drawn from /openapi.json."""
    return FileResponse(request.app.state.page / "docs.html")


async def _receive(request: Request, pipeline: Pipeline, field: str, limit: int) -> list[bytes]:
    """The encoded images of a request, which must arrive in time."""
    seconds = pipeline.settings.timeout_seconds
    try:
        async with asyncio.timeout(seconds):
            body = await read_body(request, pipeline.settings.max_body_bytes)
    except TimeoutError:
        raise Problem("slow_upload", f"the body did not arrive within {seconds:g} s; send a smaller image") from None
    return files_in(request.headers.get("content-type", ""), body, field, limit)


async def _in_time(pipeline: Pipeline, work: Awaitable[Answer]) -> Answer:
    seconds = pipeline.settings.timeout_seconds
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise Problem("timeout", f"the answer was not ready within {seconds:g} s; try again later") from None


def prediction(manifest: Manifest, row: Row, top_k: int | None = None) -> dict[str, Any]:
    """The answer for one row of probabilities (K,), in label order or the `top_k` largest first."""
    values = row.tolist()
    best = int(np.argmax(row))
    order = range(len(values)) if top_k is None else np.argsort(-row, kind="stable")[:top_k].tolist()
    return {
        "label": manifest.labels[best],
        "confidence": values[best],
        "probabilities": {manifest.labels[index]: values[index] for index in order},
        "model": _model(manifest),
    }


def _result(loaded: Loaded, answer: Row | ImageError, top_k: int | None) -> dict[str, Any]:
    if isinstance(answer, ImageError):
        return {"problem": problem_of(answer).document()}
    return {"prediction": prediction(loaded.manifest, answer, top_k)}


def _model(manifest: Manifest) -> dict[str, str]:
    return {"name": manifest.name, "version": str(manifest.version)}


def _json(content: dict[str, Any]) -> Response:
    return Response(json.dumps(content), media_type="application/json")
