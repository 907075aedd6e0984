"""uvicorn with a graceful shutdown: report not ready, finish in-flight requests, and exit with code 0."""

import asyncio
import signal
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.process.open_connections import SWEEP_SECONDS, OpenConnections
from app.process.supervisor import Workers


class DrainingServer(uvicorn.Server):
    """On SIGTERM, accepts requests but reports not ready for `drain_seconds`, then stops; on SIGINT, stops at once.

    A load balancer keeps sending until it sees the readiness probe fail: closing the port earlier would drop requests.
    SIGHUP (a closed terminal) stops it like SIGTERM. In-flight requests finish unless a second signal arrives.
    """

    server_state: OpenConnections

    def __init__(
        self,
        config: uvicorn.Config,
        connections: OpenConnections,
        app: FastAPI,
        drain_seconds: float,
        workers: Workers | None,
    ) -> None:
        super().__init__(config)
        self.server_state = connections
        self._pipeline, self._drain_seconds, self._workers = app.state.pipeline, drain_seconds, workers
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Keep the event loop, on which the signal handlers schedule their work, and start to sweep connections."""
        self._loop = asyncio.get_running_loop()
        self._sweep(self._loop)
        if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
            self._loop.add_signal_handler(signal.SIGHUP, self.handle_exit, signal.SIGTERM, None)
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start the shutdown. uvicorn's own handler would raise the signal again at exit and change the exit code."""
        repeated, self._pipeline.draining = self._pipeline.draining, True
        if self._loop:
            self._loop.call_soon_threadsafe(self.server_state.drain)
        if self._loop and self._workers:
            self._loop.call_soon_threadsafe(self._workers.stop, signal.SIGINT if repeated else sig)
        if sig == signal.SIGTERM and not repeated and self._loop:
            self._loop.call_soon_threadsafe(self._loop.call_later, self._drain_seconds, self._stop)
        else:
            if self.should_exit and self._loop:
                self._loop.call_soon_threadsafe(self._hang_up)
            self._stop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish in-flight requests, but wait only briefly for clients that do not read their answers."""
        self.server_state.stop()
        await super().shutdown(sockets)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self.server_state.sweep()
        loop.call_later(SWEEP_SECONDS, self._sweep, loop)

    def _stop(self) -> None:
        self.should_exit = True

    def _hang_up(self) -> None:
        for connection in list(self.server_state.connections):  # cancels its request: see while_connected
            connection.transport.abort()


class WorkerServer(DrainingServer):
    """Server of a worker process; also stops when the first process ends, which closes the worker's stdin."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Watch stdin for its end."""
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._stop_orphan)
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ignore a second SIGTERM: supervisors may send one to every process, and the first process forwards its."""
        if sig != signal.SIGTERM or not self._pipeline.draining:
            super().handle_exit(sig, frame)

    def _stop_orphan(self) -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())  # it stays readable at its end
        self.handle_exit(signal.SIGINT, None)
