"""Bind the address, configure uvicorn and run it."""

import ctypes
import logging
import socket
import sys
from collections.abc import Sequence
from functools import partial

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from app.access.key_file import KeysError
from app.main import create_app
from app.monitoring.traces import start_traces
from app.process.connection import Connection
from app.process.core_share import CoreShare
from app.process.cores import available_cores, be_killed_first, choose_processes
from app.process.listeners import bind, close
from app.process.open_connections import OpenConnections, connection_limit
from app.process.shutdown import DrainingServer, WorkerServer
from app.process.supervisor import Place, Workers
from app.settings import Settings
from app.versions.loading import Skipped
from model_store.errors import ModelError
from model_store.network.processor import new_core

logger = logging.getLogger("app")
M_MMAP_THRESHOLD, LARGE_BYTES = -3, 131_072  # mallopt(3); glibc's initial threshold


def serve(settings: Settings, host: str, port: int, inherited: Sequence[Place] = ()) -> int | list[Place]:
    """Serve in the configured number of processes until a signal arrives.

    Args:
        inherited: what this process's earlier program returned.

    Returns:
        The exit code; or what the next program of this process inherits, which is to be started.
    """
    try:
        if settings.engine == "openvino":
            new_core()
    except ModelError as error:  # another version would not help, nor would waiting
        logger.error("%s", error)
        return 1
    count, reason = choose_processes(len(inherited) or settings.workers)
    try:
        listeners = _inherit(inherited[0]) if inherited else _listen(host, port, shared=count > 1)
        port = listeners[0].getsockname()[1]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "invalid host name"
        logger.error(
            "cannot listen on %s port %s: %s; choose another address with --host and --port, or "
            "CIFAR10_BIND_HOST and CIFAR10_BIND_PORT",
            host,
            port,
            reason,
        )
        return 1
    processes = f"{count} process{'es' if count > 1 else ''}"
    if inherited:
        reason = "replacing the earlier ones"
    address, access = f"[{host}]" if ":" in host else host, "clients with a key" if settings.keys_file else "everybody"
    logger.info("starting on http://%s:%s in %s: %s; for %s", address, port, processes, reason, access)
    workers = Workers(count - 1, partial(bind, host, port, True), listeners, settings.follows, inherited)
    spans = start_traces(settings)
    app = create_app(settings, count, _share(settings, count), workers, answers_unready=not inherited, spans=spans)
    app.state.connections = _connections(settings)
    server = DrainingServer(_config(app, settings), app.state.connections, app, settings.drain_seconds, workers)
    _run(server, listeners)
    if app.state.pipeline.draining:  # a signal came too late for the workers; they stop after this process
        return 0
    return workers.handed_over or 0


def work(settings: Settings, listeners: list[int], skipped: tuple[Skipped, ...]) -> int:
    """Serve as a worker process of `serve`, on sockets inherited from it. Returns the exit code.

    Args:
        skipped: the versions that `serve` skipped.
    """
    be_killed_first()
    count, _ = choose_processes(settings.workers)
    try:
        spans = start_traces(settings)
        app = create_app(settings, count, _share(settings, count), is_worker=True, skipped=skipped, spans=spans)
    except KeysError as error:
        logger.error("the keys cannot be read: %s", error)
        return STARTUP_FAILURE
    app.state.connections = _connections(settings)
    server = WorkerServer(_config(app, settings), app.state.connections, app, settings.drain_seconds, None)
    return _run(server, [socket.socket(fileno=descriptor) for descriptor in listeners])


def _inherit(place: Place) -> list[socket.socket]:
    return [socket.socket(fileno=descriptor) for descriptor in place.listeners]


def _listen(host: str, port: int, shared: bool) -> list[socket.socket]:
    """Bind the address, with SO_REUSEPORT if other processes of this service share it."""
    listeners = bind(host, port, False)  # fails if another service uses the port; a shared bind would not
    if not shared:
        return listeners
    port = listeners[0].getsockname()[1]
    close(listeners)
    return bind(host, port, True)


def _run(server: uvicorn.Server, listeners: list[socket.socket]) -> int:
    return_large_blocks()
    server.run(listeners)
    return 0


def return_large_blocks() -> None:
    """Make free() return large blocks, such as bodies and pixels, to the operating system at once.

    By default glibc raises the threshold to the largest block ever freed, and keeps all smaller blocks.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


def _share(settings: Settings, processes: int) -> CoreShare:
    return CoreShare(available_cores(), processes, settings.metrics_directory)


def _connections(settings: Settings) -> OpenConnections:
    return OpenConnections(connection_limit(settings.max_connections), settings.keep_alive_seconds)


def _config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        root_path=settings.root_path,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=round(settings.timeout_seconds) + 1,
    )
