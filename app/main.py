"""`create_app(settings)` assembles the application."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from app import __version__, model_routes, openapi, protocols, routes
from app.access.gate import Gate, keyless_paths
from app.access.keys import Keys
from app.admission import BODY_COPIES
from app.batcher import QueueFullError
from app.errors import CODES, Problem, answer_error
from app.monitoring.finished import FinishedRequests
from app.monitoring.metrics import Metrics, Sample
from app.monitoring.middleware import RequestContext
from app.monitoring.replicas import ask_nobody
from app.page_files import Page, PageFiles
from app.pipeline import Pipeline
from app.process.core_share import ONE_CORE, CoreShare
from app.process.cores import memory_limit
from app.process.open_connections import REASONS, OpenConnections
from app.process.supervisor import END_REASONS, Workers
from app.requests.fast_path import FastPath
from app.requests.uploads import Uploads
from app.settings import Settings, split_list
from app.versions.loading import Skipped, in_daemon_thread
from model_store.errors import ImageError

if TYPE_CHECKING:
    from app.monitoring.spans import Spans

logger = logging.getLogger("app")
# Loading takes about a second, and a network that is being compiled should not be torn down; but a disk that hangs must
# not keep the process from ending before an orchestrator kills it, 10 s after SIGTERM in Docker.
LOADING_SECONDS = 3.0
SAMPLE_SECONDS = 1.0
# How long the process waits at its end for a collector to take the last spans.
LAST_SPANS_SECONDS = 1.5
# How long the first process accepts no connections while it loads the model. A proxy without health checks, such as
# nginx, would send requests to a process that has just started and pass its 503 on.
SILENT_SECONDS = 5.0
PAGE = Path(__file__).parent / "page"
ROUTERS = routes.router, model_routes.router
HANDLED = (
    Problem,
    ImageError,
    MemoryError,
    QueueFullError,
    RequestValidationError,
    HTTPException,
    ClientDisconnect,
    Exception,
)


def create_app(
    settings: Settings,
    processes: int = 1,
    share: CoreShare = ONE_CORE,
    workers: Workers | None = None,
    is_worker: bool = False,
    skipped: tuple[Skipped, ...] = (),
    answers_unready: bool = True,
    spans: "Spans | None" = None,
) -> FastAPI:
    """Create the application.

    Args:
        processes: number of serving processes, this one included; the limits are divided among them.
        share: cores on which this process runs the network.
        workers: the other processes, started once this one is ready.
        is_worker: whether this is one of the other processes.
        skipped: for a worker, the versions that the first process skipped.
        answers_unready: whether the first process says after some seconds why it is not ready yet; it need not where
            others answer.
        spans: makes the spans of every request; None if traces are off.

    Raises:
        KeysError: the file of keys cannot be used.
    """
    app = FastAPI(
        title="CIFAR-10 image classification",
        version=__version__,
        description="Upload a photo and get a softmax probability for each class. No image is stored.",
        lifespan=partial(_lifespan, workers=workers, is_worker=is_worker, answers_unready=answers_unready),
        openapi_url=None,  # FastAPI would serialise the document again for every request
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the client's Host header
        telemetry={"tracing": False, "metrics": False, "logs": False},
        exception_handlers=dict.fromkeys(HANDLED, answer_error),
    )
    app.state.page = Page(PAGE)
    app.state.keys = Keys(settings.keys_file) if settings.access == "keys" and settings.keys_file else None
    app.state.openapi = openapi.cached_document(
        app, settings.root_path, keyless_paths(settings) if app.state.keys else None
    )
    app.state.metrics = Metrics(settings.metrics_directory)
    app.state.finished = FinishedRequests(app.state.metrics)
    app.state.spans = spans
    app.state.connections = None  # server.py sets it
    app.state.ask_replicas = ask_nobody  # cluster/serving.py sets another one
    limits = settings.limits(processes, memory_limit())
    app.state.pipeline = Pipeline(settings, limits, app.state.metrics, share, skipped, is_worker)
    app.state.uploads = Uploads(limits.image_bytes // 2 // BODY_COPIES)
    app.state.short_error_paths = protocols.first_segments(settings.enabled_protocols)
    routers = [*ROUTERS, *protocols.routers(settings.enabled_protocols)]
    _add_routes(app, settings, routers)
    app.state.metrics.declare(CODES, _predicting(routers), REASONS, END_REASONS)
    app.state.metrics.set_limits(processes, limits.memory_bytes)
    return app


def _predicting(routers: Iterable[APIRouter]) -> Iterator[str]:
    """Yield the paths of predictions, but for those that repeat another with a version or a label."""
    for route in chain.from_iterable(router.routes for router in routers):
        if isinstance(route, APIRoute) and route.methods == {"POST"}:
            yield from [route.path] if route.param_convertors.keys() <= {"model"} else []


@asynccontextmanager
async def _lifespan(
    app: FastAPI, workers: Workers | None, is_worker: bool, answers_unready: bool
) -> AsyncIterator[None]:
    """Load the model at start-up; release it and wait for the workers at shutdown.

    A worker accepts no connections until its model is ready, the first process for some seconds at most: then /health
    says why the service is not ready yet.
    """
    pipeline: Pipeline = app.state.pipeline
    share = partial(_share, pipeline, workers)
    loading = asyncio.create_task(pipeline.start())
    loading.add_done_callback(lambda _: share())
    deadline = asyncio.get_running_loop().time() + (inf if is_worker or not answers_unready else SILENT_SECONDS)
    while not loading.done() and not pipeline.draining and asyncio.get_running_loop().time() < deadline:
        await asyncio.wait([loading], timeout=0.1)  # uvicorn acts on a signal only after the start
    if is_worker or not answers_unready:
        await asyncio.wait([loading], timeout=LOADING_SECONDS)
    if is_worker and pipeline.serving is None:
        # The log has the reason, to which uvicorn would add a traceback and a line of its own.
        logging.getLogger("uvicorn.error").disabled = True
        pipeline.require_serving()
    tasks = [asyncio.create_task(_sample(app.state, workers))]
    tasks += [asyncio.create_task(_follow(pipeline, loading, share))] if pipeline.follows and not is_worker else []
    tasks += [asyncio.create_task(app.state.keys.follow())] if app.state.keys else []
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await asyncio.wait([loading], timeout=LOADING_SECONDS)
    if not loading.done():
        logger.error("the model is still being loaded after a signal to stop, so its disk may hang; it is left behind")
        loading.cancel()
    if workers:
        await workers.wait()
    await pipeline.stop()
    app.state.finished.record()
    if app.state.spans:
        await _export_last(app.state.spans)


async def _export_last(spans: "Spans") -> None:
    exporting = in_daemon_thread(spans.shutdown)
    await asyncio.wait([exporting], timeout=LAST_SPANS_SECONDS)
    if not exporting.done():
        logger.warning("the last spans are lost: the collector did not take them within %s s", LAST_SPANS_SECONDS)


async def _follow(pipeline: Pipeline, loading: asyncio.Task[None], changed: Callable[[], None]) -> None:
    await asyncio.shield(loading)
    await pipeline.follow(changed)


async def _sample(state: State, workers: Workers | None) -> None:
    """Report once a second what the process is doing; reporting each change would cost every request two writes."""
    pipeline: Pipeline = state.pipeline
    while True:
        connections: OpenConnections | None = state.connections
        state.metrics.sample(
            Sample(
                in_flight=pipeline.admission.requests,
                uploads=len(state.uploads),
                waiting=pipeline.serving.waiting_images if pipeline.serving else 0,
                connections=len(connections.connections) if connections else 0,
                skipped_versions=len(pipeline.skipped),
                has_store_problem=pipeline.store_problem is not None,
                closed=connections.take_closed() if connections else {},
                restarts=workers.take_restarts() if workers else {},
            )
        )
        await asyncio.sleep(SAMPLE_SECONDS)


def _share(pipeline: Pipeline, workers: Workers | None) -> None:
    """Make the workers serve what this process serves."""
    if workers and pipeline.serving:
        version, skipped = pipeline.serving.loaded.manifest.version, pipeline.skipped
        workers.serve(version, [(item.version, item.reason) for item in skipped])


def _add_routes(app: FastAPI, settings: Settings, routers: Sequence[APIRouter]) -> None:
    for router in routers:
        app.include_router(router)
    app.mount("/page", PageFiles(app.state.page), name="page")
    # The fast path wraps FastAPI's own middleware, which most requests can skip.
    inner: ASGIApp = FastPath(
        app.build_middleware_stack(), [route for router in routers for route in router.routes], app.routes
    )
    if Gate.is_needed(settings, app.state.keys):
        inner = Gate(inner, settings, app.state.keys)
    app.middleware_stack = RequestContext(
        inner, app.state.finished, split_list(settings.frame_ancestors), app.state.spans
    )
