"""This checkout beside another one, started and loaded in turns, so that drift of the machine's speed hits both."""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import BenchmarkError, bodies
from benchmarks.closed_loop import Load, closed_loop
from benchmarks.server import ROOT, Server, serving
from benchmarks.tables import Row, ratio, table

REQUIRED = ("app/__main__.py", "model_store/__init__.py")


@dataclass(frozen=True)
class Turn:
    """One service, started once and put under every load."""

    all_ready_seconds: float
    megabytes: float  # of all processes, after the loads
    loads: list[Load]


@dataclass(frozen=True)
class Round:
    """A turn of each checkout, one right after the other."""

    now: Turn
    before: Turn


def check_checkout(folder: Path) -> Path:
    """The folder's absolute path.

    Raises:
        BenchmarkError: it is not a checkout of this project.
    """
    if missing := [name for name in REQUIRED if not (folder / name).is_file()]:
        raise BenchmarkError(
            f"{folder} is not a checkout of this project, it has no {missing[0]}; make one with `git worktree add`"
        )
    return folder.resolve()


def compare(before: Path, rounds: int, seconds: int) -> list[Round]:
    """Measure in turns: now and before in the first round, before and now in the second, and so on."""
    results = []
    for index in range(rounds):
        print(f"round {index + 1} of {rounds}", file=sys.stderr, flush=True)
        first, second = (_turn(folder, seconds) for folder in ((ROOT, before), (before, ROOT))[index % 2])
        results.append(Round(second, first) if index % 2 else Round(first, second))
    return results


def _turn(checkout: Path, seconds: int) -> Turn:
    with serving(checkout) as server:
        loads = list(_loads(server, seconds))
        return Turn(server.all_ready_seconds, sum(server.megabytes()), loads)


def _loads(server: Server, seconds: int) -> Iterator[Load]:
    png, jpeg = bodies.pictures()
    wanted = [(bodies.raw(png), connections) for connections in (1, 8, 32, 128)]
    wanted += [(bodies.form(png), 32), (bodies.raw(jpeg), 1), (bodies.raw(jpeg), 32)]
    wanted += [(bodies.batch(png), 1), (bodies.explain(png), 1)]
    for body, connections in wanted:
        yield closed_loop(server.pid, server.port, body, connections, seconds)


def summary(rounds: Sequence[Round]) -> str:
    """The table of ratios, the ratios of start and memory, and the smallest ratio of requests/s."""
    loads = rounds[0].now.loads
    ratios = [_load_ratios(rounds, index) for index in range(len(loads))]
    rows: list[Row] = [
        {
            "now / before": load.body,
            "connections": load.connections,
            **{name.removesuffix(" ms"): ratio(value) for name, value in by_name.items()},
            **_absolute(rounds, index),
        }
        for index, (load, by_name) in enumerate(zip(loads, ratios, strict=True))
    ]
    ready = [(each.now.all_ready_seconds, each.before.all_ready_seconds) for each in rounds]
    memory = [(each.now.megabytes, each.before.megabytes) for each in rounds]
    known = [(by_name["requests/s"], load) for by_name, load in zip(ratios, loads, strict=True)]
    smallest, load = min(known, key=lambda pair: math.inf if pair[0] is None else pair[0])
    return "\n".join(
        [
            table(rows),
            "",
            f"start until all processes are ready: {ratio(median_ratio(ready))}",
            f"resident memory: {ratio(median_ratio(memory))}",
            f"smallest ratio of requests/s: {ratio(smallest)} ({load.body}, connections: {load.connections})",
        ]
    )


def _load_ratios(rounds: Sequence[Round], index: int) -> dict[str, float | None]:
    """Ratio of each figure of one load."""
    pairs = [(each.now.loads[index].figures(), each.before.loads[index].figures()) for each in rounds]
    return {name: median_ratio([(now[name], before[name]) for now, before in pairs]) for name in pairs[0][0]}


def _absolute(rounds: Sequence[Round], index: int) -> Row:
    """Medians of requests/s and all errors of one load, on both sides."""
    now, before = [each.now.loads[index] for each in rounds], [each.before.loads[index] for each in rounds]
    return {
        "requests/s now": median(load.rate for load in now),
        "requests/s before": median(load.rate for load in before),
        "errors now, before": f"{sum(load.errors for load in now)}, {sum(load.errors for load in before)}",
    }


def median_ratio(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Median of now / before over the rounds; None if a round has nothing to divide by."""
    return median(now / before for now, before in pairs) if all(before for _, before in pairs) else None
