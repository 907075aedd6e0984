"""Load servers in turns, so that changes of the machine's speed affect all of them, and compare within each round."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import BenchmarkError
from benchmarks.harness.server import ROOT, serving
from benchmarks.harness.tables import Row, ratio, table
from benchmarks.load import bodies
from benchmarks.load.bodies import Body
from benchmarks.load.closed_loop import Load, closed_loop

REQUIRED = ("app/__main__.py", "model_store/__init__.py")
NOW, BEFORE = "now", "before"


@dataclass(frozen=True)
class Turn:
    """One server, started once in one round and put under every load."""

    round: int
    server: str
    ready_seconds: float
    megabytes: float  # of all its processes, after the loads
    loads: list[Load]


def check_checkout(folder: Path) -> Path:
    """Return the checkout's absolute path.

    Raises:
        BenchmarkError: it is not a checkout of this project.
    """
    if missing := [name for name in REQUIRED if not (folder / name).is_file()]:
        raise BenchmarkError(
            f"{folder} is not a checkout of this project, it has no {missing[0]}; make one with `git worktree add`"
        )
    return folder.resolve()


def compare_checkouts(before: Path, rounds: int, seconds: int) -> list[Turn]:
    """Load this checkout and `before` in turns: each load of one follows the same load of the other.

    Both services run during a round; the one not under load uses no CPU time. The order alternates with every load and
    every round.
    """
    turns, checkouts = list[Turn](), [(NOW, ROOT), (BEFORE, before)]
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
        with ExitStack() as stack:
            servers = {name: stack.enter_context(serving(checkout)) for name, checkout in checkouts}
            loads: dict[str, list[Load]] = {name: [] for name in servers}
            order = list(servers)
            for body, connections in _plan():
                for name in order:
                    server = servers[name]
                    loads[name].append(closed_loop(server.pid, server.port, body, connections, seconds))
                order.reverse()
            for name, server in servers.items():
                turns.append(Turn(number, name, server.all_ready_seconds, sum(server.megabytes()), loads[name]))
        checkouts.reverse()
    return turns


def _plan() -> list[tuple[Body, int]]:
    png, jpeg = bodies.pictures()
    plan = [(bodies.raw(png), connections) for connections in (1, 8, 32, 128)]
    plan += [(bodies.form(png), 32), (bodies.raw(jpeg), 1), (bodies.raw(jpeg), 32)]
    return [*plan, (bodies.batch(png), 1), (bodies.explain(png), 1)]


def summary(turns: Sequence[Turn]) -> str:
    """Format the ratios (now / before) of all loads, of start and memory, and the smallest ratio of requests/s."""
    rows: list[Row] = []
    smallest: tuple[float, str] | None = None
    for index, load in enumerate(turns[0].loads):
        ratios = load_ratios(turns, NOW, BEFORE, index)
        now, before = ([turn.loads[index] for turn in turns if turn.server == name] for name in (NOW, BEFORE))
        row: Row = {"now / before": load.body, "connections": load.connections}
        row |= {figure: ratio(value) for figure, value in ratios.items()}
        row |= {"requests/s now": median(load.rate for load in now)}
        row |= {"requests/s before": median(load.rate for load in before)}
        row |= {"errors now, before": f"{sum(load.errors for load in now)}, {sum(load.errors for load in before)}"}
        rows.append(row)
        if (value := ratios["requests/s"]) is not None:
            case = value, f"{ratio(value)} ({load.body}, connections: {load.connections})"
            smallest = min(case, smallest or case)
    pairs = turn_pairs(turns, NOW, BEFORE)
    ready = median_ratio([(now.ready_seconds, before.ready_seconds) for now, before in pairs])
    memory = median_ratio([(now.megabytes, before.megabytes) for now, before in pairs])
    return (
        f"{table(rows)}\n\nstart until all processes are ready: {ratio(ready)}\nresident memory: {ratio(memory)}\n"
        f"smallest ratio of requests/s: {smallest[1] if smallest else ratio(None)}"
    )


def turn_pairs(turns: Sequence[Turn], server: str, other: str) -> list[tuple[Turn, Turn]]:
    """Return pairs of the turns of two servers in the same round."""
    others = {turn.round: turn for turn in turns if turn.server == other}
    return [(turn, others[turn.round]) for turn in turns if turn.server == server and turn.round in others]


def load_ratios(turns: Sequence[Turn], server: str, other: str, index: int) -> dict[str, float | None]:
    """Return the median of server / other over the rounds, for each figure of one load."""
    pairs = [
        (ours.loads[index].figures(), theirs.loads[index].figures())
        for ours, theirs in turn_pairs(turns, server, other)
    ]
    figures = pairs[0][0]
    return {
        name.removesuffix(" ms"): median_ratio([(ours[name], theirs[name]) for ours, theirs in pairs])
        for name in figures
    }


def median_ratio(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return the median of the quotients, or None if a divisor is zero."""
    return median(value / other for value, other in pairs) if all(other for _, other in pairs) else None
