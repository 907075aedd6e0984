"""Starts the worker processes of the service, and replaces those that end or hang and, on SIGHUP, all.

A process runs Python code on one core at a time, so the service has one process per core. The first one answers
requests from the start and, once its model is ready, starts the others. Each has listening sockets of its own on the
address (SO_REUSEPORT), and the kernel distributes the connections. The processes share only the store and a directory
for metrics, drift counts and the rates of keys.

The first process makes a worker's sockets and keeps them open as well. A worker's successor inherits them: closing a
listening socket would drop the connections that wait in its queue. A worker that died has nobody to answer them, so
its sockets are closed and the next one gets new ones.

A worker's stdin is one end of a pair of sockets. The worker sends a byte a second, beginning when it is ready; the
first process sends lines of JSON: to serve another version, or to retire. The worker stops when the other end closes,
however the first process ended.

To renew itself, the first process hands its sockets to a stand-in and replaces its program (exec): its process id, its
sockets and its workers stay. The new program renews the workers and retires the stand-in.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from uvicorn.config import STARTUP_FAILURE

from app.process.listeners import close

logger = logging.getLogger("app")
RETRY_SECONDS = 1.0, 60.0  # delay before a restart: the first, doubled each time, and the maximum
HEARTBEAT_SECONDS = 1.0
# Without a heartbeat for this long, a worker hangs. The event loop of a busy one pauses for tenths of a second: it
# decodes small images itself and waits for a core. Kubernetes allows 30 s to stop, hung workers included.
MAX_PAUSE_SECONDS = 20.0
MAX_START_SECONDS = 300.0  # imports and the model's tests take 2 s on an idle core, and far longer on a slow disk
EXIT_POLL_SECONDS = 0.01  # a process whose socket has closed ends within milliseconds
# Why workers are restarted: an exit code, or none could be started; a signal, mostly for memory; no heartbeat.
ENDED, KILLED, HUNG = END_REASONS = "ended", "killed", "hung"
VERSION, FOLLOW, WORKERS = "CIFAR10_MODEL_VERSION", "CIFAR10_FOLLOW", "CIFAR10_WORKERS"
Listeners = list[socket.socket]


class Process(Protocol):
    """A child process; `subprocess.Popen` is one."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code, None while the process runs."""

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless the process has ended."""


@dataclass
class Adopted:
    """A child process that this process's earlier program started."""

    pid: int
    _code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, None while the process runs."""
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # the earlier program has read its exit code
                self._code = 0
            else:
                self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, sig)


class Worker:
    """A worker process, on listening sockets that it shares with the first process."""

    def __init__(self, process: Process, control: socket.socket) -> None:
        """Watch the process; needs a running event loop."""
        self._process, self._control = process, control
        self._control.setblocking(False)
        self._news, self._is_ready = asyncio.Event(), False
        self._missed_seconds, self._limit, self.has_hung = 0.0, MAX_START_SECONDS, False
        asyncio.get_running_loop().add_reader(self._control, self._read)
        self.ended = asyncio.create_task(self._wait())

    def descriptors(self) -> tuple[int, int]:
        """Return the process's id, and a descriptor of its socket that another program inherits."""
        return self._process.pid, inherited(self._control)

    def send_signal(self, signal_: int) -> None:
        """Send a signal, unless the process has ended. One that is still starting has no more time than others."""
        self._limit = MAX_PAUSE_SECONDS
        self._process.send_signal(signal_)

    def retire(self) -> None:
        """Ask the worker to accept no more connections and to end when those it has are answered."""
        self._tell({"retire": True})

    def serve(self, version: int, skipped: Sequence[tuple[str, str]]) -> None:
        """Ask the worker to serve another version, and to report these as skipped, each with the reason."""
        self._tell({"serve": version, "skipped": skipped})

    def _tell(self, order: Mapping[str, Any]) -> None:
        with suppress(OSError):  # it has just ended, or hangs
            self._control.send(json.dumps(order).encode() + b"\n")

    async def become_ready(self) -> bool:
        """Wait until the worker listens; False if it ends before."""
        while not (self._is_ready or self.ended.done()):
            await self._wait_for_news(HEARTBEAT_SECONDS)
        return self._is_ready

    def _read(self) -> None:
        try:
            alive = bool(self._control.recv(4_096))
        except BlockingIOError:
            return
        except OSError:
            alive = False
        if alive:
            self._is_ready, self._missed_seconds, self._limit = True, 0.0, MAX_PAUSE_SECONDS
        else:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
        self._news.set()

    async def _wait(self) -> int:
        """Wait for the end, and kill a worker without heartbeats. Returns the exit code.

        Counts seconds that this process has seen pass: after a pause of the whole machine or container, no heartbeat
        is missing.
        """
        while (code := self._process.poll()) is None:
            seconds = EXIT_POLL_SECONDS if self._control.fileno() < 0 else HEARTBEAT_SECONDS
            if not await self._wait_for_news(seconds):
                self._missed_seconds += seconds
            if self._missed_seconds > self._limit:
                logger.error("a worker process made no progress for %.0f s and is killed", self._limit)
                self._process.send_signal(signal.SIGKILL)
                self._missed_seconds, self.has_hung = 0.0, True
        self._news.set()
        return code

    async def _wait_for_news(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        if self._control.fileno() >= 0:
            self._news.clear()
            return True
        await asyncio.sleep(seconds)
        return False


def launch(listeners: Listeners, environment: Mapping[str, str], options: Sequence[str] = ()) -> Worker:
    """Start a worker process that accepts from these sockets once it is ready; needs a running event loop.

    Raises:
        OSError: the system has no room for another process.
    """
    control, stdin = socket.socketpair()
    descriptors = [listener.fileno() for listener in listeners]
    command = [sys.executable, "-m", "app", "worker", *map(str, descriptors), *options]
    try:
        # The new session makes `send_signal` the only way that Ctrl-C reaches the worker.
        process = subprocess.Popen(
            command, stdin=stdin.fileno(), pass_fds=descriptors, start_new_session=True, env=environment
        )
    except OSError:
        control.close()
        raise
    finally:
        stdin.close()
    return Worker(process, control)


@dataclass
class Slot:
    """The place of one worker: its listening sockets and the process that accepts from them."""

    listeners: Listeners = field(default_factory=list)
    worker: Worker | None = None


@dataclass(frozen=True)
class Place:
    """A slot as the next program inherits it: descriptors of listening sockets; process id and socket of the worker."""

    listeners: list[int]
    worker: tuple[int, int] | None


class Workers:
    """Keeps `count` worker processes running until it is stopped."""

    def __init__(
        self, count: int, bind: Callable[[], Listeners], own: Listeners, follows: bool, inherited: Sequence[Place] = ()
    ) -> None:
        """Start nothing yet.

        Args:
            bind: makes one worker's sockets on the service's address, with SO_REUSEPORT.
            own: the first process's sockets.
            follows: the first process follows the store.
            inherited: the slots of this process's earlier program; the first one is the stand-in's.
        """
        self._bind, self.inherited = bind, inherited
        self._own = Slot([listener.dup() for listener in own])  # uvicorn closes its own
        self._slots = [Slot() for _ in range(count)]
        self._running: set[Worker] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._restarts: Counter[str] = Counter()  # by reason, since `take_restarts`
        # The first process's choices.
        self._environment = os.environ | {WORKERS: str(1 + count), FOLLOW: str(follows).lower()}
        self._options: Sequence[str] = ()
        self.handed_over: list[Place] = []

    def adopt(self) -> None:
        """Take over the workers of the earlier program; needs a running event loop."""
        for slot, place in zip([self._own, *self._slots], self.inherited, strict=False):
            if slot is not self._own:
                slot.listeners = [socket.socket(fileno=descriptor) for descriptor in place.listeners]
            if place.worker:
                pid, control = place.worker
                slot.worker = self._watch(Worker(Adopted(pid), socket.socket(fileno=control)))
            elif slot is not self._own:
                close(slot.listeners)

    def serve(self, version: int, skipped: Sequence[tuple[str, str]] = ()) -> None:
        """Start all processes with this version, or make those that run serve it; needs a running event loop.

        `skipped` are versions that cannot be served, each with the reason.
        """
        if self._stopping:
            return
        self._options = ["--skipped", json.dumps(skipped)]
        self._environment = self._environment | {VERSION: str(version)}
        if self._tasks:
            for worker in self._running:
                worker.serve(version, skipped)
            return
        adopted = any(slot.worker for slot in self._slots)
        self._tasks = [asyncio.create_task(self._keep_running(slot)) for slot in self._slots]
        if adopted:
            self._tasks.append(asyncio.create_task(self._replace()))

    def retire_stand_in(self) -> None:
        """Retire the process that has answered in this one's place."""
        if self._own.worker:
            self._own.worker.retire()
            self._own.worker = None

    async def start_stand_in(self) -> bool:
        """Start a process that accepts from this one's sockets, with the version a start would choose now."""
        self._own.worker = await self._start_ready(
            self._own.listeners, self._environment | {VERSION: os.environ.get(VERSION, "")}
        )
        return self._own.worker is not None

    def take_restarts(self) -> Mapping[str, int]:
        """Return how many workers ended on their own since the last call, by reason."""
        taken, self._restarts = self._restarts, Counter()
        return taken

    def stop(self, signal_: int) -> None:
        """Send the signal to every process, and restart none."""
        self._stopping = True
        for worker in self._running:
            worker.send_signal(signal_)

    def close_listeners(self) -> None:
        """Close this process's copies of all listening sockets, so that the port closes; unless a stand-in answers."""
        if not self._hands_over():
            for slot in (self._own, *self._slots):
                close(slot.listeners)

    def _hands_over(self) -> bool:
        return self._own.worker is not None and not self._stopping

    async def wait(self) -> None:
        """Wait until all processes have ended; call `stop` first, unless a stand-in answers."""
        if self._hands_over():
            self.handed_over = [_place(slot) for slot in (self._own, *self._slots)]
        else:
            self._stopping = True
            await asyncio.gather(*(worker.ended for worker in self._running))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _replace(self) -> None:
        """Replace one worker after the other, each when its successor is ready."""
        for slot in self._slots:
            predecessor = slot.worker
            if predecessor is None or predecessor.ended.done():
                continue  # it is being restarted anyway
            successor = await self._start_ready(slot.listeners, self._environment, self._options)
            if successor is None:
                return
            if slot.worker is predecessor:
                slot.worker = successor
                predecessor.retire()
            else:  # it ended meanwhile, and a restarted one has other sockets
                successor.retire()

    async def _start_ready(
        self, listeners: Listeners, environment: Mapping[str, str], options: Sequence[str] = ()
    ) -> Worker | None:
        """Start a process and wait until it is ready; None if it fails, with a log line."""
        try:
            successor = self._watch(launch(listeners, environment, options))
        except OSError as error:
            logger.error("no successor can be started: %s; the process before it continues", error.strerror)
            return None
        if await successor.become_ready():
            return successor
        if not self._stopping:
            explained = await successor.ended == STARTUP_FAILURE  # by a line of its own
            level = logging.INFO if explained else logging.ERROR
            logger.log(level, "a successor ended before it was ready; the process before it continues")
        return None

    def _watch(self, worker: Worker) -> Worker:
        self._running.add(worker)
        worker.ended.add_done_callback(lambda _: self._running.discard(worker))
        return worker

    async def _keep_running(self, slot: Slot) -> None:
        (min_delay, max_delay), loop = RETRY_SECONDS, asyncio.get_running_loop()
        delay = min_delay
        while True:
            began = loop.time()
            try:
                code: int | str = await self._run(slot)
            except OSError as error:  # no descriptor, process or memory is left
                code = error.strerror or str(error)
                self._count_restart(ENDED)
            if self._stopping:
                return
            if loop.time() - began > max_delay:
                delay = min_delay
            logger.error("a worker process ended", extra={"fields": {"exit_code": code, "again_in_seconds": delay}})
            await asyncio.sleep(delay)  # `wait` cancels it
            delay = min(2 * delay, max_delay)

    def _count_restart(self, reason: str) -> None:
        if not self._stopping:
            self._restarts[reason] += 1

    async def _run(self, slot: Slot) -> int:
        """Run a worker and its successors until one ends on its own. Returns the exit code."""
        if not slot.worker:
            slot.listeners = self._bind()
        try:
            worker = slot.worker = slot.worker or self._watch(launch(slot.listeners, self._environment, self._options))
            while True:
                code = await asyncio.shield(worker.ended)
                if slot.worker is worker:
                    self._count_restart(HUNG if worker.has_hung else KILLED if code < 0 else ENDED)
                    return code
                worker = slot.worker
        finally:
            slot.worker = None
            close(slot.listeners)


def inherited(open_socket: socket.socket) -> int:
    """Return a new descriptor of the socket that stays open when this process replaces its program."""
    descriptor = os.dup(open_socket.fileno())
    os.set_inheritable(descriptor, True)
    return descriptor


def _place(slot: Slot) -> Place:
    running = slot.worker and not slot.worker.ended.done()
    worker = slot.worker.descriptors() if slot.worker and running else None
    return Place([inherited(listener) for listener in slot.listeners if listener.fileno() >= 0], worker)
