"""uvicorn, with a shutdown that loses nothing: readiness falls, requests under way finish, the exit code is 0."""

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.main import create_app
from app.monitoring.logs import configure_logging
from app.monitoring.metrics import forget_process
from app.process.connection import Connection
from app.process.supervisor import Workers, available_cores
from app.settings import Settings

logger = logging.getLogger("app")
M_MMAP_THRESHOLD, LARGE_BYTES = -3, 131_072  # mallopt(3); the threshold that glibc begins with
FEWEST_THREADS = 2  # a lone request is answered sooner on two cores; two processes that both take both lose 2 % at most


class DrainingServer(uvicorn.Server):
    """On SIGTERM says not ready for `drain_seconds` while still accepting, then stops; on SIGINT stops at once.

    SIGHUP is as SIGTERM. Requests under way are waited for, until the same is asked again.

    A load balancer goes on sending until it has seen the readiness probe fail; whoever closes the port before that
    drops requests.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_seconds: float, workers: Workers | None) -> None:
        super().__init__(config)
        self._pipeline, self._drain_seconds, self._workers = app.state.pipeline, drain_seconds, workers
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Remember the loop, which signals must talk to."""
        self._loop = asyncio.get_running_loop()
        if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup has it ignored
            self._loop.add_signal_handler(signal.SIGHUP, self.handle_exit, signal.SIGTERM, None)
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the shutdown. uvicorn would afterwards raise the signal again and so end with its number."""
        again, self._pipeline.draining = self._pipeline.draining, True
        if self._loop and self._workers:
            self._loop.call_soon_threadsafe(self._workers.stop, signal.SIGINT if again else sig)
        if sig == signal.SIGTERM and not again and self._loop:
            self._loop.call_soon_threadsafe(self._loop.call_later, self._drain_seconds, self._stop)
        else:
            if self.should_exit and self._loop:
                self._loop.call_soon_threadsafe(self._hang_up)
            self._stop()

    def _stop(self) -> None:
        self.should_exit = True

    def _hang_up(self) -> None:
        for connection in list(self.server_state.connections):  # what is done for them then stops
            connection.transport.abort()


class WorkerServer(DrainingServer):
    """A further process, which also stops when the one that started it is gone: its standard input ends then."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Watch standard input."""
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._left_alone)
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A second SIGTERM is the first again, which a supervisor sent to all and the first process hands on."""
        if sig != signal.SIGTERM or not self._pipeline.draining:
            super().handle_exit(sig, frame)

    def _left_alone(self) -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())  # which would say so again and again
        self.handle_exit(signal.SIGINT, None)


def serve(settings: Settings, host: str, port: int) -> int:
    """Serve until told to stop, in as many processes as the settings say. Returns the exit code."""
    configure_logging(settings.log_level)
    count = settings.workers or available_cores()
    try:
        listener = _bind(host, port, shared=False)
        port = listener.getsockname()[1]
        if count > 1:  # the first bind has shown that nobody else serves here, which a shared one would not
            listener.close()
            listener = _bind(host, port, shared=True)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "that is no name of a host"
        logger.error("cannot listen on %s port %s: %s; choose others with --host and --port", host, port, reason)
        return 1
    logger.info("starting on http://%s:%s in %s processes", f"[{host}]" if ":" in host else host, port, count)
    workers = Workers(count - 1, host, port, forget_process) if count > 1 else None
    app = create_app(settings.share_of(count), _threads(count), workers)
    return _run(DrainingServer(_config(app, settings), app, settings.drain_seconds, workers), listener)


def work(settings: Settings, host: str, port: int) -> int:
    """Be one of the further processes of `serve`. Returns the exit code."""
    configure_logging(settings.log_level)
    count = settings.workers or available_cores()
    app = create_app(settings.share_of(count), _threads(count), is_worker=True)
    server = WorkerServer(_config(app, settings), app, settings.drain_seconds, None)
    return _run(server, _bind(host, port, shared=True))


def _run(server: uvicorn.Server, listener: socket.socket) -> int:
    return_large_blocks()
    server.run([listener])
    return 0


def return_large_blocks() -> None:
    """Let freed bodies and pixels go back to the system at once.

    glibc raises its threshold to the largest block that was ever freed, and keeps what is below it in pieces.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


def _threads(processes: int) -> int:
    cores = available_cores()
    return min(cores, max(FEWEST_THREADS, cores // processes))


def _bind(host: str, port: int, shared: bool) -> socket.socket:
    """A socket with the address, which does not listen yet."""
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
