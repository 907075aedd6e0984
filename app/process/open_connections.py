"""The open connections of a process: how many there may be, and how long each may wait for its client.

One sweep a second closes the connections that have waited too long, so that no request needs a timer of its own.
"""

import logging
import socket
import struct
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from uvicorn.server import ServerState

logger = logging.getLogger("app")
SWEEP_SECONDS = 1.0
MAX_HEAD_SECONDS = 30.0  # from the connection's start or the head's first byte to the head's last
MAX_REST_SECONDS = 30.0  # for the rest of a body that was answered before it was complete
# For a client to read what fills the buffer, 64 to 128 kB: a client that reads less than 2 kB/s is not waited for.
MAX_UNREAD_SECONDS, MAX_UNREAD_SECONDS_AT_STOP = 30.0, 5.0
MAX_UNREAD_BYTES = 32_000_000  # of all connections; with what they copy, a sixth of what a process is expected to take
NO_LINGER = struct.pack("ii", 1, 0)  # the kernel forgets unread bytes as well
# A connection may have a file open, which it sends. 22 descriptors are open before the first connection.
RESERVED_FILES, FILES_PER_CONNECTION, MIN_CONNECTIONS = 64, 2, 8
FULL = "too_many"  # connections were open
# Why connections are closed: the queues in which they waited too long, or FULL.
REASONS = "idle", "rest_of_body", "slow_head", "unread_answer", FULL
DEFAULT_CONNECTIONS = 10_000  # an idle connection takes 9 kB, ten thousand 90 MB


class Waiting(Protocol):
    """A connection, as far as its queue is concerned; see `connection.Connection`."""

    transport: Any  # a `connection.JoiningTransport`
    queue: "Queue | None"
    unread_bytes: int  # when it began to wait for its client to read

    def answer_last(self) -> None:
        """Close the connection after the request in flight."""


class Queue:
    """Connections that wait for the same thing, the longest-waiting first."""

    def __init__(self, name: str, seconds: float, expire: Callable[[Waiting], None]) -> None:
        """`expire` is called with each connection that has waited for so many seconds."""
        self.name, self.seconds, self.expire = name, seconds, expire
        self.since: OrderedDict[Waiting, float] = OrderedDict()

    def oldest(self) -> Waiting | None:
        """Return the connection that has waited longest."""
        return next(iter(self.since), None)


class OpenConnections(ServerState):
    """uvicorn's state of a server, with a queue for each thing that a connection may wait for."""

    def __init__(self, limit: int, keep_alive_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.draining = False  # each answer is the last of its connection
        self._limit, self._clock = limit, clock
        self._full = self._unread_full = False  # since the last log line about it
        self._unread_bytes = 0
        self.idle = Queue("idle", keep_alive_seconds, _close)  # the next request
        self.rest = Queue("rest_of_body", MAX_REST_SECONDS, _close)  # the end of a body that needs no answer any more
        self.head = Queue("slow_head", MAX_HEAD_SECONDS, _close)  # the end of a request's head
        self.unread = Queue("unread_answer", MAX_UNREAD_SECONDS, _reset)  # the client to read
        self.body = Queue("slow_body", inf, _abort)  # the end of a body; the endpoint limits its time
        self._closed: Counter[str] = Counter()  # by reason, since `take_closed`
        self._evicted_first = self.idle, self.rest, self.head, self.unread, self.body

    def make_room(self, newcomer: Waiting) -> None:
        """Drop the connection that has waited longest for its client if `newcomer` is one too many.

        Drops the newcomer if all others have requests that are being answered.
        """
        if len(self.connections) <= self._limit:
            return
        if not self._full:
            self._full = True
            logger.warning(
                "all %d connections are in use; closing those that wait longest for their clients; raise "
                "CIFAR10_MAX_CONNECTIONS, the limit of open files (ulimit -n) or CIFAR10_WORKERS",
                self._limit,
            )
        self._closed[FULL] += 1
        _abort(next((oldest for queue in self._evicted_first if (oldest := queue.oldest())), newcomer))

    def wait(self, connection: Waiting, queue: Queue | None) -> None:
        """Move a connection to a queue, or out of its queue. One that is there already keeps its place."""
        if queue is connection.queue:
            return
        if connection.queue is not None:
            del connection.queue.since[connection]
            self._unread_bytes -= connection.unread_bytes
            connection.unread_bytes = 0
        if queue is not None:
            queue.since[connection] = self._clock()
        connection.queue = queue
        if queue is self.unread:
            connection.unread_bytes = connection.transport.get_write_buffer_size()
            self._unread_bytes += connection.unread_bytes
            self._limit_unread()

    def _limit_unread(self) -> None:
        """Drop the connections that have waited longest for their clients to read while too many bytes wait."""
        if self._unread_bytes > MAX_UNREAD_BYTES and not self._unread_full:
            self._unread_full = True
            logger.warning(
                "answers of more than %d bytes wait for clients that do not read them; closing those that wait longest",
                MAX_UNREAD_BYTES,
            )
        while self._unread_bytes > MAX_UNREAD_BYTES and (connection := self.unread.oldest()):
            self.wait(connection, None)
            self._closed[self.unread.name] += 1
            _reset(connection)

    def sweep(self) -> None:
        """Let every connection expire that has waited too long."""
        now = self._clock()
        for queue in self._evicted_first:
            while (connection := queue.oldest()) and now - queue.since[connection] >= queue.seconds:
                self.wait(connection, None)
                self._closed[queue.name] += 1
                queue.expire(connection)
        if len(self.connections) <= self._limit // 2:
            self._full = False
        if self._unread_bytes <= MAX_UNREAD_BYTES // 2:
            self._unread_full = False

    def take_closed(self) -> Counter[str]:
        """Return the connections closed since the last call because of their clients, by reason."""
        closed, self._closed = self._closed, Counter()
        return closed

    def drain(self) -> None:
        """Close each connection after the answer to its current or next request."""
        self.draining = True
        for connection in self.connections:
            connection.answer_last()  # type: ignore[union-attr]

    def stop(self) -> None:
        """Wait less for clients that do not read their answers: they delay the end of the process."""
        self.unread.seconds = MAX_UNREAD_SECONDS_AT_STOP


def _close(connection: Waiting) -> None:
    connection.transport.close()


def _abort(connection: Waiting) -> None:
    connection.transport.flush()
    connection.transport.abort()


def _reset(connection: Waiting) -> None:
    connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    connection.transport.abort()


def connection_limit(wanted: int | None) -> int:
    """Return how many connections the process may have open, so that descriptors never run out."""
    possible = _possible_connections()
    if wanted is not None and wanted > possible:
        logger.warning(
            "CIFAR10_MAX_CONNECTIONS is %d, but the limit of open files allows %d; raise it (ulimit -n)",
            wanted,
            possible,
        )
    return min(wanted or DEFAULT_CONNECTIONS, possible)


def _possible_connections() -> int:
    if sys.platform == "win32":
        return sys.maxsize
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(MIN_CONNECTIONS, (files - RESERVED_FILES) // FILES_PER_CONNECTION)
