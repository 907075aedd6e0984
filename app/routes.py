"""The endpoints for images, health and pages, each a straight function from request to response."""

import asyncio
import unicodedata
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from app import schemas
from app.access.client import client_of
from app.errors import Problem, problem_from_error
from app.explain import heatmap
from app.explain.document import explanation_json, seen_address
from app.explain.explainer import Explanation
from app.openapi import image_body, or_picture, responses
from app.page_files import Page, compress_body
from app.pipeline import Pipeline
from app.prediction import Prediction, model_name, prediction_json
from app.requests.intake import Received, encoded_images
from app.responses import JsonResponse
from model_store.errors import ImageError
from model_store.manifest import Manifest

TopK = Annotated[int | None, Query(ge=1, le=1000, description="return only the k largest probabilities, largest first")]
Label = Annotated[str | None, Query(alias="class", description="label to explain; default: the predicted label")]
Seen = Annotated[
    bool, Query(description="add `seen`, the image as the network saw it: send that, a small PNG, to /explain")
]
ExplanationFormat = Annotated[
    Literal["png", "json"],
    Query(alias="format", description="`png` for a picture, `json` for the numbers and two pictures"),
]
REFUSALS = (
    "malformed_request",
    "slow_upload",
    "too_large",
    "unsupported_image",
    "unusable_image",
    "invalid_parameter",
    "internal",
    "overloaded",
    "not_ready",
    "timeout",
)

ONE_IMAGE = encoded_images("file", 1)

router = APIRouter()


@router.post(
    "/predict",
    summary="Classify one image",
    responses=responses(schemas.PredictionAnswer, *REFUSALS),
    openapi_extra=image_body("file", many=False),
)
async def predict(request: Request, top_k: TopK = None, seen: Seen = False) -> Response:
    """Send the image as form field `file`, or as the request body with any content type but `multipart/form-data`."""
    async with Received(request, ONE_IMAGE) as (serving, (data,)):
        row, pixels = await serving.predict_seen(data, request.scope["stages"])
        with request.scope["stages"].timed("serialize"):
            content = prediction_json(serving.loaded.manifest, row, top_k)
            if seen:
                content["seen"] = await asyncio.to_thread(seen_address, serving.loaded.manifest, pixels)
            return JsonResponse(content)


@router.post(
    "/predict/batch",
    summary="Classify several images",
    responses=responses(schemas.BatchAnswer, *REFUSALS),
    openapi_extra=image_body("files", many=True),
)
async def predict_batch(request: Request, top_k: TopK = None) -> Response:
    """Send the images as form fields named `files`. The result of an unusable image is a problem."""
    pipeline: Pipeline = request.app.state.pipeline
    async with Received(request, encoded_images("files", pipeline.settings.max_files)) as (serving, files):
        request.scope["images"] = len(files)
        rows = await serving.predict_all(files, request.scope["stages"])
        with request.scope["stages"].timed("serialize"):
            return JsonResponse({"results": [_result(serving.loaded.manifest, row, top_k) for row in rows]})


@router.post(
    "/explain",
    summary="Show which pixels of an image support a class",
    responses=or_picture(responses(schemas.ExplanationAnswer, *REFUSALS)),
    openapi_extra=image_body("file", many=False),
)
async def explain(request: Request, label: Label = None, kind: ExplanationFormat = "png") -> Response:
    """Send the image as for /predict. The PNG is a heatmap over what the network saw, its longer side 256 pixels."""
    pipeline: Pipeline = request.app.state.pipeline
    if label is not None:
        _class_index(pipeline.require_serving().loaded.manifest, label)
    async with Received(request, ONE_IMAGE) as (serving, (data,)):
        # Again, since another version may have taken over while the body arrived.
        index = None if label is None else _class_index(serving.loaded.manifest, label)
        explanation = await serving.explain(data, index, request.scope["stages"], client_of(request.scope))
        render = _explanation_picture if kind == "png" else _explanation_json
        with request.scope["stages"].timed("serialize"):  # in a thread: drawing would block others for milliseconds
            return await asyncio.to_thread(render, serving.loaded.manifest, explanation)


@router.get(
    "/health",
    summary="Readiness, and the served model",
    responses=responses(schemas.HealthAnswer, "not_ready"),
)
async def health(request: Request) -> Response:
    """200 once the model's hashes and golden images are verified and it is warmed up; else 503 with the reason."""
    pipeline: Pipeline = request.app.state.pipeline
    loaded = pipeline.require_ready().loaded
    return JsonResponse(
        {
            "status": "ready",
            "model": model_name(loaded.manifest),
            "engine": loaded.classifier.engine,
            "precision": loaded.classifier.precision,
            "skipped": pipeline.skipped,
            "store_problem": pipeline.store_problem,
        }
    )


@router.get(
    "/health/ready",
    summary="Readiness, same as /health",
    responses=responses(schemas.HealthAnswer, "not_ready"),
)
async def ready(request: Request) -> Response:
    """For orchestrators: send requests only while this returns 200."""
    return await health(request)


@router.get("/health/live", summary="Liveness")
async def live(request: Request) -> Response:
    """200 as long as the process responds, whether or not a model is loaded."""
    return JsonResponse({"status": "alive"})


@router.get("/", include_in_schema=False)
async def index(request: Request) -> Response:
    """Serve the page for trying the service in a browser."""
    return _page_document(request, "index.html")


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """Serve the API documentation, which renders /openapi.json."""
    return _page_document(request, "docs.html")


@router.get("/openapi.json", include_in_schema=False)
async def openapi_document(request: Request) -> Response:
    """Serve the API's description."""
    return compress_body(Response(request.app.state.openapi(), media_type="application/json"), request.headers)


def _page_document(request: Request, name: str) -> Response:
    page: Page = request.app.state.page
    return page.answer(name, request.headers, str(request.base_url))


def _result(manifest: Manifest, row: Prediction | ImageError, top_k: int | None) -> dict[str, Any]:
    if isinstance(row, ImageError):
        return {"problem": problem_from_error(row).document()}
    return {"prediction": prediction_json(manifest, row, top_k)}


def _class_index(manifest: Manifest, label: str) -> int:
    """Find a label in either Unicode form: é may be one character or, from macOS, e with an accent."""
    labels = [unicodedata.normalize("NFC", known) for known in manifest.labels]
    if (composed := unicodedata.normalize("NFC", label)) not in labels:
        known = ", ".join(manifest.labels)
        raise Problem("invalid_parameter", f"query.class: {label[:64]!r} is not a label; the labels are {known}")
    return labels.index(composed)


def _explanation_picture(manifest: Manifest, explanation: Explanation) -> Response:
    order = manifest.preprocessing.channel_order
    return Response(heatmap.draw_overlay(explanation.seen, explanation.saliency, order), media_type="image/png")


def _explanation_json(manifest: Manifest, explanation: Explanation) -> Response:
    return JsonResponse(explanation_json(manifest, explanation))
