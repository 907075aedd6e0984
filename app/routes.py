"""The endpoints: each one straight function from request to answer."""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import numpy as np
import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from app import schemas
from app.card.captions import FOLDER
from app.card.results import Served
from app.card.sections import EVALUATION, card
from app.card.values import read_document
from app.errors import CODES, PROBLEM, Problem, problem_of
from app.explain import heatmap
from app.explain.explainer import Explanation
from app.explain.saliency import METHOD
from app.monitoring.metrics import Metrics
from app.pipeline import Pipeline, Stages
from app.prediction import Prediction
from app.process.connection import while_connected
from app.uploads import files_in, read_body
from model_store.errors import ImageError
from model_store.manifest import Manifest
from model_store.version import Loaded

Answer = TypeVar("Answer")
TopK = Annotated[int | None, Query(ge=1, le=1000, description="keep the k largest probabilities, largest first")]
Label = Annotated[str | None, Query(alias="class", description="the label to explain; without it the predicted one")]
Format = Annotated[Literal["png", "json"], Query(alias="format", description="a picture to look at, or numbers too")]
Responses: TypeAlias = dict[int | str, dict[str, Any]]


router = APIRouter()


def _answers(good: type[BaseModel] | dict[str, Any], *codes: str) -> Responses:
    """The `responses` of a route that answers with `good`, a model or OpenAPI's own words, or one of these errors."""
    answers: Responses = {200: good if isinstance(good, dict) else {"model": good}}
    for code in codes:
        status, meaning = CODES[code]
        example = schemas.PROBLEM_EXAMPLE | {"status": status, "code": code, "detail": meaning}
        answer = answers.setdefault(status, {"description": "", "content": {PROBLEM: schemas.problems()}})
        answer["description"] = f"{answer['description']} `{code}`: {meaning}".strip()
        answer["content"][PROBLEM]["examples"][code] = {"value": example | {"title": HTTPStatus(status).phrase}}
    return answers


def _or_picture(answers: Responses) -> Responses:
    """The same `responses`, of which the good one may be a PNG instead."""
    answers[200]["content"] = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
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
        row = await _in_time(request, pipeline, "file", 1, lambda files, stages: pipeline.predict(files[0], stages))
        return _timed_json(request, lambda: prediction(loaded.manifest, row, top_k))


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
        answers = await _in_time(request, pipeline, "files", pipeline.settings.max_files, pipeline.predict_all)
        return _timed_json(request, lambda: {"results": [_result(loaded, answer, top_k) for answer in answers]})


@router.post(
    "/explain",
    summary="Show which pixels of one image speak for a class",
    responses=_or_picture(
        _answers(schemas.ExplanationAnswer, "unsupported_image", "unusable_image", "internal", *REFUSALS)
    ),
    openapi_extra=_image_body("file", many=False),
)
async def explain(request: Request, label: Label = None, kind: Format = "png") -> Response:
    """Send the image as for /predict. The PNG is what the network saw, 256×256, with heat where it matters."""
    pipeline: Pipeline = request.app.state.pipeline
    with pipeline.admit() as loaded:
        index = None if label is None else _index(loaded.manifest, label)
        explanation = await _in_time(
            request, pipeline, "file", 1, lambda files, stages: pipeline.explain(files[0], index, stages)
        )
        began = time.perf_counter()
        draw = _picture if kind == "png" else _explanation
        response = await asyncio.to_thread(draw, loaded.manifest, explanation)  # others need not wait while it is drawn
        request.scope["stages"]["serialize"] = time.perf_counter() - began
        return response


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
async def live(request: Request) -> Response:
    """200 as long as the process answers at all, whatever the model does."""
    return _json({"status": "alive"})


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


@router.get(
    "/model/drift",
    summary="Whether recent images are like those that the version was tested on",
    responses=_answers(schemas.DriftAnswer, "not_ready"),
)
async def model_drift(request: Request) -> Response:
    """Of all processes of the service together, over the last hour. No image is kept to tell it, only counts."""
    pipeline: Pipeline = request.app.state.pipeline
    pipeline.require_loaded()
    assert pipeline.drift is not None
    return _json(pipeline.drift.document())


@router.get(
    "/model/card",
    summary="The served version's model card, as a page",
    response_class=HTMLResponse,
    responses=_answers(schemas.CARD, "not_ready"),
)
async def model_card(request: Request) -> HTMLResponse:
    """What it is for and not for, what it learned from, how good it is and where it fails, from manifest and report."""
    loaded: Loaded = request.app.state.pipeline.require_loaded()
    report = await _published(loaded, EVALUATION) if EVALUATION in loaded.manifest.files else b""
    classifier = loaded.classifier
    return HTMLResponse(
        card(Served(loaded.manifest, read_document(report or b""), classifier.engine, classifier.precision))
    )


