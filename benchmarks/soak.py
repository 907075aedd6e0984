"""Checked answers and constant resources under a mixed load for a long time.

    python -m benchmarks.soak [--minutes 20] [--share 0.7] [--out runs/soak]

Starts the service as users do, measures the peak rate of a mix of requests (benchmarks/load/mixed.py), and then offers
a share of it. Every answer is checked, and one client in ten leaves before it is answered. Prints latency, memory, file
descriptors and threads minute by minute, and writes them to soak.json and soak.png. The exit code is 1 if an answer was
wrong or missing, if the log has an error, or if the last minute needs more than the first. Linux only.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

import uvloop
from matplotlib import pyplot as plt

from benchmarks import BenchmarkError
from benchmarks.harness import machine
from benchmarks.harness.processes import descriptors, resident_megabytes, threads
from benchmarks.harness.server import Server, serving
from benchmarks.harness.tables import Row, cell, percent, table, write_json
from benchmarks.load.client import Client
from benchmarks.load.closed_loop import whole_number
from benchmarks.load.mixed import Mix, Outcome
from benchmarks.load.open_loop import at_rate, percentile_ms
from training.publish.plots import DPI, MISTAKE, NETWORK, STYLE

MINUTE = 60.0
CONNECTIONS, CLOSED_CONNECTIONS = 128, 32
PEAK_SECONDS, SAMPLE_SECONDS, PATIENCE_SECONDS = 15.0, 1.0, 10.0
# Of the last minute, compared with the first. A minute's p99 varies by a tenth on a quiet machine.
MAX_P99_RATIO, MAX_MEMORY_RATIO = 1.3, 1.05
MAX_MORE_DESCRIPTORS, MAX_MORE_THREADS = 8, 0
SERIOUS = ("error", "critical")


class Usage(NamedTuple):
    """Resources of all processes of the service at one moment."""

    moment: float
    megabytes: float
    descriptors: float  # without those for the client's connections
    threads: float


@dataclass(frozen=True)
class Period:
    """One minute: the requests that were due in it, and the median resources.

    Latency is of all right answers but explanations, whose few seconds would decide the 99th percentile.
    """

    requests: int
    p50_ms: float | None
    p99_ms: float | None
    megabytes: float
    descriptors: float
    threads: float


@dataclass
class Soak:
    """What was offered and what came of it, up to now."""

    peak: float = 0.0  # requests/s
    rate: float = 0.0
    start: float = 0.0
    outcomes: list[Outcome] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)
    serious_lines: list[str] = field(default_factory=list)  # of the service's log

    def periods(self, seconds: float = MINUTE) -> list[Period]:
        """Summarise the complete periods of so many seconds."""
        groups: dict[int, tuple[list[Outcome], list[Usage]]] = {}
        for outcome in self.outcomes:
            groups.setdefault(int((outcome.due - self.start) / seconds), ([], []))[0].append(outcome)
        for usage in self.usages:
            groups.setdefault(int((usage.moment - self.start) / seconds), ([], []))[1].append(usage)
        return [_period(*groups[number]) for number in sorted(groups) if all(groups[number])]

    def counts(self) -> dict[str, Counter[str]]:
        """Count results by kind of request."""
        counts: dict[str, Counter[str]] = {}
        for outcome in self.outcomes:
            counts.setdefault(outcome.kind, Counter())[outcome.result] += 1
        return counts


def _period(outcomes: Sequence[Outcome], usages: Sequence[Usage]) -> Period:
    seconds = sorted(
        outcome.seconds for outcome in outcomes if outcome.result == "right" and outcome.kind != "explanation"
    )
    return Period(
        len(outcomes),
        percentile_ms(seconds, 50),
        percentile_ms(seconds, 99),
        *(median(usage[column] for usage in usages) for column in (1, 2, 3)),
    )


def main() -> int:
    """Measure, print and write. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=whole_number, default=20)
    parser.add_argument("--share", type=float, default=0.7, help="of the peak rate (default: 0.7)")
    parser.add_argument("--out", type=Path, default=Path("runs/soak"), metavar="FOLDER")
    options = parser.parse_args()
    host, result = machine.describe(), Soak()
    print(host)
    try:
        with suppress(KeyboardInterrupt):  # what has been measured is shown
            soak(result, options.share, options.minutes * MINUTE)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    periods = result.periods()
    print(summary(result, periods))
    write_json(
        {"machine": host, "peak": result.peak, "rate": result.rate, "minutes": periods}, options.out / "soak.json"
    )
    draw(periods, options.out / "soak.png")
    print(f"\nwritten: {options.out}/soak.json and soak.png")
    faults = list(find_faults(result, periods))
    print("\n".join(f"fault: {fault}" for fault in faults) or "no fault")
    return int(bool(faults))


def soak(result: Soak, share: float, seconds: float, peak_seconds: float = PEAK_SECONDS) -> None:
    """Serve, and add what comes of `share` of the peak rate for so many seconds to `result`."""
    with serving() as server:
        try:
            uvloop.run(_soak(server, result, share, seconds, peak_seconds))
        finally:
            result.serious_lines += _serious_lines(server.log)


