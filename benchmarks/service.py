"""How fast the service is, from one connection to overload, or beside another checkout.

    python -m benchmarks.service [--seconds 4] [--out runs/bench]
    python -m benchmarks.service --against ../before [--rounds 3] [--seconds 2]

Starts the service as users do. Alone, it is loaded with closed loops (wrk), with arrivals at given rates, and with more
than it can answer; service.json and latency.png are written. With --against, the services of both checkouts are
started and loaded in turns, and ratios (now / before, medians of the rounds) are printed. The load comes from the same
machine, so the service has less CPU time by what the client uses. Linux only.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import BenchmarkError, bodies, limit, machine
from benchmarks.bodies import Body
from benchmarks.closed_loop import Load, closed_loop, require_wrk, whole_number
from benchmarks.machine import CpuTimes
from benchmarks.open_loop import Offered, offer
from benchmarks.report import Overload, Results, draw_latency, peak, save
from benchmarks.server import Server, serving
from benchmarks.tables import write_json
from benchmarks.turns import check_checkout, compare, summary

SECONDS, SECONDS_AGAINST = 4, 2
CONNECTIONS = (1, 2, 8, 32, 128)
FEW_CONNECTIONS = (1, 2)  # for explanations, and for batches: a process has room for four of them
SHARES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1)  # of the closed loop's peak rate
FACTORS = (2, 5)
OPEN_CONNECTIONS = 512  # twice as many requests as the service admits


def main() -> int:
    """Measure, print and write. Returns the exit code."""
    options = _options()
    try:
        require_wrk()
        if options.against:
            before = check_checkout(options.against)
            print(machine.describe())
            print(summary(compare(before, options.rounds, options.seconds or SECONDS_AGAINST)))
            return 0
        results = measure(options.seconds or SECONDS)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(results)
    write_json(results, options.out / "service.json")
    save(draw_latency(results), options.out / "latency.png")
    print(f"\nwritten: {options.out}/service.json and latency.png")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.service", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds",
        type=whole_number,
        help=f"of each measurement (default: {SECONDS}, or {SECONDS_AGAINST} with --against)",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), metavar="FOLDER")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with another checkout, in turns")
    parser.add_argument("--rounds", type=whole_number, default=3, help="with --against (default: 3)")
    return parser.parse_args()


def measure(seconds: int) -> Results:
    """Run the full benchmark, in about 40 times `seconds` and half a minute."""
    here, start = machine.describe(), CpuTimes.now()
    png, jpeg = bodies.pictures()
    singles, batch, explained = (
        [bodies.raw(png), bodies.form(png), bodies.raw(jpeg)],
        bodies.batch(png),
        bodies.explain(png),
    )
    wanted = [(body, connections) for body in singles for connections in CONNECTIONS]
    wanted += [(body, connections) for body in (explained, batch) for connections in FEW_CONNECTIONS]
    limits = _limits([*singles, batch], seconds)
    with serving() as server:
        closed = list(_closed(server, wanted, seconds))
        opened = list(_opened(server, [singles[0], singles[2]], closed, seconds))
        overload = list(_overload(server, singles[2], closed, opened, seconds))
        megabytes = server.megabytes()
    return Results(
        command=f"python -m benchmarks.service --seconds {seconds}",
        machine=here,
        others_cores=start.others_until(CpuTimes.now()),
        model=server.model,
        precision=server.precision,
        ready_seconds=server.ready_seconds,
        all_ready_seconds=server.all_ready_seconds,
        megabytes=megabytes,
        limits=limits,
        closed=closed,
        opened=opened,
        overload=overload,
    )


def _limits(wanted: Sequence[Body], seconds: int) -> dict[str, float]:
    """Images a second by body; measured once for bodies that differ only in how they wrap the picture."""
    _progress("what the cores can do")
    different = {(body.picture.name, body.count): body for body in wanted}
    rates = dict(zip(different, limit.images_per_second(list(different.values()), seconds), strict=True))
    return {body.name: rates[body.picture.name, body.count] for body in wanted}


def _closed(server: Server, wanted: Sequence[tuple[Body, int]], seconds: int) -> Iterator[Load]:
    for body, connections in wanted:
        _progress(f"{body.name}, {connections} connections")
        yield closed_loop(server.pid, server.port, body, connections, seconds)


def _opened(server: Server, wanted: Sequence[Body], closed: Sequence[Load], seconds: int) -> Iterator[Offered]:
    for body in wanted:
        for share in SHARES:
            yield _offer(server, body, share * peak(closed, body.name), seconds)


def _overload(
    server: Server, body: Body, closed: Sequence[Load], opened: Sequence[Offered], seconds: int
) -> Iterator[Overload]:
    best = max(peak(closed, body.name), *(offered.goodput for offered in opened if offered.body == body.name))
    for factor in FACTORS:
        server.settle()
        before = sum(server.megabytes())
        offered = _offer(server, body, factor * best, seconds)
        yield Overload(factor, best, offered, before, sum(server.megabytes()))


def _offer(server: Server, body: Body, rate: float, seconds: int) -> Offered:
    _progress(f"{body.name}, {rate:,.0f} requests/s offered")
    server.settle()
    return offer(server.port, body, rate, seconds, OPEN_CONNECTIONS)


def _progress(what: str) -> None:
    print(f"measuring {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