@router.get(
    "/model/report/{name}",
    summary="A plot of the served version's report, or evaluation.json",
    response_class=Response,
    responses=_answers(schemas.REPORT_FILE, "not_found", "not_ready"),
    openapi_extra={"parameters": [schemas.REPORT_NAME]},
)
async def model_report(request: Request) -> Response:
    """Only what the manifest lists under `report/`, and only the bytes whose SHA-256 it states."""
    name: str = request.path_params["name"]  # whatever it is, it is no invalid parameter
    loaded: Loaded = request.app.state.pipeline.require_loaded()
    types = _report_types(loaded.manifest)
    if name not in types:
        raise Problem("not_found", f"this version's report has {', '.join(types) or 'no files'}, and not {name[:80]!r}")
    content = await _published(loaded, FOLDER + name)
    if content is None:
        raise Problem("not_found", "the version was removed from the store since it was loaded, and its report with it")
    return Response(content, media_type=types[name])


@router.get("/metrics", summary="Counts and timings, for Prometheus", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Of all processes of the service together, in Prometheus's text format."""
    counted: Metrics = request.app.state.metrics
    return Response(counted.render(), media_type=CONTENT_TYPE_LATEST)


@router.get("/", include_in_schema=False)
async def index(request: Request) -> FileResponse:
    """The page on which to try an image."""
    return FileResponse(request.app.state.page / "index.html")


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> FileResponse:
    """The API's documentation, drawn from /openapi.json."""
    return FileResponse(request.app.state.page / "docs.html")


async def _in_time(
    request: Request,
    pipeline: Pipeline,
    field: str,
    limit: int,
    work: Callable[[list[bytes], Stages], Awaitable[Answer]],
) -> Answer:
    """What `work` makes of a request's encoded images. One deadline for all: a timer costs as much as a parser.

    Raises:
        ClientDisconnect: the client has left, and the work was not gone on with.
        Problem: the time was over, or what `work` raises.
    """
    seconds, body = pipeline.settings.timeout_seconds, None
    stages, began = request.scope["stages"], time.perf_counter()
    try:
        with while_connected(request.scope):
            async with asyncio.timeout(seconds):
                body = await read_body(request, pipeline.settings.max_body_bytes)
                files = files_in(request.headers.get("content-type", ""), body, field, limit)
                stages["receive"] = time.perf_counter() - began
                return await work(files, stages)
    except TimeoutError:
        if body is None:
            detail = f"the body did not arrive within {seconds:g} s; send a smaller image"
            raise Problem("slow_upload", detail) from None
        raise Problem("timeout", f"the answer was not ready within {seconds:g} s; try again later") from None


def prediction(manifest: Manifest, row: Prediction, top_k: int | None = None) -> dict[str, Any]:
    """The answer for one row, its probabilities in label order or the `top_k` largest first."""
    values = list(row.probabilities)  # NumPy's floats, which are written as short as float32 allows
    best = int(row.probabilities.argmax())
    order = range(len(values)) if top_k is None else np.argsort(-row.probabilities, kind="stable")[:top_k].tolist()
    return {
        "label": manifest.labels[best],
        "confidence": values[best],
        "verdict": row.verdict,
        "novelty": row.rounded_novelty,
        "probabilities": {manifest.labels[index]: values[index] for index in order},
        "model": _model(manifest),
    }


def _result(loaded: Loaded, answer: Prediction | ImageError, top_k: int | None) -> dict[str, Any]:
    if isinstance(answer, ImageError):
        return {"problem": problem_of(answer).document()}
    return {"prediction": prediction(loaded.manifest, answer, top_k)}


def _index(manifest: Manifest, label: str) -> int:
    if label not in manifest.labels:
        known = ", ".join(manifest.labels)
        raise Problem("invalid_parameter", f"query.class: {label[:64]!r} is none of the labels, which are {known}")
    return manifest.labels.index(label)


def _picture(manifest: Manifest, explanation: Explanation) -> Response:
    return Response(heatmap.overlay_png(explanation.seen, explanation.saliency), media_type="image/png")


def _explanation(manifest: Manifest, explanation: Explanation) -> Response:
    return _json(
        {
            "label": manifest.labels[explanation.index],
            "confidence": explanation.confidence,
            "saliency": [[round(value, 3) for value in row] for row in explanation.saliency.tolist()],
            "seen": _data_address(heatmap.pixels_png(explanation.seen)),
            "overlay": _data_address(heatmap.heat_png(explanation.saliency)),
            "method": METHOD,
            "model": _model(manifest),
        }
    )


def _data_address(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _model(manifest: Manifest) -> dict[str, str]:
    return {"name": manifest.name, "version": str(manifest.version)}


async def _published(loaded: Loaded, name: str) -> bytes | None:
    """A file of the served version, None if that was removed since."""
    if not (loaded.folder / name).exists():
        return None
    return await asyncio.to_thread(loaded.read, name)


def _report_types(manifest: Manifest) -> dict[str, str]:
    """The files of a version's report that are served, by name, with their media types."""
    names = [name.removeprefix(FOLDER) for name in manifest.files if name.startswith(FOLDER)]
    plots = {name: "image/png" for name in names if name.endswith(".png")}
    return plots | ({"evaluation.json": "application/json"} if EVALUATION in manifest.files else {})


def _timed_json(request: Request, content: Callable[[], dict[str, Any]]) -> Response:
    began = time.perf_counter()
    response = _json(content())
    request.scope["stages"]["serialize"] = time.perf_counter() - began
    return response


def _json(content: dict[str, Any]) -> Response:
    return Response(to_json(content), media_type="application/json")


def to_json(content: dict[str, Any]) -> bytes:
    """UTF-8 on one line; NumPy's floats may be in it."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
