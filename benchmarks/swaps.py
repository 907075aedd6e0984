"""Answers, latency and memory while versions take over from each other under load.

    python -m benchmarks.swaps [--swaps 50] [--seconds 60] [--share 0.7]

Serves a store with two shipped models as two versions of one, offers a share of the peak rate, first without and then
with a new ACTIVE file at regular intervals, and compares every answer with what the version that it names computes.
The exit code is 1 if an answer was wrong, refused or missing, a process did not follow, or memory grew. Linux only.
"""

import argparse
import asyncio
import itertools
import json
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

import uvloop

from app.settings import Settings
from app.versions.loading import choose
from benchmarks import BenchmarkError
from benchmarks.harness import machine
from benchmarks.harness.processes import family, resident_megabytes
from benchmarks.harness.server import Server, serving
from benchmarks.harness.tables import Row, table
from benchmarks.load.bodies import raw
from benchmarks.load.client import Client
from benchmarks.load.closed_loop import whole_number
from benchmarks.load.mixed import Known, Result, small_pictures
from benchmarks.load.open_loop import at_rate, percentile_ms
from model_store.manifest import read_manifest, write_manifest
from model_store.store import SHIPPED_STORE, Store
from model_store.version import Loaded

NAME, MODELS = "swapped", ("cifar10", "cifar10-small")
CONNECTIONS, CLOSED_CONNECTIONS = 128, 32
PEAK_SECONDS, WARM_UP_SECONDS, PATIENCE_SECONDS = 5.0, 2.0, 10.0
MAX_MEMORY_RATIO = 1.05  # of the last ten seconds, compared with the ten after both networks were served once
METRICS = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
SERVING = re.compile(rb'^cifar10_serving_processes\{model="swapped",version="(\d)"\} (\d+)', re.MULTILINE)


class Outcome(NamedTuple):
    """The result of one request, and the version that answered it."""

    result: Result
    version: str | None
    seconds: float


@dataclass
class Minute:
    """Outcomes, memory and swap times of one period of load."""

    outcomes: list[Outcome] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)  # once a second
    swap_seconds: list[float] = field(default_factory=list)  # from the new ACTIVE file until all processes served it

    def row(self, name: str) -> Row:
        """Summarise it for a table."""
        counts = Counter(outcome.result for outcome in self.outcomes)
        seconds = sorted(outcome.seconds for outcome in self.outcomes if outcome.result == "right")
        row: Row = {"": name, "requests": len(self.outcomes)}
        row |= {result: counts[result] for result in ("right", "wrong", "refused", "lost")}
        row |= {"p50 ms": percentile_ms(seconds, 50), "p99 ms": percentile_ms(seconds, 99)}
        return row | {"swaps": len(self.swap_seconds), "s a swap": median(self.swap_seconds or [0.0])}