async def _soak(server: Server, result: Soak, share: float, seconds: float, peak_seconds: float) -> None:
    client, mix = Client(server.port, CONNECTIONS), Mix()
    _progress(f"measuring the peak of {server.model} in {server.precision}")
    result.peak = await _peak(client, mix, peak_seconds)
    result.rate, result.start = share * result.peak, time.perf_counter()

    async def ask(due: float) -> None:
        result.outcomes.append(await mix.ask(client, due))

    watch = asyncio.create_task(_watch(server, client, result))
    try:
        await at_rate(ask, result.rate, seconds, PATIENCE_SECONDS)
    finally:
        watch.cancel()
        client.close()


async def _peak(client: Client, mix: Mix, seconds: float) -> float:
    """Return the requests/s of a closed loop."""
    end = time.perf_counter() + seconds

    async def ask_until_end() -> int:
        count = 0
        while (now := time.perf_counter()) < end:
            await mix.ask(client, now)
            count += 1
        return count

    return sum(await asyncio.gather(*(ask_until_end() for _ in range(CLOSED_CONNECTIONS)))) / seconds


async def _watch(server: Server, client: Client, result: Soak) -> None:
    """Sample the service's resources, and show once a minute that all is well."""
    shown = 0
    while True:
        usage = Usage(
            time.perf_counter(),
            sum(resident_megabytes(server.pid)),
            descriptors(server.pid) - client.connections,
            threads(server.pid),
        )
        result.usages.append(usage)
        if (passed := int((usage.moment - result.start) / MINUTE)) > shown:
            shown = passed
            results = Counter(outcome.result for outcome in result.outcomes)
            words = ", ".join(f"{count:,} {name}" for name, count in results.most_common())
            _progress(f"minute {passed}: {words}; {usage.megabytes:,.0f} MB")
        await asyncio.sleep(SAMPLE_SECONDS)


def _serious_lines(log: Path) -> list[str]:
    """Return the lines of the service's log that tell of an error, or are no JSON, as tracebacks are not."""

    def is_serious(line: str) -> bool:
        try:
            return json.loads(line)["level"] in SERIOUS
        except (ValueError, TypeError, KeyError):
            return True

    with log.open(errors="replace") as lines:
        return [line for line in lines if is_serious(line)]


def find_faults(result: Soak, periods: Sequence[Period]) -> Iterator[str]:
    """Say what was wrong, lost, logged as an error, or more in the last period than in the first."""
    counts: Counter[str] = sum(result.counts().values(), Counter())
    for name in ("wrong", "lost"):
        if counts[name]:
            yield f"{counts[name]:,} answers were {name}"
    if result.serious_lines:
        yield f"{len(result.serious_lines):,} lines of the log are errors, the first: {result.serious_lines[0].strip()}"
    if len(periods) < 2:
        yield f"{len(periods)} complete minutes are too few to compare the first with the last"
        return
    first, last = periods[0], periods[-1]
    for name, before, now, most in (
        ("p99", first.p99_ms, last.p99_ms, MAX_P99_RATIO * (first.p99_ms or 0)),
        ("memory in MB", first.megabytes, last.megabytes, MAX_MEMORY_RATIO * first.megabytes),
        ("file descriptors", first.descriptors, last.descriptors, first.descriptors + MAX_MORE_DESCRIPTORS),
        ("threads", first.threads, last.threads, first.threads + MAX_MORE_THREADS),
    ):
        if before is None or now is None or now > most:
            yield f"{name}: {cell(before)} in the first minute, {cell(now)} in the last"


def summary(result: Soak, periods: Sequence[Period]) -> str:
    """Format the results by kind of request and the figures by minute."""
    kinds: list[Row] = []
    for kind, counts in sorted(result.counts().items()):
        seconds = sorted(outcome.seconds for outcome in result.outcomes if outcome.kind == kind)
        total = counts.total()
        row: Row = {"request": kind, "sent": total, "right": counts["right"], "wrong": counts["wrong"]}
        row |= {"lost": counts["lost"], "refused": percent(counts["refused"], total), "abandoned": counts["abandoned"]}
        kinds.append(row | {"p50 ms": percentile_ms(seconds, 50), "p99 ms": percentile_ms(seconds, 99)})
    minutes: list[Row] = [
        {
            "minute": str(number),
            "requests": period.requests,
            "p50 ms": period.p50_ms,
            "p99 ms": period.p99_ms,
            "MB": period.megabytes,
            "descriptors": period.descriptors,
            "threads": period.threads,
        }
        for number, period in enumerate(periods, 1)
    ]
    offered = (
        f"{result.rate:,.0f} requests/s offered, {percent(result.rate, result.peak)} of {result.peak:,.0f} at the peak"
    )
    return "\n\n".join([offered, *(table(rows) for rows in (kinds, minutes) if rows)])


def draw(periods: Sequence[Period], path: Path) -> None:
    """Write a PNG of latency and memory by minute."""
    minutes = range(1, len(periods) + 1)
    with plt.rc_context(STYLE):
        figure, (latency, memory) = plt.subplots(1, 2, figsize=(8, 3.2))
        for label, marker, color, values in (
            ("p99", "s-", MISTAKE, [period.p99_ms for period in periods]),
            ("p50", "o-", NETWORK, [period.p50_ms for period in periods]),
        ):
            latency.plot(minutes, values, marker, color=color, label=label)
        latency.set(title="ms to the answer", xlabel="minute", ylim=(0, None))
        latency.legend()
        memory.plot(minutes, [period.megabytes for period in periods], "o-", color=NETWORK)
        memory.set(title="MB of memory, all processes", xlabel="minute", ylim=(0, None))
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DPI)
        plt.close(figure)


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
