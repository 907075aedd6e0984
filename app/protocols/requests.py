"""Steps that the protocols share: the model that a request names, and predictions for its images."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, HTTPException, Request

from app.errors import Problem, problem_from_error
from app.pipeline import Pipeline
from app.prediction import Prediction
from app.versions.serving import Serving, Source
from model_store.errors import ImageError
from model_store.manifest import Manifest

VERBS = ("predict", "classify", "explain")
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def adder(router: APIRouter, prefixes: Sequence[str]) -> Callable[[str, str], Callable[[Endpoint], Endpoint]]:
    """Return a decorator, of a method and a suffix, that adds an endpoint below each of these paths."""

    def route(method: str, suffix: str) -> Callable[[Endpoint], Endpoint]:
        def add(endpoint: Endpoint) -> Endpoint:
            for prefix in prefixes:
                router.add_api_route(prefix + suffix, endpoint, methods=[method])
            return endpoint

        return add

    return route


def check_model(request: Request, manifest: Manifest) -> None:
    """Check the model and version in the request's path.

    Raises:
        Problem: another model, version or a version label is named; the text has those that exist.
        HTTPException: the path is that of a POST route.
    """
    name, version = request.path_params["model"], str(manifest.version)
    served = f"this service has {manifest.name!r} in version {version}"
    if name.partition(":")[2] in VERBS:
        raise HTTPException(405, headers={"Allow": "POST"})
    if name != manifest.name:
        raise Problem("not_found", f"the model {name[:80]!r} does not exist; {served}")
    if "label" in request.path_params:
        raise Problem("not_found", f"versions have no labels here; leave it out or ask for /versions/{version}")
    if (asked := request.path_params.get("version", version)) != version:
        raise Problem("not_found", f"version {asked[:20]!r} of {name!r} is not served; {served}")


def served_model(request: Request) -> Serving:
    """Return the served version if it is the one in the request's path.

    Raises:
        Problem, HTTPException: as `check_model`, or no version is loaded.
    """
    pipeline: Pipeline = request.app.state.pipeline
    serving = pipeline.require_serving()
    check_model(request, serving.loaded.manifest)
    return serving


def ready_model(request: Request) -> Serving:
    """Return the served version if it is the one in the request's path and takes new requests.

    Raises:
        Problem, HTTPException: as `served_model`, or the service is shutting down.
    """
    pipeline: Pipeline = request.app.state.pipeline
    pipeline.require_ready()
    return served_model(request)


async def predict_images(request: Request, serving: Serving, images: Sequence[Source], place: str) -> list[Prediction]:
    """Predict all images.

    Args:
        place: of an image in the request, with `{}` for its index.

    Raises:
        Problem: one of them is unusable; the text has its place.
        QueueFullError: too many images are waiting.
    """
    stages, request.scope["images"] = request.scope["stages"], len(images)
    if len(images) == 1:
        try:
            return [await serving.predict(images[0], stages)]
        except ImageError as error:
            raise at(place.format(0), error) from None
    rows = []
    for index, row in enumerate(await serving.predict_all(images, stages)):
        if isinstance(row, ImageError):
            raise at(place.format(index), row)
        rows.append(row)
    return rows


def at(place: str, error: Exception) -> Problem:
    """Return the problem of one image, with its place in the request."""
    problem = problem_from_error(error)
    return Problem(problem.code, f"{place}: {problem.detail}")
