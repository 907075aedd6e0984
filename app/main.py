"""`create_app(settings)` assembles the application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app import model_routes, routes
from app.batcher import QueueFullError
from app.errors import Problem, answer_error
from app.fast_path import FastPath
from app.monitoring.metrics import Metrics
from app.monitoring.middleware import RequestContext
from app.pipeline import Pipeline
from app.process.supervisor import Workers
from app.settings import Settings
from model_store.errors import ImageError

PAGE = Path(__file__).parent / "page"
HANDLED = (Problem, ImageError, QueueFullError, RequestValidationError, HTTPException, ClientDisconnect, Exception)


def create_app(
    settings: Settings,
    processes: int = 1,
    threads: int | None = None,
    workers: Workers | None = None,
    is_worker: bool = False,
) -> FastAPI:
    """The service.

    Args:
        processes: number of processes that serve, this one included; each keeps to its share of the limits.
        threads: for the network in this process; None leaves the number to the engine.
        workers: the further processes, which this one starts when it is ready.
        is_worker: this process is one of those. The first process loads the model in the background, so that it can
            say from the start why it is not ready; a worker accepts no connection until its model is ready.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pipeline: Pipeline = app.state.pipeline
        loading = asyncio.create_task(_load(pipeline, workers))
        if is_worker:
            await loading
            pipeline.require_serving()
        yield
        await loading  # a thread cannot be cancelled; it takes a second
        if workers:
            await workers.wait()
        await pipeline.stop()

    routers, metrics = (routes.router, model_routes.router), Metrics(settings.metrics_directory)
    app = FastAPI(
        title="CIFAR-10 image classification",
        version="0.1.0",
        description="Photos in, softmax probabilities for ten kinds of things out. Nothing of an image is kept.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        exception_handlers=dict.fromkeys(HANDLED, answer_error),
    )
    app.state.metrics = metrics
    app.state.pipeline = Pipeline(settings, settings.limits(processes), metrics, threads)
    app.state.page = PAGE
    for router in routers:
        app.include_router(router)
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    # Outside FastAPI's own layers, which most requests do not need.
    fast_path = FastPath(app.build_middleware_stack(), [route for router in routers for route in router.routes])
    app.middleware_stack = RequestContext(fast_path, metrics)
    return app


async def _load(pipeline: Pipeline, workers: Workers | None) -> None:
    await pipeline.start()
    if workers and pipeline.serving:
        workers.start(pipeline.serving.loaded.manifest.version)
