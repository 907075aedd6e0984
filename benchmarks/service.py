"""How fast the service is, from one connection to overload, beside what its cores can do without it.

    python -m benchmarks.service [--seconds 4] [--out runs/bench] [--baseline OLD/service.json]

Starts the service as users do, loads it with closed loops (wrk), with arrivals at a rate of their own, and with more
than it can answer. The load comes from the same machine and its processor time is in the tables: what the client uses,
the service does not have. Writes service.json and latency.png. Linux only.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import bodies, limit, machine, plots, results, tables
from benchmarks.arrivals import offer
from benchmarks.baseline import comparison
from benchmarks.bodies import Body
from benchmarks.errors import BenchmarkError
from benchmarks.machine import Watch
from benchmarks.results import Offered, Overload, Results, best, peak, summarise
from benchmarks.server import Server, serving
from benchmarks.stages import alone
from benchmarks.wrk import Load, closed_loop, require_wrk, whole_seconds

CONNECTIONS = (1, 2, 8, 32, 128)
BATCH_CONNECTIONS = (1, 2)  # a process has room for four, should an earlier load have left some behind
EXPLAINED_CONNECTIONS = (1, 2)
SHARES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1)  # of the closed loop's best rate
FACTORS = (2, 5)
ALONE = 60  # requests one after another
ALONE_BATCHES = 6
OPEN_CONNECTIONS = 512  # twice as many requests as the service lets in
PROBE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


def main() -> int:
    """Measure, print, draw and write. Returns the exit code."""
    options = _parser().parse_args()
    try:
        require_wrk()
        before = results.read(Results, options.baseline) if options.baseline else None
        found = measure(options.seconds)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _show(found)
    if before:
        print(f"\n{comparison(found, before)}")
    results.write(found, options.out / "service.json")
    plots.save(plots.latency(found), options.out / "latency.png")
    print(f"\nwritten: {options.out}/service.json and latency.png")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.service", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=whole_seconds, default=4, help="of each measurement (default: 4); all take 40 times that"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), metavar="FOLDER")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="service.json of an earlier run, for ratios")
    return parser


def measure(seconds: int) -> Results:
    """Everything, in about 40 times `seconds` and half a minute."""
    here = machine.describe()
    machine.warn_if_busy(here)
    watch = Watch()
    png, jpeg = bodies.pictures()
    singles, batch = [bodies.raw(png), bodies.form(png), bodies.raw(jpeg)], bodies.batch(png)
    explained = bodies.explained(png)
    limits = _limits([*singles, batch], seconds)
    with serving() as server:
        stages = {
            body.name: alone(server.port, body, ALONE if body.count == 1 else ALONE_BATCHES)
            for body in [*singles, batch]
        }
        closed = list(_closed(server, singles, explained, batch, seconds))
        opened = list(_opened(server, [singles[0], singles[2]], closed, seconds))
        overload = list(_overload(server, singles[2], best(closed, opened, singles[2].name), seconds))
        megabytes = server.megabytes()
    return Results(
        command=f"python -m benchmarks.service --seconds {seconds}",
        machine=watch.stamped(here),
        seconds=seconds,
        model=server.model,
        precision=server.precision,
        ready_seconds=server.ready_seconds,
        all_ready_seconds=server.all_ready_seconds,
        megabytes=megabytes,
        limits=limits,
        stages=stages,
        closed=closed,
        opened=opened,
        overload=overload,
    )


def _limits(wanted: Sequence[Body], seconds: int) -> dict[str, float]:
    """How a picture is wrapped makes no difference here, so each is measured once."""
    _say("what the cores can do")
    different = {(body.picture.name, body.count): body for body in wanted}
    rates = dict(zip(different, limit.images_per_second(list(different.values()), seconds), strict=True))
    return {body.name: rates[body.picture.name, body.count] for body in wanted}


def _closed(server: Server, singles: Sequence[Body], explained: Body, batch: Body, seconds: int) -> Iterator[Load]:
    wanted = [(body, connections) for body in singles for connections in CONNECTIONS]
    wanted += [(explained, connections) for connections in EXPLAINED_CONNECTIONS]
    wanted += [(batch, connections) for connections in BATCH_CONNECTIONS]
    for body, connections in wanted:
        _say(f"{body.name}, {connections} connections")
        yield closed_loop(server.pid, server.port, body, connections, seconds)


def _opened(server: Server, wanted: Sequence[Body], closed: Sequence[Load], seconds: int) -> Iterator[Offered]:
    for body in wanted:
        for share in SHARES:
            yield _offer(server, body, share * peak(closed, body.name), seconds)


def _overload(server: Server, body: Body, top: float, seconds: int) -> Iterator[Overload]:
    for factor in FACTORS:
        server.settle()
        before = sum(server.megabytes())
        offered = _offer(server, body, factor * top, seconds)
        yield Overload(factor, top, offered, before, sum(server.megabytes()))


def _offer(server: Server, body: Body, rate: float, seconds: int) -> Offered:
    _say(f"{body.name}, {rate:,.0f} requests/s offered")
    server.settle()
    return summarise(body.name, offer(server.port, body.request(), rate, seconds, OPEN_CONNECTIONS, PROBE))


def _say(what: str) -> None:
    print(f"measuring {what}", file=sys.stderr, flush=True)


def _show(found: Results) -> None:
    closed, opened, overload = tables.closed_table(found), tables.opened_table(found), tables.overload_table(found)
    print(found.machine, tables.start_line(found), sep="\n")
    print(
        "", tables.limits_table(found), "", tables.stages_table(found), "", closed, "", opened, "", overload, sep="\n"
    )


if __name__ == "__main__":
    sys.exit(main())
