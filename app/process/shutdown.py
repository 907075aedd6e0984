"""uvicorn with a graceful shutdown: report not ready, finish in-flight requests, and exit with code 0.

A process that is replaced retires instead: its successor already accepts from the same sockets, so readiness stays.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.process.listeners import queued, refuse_new
from app.process.open_connections import SWEEP_SECONDS, OpenConnections
from app.process.supervisor import HEARTBEAT_SECONDS, Workers
from model_store.errors import ModelError

logger = logging.getLogger("app")
# Clients that use a connection at least this often are told to open another and lose no request. The predecessor's
# memory is in use until then.
RETIRE_SECONDS = 10.0
# For connections that the kernel takes within a round trip, and for all in the queue, before their socket is closed.
MIN_ACCEPT_SECONDS, MAX_ACCEPT_SECONDS = 0.02, 2.0
HANDLED = signal.SIGHUP, signal.SIGINT, signal.SIGTERM


class DrainingServer(uvicorn.Server):
    """On SIGTERM, accepts requests but reports not ready for `drain_seconds`, then stops; on SIGINT, stops at once.

    A load balancer keeps sending until it sees the readiness probe fail: closing the port earlier would drop requests.
    In-flight requests finish unless a second signal arrives. SIGHUP from a closed terminal stops it like SIGTERM;
    without a terminal, SIGHUP replaces all processes.
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
        self._renewal: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Keep the event loop, on which the signal handlers schedule their work, and start to sweep connections."""
        self._loop = asyncio.get_running_loop()
        self._sweep(self._loop)
        self._handle_hangup()
        if self._workers:
            self._workers.adopt()
        await super().startup(sockets)
        if self._workers and self._pipeline.serving:
            self._workers.retire_stand_in()
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)  # the earlier program of this process blocked them

    def _handle_hangup(self) -> None:
        assert self._loop
        if sys.platform == "win32":
            return
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:  # nohup ignores it
            return
        if has_terminal():
            self._loop.add_signal_handler(signal.SIGHUP, self.handle_exit, signal.SIGTERM, None)
        else:
            self._loop.add_signal_handler(signal.SIGHUP, self._renew)

    def _renew(self) -> None:
        """Replace all processes."""
        if (self._renewal and not self._renewal.done()) or self._pipeline.draining or not self._workers:
            return
        if self._pipeline.serving is None:
            logger.error("SIGHUP is ignored: this service is not ready; restart it instead")
            return
        logger.info("SIGHUP: replacing all processes, one after the other")
        self._renewal = asyncio.create_task(self._hand_over(self._workers))

    async def _hand_over(self, workers: Workers) -> None:
        if await workers.start_stand_in():
            await self._retire()

    async def _retire(self) -> None:
        """Accept no more connections, close each with its next answer, and stop when none is left."""
        for server in self.servers:
            server.close()
        self.server_state.drain()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RETIRE_SECONDS
        while self.server_state.connections and loop.time() < deadline:
            await asyncio.sleep(0.1)
        self._stop()

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
        """Close the port and finish in-flight requests, but wait only briefly for clients that do not read.

        Connections that the kernel has taken are accepted first: closing their socket would reset them.
        """
        refuse_new(sockets or ())
        deadline = asyncio.get_running_loop().time() + MAX_ACCEPT_SECONDS
        await asyncio.sleep(MIN_ACCEPT_SECONDS)
        while queued(sockets or ()) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(MIN_ACCEPT_SECONDS)
        if self._workers:
            self._workers.close_listeners()
        self.server_state.stop()
        await super().shutdown(sockets)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self.server_state.sweep()
        loop.call_later(SWEEP_SECONDS, self._sweep, loop)

    def _stop(self) -> None:
        self.should_exit = True

    def _hang_up(self) -> None:
        for connection in list(self.server_state.connections):  # stops its request
            connection.transport.abort()


class WorkerServer(DrainingServer):
    """Server of a worker process; stdin is its socket to the first process, see process/supervisor.py."""

    _wanted: tuple[int, Sequence[Sequence[str]]] | None
    _switch: asyncio.Task[None] | None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Watch stdin; once ready, report progress."""
        self._rest, self._wanted, self._switch = b"", None, None
        self._control = socket.socket(fileno=sys.stdin.fileno())
        self._control.setblocking(False)
        asyncio.get_running_loop().add_reader(self._control, self._obey)
        await super().startup(sockets)
        self._report_progress()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ignore a second SIGTERM: supervisors may send one to every process, and the first process forwards its."""
        if sig != signal.SIGTERM or not self._pipeline.draining:
            super().handle_exit(sig, frame)

    def _handle_hangup(self) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the first process replaces its workers

    def _report_progress(self) -> None:
        with suppress(OSError):  # the first process hangs or has ended
            self._control.send(b".")
        asyncio.get_running_loop().call_later(HEARTBEAT_SECONDS, self._report_progress)

    def _obey(self) -> None:
        try:
            told = self._control.recv(65_536)
        except OSError:
            told = b""
        if not told:  # the first process has ended
            asyncio.get_running_loop().remove_reader(self._control)
            self.handle_exit(signal.SIGINT, None)
            return
        *lines, self._rest = (self._rest + told).split(b"\n")
        for order in map(json.loads, lines):
            if "retire" in order:
                self._renewal = asyncio.create_task(self._retire())
            else:
                self._wanted = order["serve"], order["skipped"]
        if self._wanted and (not self._switch or self._switch.done()):
            self._switch = asyncio.create_task(self._serve_wanted())

    async def _serve_wanted(self) -> None:
        """Serve the version that the first process serves; stop if that fails, to be started again with it."""
        while self._wanted:
            (version, skipped), self._wanted = self._wanted, None
            try:
                await self._pipeline.serve_version(version, skipped)
            except ModelError as error:
                logger.error("this process cannot serve version %s and stops, to be started again: %s", version, error)
                await self._retire()


def has_terminal() -> bool:
    """Return True if this process has a controlling terminal; closing it sends SIGHUP."""
    try:
        os.close(os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
