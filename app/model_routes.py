"""Endpoints that describe the served version and the service's work: /model… and /metrics."""

import asyncio
import logging
import os
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app import openapi, schemas
from app.card.render import EVALUATION, render_card
from app.card.results import ServedVersion
from app.errors import Problem
from app.monitoring.metrics import Metrics
from app.monitoring.replicas import drift_counts
from app.page_files import compress_body
from app.pipeline import Pipeline
from app.responses import JsonResponse
from app.versions.listing import list_versions
from app.versions.loading import in_daemon_thread
from app.versions.serving import Serving
from model_store.errors import ModelError
from model_store.manifest import Manifest
from model_store.report import REPORT_FOLDER, Report, read_report
from model_store.version import Loaded

logger = logging.getLogger("app")

router = APIRouter()


@router.get(
    "/model",
    summary="The served version's manifest and metrics",
    responses=openapi.responses(schemas.ModelAnswer, "not_ready"),
)
async def model(request: Request) -> Response:
    """Labels, preprocessing, files with their SHA-256, metrics and how the network was trained."""
    loaded: Loaded = request.app.state.pipeline.require_serving().loaded
    preprocessing = loaded.manifest.preprocessing
    document = {
        "manifest": loaded.manifest.model_dump(mode="json"),
        "input": {
            "height": preprocessing.height,
            "width": preprocessing.width,
            "channels": preprocessing.shape[2],
            "channel_order": preprocessing.channel_order,
        },
        "engine": loaded.classifier.engine,
        "precision": loaded.classifier.precision,
        "golden_difference": loaded.golden_difference,
    }
    return compress_body(JsonResponse(document), request.headers)


@router.get(
    "/model/versions",
    summary="The store's versions: serving, available or skipped",
    responses=openapi.responses(schemas.VersionsAnswer, "not_ready"),
)
async def model_versions(request: Request) -> Response:
    """The newest versions of the served model, and why those that should be served are not."""
    pipeline: Pipeline = request.app.state.pipeline
    version = pipeline.require_serving().loaded.manifest.version
    listing = await in_daemon_thread(partial(list_versions, pipeline.settings, version, pipeline.skipped))
    listing["follows"] = pipeline.follows
    listing["store_problem"] = listing["store_problem"] or pipeline.store_problem
    return JsonResponse(listing)


@router.get(
    "/model/drift",
    summary="Compare recent images with the validation images",
    responses=openapi.responses(schemas.DriftAnswer, "not_ready"),
)
async def model_drift(request: Request) -> Response:
    """Covers all processes of the service and the last hour. Only counts are kept, never an image."""
    serving: Serving = request.app.state.pipeline.require_serving()
    counts = drift_counts(await request.app.state.ask_replicas(), serving.model)
    return JsonResponse(serving.drift.document(counts))


@router.get(
    "/model/card",
    summary="The served version's model card, as a page",
    response_class=HTMLResponse,
    responses=openapi.responses(openapi.CARD, "not_ready"),
)
async def model_card(request: Request) -> Response:
    """Intended use, training data, quality and limits, from the manifest and the report."""
    serving: Serving = request.app.state.pipeline.require_serving()
    if card := serving.documents.get("card"):
        return compress_body(HTMLResponse(card), request.headers)
    loaded, classifier = serving.loaded, serving.loaded.classifier
    report = await _published_report(loaded)
    served = ServedVersion(loaded.manifest, report, classifier.engine, classifier.precision)
    card = await asyncio.to_thread(render_card, served, request.app.state.page.address)  # it compiles the template
    if report or EVALUATION not in loaded.manifest.files:  # else the report may be restored
        serving.documents["card"] = card
    return compress_body(HTMLResponse(card), request.headers)


@router.get(
    "/model/report/{name}",
    summary="A plot of the served version's report, or evaluation.json",
    response_class=Response,
    responses=openapi.responses(openapi.REPORT_FILE, "not_found", "not_ready"),
    openapi_extra={"parameters": [openapi.REPORT_NAME]},
)
async def model_report(request: Request) -> Response:
    """Serves files that the manifest lists under `report/`, if their SHA-256 still matches."""
    name: str = request.path_params["name"]  # not a function parameter: an invalid name is a 404, not a 422
    loaded: Loaded = request.app.state.pipeline.require_serving().loaded
    types = _report_types(loaded.manifest)
    if name not in types:
        raise Problem(
            "not_found", f"this version's report has no {name[:80]!r}; it has {', '.join(types) or 'no files'}"
        )
    headers = {"Cache-Control": "no-cache", "ETag": f'"{loaded.manifest.files[REPORT_FOLDER + name].sha256}"'}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    try:
        content = await _published_file(loaded, REPORT_FOLDER + name)
    except ModelError as error:
        logger.error("a file of the report is not served: %s", error)
        raise Problem("not_found", error.public) from None
    if content is None:
        raise Problem("not_found", "the version and its report were removed from the store after it was loaded")
    return Response(content, media_type=types[name], headers=headers)


@router.get("/metrics", summary="Counts and timings for Prometheus", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Covers all processes of the service, in Prometheus's text format."""
    service_metrics: Metrics = request.app.state.metrics
    replicas = await request.app.state.ask_replicas()
    text = service_metrics.render(replicas)
    return compress_body(Response(text, media_type=CONTENT_TYPE_LATEST), request.headers)


async def _published_file(loaded: Loaded, name: str) -> bytes | None:
    """Read a file of the served version; None if the version is no longer in the store.

    Raises:
        ModelError: the file was removed or altered, or cannot be read.
    """
    if not os.path.lexists(loaded.folder):
        return None
    return await asyncio.to_thread(loaded.read, name)


async def _published_report(loaded: Loaded) -> Report | None:
    """Read the served version's report; None if it is missing, altered or unreadable."""
    try:
        content = await _published_file(loaded, EVALUATION) if EVALUATION in loaded.manifest.files else None
        return None if content is None else read_report(content)
    except ModelError as error:
        logger.warning("the model card leaves out the report of %s: %s", loaded.folder.name, error)
        return None


def _report_types(manifest: Manifest) -> dict[str, str]:
    """Return the media types of the report files that are served, by name."""
    names = [name.removeprefix(REPORT_FOLDER) for name in manifest.files if name.startswith(REPORT_FOLDER)]
    plots = {name: "image/png" for name in names if name.endswith(".png")}
    return plots | ({"evaluation.json": "application/json"} if EVALUATION in manifest.files else {})
