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
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import uvloop

from benchmarks.load.bodies import Body
from benchmarks.load.client import Answer, Client

Outcome = TypeVar("Outcome")

PATIENCE_SECONDS = 5.0  # wait for answers after the last request
DEADLINE_SECONDS = 1.0  # later answers are useless to a user
PROBE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
PROBE_SECONDS = 0.1  # between two probes


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
    client, request = Client(port, connections), body.request()
    probe_task = asyncio.create_task(_probe(port, seconds, patience))
    cpu_before, start = _cpu_seconds(), time.perf_counter()
    answers, late = await at_rate(lambda due: client.ask(request, due), rate, seconds, patience)
    client_cores = (_cpu_seconds() - cpu_before) / (time.perf_counter() - start)
    client.close()
    return summarise(body.name, seconds, answers, await probe_task, late, client_cores)


async def at_rate(
    ask: Callable[[float], Coroutine[Any, Any, Outcome]], rate: float, seconds: float, patience: float
) -> tuple[list[Outcome], list[float]]:
    """Call `ask` with the time at which a request is due, on average `rate` times per second.

    Args:
        patience: seconds to wait for outcomes after the last call, before those that are missing get cancelled.

    Returns:
        The outcomes in the order in which they came, and each call's seconds behind the schedule.
    """
    loop = asyncio.get_running_loop()
    outcomes, late, pending = list[Outcome](), list[float](), set[asyncio.Task[Outcome]]()

    def send(due: float) -> None:
        late.append(time.perf_counter() - due)
        task = loop.create_task(ask(due))
        pending.add(task)
        task.add_done_callback(finish)

    def finish(task: asyncio.Task[Outcome]) -> None:
        pending.discard(task)
        outcomes.append(task.result())

    await asyncio.to_thread(_keep_time, lambda due: loop.call_soon_threadsafe(send, due), rate, seconds)
    await _finish(pending, patience)
    return outcomes, late


async def _finish(tasks: Collection[asyncio.Task[Outcome]], patience: float) -> list[Outcome]:
    """Wait for tasks, at most `patience` seconds, and cancel those that remain."""
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
        client = Client(port, 1)
        answers += await _finish([asyncio.create_task(client.ask(PROBE, now))], patience)
        client.close()
        await asyncio.sleep(PROBE_SECONDS)
    return answers
