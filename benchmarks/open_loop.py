"""Open-loop load: requests arrive at a given rate, whether or not earlier ones have been answered.

A closed loop of N connections waits for each answer before it sends the next request, so it sends less to a slow server
and hides its queue. Here each request is due at a set time and its latency counts from then, so the figure includes any
delay in the server's queue or in this client. Gaps are exponential (a Poisson process), like those of many independent
users.
"""

import asyncio
import math
import random
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import httptools
import uvloop

from benchmarks.bodies import Body

PATIENCE_SECONDS = 5.0  # wait for answers after the last request
DEADLINE_SECONDS = 1.0  # later answers are useless to a user
PROBE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
PROBE_SECONDS = 0.1  # between two probes


class Answer(NamedTuple):
    """The outcome of one request. `status` is 0 if the connection broke or the request was not answered."""

    status: int
    seconds: float
    retry_after: bool


@dataclass(frozen=True)
class Offered:
    """Figures of one rate. Milliseconds count from when a request was due."""

    body: str
    rate: float  # requests due per second; random, so not exactly the requested rate
    requests: int
    goodput: float  # answers with 200 within the deadline, per second
    p50_ms: float | None  # of answers with 200
    p99_ms: float | None
    refused: int  # answered with 503 and Retry-After
    refused_p50_ms: float | None
    refused_p99_ms: float | None
    lost: int  # every other outcome: broken, never answered, another status
    probes: int  # of /health/live, meanwhile
    probes_failed: int
    probe_p99_ms: float | None
    late_p50_ms: float | None  # delay of the client behind its schedule
    late_p99_ms: float | None
    client_cores: float  # CPU seconds of the client per second


def summarise(
    body: str,
    seconds: float,
    answers: Sequence[Answer],
    probes: Sequence[Answer] = (),
    late: Sequence[float] = (),
    client_cores: float = 0.0,
) -> Offered:
    """Compute the figures of `seconds` of requests; `late` is in seconds behind the schedule."""
    good = sorted(answer.seconds for answer in answers if answer.status == 200)
    refused = sorted(answer.seconds for answer in answers if answer.status == 503 and answer.retry_after)
    alive = sorted(probe.seconds for probe in probes if probe.status == 200)
    return Offered(
        body=body,
        rate=len(answers) / seconds,
        requests=len(answers),
        goodput=sum(latency <= DEADLINE_SECONDS for latency in good) / seconds,
        p50_ms=percentile_ms(good, 50),
        p99_ms=percentile_ms(good, 99),
        refused=len(refused),
        refused_p50_ms=percentile_ms(refused, 50),
        refused_p99_ms=percentile_ms(refused, 99),
        lost=len(answers) - len(good) - len(refused),
        probes=len(probes),
        probes_failed=len(probes) - len(alive),
        probe_p99_ms=percentile_ms(alive, 99),
        late_p50_ms=percentile_ms(sorted(late), 50),
        late_p99_ms=percentile_ms(sorted(late), 99),
        client_cores=client_cores,
    )


def percentile_ms(ordered: Sequence[float], percent: float) -> float | None:
    """Return the nearest-rank percentile of ordered seconds, in milliseconds; None without any."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] * 1_000 if ordered else None


def offer(
    port: int, body: Body, rate: float, seconds: float, connections: int, patience: float = PATIENCE_SECONDS
) -> Offered:
    """Send requests to a local port, on average `rate` per second, and meanwhile probe /health/live.

    Args:
        connections: maximum of open connections; the time a request waits for an idle one counts.
        patience: seconds to wait for answers after the last request; later ones count as lost.
    """
    return uvloop.run(_offer(port, body, rate, seconds, connections, patience))


async def _offer(port: int, body: Body, rate: float, seconds: float, connections: int, patience: float) -> Offered:
    loop, client, request = asyncio.get_running_loop(), _Client(port, connections), body.request()
    tasks: list[asyncio.Task[Answer]] = []
    late: list[float] = []

    def send(due: float) -> None:
        late.append(time.perf_counter() - due)
        tasks.append(loop.create_task(client.ask(request, due)))

    probe_task = asyncio.create_task(_probe(port, seconds, patience))
    cpu_before, start = _cpu_seconds(), time.perf_counter()
    await asyncio.to_thread(_keep_time, lambda due: loop.call_soon_threadsafe(send, due), rate, seconds)
    client_cores = (_cpu_seconds() - cpu_before) / (time.perf_counter() - start)
    answers = await _finish(tasks, patience)
    client.close()
    return summarise(body.name, seconds, answers, await probe_task, late, client_cores)


async def _finish(tasks: Sequence[asyncio.Task[Answer]], patience: float) -> list[Answer]:
    if tasks:
        _, unanswered = await asyncio.wait(tasks, timeout=patience)
        for task in unanswered:
            task.cancel()
    return await asyncio.gather(*tasks)


def _keep_time(send: Callable[[float], object], rate: float, seconds: float) -> None:
    """Call `send` when each request is due. Runs in a thread, because the loop's timers count in milliseconds."""
    start = time.perf_counter()
    for due in schedule(rate, seconds):
        time.sleep(max(0.0, start + due - time.perf_counter()))
        send(start + due)


def schedule(rate: float, seconds: float) -> Iterator[float]:
    """Yield the times at which requests are due, in seconds from the start; the same in every run."""
    gaps, due = random.Random(0), 0.0
    while (due := due + gaps.expovariate(rate)) < seconds:
        yield due


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _probe(port: int, seconds: float, patience: float) -> list[Answer]:
    """Request /health/live repeatedly, over a new connection each time."""
    answers, end = list[Answer](), time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        client = _Client(port, 1)
        answers += await _finish([asyncio.create_task(client.ask(PROBE, now))], patience)
        client.close()
        await asyncio.sleep(PROBE_SECONDS)
    return answers


class _Client:
    """A pool of connections."""

    def __init__(self, port: int, connections: int) -> None:
        self._port, self._free = port, asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []
        self._open: list[_Connection] = []

    async def ask(self, request: bytes, due: float) -> Answer:
        """Send a request on an idle connection, or on a new one. A cancelled request counts as lost."""
        status, retry_after = 0, False
        try:
            async with self._free:
                connection = await self._connect()
                status, retry_after = await connection.ask(request)
                self._idle.append(connection)
        except (OSError, asyncio.CancelledError):
            pass
        return Answer(status, time.perf_counter() - due, retry_after)

    async def _connect(self) -> "_Connection":
        while self._idle:
            if not (connection := self._idle.pop()).transport.is_closing():
                return connection
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", self._port)
        self._open.append(connection)
        return connection

    def close(self) -> None:
        """Close all connections at once."""
        for connection in self._open:
            connection.transport.abort()


class _Connection(asyncio.Protocol):
    """One request at a time. An answer without a length, which ends with the connection, counts as lost."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._parser, self._retry_after = httptools.HttpResponseParser(self), False
        self._answer: asyncio.Future[tuple[int, bool]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bool]]:
        """Send a request; the future gets (status, has Retry-After), or ConnectionError."""
        self._answer, self._retry_after = asyncio.get_running_loop().create_future(), False
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._retry_after |= name.lower() == b"retry-after"

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._answer.done():  # "100 Continue" and the like, or an unasked answer
            return
        if not self._parser.should_keep_alive():
            self.transport.close()
        self._answer.set_result((status, self._retry_after))

    def connection_lost(self, error: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(ConnectionError())
            self._answer.exception()  # mark it as retrieved: nobody awaits a connection that was never used
