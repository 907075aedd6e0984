"""What a run of `benchmarks.service` found, and its JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from benchmarks.arrivals import Arrivals, percentile
from benchmarks.errors import BenchmarkError
from benchmarks.machine import Machine
from benchmarks.wrk import Load

DEADLINE_SECONDS = 1.0  # an answer after that is no good answer to somebody who waits for it
T = TypeVar("T")


@dataclass(frozen=True)
class Offered:
    """What became of requests that arrived at one rate. Milliseconds count from when a request was due."""

    body: str
    rate: float  # requests a second that were due; random, so not quite what was asked for
    requests: int
    goodput: float  # good answers within the deadline, a second
    p50_ms: float | None  # of answers with 200; None of none
    p99_ms: float | None
    refused: int  # answered with 503 and Retry-After
    refused_p50_ms: float | None
    refused_p99_ms: float | None
    lost: int  # every other end: broken, never answered, another status
    probes: int  # of /health/live, meanwhile
    probes_failed: int
    probe_p99_ms: float | None
    late_p99_ms: float | None  # by which the client was behind its schedule
    client_cores: float
    late_p50_ms: float | None = None


@dataclass(frozen=True)
class Overload:
    """Requests at a multiple of the peak rate, and the memory of all processes before and after."""

    factor: float
    peak: float
    offered: Offered
    megabytes_before: float
    megabytes_after: float


@dataclass(frozen=True)
class Results:
    """One run."""

    command: str
    machine: Machine
    seconds: int  # of each measurement, n = 1
    model: str
    precision: str
    ready_seconds: float
    all_ready_seconds: float
    megabytes: list[float]  # of each process, after the loads
    limits: dict[str, float]  # images a second that the cores can do, by body
    stages: dict[str, dict[str, float]]  # milliseconds of a request alone, by body and stage
    closed: list[Load]
    opened: list[Offered]
    overload: list[Overload]

    def share(self, load: Load) -> float | None:
        """Images a second, as a share of what the cores can do; None of what they did not do without a service."""
        return load.rate * load.images / self.limits[load.body] if load.body in self.limits else None


def peak(loads: Sequence[Load], body: str) -> float:
    """The highest rate of good answers that any number of connections got."""
    return max(load.rate for load in loads if load.body == body)


def best(loads: Sequence[Load], opened: Sequence[Offered], body: str) -> float:
    """The highest rate of good answers of any load."""
    return max(peak(loads, body), *(offered.goodput for offered in opened if offered.body == body))


def summarise(body: str, arrivals: Arrivals) -> Offered:
    """The figures of one rate."""
    good = arrivals.latencies(200)
    refused = sorted(answer.seconds for answer in arrivals.answers if answer.status == 503 and answer.retry_after)
    answered = [probe for probe in sorted(arrivals.probes) if probe < float("inf")]
    return Offered(
        body=body,
        rate=len(arrivals.answers) / arrivals.seconds,
        requests=len(arrivals.answers),
        goodput=arrivals.goodput(DEADLINE_SECONDS),
        p50_ms=_milliseconds(good, 50),
        p99_ms=_milliseconds(good, 99),
        refused=len(refused),
        refused_p50_ms=_milliseconds(refused, 50),
        refused_p99_ms=_milliseconds(refused, 99),
        lost=len(arrivals.answers) - len(good) - len(refused),
        probes=len(arrivals.probes),
        probes_failed=len(arrivals.probes) - len(answered),
        probe_p99_ms=_milliseconds(answered, 99),
        late_p99_ms=_milliseconds(sorted(arrivals.late), 99),
        client_cores=arrivals.client_cores,
        late_p50_ms=_milliseconds(sorted(arrivals.late), 50),
    )


def _milliseconds(ordered: Sequence[float], percent: float) -> float | None:
    return percentile(ordered, percent) * 1_000 if ordered else None


def write(results: Any, path: Path) -> None:
    """Write a dataclass as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(TypeAdapter(type(results)).dump_json(results, indent=1) + b"\n")


def read(kind: type[T], path: Path) -> T:
    """Read what `write` wrote.

    Raises:
        BenchmarkError: there is no such file, or it holds something else.
    """
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be read: {error.strerror}; name a JSON file of an earlier run") from None
    except ValidationError as error:
        wrong = ".".join(map(str, error.errors()[0]["loc"])) or "its text"
        raise BenchmarkError(
            f"{path} holds no {kind.__name__} of this version ({wrong} is wrong); measure it again with --out"
        ) from None
