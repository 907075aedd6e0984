"""Loads our service and the peers in turns, and compares what one round gave."""

import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import bodies
from benchmarks.bodies import Body
from benchmarks.machine import Machine
from benchmarks.peers.environments import environment
from benchmarks.peers.starts import PEERS, SERVERS
from benchmarks.processes import resident_megabytes, running, wait_for
from benchmarks.server import free_port, serving
from benchmarks.tables import number, table
from benchmarks.wrk import Load, closed_loop

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

    def load(self, body: str, connections: int) -> Load:
        """The one with that body and so many connections."""
        return next(load for load in self.loads if (load.body, load.connections) == (body, connections))


@dataclass(frozen=True)
class Comparison:
    """All rounds."""

    machine: Machine
    model: str
    precision: str  # ours; the peers compute the exported float32 network as OpenVINO chooses
    seconds: int
    turns: list[Turn]


def our_turns(index: int, connections: Sequence[int], seconds: int) -> tuple[str, str, list[Turn]]:
    """The model, its precision, and our service's turns with both kinds of body."""
    with serving() as server:
        turns = []
        for name, wrap in ((RAW, bodies.raw), (FORM, bodies.form)):
            wrapped = [_named(wrap(picture)) for picture in bodies.pictures()]
            loads = list(_loads(server.pid, server.port, wrapped, connections, seconds))
            turns.append(Turn(index, name, server.ready_seconds, sum(server.megabytes()), loads))
        return server.model, server.precision, turns


def _named(body: Body) -> Body:
    """With its picture's name, by which servers are compared."""
    return Body(body.picture.name, body.path, body.mime, body.data, body.picture)


def peer_turn(index: int, name: str, network: Path, connections: Sequence[int], seconds: int) -> Turn:
    """One peer's turn with the network at that path, in OpenVINO's format.

    Raises:
        BenchmarkError: it cannot be installed, does not start, or does not answer.
    """
    peer, port = PEERS[name], free_port()
    wanted = [peer.body(picture) for picture in bodies.pictures()]
    bin_ = environment(name, peer.packages)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, tempfile.TemporaryDirectory() as logs:
        command, variables = peer.command(bin_, port, Path(folder))
        log, began = Path(logs, "log"), time.perf_counter()
        with running(command, log, variables | {"MODEL_XML": str(network)}, SERVERS) as process:
            wait_for(process, log, lambda: _answers(port, wanted[0]))
            ready = time.perf_counter() - began
            loads = list(_loads(process.pid, port, wanted, connections, seconds))
            return Turn(index, name, ready, sum(resident_megabytes(process.pid)), loads)


def _answers(port: int, body: Body) -> bool:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{body.path}", body.data, {"Content-Type": body.mime})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            reply.read()
    except OSError:  # which urllib's own errors are
        return False
    return True


def _loads(pid: int, port: int, wanted: Sequence[Body], connections: Sequence[int], seconds: int) -> Iterator[Load]:
    for body in wanted:
        for count in connections:
            yield closed_loop(pid, port, body, count, seconds, WARM_UP_SECONDS)


def command(found: Comparison) -> str:
    """The command line that measures this again."""
    names = ",".join(dict.fromkeys(turn.server for turn in found.turns if turn.server in PEERS))
    count = max(turn.round for turn in found.turns)
    return f"python -m benchmarks.peers --peers {names} --rounds {count} --seconds {found.seconds}"


def servers_table(found: Comparison) -> str:
    """Medians of each server's figures."""
    head = ["server", "image", "connections", "requests/s", "p50 ms", "p99 ms", "CPU ms", "errors", "ready s", "MB"]
    return table(head, list(_servers(found.turns)))


def _servers(turns: Sequence[Turn]) -> Iterator[list[str]]:
    for name in dict.fromkeys(turn.server for turn in turns):
        own = [turn for turn in turns if turn.server == name]
        for load in own[0].loads:
            loads = [turn.load(load.body, load.connections) for turn in own]
            middle = [median(values) for values in zip(*map(_figures, loads), strict=True)]
            errors = str(sum(each.refused + each.broken for each in loads))
            start = [median(turn.ready_seconds for turn in own), median(turn.megabytes for turn in own)]
            yield [name, load.body, str(load.connections), *map(number, middle), errors, *map(number, start)]


def _figures(load: Load) -> tuple[float, float, float, float]:
    return load.rate, load.p50_ms, load.p99_ms, load.server_ms


def ratios_table(found: Comparison) -> str:
    """Medians over the rounds of our figures divided by the peer's of the same round."""
    figures = ["requests/s", "p50", "p99", "CPU a request"]
    head = ["ours / peer", "image", "connections", *(f"{name}, {kind}" for name in figures for kind in ("raw", "form"))]
    return table(head, list(_ratios(found.turns)))


def _ratios(turns: Sequence[Turn]) -> Iterator[list[str]]:
    for name in dict.fromkeys(turn.server for turn in turns if turn.server in PEERS):
        theirs = {turn.round: turn for turn in turns if turn.server == name}
        for load in next(iter(theirs.values())).loads:
            place = load.body, load.connections
            columns = [_middle(turns, kind, theirs, *place) for kind in (RAW, FORM)]
            cells = [f"{value:.2f}" for pair in zip(*columns, strict=True) for value in pair]
            yield [name, load.body, str(load.connections), *cells]


def _middle(turns: Sequence[Turn], kind: str, theirs: dict[int, Turn], body: str, connections: int) -> list[float]:
    pairs = [
        (_figures(turn.load(body, connections)), _figures(theirs[turn.round].load(body, connections)))
        for turn in turns
        if turn.server == kind and turn.round in theirs
    ]
    each = [[our / their for our, their in zip(*pair, strict=True)] for pair in pairs]
    return [median(values) for values in zip(*each, strict=True)]
