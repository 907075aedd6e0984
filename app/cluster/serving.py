"""The application as a deployment of Ray Serve: each replica is a process with a core and a network thread of its own.

Serve's configuration names `app.cluster.serving:build_application`; deploy/ray has one.
"""

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig

from app.access.startup import access_problem
from app.main import create_app
from app.monitoring.logs import configure_logging
from app.monitoring.replicas import Report
from app.monitoring.traces import start_traces
from app.process.cores import available_cores, memory_limit
from app.settings import Settings

logger = logging.getLogger("app")
NAME = "Classifier"
STOP_SECONDS = 5.0  # on top of what requests may take
REPORT_SECONDS = 2.0  # for all replicas to say what they have counted
EVERY_INTERFACE = "0.0.0.0"  # where Serve's proxies may listen, which a replica cannot know


class Scale(BaseModel):
    """The arguments of the application in Serve's configuration."""

    model_config = ConfigDict(extra="forbid")
    min_replicas: int = 1
    max_replicas: int = 4
    target_ongoing_requests: float = 16  # of each replica
    max_ongoing_requests: int = 64  # of each replica: two full batches
    max_queued_requests: int = 256  # of each replica behind HAProxy, or of each of Ray's own proxies


def create_replica() -> FastAPI:
    """Create the application of one replica, on the replica.

    Raises:
        ValueError: clients and their access are not settled.
    """
    settings = Settings()
    if problem := access_problem(settings, EVERY_INTERFACE):
        raise ValueError(problem)
    configure_logging(settings.log_level)
    app = create_app(_of_a_core(settings), answers_unready=False, spans=start_traces(settings))
    app.state.ask_replicas = _ask_replicas
    return app


def _of_a_core(settings: Settings) -> Settings:
    """Leave a replica the memory of one of the node's cores."""
    cores = available_cores()
    memory = settings.limits(cores, memory_limit()).memory_bytes // cores
    return settings.model_copy(update={"max_memory_mb": memory // 1_000_000})


class Replica:
    """Healthy while it serves a version that has passed its tests."""

    app: FastAPI  # by serve.ingress

    async def check_health(self) -> None:
        """Fail until a version is served, and say why."""
        self.app.state.pipeline.require_serving()

    async def report(self) -> Report:
        """Return what this replica has counted."""
        report: Report = self.app.state.metrics.report(serve.get_replica_context().replica_id.unique_id)
        return report


async def _ask_replicas() -> Sequence[Report]:
    context = serve.get_replica_context()
    answers: list[Any] = []
    try:
        broadcast = serve.get_deployment_handle(context.deployment, context.app_name).broadcast("report")
        answers = await broadcast.results_async(timeout_s=REPORT_SECONDS, return_exceptions=True)
    except TimeoutError:
        logger.warning("not all replicas said within %g s what they have counted", REPORT_SECONDS)
    return [answer for answer in answers if isinstance(answer, Report)]


def build_application(scale: Scale) -> Application:
    """Build the application for `serve run` and Serve's configuration.

    Its replicas stop once the requests in flight are answered.
    """
    settings = Settings()
    deployment = serve.deployment(
        serve.ingress(create_replica)(Replica),
        name=NAME,
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=scale.max_ongoing_requests,
        max_queued_requests=scale.max_queued_requests,
        autoscaling_config=AutoscalingConfig(
            min_replicas=scale.min_replicas,
            max_replicas=scale.max_replicas,
            target_ongoing_requests=scale.target_ongoing_requests,
        ),
        health_check_period_s=10,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=settings.timeout_seconds + STOP_SECONDS,
    )
    return deployment.bind()