def main() -> int:
    """Measure and print. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.swaps", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--swaps", type=whole_number, default=50)
    parser.add_argument("--seconds", type=whole_number, default=60)
    parser.add_argument("--share", type=float, default=0.7, help="of the peak rate (default: 0.7)")
    options = parser.parse_args()
    print(machine.describe())
    try:
        with tempfile.TemporaryDirectory(prefix="swaps-") as folder:
            still, swapped = measure(Store(Path(folder)), options.swaps, options.seconds, options.share)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table([still.row("without swaps"), swapped.row("with swaps")]))
    print(f"versions that answered: {dict(Counter(outcome.version for outcome in swapped.outcomes))}")
    tens = [median(swapped.megabytes[start : start + 10]) for start in range(0, len(swapped.megabytes), 10)]
    print(f"MB of all processes, ten seconds after ten: {', '.join(f'{megabytes:,.0f}' for megabytes in tens)}")
    faults = [
        f"{sum(outcome.result == name for outcome in minute.outcomes):,} answers were {name}"
        for minute, name in itertools.product((still, swapped), ("wrong", "refused", "lost"))
        if any(outcome.result == name for outcome in minute.outcomes)
    ]
    if len(swapped.swap_seconds) < options.swaps:
        faults.append(f"{len(swapped.swap_seconds)} of {options.swaps} swaps were followed by all processes")
    if tens[-1] > MAX_MEMORY_RATIO * tens[min(1, len(tens) - 1)]:
        faults.append("memory grew")
    print("\n".join(f"fault: {fault}" for fault in faults) or "no fault")
    return int(bool(faults))


def measure(store: Store, swaps: int, seconds: float, share: float) -> tuple[Minute, Minute]:
    """Serve the store and load it for so many seconds, without swaps and then with them."""
    loaded = [put(store, version, model) for version, model in enumerate(MODELS, 1)]
    store.activate(NAME, 1)
    with serving(store=store.root, model_name=NAME) as server:
        return uvloop.run(_measure(server, store, loaded, swaps, seconds, share))


def put(store: Store, version: int, model: str) -> Loaded:
    """Put the newest shipped version of a model into the store as this version of NAME, and load it."""
    shipped = Store(SHIPPED_STORE)
    folder = shutil.copytree(shipped.folder(model, shipped.choose_version(model)), store.folder(NAME, version))
    manifest = read_manifest(folder / "manifest.json")
    write_manifest(manifest.model_copy(update={"name": NAME, "version": version}), folder / "manifest.json")
    return choose(Settings(store=store.root, model_name=NAME, model_version=version)).loaded


async def _measure(
    server: Server, store: Store, loaded: Sequence[Loaded], swaps: int, seconds: float, share: float
) -> tuple[Minute, Minute]:
    client, questions = Client(server.port, CONNECTIONS), itertools.cycle(_questions(loaded))
    minute = Minute()

    async def ask(due: float) -> None:
        minute.outcomes.append(await _ask(client, next(questions), due))

    rate = share * await _peak(client, questions)
    print(f"{rate:,.0f} requests/s offered, {share:.0%} of the peak", file=sys.stderr, flush=True)
    measured = []
    for count in (0, swaps):
        await at_rate(ask, rate, WARM_UP_SECONDS, PATIENCE_SECONDS)
        minute = Minute()
        watch = asyncio.create_task(_watch(server, minute))
        swapping = asyncio.create_task(_swap(server, client, store, minute, count, seconds))
        await at_rate(ask, rate, seconds, PATIENCE_SECONDS)
        await swapping
        watch.cancel()
        measured.append(minute)
    client.close()
    return measured[0], measured[1]


def _questions(loaded: Sequence[Loaded]) -> list[tuple[bytes, dict[str, Known]]]:
    """Return requests, each with what the versions should answer."""
    pictures = small_pictures(loaded[0])
    return [
        (raw(picture).request(), {str(version): Known.of(picture, one) for version, one in enumerate(loaded, 1)})
        for picture in pictures
    ]


async def _ask(client: Client, question: tuple[bytes, dict[str, Known]], due: float) -> Outcome:
    request, expected = question
    answer = await client.ask(request, due)
    if answer.status != 200:
        return Outcome("refused" if answer.retry_after else "lost", None, answer.seconds)
    with suppress(ValueError, KeyError):
        prediction = json.loads(answer.content)
        version = prediction["model"]["version"]
        if expected[version].is_predicted(prediction):
            return Outcome("right", version, answer.seconds)
    return Outcome("wrong", None, answer.seconds)


async def _peak(client: Client, questions: "itertools.cycle[tuple[bytes, dict[str, Known]]]") -> float:
    """Return the requests/s of a closed loop."""
    end = time.perf_counter() + PEAK_SECONDS

    async def ask_until_end() -> int:
        count = 0
        while (now := time.perf_counter()) < end:
            await _ask(client, next(questions), now)
            count += 1
        return count

    return sum(await asyncio.gather(*(ask_until_end() for _ in range(CLOSED_CONNECTIONS)))) / PEAK_SECONDS


async def _swap(server: Server, client: Client, store: Store, minute: Minute, swaps: int, seconds: float) -> None:
    """Activate the other version at regular intervals, and wait until all processes serve it."""
    processes, start = len(family(server.pid)), time.perf_counter()
    for number in range(swaps):
        await asyncio.sleep(start + number * seconds / swaps - time.perf_counter())
        version, began = 2 - number % 2, time.perf_counter()
        store.activate(NAME, version)
        while time.perf_counter() < began + PATIENCE_SECONDS:
            answer = await client.ask(METRICS, time.perf_counter())
            if int(dict(SERVING.findall(answer.content)).get(str(version).encode(), 0)) == processes:
                minute.swap_seconds.append(time.perf_counter() - began)
                break
            await asyncio.sleep(0.05)


async def _watch(server: Server, minute: Minute) -> None:
    while True:
        minute.megabytes.append(sum(resident_megabytes(server.pid)))
        await asyncio.sleep(1.0)


if __name__ == "__main__":
    sys.exit(main())
