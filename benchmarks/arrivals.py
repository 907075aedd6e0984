"""Open-loop load: requests arrive at a rate of their own, whether or not earlier ones have been answered.

A closed loop of N connections waits for each answer before it sends the next request, so a slow server is asked less
and its queue stays hidden. Here each request has a time at which it was meant to be sent, and its latency counts from
then: whatever keeps it back, the server's queue or this client, is in the figure. Gaps are exponential (a Poisson
process), as those of many independent users are.
"""

import asyncio
import random
import resource
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import uvloop

PATIENCE_SECONDS = 5.0  # how long answers are awaited after the last request was sent


@dataclass(frozen=True)
class Answer:
    """One request's end. `status` is 0 where the connection broke or no answer came."""

    status: int
    seconds: float
    retry_after: bool


@dataclass
class Arrivals:
    """What became of the requests of one rate."""

    rate: float  # requests a second that were meant to be sent
    seconds: float
    answers: list[Answer] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)  # seconds that /health/live took; inf where it did not answer
    client_cores: float = 0.0  # processor seconds of this client for each second

    def latencies(self, status: int) -> list[float]:
        """Seconds of all answers with that status, smallest first."""
        return sorted(answer.seconds for answer in self.answers if answer.status == status)

    def goodput(self, deadline: float) -> float:
        """Good answers within `deadline` seconds of when they were asked for, a second."""
        return sum(seconds <= deadline for seconds in self.latencies(200)) / self.seconds


def percentile(ordered: list[float], percent: float) -> float:
    """The value below which `percent` of the ordered values lie; NaN of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("nan")


def offer(port: int, request: bytes, rate: float, seconds: float, connections: int, probe: bytes) -> Arrivals:
    """Send `request` to a local port `rate` times a second on average and wait for the answers.

    Args:
        request: a whole HTTP/1.1 request, kept alive.
        connections: how many there are at most; a request that finds none idle waits, and the wait counts.
        probe: a request sent every tenth of a second over connections of its own, meanwhile.
    """
    return uvloop.run(_offer(port, request, rate, seconds, connections, probe))


async def _offer(port: int, request: bytes, rate: float, seconds: float, connections: int, probe: bytes) -> Arrivals:
    result = Arrivals(rate, seconds)
    pool = _Pool(port, connections, result)
    began_cpu, began = _cpu_seconds(), time.perf_counter()
    probing = asyncio.create_task(_probe(port, probe, result))
    for due in _schedule(rate, seconds):
        while (left := began + due - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        pool.send(request, began + due)
    result.client_cores = (_cpu_seconds() - began_cpu) / (time.perf_counter() - began)
    await pool.finish()
    probing.cancel()
    await asyncio.gather(probing, return_exceptions=True)
    return result


def _schedule(rate: float, seconds: float) -> Iterator[float]:
    gaps, due = random.Random(0), 0.0
    while (due := due + gaps.expovariate(rate)) < seconds:
        yield due


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _probe(port: int, request: bytes, result: Arrivals) -> None:
    while True:
        own = Arrivals(0, 0)
        pool = _Pool(port, 1, own)
        pool.send(request, time.perf_counter())
        await pool.finish()
        result.probes += [answer.seconds if answer.status == 200 else float("inf") for answer in own.answers]
        await asyncio.sleep(0.1)


class _Pool:
    """Connections that carry one request at a time each, and the requests that wait for one."""

    def __init__(self, port: int, limit: int, result: Arrivals) -> None:
        self._port, self._limit, self._result = port, limit, result
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[tuple[bytes, float]] = deque()

    def send(self, request: bytes, due: float) -> None:
        """Send as soon as a connection is free."""
        if self._idle:
            self._idle.pop().send(request, due)
            return
        self._waiting.append((request, due))
        if len(self._open) + len(self._opening) < self._limit:
            opening = asyncio.create_task(self._connect())
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
        except OSError:
            if self._waiting:
                self.answered(0, self._waiting.popleft()[1], retry_after=False)
            return
        self._open.add(connection)
        self.free(connection)

    def free(self, connection: "_Connection") -> None:
        """The connection can take the next request."""
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: "_Connection") -> None:
        """The connection has been closed by the other side."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting:
            self.send(*self._waiting.popleft())

    def answered(self, status: int, due: float, retry_after: bool) -> None:
        """Count one request's end."""
        self._result.answers.append(Answer(status, time.perf_counter() - due, retry_after))

    async def finish(self) -> None:
        """Wait for what is under way and close."""
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while self._waiting or self._opening or len(self._idle) < len(self._open):
            if time.perf_counter() > deadline:
                break
            await asyncio.sleep(0.01)
        for _, due in self._waiting:
            self.answered(0, due, retry_after=False)
        self._waiting.clear()
        for connection in list(self._open):
            connection.close()


class _Connection(asyncio.Protocol):
    def __init__(self, pool: _Pool) -> None:
        self._pool, self._due, self._received = pool, 0.0, b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, request: bytes, due: float) -> None:
        assert self._transport is not None
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, ended, body = self._received.partition(b"\r\n\r\n")
        if not ended:
            return
        lines = head.lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines[1:])
        if len(body) < int(headers[b"content-length"]):
            return
        self._received, due, self._due = b"", self._due, 0.0
        self._pool.answered(int(lines[0].split()[1]), due, b"retry-after" in headers)
        if headers.get(b"connection") != b"close":  # otherwise the other side closes, and `connection_lost` follows
            self._pool.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._due:
            self._pool.answered(0, self._due, retry_after=False)
        self._pool.lost(self)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()
