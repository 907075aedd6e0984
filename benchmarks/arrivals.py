"""Open-loop load: requests arrive at a rate of their own, whether or not earlier ones have been answered.

A closed loop of N connections waits for each answer before it sends the next request, so a slow server is asked less
and its queue stays hidden. Here each request has a time at which it was meant to be sent, and its latency counts from
then: whatever keeps it back, the server's queue or this client, is in the figure. Gaps are exponential (a Poisson
process), as those of many independent users are. Knows HTTP/1.1 and a port; nothing of images or of this service.
"""

import asyncio
import math
import random
import resource
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import httptools
import uvloop

PATIENCE_SECONDS = 5.0  # how long answers are awaited after the last request was sent
PROBE_SECONDS = 0.1  # between two probes


class Answer(NamedTuple):
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
    probes: list[float] = field(default_factory=list)  # seconds that each probe took; inf where the answer was not 200
    late: list[float] = field(default_factory=list)  # seconds by which this client was behind its own schedule
    client_cores: float = 0.0  # processor seconds of this client for each second

    def latencies(self, status: int) -> list[float]:
        """Seconds of all answers with that status, smallest first."""
        return sorted(answer.seconds for answer in self.answers if answer.status == status)

    def goodput(self, deadline: float) -> float:
        """Good answers within `deadline` seconds of when they were asked for, a second."""
        return sum(seconds <= deadline for seconds in self.latencies(200)) / self.seconds


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest of the ordered values that `percent` of them do not exceed (nearest rank); NaN of none."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else math.nan


def offer(
    port: int,
    request: bytes,
    rate: float,
    seconds: float,
    connections: int,
    probe: bytes,
    patience: float = PATIENCE_SECONDS,
) -> Arrivals:
    """Send `request` to a local port `rate` times a second on average and wait for the answers.

    Args:
        request: a whole HTTP/1.1 request, kept alive.
        connections: how many there are at most; a request that finds none idle waits, and the wait counts.
        probe: a request sent every tenth of a second over a new connection each, meanwhile.
        patience: seconds that answers are awaited after the last request was sent; then they count as lost.
    """
    return uvloop.run(_offer(port, request, Arrivals(rate, seconds), connections, probe, patience))


async def _offer(
    port: int, request: bytes, result: Arrivals, connections: int, probe: bytes, patience: float
) -> Arrivals:
    pool, stopped = _Pool(port, connections, result), asyncio.Event()
    probing = asyncio.create_task(_probe(port, probe, result.probes, stopped, patience))
    loop, began_cpu, began = asyncio.get_running_loop(), _cpu_seconds(), time.perf_counter()

    def send(due: float) -> None:
        loop.call_soon_threadsafe(pool.send, request, due)

    await asyncio.to_thread(_keep_time, send, result.rate, result.seconds)
    result.client_cores = (_cpu_seconds() - began_cpu) / (time.perf_counter() - began)
    await pool.finish(patience)
    stopped.set()
    await probing
    return result


def _keep_time(send: Callable[[float], object], rate: float, seconds: float) -> None:
    """Call `send` when each request is due. In a thread: the loop's own timers count in milliseconds."""
    began = time.perf_counter()
    for due in schedule(rate, seconds):
        if (left := began + due - time.perf_counter()) > 0:
            time.sleep(left)
        send(began + due)


def schedule(rate: float, seconds: float) -> Iterator[float]:
    """When requests are due, in seconds from the start; the same each time."""
    gaps, due = random.Random(0), 0.0
    while (due := due + gaps.expovariate(rate)) < seconds:
        yield due


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _probe(port: int, request: bytes, times: list[float], stopped: asyncio.Event, patience: float) -> None:
    while not stopped.is_set():
        own = Arrivals(0, 0)
        pool = _Pool(port, 1, own)
        pool.send(request, time.perf_counter())
        await pool.finish(patience)
        times += [answer.seconds if answer.status == 200 else math.inf for answer in own.answers]
        with suppress(TimeoutError):
            async with asyncio.timeout(PROBE_SECONDS):
                await stopped.wait()


class _Pool:
    """Connections that carry one request at a time each, and the requests that wait for one."""

    def __init__(self, port: int, limit: int, result: Arrivals) -> None:
        self._port, self._limit, self._result = port, limit, result
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._unanswered, self._settled = 0, asyncio.Event()

    def send(self, request: bytes, due: float) -> None:
        """Send as soon as a connection is free."""
        self._result.late.append(time.perf_counter() - due)
        self._unanswered += 1
        self._settled.clear()
        if self._idle:
            self._idle.pop().send(request, due)
        else:
            self._waiting.append((request, due))
            self._grow()

    def _grow(self) -> None:
        """Open another connection if there are requests for it and it may be."""
        if self._waiting and len(self._open) + len(self._opening) < self._limit:
            opening = asyncio.create_task(self._connect())
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
        except OSError:
            if self._waiting:
                self.answered(0, self._waiting.popleft()[1], retry_after=False)
            asyncio.get_running_loop().call_soon(self._grow)  # when this task no longer counts

    def opened(self, connection: "_Connection") -> None:
        """The connection is there."""
        self._open.add(connection)
        self.free(connection)

    def free(self, connection: "_Connection") -> None:
        """The connection can take the next request."""
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: "_Connection") -> None:
        """The connection is no more, whoever closed it."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._grow()

    def answered(self, status: int, due: float, retry_after: bool) -> None:
        """Count one request's end."""
        self._result.answers.append(Answer(status, time.perf_counter() - due, retry_after))
        self._unanswered -= 1
        if not self._unanswered:
            self._settled.set()

    async def finish(self, patience: float) -> None:
        """Wait for what is under way, count what is not answered by then as lost, and close."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._settled.wait()
        while self._waiting:
            self.answered(0, self._waiting.popleft()[1], retry_after=False)
        for opening in self._opening:
            opening.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        closing = [connection.abort() for connection in self._open]
        await asyncio.gather(*closing)


class _Connection(asyncio.Protocol):
    """One request at a time. An answer that ends with the connection, without a length, counts as lost."""

    def __init__(self, pool: _Pool) -> None:
        self._pool, self._due, self._retry_after = pool, math.nan, False
        self._busy = False
        self._parser = httptools.HttpResponseParser(self)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._pool.opened(self)

    def send(self, request: bytes, due: float) -> None:
        self._busy, self._due, self._retry_after = True, due, False
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._retry_after |= name.lower() == b"retry-after"

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or not self._busy:  # "100 Continue" and the like, or an answer to nothing
            return
        self._busy = False
        self._pool.answered(status, self._due, self._retry_after)
        if self._parser.should_keep_alive():
            self._pool.free(self)
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._busy:
            self._pool.answered(0, self._due, retry_after=False)
        self._pool.lost(self)
        self._ended.set_result(None)

    def abort(self) -> asyncio.Future[None]:
        """Close at once; done when it is."""
        self._transport.abort()
        return self._ended
