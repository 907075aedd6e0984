"""/v1: the REST interface of TensorFlow Serving, and KServe's version 1, which shares its addresses."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.access.client import client_of
from app.explain.document import explanation_json
from app.pipeline import Pipeline
from app.prediction import largest
from app.protocols.json_body import JsonObject, json_parser
from app.protocols.requests import adder, at, check_model, predict_images, ready_model, served_model
from app.protocols.tensorflow_request import (
    COLUMNS,
    ROWS,
    SIGNATURE,
    ImagesRequest,
    read_examples,
    read_images,
    read_rows,
)
from app.requests.intake import Received
from app.responses import JsonResponse
from model_store.errors import ImageError
from model_store.manifest import Manifest
from model_store.network.layers import Shape

# Explanations take about 0.1 s of the network each, and one is computed at a time.
MAX_EXPLANATIONS = 16
MODEL = "/v1/models/{model}"
PREFIXES = (MODEL, f"{MODEL}/versions/{{version}}", f"{MODEL}/labels/{{label}}")


def _read_explained(document: JsonObject, max_images: int, shape: Shape) -> ImagesRequest:
    return read_rows(document, min(max_images, MAX_EXPLANATIONS), shape)


IMAGES, EXAMPLES, EXPLAINED = json_parser(read_images), json_parser(read_examples), json_parser(_read_explained)

router = APIRouter(include_in_schema=False)
_route = adder(router, PREFIXES)


@_route("POST", ":predict")
async def predict(request: Request) -> Response:
    """Answer a list of probabilities for each image, in label order."""
    served_model(request)
    async with Received(request, IMAGES) as (serving, asked):
        check_model(request, serving.loaded.manifest)
        rows = await predict_images(request, serving, asked.images, asked.place)
        with request.scope["stages"].timed("serialize"):
            answer = {ROWS: "predictions", COLUMNS: "outputs"}[asked.field]
            return JsonResponse({answer: [row.probabilities for row in rows]})


@_route("POST", ":classify")
async def classify(request: Request) -> Response:
    """Answer a list of [label, probability] for each image, largest first."""
    served_model(request)
    async with Received(request, EXAMPLES) as (serving, asked):
        manifest = serving.loaded.manifest
        check_model(request, manifest)
        rows = await predict_images(request, serving, asked.images, asked.place)
        with request.scope["stages"].timed("serialize"):
            count = len(manifest.labels)
            ranked = [(row.probabilities, largest(row.probabilities, count)) for row in rows]
            return JsonResponse({"result": [[[manifest.labels[i], row[i]] for i in order] for row, order in ranked]})


@_route("POST", ":explain")
async def explain(request: Request) -> Response:
    """Answer an explanation of the predicted label for each image, as POST /explain?format=json gives."""
    served_model(request)
    async with Received(request, EXPLAINED) as (serving, asked):
        manifest = serving.loaded.manifest
        check_model(request, manifest)
        documents, request.scope["images"] = [], len(asked.images)
        for index, image in enumerate(asked.images):
            try:
                explanation = await serving.explain(image, None, request.scope["stages"], client_of(request.scope))
            except ImageError as error:
                raise at(asked.place.format(index), error) from None
            documents.append(await asyncio.to_thread(explanation_json, manifest, explanation))
        return JsonResponse({"explanations": documents})


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """List the model."""
    pipeline: Pipeline = request.app.state.pipeline
    return JsonResponse({"models": [pipeline.require_serving().loaded.manifest.name]})


@_route("GET", "/metadata")
async def metadata(request: Request) -> Response:
    """Describe the signature, as TensorFlow Serving does."""
    manifest = served_model(request).loaded.manifest
    signature = {
        "inputs": {"image": _tensor("image", "DT_UINT8", [-1, *manifest.preprocessing.shape])},
        "outputs": {"probabilities": _tensor("probabilities", "DT_FLOAT", [-1, len(manifest.labels)])},
        "method_name": "tensorflow/serving/predict",
    }
    return JsonResponse(
        {
            "model_spec": {"name": manifest.name, "signature_name": "", "version": str(manifest.version)},
            "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
        }
    )


@_route("GET", "")
async def status(request: Request) -> Response:
    """Answer as TensorFlow Serving (`model_version_status`) and KServe (`name`, `ready`) do; 503 until it is ready."""
    manifest = ready_model(request).loaded.manifest
    return JsonResponse({"name": manifest.name, "ready": True, "model_version_status": [_version_status(manifest)]})


def _version_status(manifest: Manifest) -> dict[str, Any]:
    status = {"error_code": "OK", "error_message": ""}
    return {"version": str(manifest.version), "state": "AVAILABLE", "status": status}


def _tensor(name: str, dtype: str, shape: list[int]) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in shape]
    return {"dtype": dtype, "tensor_shape": {"dim": dimensions, "unknown_rank": False}, "name": f"{name}:0"}
