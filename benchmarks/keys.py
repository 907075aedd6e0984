"""Throughput with keys compared with an open service.

    python -m benchmarks.keys [--seconds 2] [--rounds 5]

Three services take turns under the same load, 32×32 PNGs from 32 connections that all send a key: one that is open and
ignores it, one that checks it, and one that counts its images as well. The order alternates with every round. Prints
medians of the rounds, and of their ratios to the open service; and the processor time of the check alone, measured in
this process. Needs wrk; Linux only.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from starlette.types import Receive, Scope, Send

from app.access.gate import Gate
from app.access.key_file import append_key
from app.access.keys import Keys
from app.settings import Settings
from benchmarks import BenchmarkError
from benchmarks.harness import machine
from benchmarks.harness.server import serving
from benchmarks.harness.tables import Row, ratio, table
from benchmarks.load import bodies
from benchmarks.load.closed_loop import Load, closed_loop, require_wrk, whole_number

CONNECTIONS = 32
RATE = "1000000000"  # images a second, which no client reaches
OPEN, KEYS = "open", {"keys": None, "keys with a rate": RATE}
CHECKS, REPEATS = 20_000, 5


def main() -> int:
    """Measure and print. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.keys", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=whole_number, default=2, help="of each measurement (default: 2)")
    parser.add_argument("--rounds", type=whole_number, default=5, help="default: 5")
    options = parser.parse_args()
    try:
        require_wrk()
        print(machine.describe())
        loads = measure(options.rounds, options.seconds)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table([row(name, loads) for name in loads]))
    print(
        "\n" + ", ".join(f"{name}: {gate_microseconds(rate):.1f} µs" for name, rate in KEYS.items()) + " for the check"
    )
    return 0


def measure(rounds: int, seconds: int) -> dict[str, list[Load]]:
    """Load the services in turns.

    Raises:
        BenchmarkError: an answer was refused.
    """
    body = bodies.raw(bodies.pictures()[0])
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        keys = {name: append_key(Path(folder, name), "bench", rate) for name, rate in KEYS.items()}
        settings: dict[str, dict[str, Any]] = {OPEN: {}}
        settings |= {name: {"access": "keys", "keys_file": Path(folder, name)} for name in KEYS}
        servers = {name: stack.enter_context(serving(**chosen)) for name, chosen in settings.items()}
        loads: dict[str, list[Load]] = {name: [] for name in servers}
        order = list(servers)
        for _ in range(rounds):
            for name in order:
                sent = replace(body, header=("Authorization", f"Bearer {keys.get(name, keys['keys'])}"))
                load = closed_loop(servers[name].pid, servers[name].port, sent, CONNECTIONS, seconds)
                if load.errors:
                    raise BenchmarkError(f"{name}: {load.errors} requests were not answered with 200")
                loads[name].append(load)
            order.reverse()
    return loads


def gate_microseconds(rate: str | None) -> float:
    """Measure the processor time of a request's check: the least of several means."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder, "keys")
        key = append_key(file, "bench", rate)
        settings = Settings(access="keys", keys_file=file).model_copy(update={"metrics_directory": Path(folder)})
        gate = Gate(_nothing, settings, Keys(file))
        return min(asyncio.run(_check(gate, key)) for _ in range(REPEATS)) * 1e6


async def _check(gate: Gate, key: str) -> float:
    headers = [(b"host", b"localhost"), (b"content-type", b"image/png"), (b"authorization", f"Bearer {key}".encode())]
    began = time.process_time()
    for _ in range(CHECKS):
        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
        await gate(scope, _no_message, _no_message)  # type: ignore[arg-type]
    return (time.process_time() - began) / CHECKS


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    pass


async def _no_message(*_: object) -> None:
    pass


def row(name: str, loads: dict[str, list[Load]]) -> Row:
    """Tabulate one service: medians of its loads, and of their ratios to the open service's in the same round."""
    pairs = list(zip(loads[name], loads[OPEN], strict=True))
    return {
        "service": name,
        "requests/s": median(load.rate for load in loads[name]),
        "/ open": ratio(median(load.rate / other.rate for load, other in pairs)),
        "CPU ms a request": median(load.server_ms for load in loads[name]),
        "CPU / open": ratio(median(load.server_ms / other.server_ms for load, other in pairs)),
    }


if __name__ == "__main__":
    sys.exit(main())
