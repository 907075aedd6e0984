"""Speed of the service, from one connection to overload, or compared with another checkout.

    python -m benchmarks.service [--seconds 4] [--out runs/bench]
    python -m benchmarks.service --against ../before [--rounds 3] [--seconds 2]

Starts the service as users do. Alone, it is loaded with closed loops (wrk), with arrivals at fixed rates, and with more
requests than it can answer; writes service.json and latency.png. With --against, loads the services of both checkouts
in turns and prints ratios (now / before, medians of the rounds). The client runs on the same machine and takes CPU time
from the service. Linux only.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import BenchmarkError, limit
from benchmarks.harness import machine
from benchmarks.harness.machine import CpuTimes
from benchmarks.harness.report import Overload, Results, draw_latency, peak
from benchmarks.harness.server import Server, serving
from benchmarks.harness.tables import write_json
from benchmarks.harness.turns import check_checkout, compare_checkouts, summary
from benchmarks.load import bodies
from benchmarks.load.bodies import Body
from benchmarks.load.closed_loop import Load, closed_loop, require_wrk, whole_number
from benchmarks.load.open_loop import Offered, offer

SECONDS, SECONDS_AGAINST = 4, 2
CONNECTIONS = (1, 2, 8, 32, 128)
FEW_CONNECTIONS = (1, 2)  # for explanations and batches; a process admits four batches
SHARES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1)  # of the closed loop's peak rate
FACTORS = (2, 5)
OPEN_CONNECTIONS = 512  # twice as many requests as the service admits


def main() -> int:
    """Measure, print and write. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.service", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = f"default: {SECONDS}, or {SECONDS_AGAINST} with --against"
    parser.add_argument("--seconds", type=whole_number, help=f"of each measurement ({default})")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), metavar="FOLDER")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with another checkout, in turns")
    parser.add_argument("--rounds", type=whole_number, default=3, help="with --against (default: 3)")
    options = parser.parse_args()
    try:
        require_wrk()
        if options.against:
            before = check_checkout(options.against)
            print(machine.describe())
            print(summary(compare_checkouts(before, options.rounds, options.seconds or SECONDS_AGAINST)))
            return 0
        results = measure(options.seconds or SECONDS)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(results)
    write_json(results, options.out / "service.json")
    draw_latency(results, options.out / "latency.png")
    print(f"\nwritten: {options.out}/service.json and latency.png")
    return 0


def measure(seconds: int) -> Results:
    """Run the full benchmark, in about 40 times `seconds` and half a minute."""
    host, start = machine.describe(), CpuTimes.now()
    png, jpeg = bodies.pictures()
    singles, batch = [bodies.raw(png), bodies.form(png), bodies.raw(jpeg)], bodies.batch(png)
    plan = [(body, connections) for body in singles for connections in CONNECTIONS]
    plan += [(body, connections) for body in (bodies.explain(png), batch) for connections in FEW_CONNECTIONS]
    limits = _limits([*singles, batch], seconds)
    with serving() as server:
        closed = []
        for body, connections in plan:
            _progress(f"{body.name}, {connections} connections")
            closed.append(closed_loop(server.pid, server.port, body, connections, seconds))
        rates = [(body, share * peak(closed, body.name)) for body in (singles[0], singles[2]) for share in SHARES]
        opened = [_offer(server, body, rate, seconds) for body, rate in rates]
        overload = list(_overload(server, singles[2], closed, opened, seconds))
        megabytes = server.megabytes()
    return Results(
        command=f"python -m benchmarks.service --seconds {seconds}",
        machine=host,
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


def _limits(plan: Sequence[Body], seconds: int) -> dict[str, float]:
    """Measure images/s by body, once for bodies with the same pictures."""
    _progress("the limit of the cores")
    distinct = {(body.picture.name, body.count): body for body in plan}
    rates = dict(zip(distinct, limit.images_per_second(list(distinct.values()), seconds), strict=True))
    return {body.name: rates[body.picture.name, body.count] for body in plan}


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


def _progress(step: str) -> None:
    print(f"measuring {step}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
