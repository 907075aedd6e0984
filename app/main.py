"""`create_app(settings)` assembles the application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app import __version__, model_routes, routes
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
ROUTERS = routes.router, model_routes.router
HANDLED = Problem, ImageError, QueueFullError, RequestValidationError, HTTPException, ClientDisconnect, Exception


def create_app(
    settings: Settings,
    processes: int = 1,
    threads: int | None = None,
    workers: Workers | None = None,
    is_worker: bool = False,
    answers_at_once: bool = True,
) -> FastAPI:
    """Create the application.

    Args:
        processes: number of serving processes, this one included; the limits are divided among them.
        threads: threads that run the network in this process; by default the engine chooses.
        workers: the other processes, started once this one is ready.
        is_worker: whether this is one of the other processes.
        answers_at_once: whether the first process says why it is not ready while it loads the model; it need not where
            others answer.
    """
    app = FastAPI(
        title="CIFAR-10 image classification",
        version=__version__,
        description="Upload a photo and get a softmax probability for each class. No image is stored.",
        lifespan=partial(_lifespan, workers=workers, is_worker=is_worker, answers_at_once=answers_at_once),
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        exception_handlers=dict.fromkeys(HANDLED, answer_error),
    )
    app.state.page = PAGE
    app.state.metrics = Metrics(settings.metrics_directory)
    app.state.pipeline = Pipeline(settings, settings.limits(processes), app.state.metrics, threads)
    _add_routes(app)
    return app


@asynccontextmanager
async def _lifespan(
    app: FastAPI, workers: Workers | None, is_worker: bool, answers_at_once: bool
) -> AsyncIterator[None]:
    """Load the model at start-up; release it and wait for the workers at shutdown.

    The first process loads the model in the background, so that /health can say why the service is not ready yet. A
    worker accepts no connections until its model is ready.
    """
    pipeline: Pipeline = app.state.pipeline
    loading = asyncio.create_task(_load(pipeline, workers))
    if is_worker or not answers_at_once:
        await loading
    if is_worker:
        pipeline.require_serving()
    yield
    await loading  # its thread cannot be cancelled, and finishes within a second
    if workers:
        await workers.wait()
    await pipeline.stop()


async def _load(pipeline: Pipeline, workers: Workers | None) -> None:
    await pipeline.start()
    if workers and pipeline.serving:
        workers.start(pipeline.serving.loaded.manifest.version)


def _add_routes(app: FastAPI) -> None:
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    # The fast path wraps FastAPI's own middleware, which most requests can skip.
    fast_path = FastPath(app.build_middleware_stack(), [route for router in ROUTERS for route in router.routes])
    app.middleware_stack = RequestContext(fast_path, app.state.metrics)
