"""/ping and /invocations: what Amazon SageMaker asks of the container of a real-time endpoint."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.pipeline import Pipeline
from app.prediction import prediction_json
from app.protocols.json_body import json_parser
from app.protocols.requests import predict_images
from app.protocols.tensorflow_request import read_rows
from app.requests.intake import Received, encoded_images
from app.responses import JsonResponse

ONE_IMAGE, ROWS = encoded_images("file", 1), json_parser(read_rows)

router = APIRouter(include_in_schema=False)


@router.get("/ping")
async def ping(request: Request) -> Response:
    """200 while the service takes requests, like /health/ready; else 503 with the reason."""
    pipeline: Pipeline = request.app.state.pipeline
    pipeline.require_ready()
    return JsonResponse({"status": "ready"})


@router.post("/invocations")
async def invocations(request: Request) -> Response:
    """Answer JSON `instances` as TensorFlow Serving does, and an image as POST /predict does."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/json":
        async with Received(request, ROWS) as (serving, asked):
            rows = await predict_images(request, serving, asked.images, asked.place)
            with request.scope["stages"].timed("serialize"):
                return JsonResponse({"predictions": [row.probabilities for row in rows]})
    async with Received(request, ONE_IMAGE) as (serving, (data,)):
        row = await serving.predict(data, request.scope["stages"])
        with request.scope["stages"].timed("serialize"):
            return JsonResponse(prediction_json(serving.loaded.manifest, row))
