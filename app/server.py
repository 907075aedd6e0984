"""Bind the address, configures uvicorn and runs it."""

import ctypes
import logging
import os
import socket
import sys

import uvicorn
from fastapi import FastAPI

from app.main import create_app
from app.process.connection import Connection
from app.process.cores import available_cores
from app.process.shutdown import DrainingServer, WorkerServer
from app.process.supervisor import Workers
from app.settings import Settings

logger = logging.getLogger("app")
M_MMAP_THRESHOLD, LARGE_BYTES = -3, 131_072  # mallopt(3); glibc's initial threshold
MIN_THREADS = (
    2  # a single request is faster on two cores; two processes that share two cores lose at most 2 % of throughput
)


def serve(settings: Settings, host: str, port: int) -> int:
    """Serve in the configured number of processes until a signal arrives. Returns the exit code."""
    count = settings.workers or available_cores()
    try:
        listener = _bind(host, port, shared=False)
        port = listener.getsockname()[1]
        if count > 1:  # the first bind fails if another service uses the port; a shared bind would not
            listener.close()
            listener = _bind(host, port, shared=True)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "invalid host name"
        logger.error(
            "cannot listen on %s port %s: %s; choose another address with --host and --port", host, port, reason
        )
        return 1
    logger.info("starting on http://%s:%s in %s processes", f"[{host}]" if ":" in host else host, port, count)
    workers = Workers(count - 1, host, port) if count > 1 else None
    app = create_app(settings, count, _network_threads(count), workers)
    return _run(DrainingServer(_config(app, settings), app, settings.drain_seconds, workers), listener)


def work(settings: Settings, host: str, port: int) -> int:
    """Serve as a worker process of `serve`. Returns the exit code."""
    count = settings.workers or available_cores()
    app = create_app(settings, count, _network_threads(count), is_worker=True)
    server = WorkerServer(_config(app, settings), app, settings.drain_seconds, None)
    return _run(server, _bind(host, port, shared=True))


def _run(server: uvicorn.Server, listener: socket.socket) -> int:
    return_large_blocks()
    server.run([listener])
    return 0


def return_large_blocks() -> None:
    """Make free() return large blocks, such as bodies and pixels, to the operating system at once.

    By default glibc raises the threshold to the largest block ever freed, and keeps all smaller blocks.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


def _network_threads(processes: int) -> int:
    cores = available_cores()
    return min(cores, max(MIN_THREADS, cores // processes))


def _bind(host: str, port: int, shared: bool) -> socket.socket:
    """Bind a socket to the address without listening on it."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


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
