"""Measure one turn of our service or of a peer, and tabulate all turns."""

import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.harness.processes import resident_megabytes, running, wait_for
from benchmarks.harness.server import Server, free_port
from benchmarks.harness.tables import Row, ratio, table
from benchmarks.harness.turns import Turn, load_ratios, turn_pairs
from benchmarks.load import bodies
from benchmarks.load.bodies import Body
from benchmarks.load.closed_loop import Load, closed_loop
from benchmarks.peers.environments import environment
from benchmarks.peers.starts import PEERS, SERVERS

WARM_UP_SECONDS = 2
RAW, FORM = "ours, raw body", "ours, form"


def our_turns(server: Server, number: int, connections: Sequence[int], seconds: int) -> Iterator[Turn]:
    """Measure our service's turns with both kinds of body."""
    for name, wrap in ((RAW, bodies.raw), (FORM, bodies.form)):
        # Servers are compared by picture, so each body is named after its picture.
        wrapped = [replace(wrap(picture), name=picture.name) for picture in bodies.pictures()]
        loads = list(_loads(server.pid, server.port, wrapped, connections, seconds))
        yield Turn(number, name, server.ready_seconds, sum(server.megabytes()), loads)


def peer_turn(number: int, name: str, variables: Mapping[str, str], connections: Sequence[int], seconds: int) -> Turn:
    """Measure one peer's turn. It is ready at its first answer; `variables` tell it where the model is.

    Raises:
        BenchmarkError: it cannot be installed, does not start, or does not answer.
    """
    peer, port = PEERS[name], free_port()
    wrapped = [peer.body(picture) for picture in bodies.pictures()]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, tempfile.TemporaryDirectory() as logs:
        command, peer_variables = peer.command(environment(peer), port, Path(folder))
        log, start = Path(logs, "log"), time.perf_counter()
        with running(command, log, {**variables, **peer_variables}, SERVERS) as process:
            wait_for(process, log, lambda: _answers(port, wrapped[0]))
            ready = time.perf_counter() - start
            loads = list(_loads(process.pid, port, wrapped, connections, seconds))
            return Turn(number, name, ready, sum(resident_megabytes(process.pid)), loads)


def _answers(port: int, body: Body) -> bool:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{body.path}", body.data, {"Content-Type": body.mime})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            reply.read()
    except OSError:  # the base of urllib's own errors
        return False
    return True


def _loads(pid: int, port: int, wrapped: Sequence[Body], connections: Sequence[int], seconds: int) -> Iterator[Load]:
    for body in wrapped:
        for count in connections:
            yield closed_loop(pid, port, body, count, seconds, WARM_UP_SECONDS)


def servers_table(turns: Sequence[Turn]) -> str:
    """Tabulate the medians of each server's figures."""
    rows: list[Row] = []
    for name in dict.fromkeys(turn.server for turn in turns):
        server_turns = [turn for turn in turns if turn.server == name]
        ready, megabytes = (
            median(getattr(turn, field) for turn in server_turns) for field in ("ready_seconds", "megabytes")
        )
        for loads in zip(*(turn.loads for turn in server_turns), strict=True):
            row: Row = {"server": name, "image": loads[0].body, "connections": loads[0].connections}
            row |= {figure: median(load.figures()[figure] for load in loads) for figure in loads[0].figures()}
            rows.append(row | {"errors": sum(load.errors for load in loads), "ready s": ready, "MB": megabytes})
    return table(rows)


def ratios_table(turns: Sequence[Turn]) -> str:
    """Tabulate our figures divided by the peer's of the same round, as medians over the rounds."""
    rows: list[Row] = []
    for name in dict.fromkeys(turn.server for turn in turns if turn.server in PEERS):
        for index, load in enumerate(turn_pairs(turns, name, RAW)[0][0].loads):
            raw, form = (load_ratios(turns, ours, name, index) for ours in (RAW, FORM))
            row: Row = {"ours / peer": name, "image": load.body, "connections": load.connections}
            for figure in raw:
                row |= {f"{figure}, raw": ratio(raw[figure]), f"{figure}, form": ratio(form[figure])}
            rows.append(row)
    return table(rows) if rows else "no peer answered"
