"""Our service and the peers, loaded in turns, and the ratios within each round."""

import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks import bodies
from benchmarks.bodies import Body
from benchmarks.closed_loop import Load, closed_loop
from benchmarks.machine import Machine
from benchmarks.peers.environments import environment
from benchmarks.peers.starts import PEERS, SERVERS
from benchmarks.processes import resident_megabytes, running, wait_for
from benchmarks.server import free_port, serving
from benchmarks.tables import Row, ratio, table
from benchmarks.turns import median_ratio

WARM_UP_SECONDS = 2
RAW, FORM = "ours, raw body", "ours, form"


@dataclass(frozen=True)
class Turn:
    """One server's turn in one round."""

    round: int
    server: str
    ready_seconds: float  # from its start to its first answer
    megabytes: float  # of all its processes, after the loads
    loads: list[Load]


@dataclass(frozen=True)
class Comparison:
    """All rounds."""

    machine: Machine
    others_cores: float  # used by other processes during the run
    model: str
    precision: str  # of ours
    seconds: int
    turns: list[Turn]


def our_turns(index: int, connections: Sequence[int], seconds: int) -> tuple[str, str, list[Turn]]:
    """The model, its precision, and our service's turns with both kinds of body."""
    with serving() as server:
        turns = []
        for name, wrap in ((RAW, bodies.raw), (FORM, bodies.form)):
            # Named after the picture, by which servers are compared.
            wrapped = [replace(wrap(picture), name=picture.name) for picture in bodies.pictures()]
            loads = list(_loads(server.pid, server.port, wrapped, connections, seconds))
            turns.append(Turn(index, name, server.ready_seconds, sum(server.megabytes()), loads))
        return server.model, server.precision, turns


def peer_turn(index: int, name: str, variables: Mapping[str, str], connections: Sequence[int], seconds: int) -> Turn:
    """One peer's turn; `variables` of its environment name the model.

    Raises:
        BenchmarkError: it cannot be installed, does not start, or does not answer.
    """
    peer, port = PEERS[name], free_port()
    wanted = [peer.body(picture) for picture in bodies.pictures()]
    bin_ = environment(peer)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, tempfile.TemporaryDirectory() as logs:
        command, own = peer.command(bin_, port, Path(folder))
        log, start = Path(logs, "log"), time.perf_counter()
        with running(command, log, {**variables, **own}, SERVERS) as process:
            wait_for(process, log, lambda: _answers(port, wanted[0]))
            ready = time.perf_counter() - start
            loads = list(_loads(process.pid, port, wanted, connections, seconds))
            return Turn(index, name, ready, sum(resident_megabytes(process.pid)), loads)


def _answers(port: int, body: Body) -> bool:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{body.path}", body.data, {"Content-Type": body.mime})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            reply.read()
    except OSError:  # the base of urllib's own errors
        return False
    return True


def _loads(pid: int, port: int, wanted: Sequence[Body], connections: Sequence[int], seconds: int) -> Iterator[Load]:
    for body in wanted:
        for count in connections:
            yield closed_loop(pid, port, body, count, seconds, WARM_UP_SECONDS)


def servers_table(turns: Sequence[Turn]) -> str:
    """Medians of each server's figures."""
    rows: list[Row] = []
    for name in dict.fromkeys(turn.server for turn in turns):
        own = [turn for turn in turns if turn.server == name]
        for loads in zip(*(turn.loads for turn in own), strict=True):
            row: Row = {"server": name, "image": loads[0].body, "connections": loads[0].connections}
            row |= {figure: median(load.figures()[figure] for load in loads) for figure in loads[0].figures()}
            row |= {"errors": sum(load.errors for load in loads), "ready s": median(turn.ready_seconds for turn in own)}
            rows.append(row | {"MB": median(turn.megabytes for turn in own)})
    return table(rows)


def ratios_table(turns: Sequence[Turn]) -> str:
    """Medians over the rounds of our figures divided by the peer's of the same round."""
    rows: list[Row] = []
    for name in dict.fromkeys(turn.server for turn in turns if turn.server in PEERS):
        theirs = {turn.round: turn for turn in turns if turn.server == name}
        for index, load in enumerate(next(iter(theirs.values())).loads):
            row: Row = {"ours / peer": name, "image": load.body, "connections": load.connections}
            for figure in load.figures():
                for kind, label in ((RAW, "raw"), (FORM, "form")):
                    pairs = [
                        (ours.loads[index].figures()[figure], theirs[ours.round].loads[index].figures()[figure])
                        for ours in turns
                        if ours.server == kind and ours.round in theirs
                    ]
                    row[f"{figure.removesuffix(' ms')}, {label}"] = ratio(median_ratio(pairs))
            rows.append(row)
    return table(rows) if rows else "no peer answered"
