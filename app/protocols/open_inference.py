"""/v2: the Open Inference Protocol of KServe, Triton, MLServer and OpenVINO Model Server."""

import json
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app import __version__
from app.pipeline import Pipeline
from app.protocols.inference_answer import check_outputs, inference_response, output_shapes
from app.protocols.inference_request import PLACE, parse_inference
from app.protocols.requests import adder, check_model, predict_images, ready_model, served_model
from app.requests.intake import Received
from app.responses import JsonResponse

MODEL = "/v2/models/{model}"
PREFIXES = (MODEL, f"{MODEL}/versions/{{version}}")
EXTENSIONS = ["binary_tensor_data", "classification"]

router = APIRouter(include_in_schema=False)
_route = adder(router, PREFIXES)


@_route("POST", "/infer")
async def infer(request: Request) -> Response:
    """Predict the images of one input tensor."""
    served_model(request)
    async with Received(request, parse_inference) as (serving, asked):
        manifest = serving.loaded.manifest
        check_model(request, manifest)
        outputs = check_outputs(asked, serving.loaded)
        rows = await predict_images(request, serving, asked.images, PLACE)
        with request.scope["stages"].timed("serialize"):
            return inference_response(asked, outputs, rows, manifest)


@router.get("/v2")
async def server(request: Request) -> Response:
    """Name the server, its version and the protocol's extensions that it has."""
    return JsonResponse({"name": "cifar10-service", "version": __version__, "extensions": EXTENSIONS})


@router.get("/v2/health/live")
async def live(request: Request) -> Response:
    """200 as long as the process responds."""
    return JsonResponse({"live": True})


@router.get("/v2/health/ready")
async def ready(request: Request) -> Response:
    """200 while the service takes requests, like /health/ready; else 503 with the reason."""
    pipeline: Pipeline = request.app.state.pipeline
    pipeline.require_ready()
    return JsonResponse({"ready": True})


@router.get("/v2/models")
async def models(request: Request) -> Response:
    """List the model, as KServe does."""
    pipeline: Pipeline = request.app.state.pipeline
    return JsonResponse({"models": [pipeline.require_serving().loaded.manifest.name]})


@router.post("/v2/repository/index")
async def repository_index(request: Request) -> Response:
    """List the model and its version, as Triton does."""
    pipeline: Pipeline = request.app.state.pipeline
    manifest = pipeline.require_serving().loaded.manifest
    entry = {"name": manifest.name, "version": str(manifest.version), "state": "READY", "reason": ""}
    return Response(json.dumps([entry]), media_type="application/json")


@_route("GET", "/ready")
async def model_ready(request: Request) -> Response:
    """200 while the model takes requests; else 503 with the reason."""
    return JsonResponse({"name": ready_model(request).loaded.manifest.name, "ready": True})


@_route("GET", "")
async def metadata(request: Request) -> Response:
    """Describe input and outputs. The input may be FP32 or BYTES as well, which the protocol cannot say."""
    loaded = served_model(request).loaded
    manifest, outputs = loaded.manifest, output_shapes(loaded)
    return JsonResponse(
        {
            "name": manifest.name,
            "versions": [str(manifest.version)],
            "platform": loaded.classifier.engine,
            "inputs": [_tensor("image", "UINT8", [-1, *manifest.preprocessing.shape])],
            "outputs": [_tensor(name, *output) for name, output in outputs.items()],
        }
    )


def _tensor(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}
