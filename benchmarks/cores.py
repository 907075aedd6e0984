"""How throughput and latency grow with the processor: half a core, one, two and so on."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from app.settings import Settings
from benchmarks import bodies, machine
from benchmarks.errors import BenchmarkError
from benchmarks.machine import Machine, on_cores
from benchmarks.quota import quota
from benchmarks.server import serving
from benchmarks.tables import number, table
from benchmarks.wrk import Load, closed_loop

CONNECTIONS = (1, 32)
PART = 0.5


@dataclass(frozen=True)
class CoreLoad:
    """A load of the service on so many cores."""

    cores: float
    load: Load


@dataclass(frozen=True)
class CoreStudy:
    """Closed loops at different numbers of cores."""

    machine: Machine
    seconds: int
    loads: list[CoreLoad]
    skipped: str  # why there is no part of a core; empty if there is


def study(here: Machine, seconds: int) -> CoreStudy:
    """Load the service on a part of a core, and on each power of two of cores that this machine has."""
    everything, skipped = machine.cores(), ""
    loads: list[CoreLoad] = []
    try:
        loads += _loads(PART, everything, seconds)
    except BenchmarkError as error:
        skipped = f"{PART:g} cores: {error}"
    count = 1
    while count <= len(everything):
        loads += _loads(count, everything, seconds)
        count *= 2
    return CoreStudy(here, seconds, loads, skipped)


def _loads(count: float, everything: Sequence[int], seconds: int) -> Iterator[CoreLoad]:
    """The client gets the other cores, if there are any."""
    own = everything[: max(1, int(count))]
    others = everything[len(own) :] or everything
    with ExitStack() as stack:
        prefix = stack.enter_context(quota(count)) if count < 1 else []
        server = stack.enter_context(serving(Settings(workers=len(own)), own, prefix))
        stack.enter_context(on_cores(others))
        for picture in bodies.pictures():
            for connections in CONNECTIONS:
                yield CoreLoad(count, closed_loop(server.pid, server.port, bodies.raw(picture), connections, seconds))


def cores_table(found: CoreStudy) -> str:
    """A row for each load."""
    head = ["request", "cores", "connections", "requests/s", "p50 ms", "p99 ms", "CPU ms", "client cores"]
    rows = [_row(each.cores, each.load) for each in found.loads]
    return "\n".join([table(head, rows), *([f"\nSkipped: {found.skipped}."] if found.skipped else [])])


def _row(count: float, load: Load) -> list[str]:
    figures = (load.rate, load.p50_ms, load.p99_ms, load.server_ms, load.client_cores)
    return [load.body, f"{count:g}", str(load.connections), *map(number, figures)]
