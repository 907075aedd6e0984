"""Processor time of a request without traces, with 1 % and with all requests traced.

    python -m benchmarks.traces [--against ../before] [--rounds 60] [--requests 100]

Processes take turns, each sending requests with a 32×32 PNG to `/predict` of its own application, one after the other,
without a connection and without the network's own time. The order alternates with every round. A collector in this
process takes the spans. With --against, an earlier checkout takes turns too. Prints medians of the rounds, their
quartiles, and medians of the ratios within a round.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from os import environ
from pathlib import Path
from statistics import median, quantiles
from subprocess import DEVNULL, PIPE
from threading import Thread

from benchmarks import BenchmarkError
from benchmarks.harness import machine
from benchmarks.harness.tables import Row, ratio, table
from benchmarks.harness.turns import check_checkout
from benchmarks.load import bodies
from benchmarks.load.closed_loop import whole_number

HERE = Path(__file__).parent
WARM_UP = 300
BEFORE, OFF = "before", "off"
TRACED = {"1 % traced": "0.01", "all traced": "1"}  # the share that the sampler keeps


class _Collector(ThreadingHTTPServer):
    """Takes spans and forgets them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _TakeSpans)


class _TakeSpans(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main() -> int:
    """Measure and print. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.traces", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="an earlier checkout, which takes turns too")
    parser.add_argument("--rounds", type=whole_number, default=60, help="default: 60")
    parser.add_argument("--requests", type=whole_number, default=100, help="of each turn (default: 100)")
    options = parser.parse_args()
    try:
        before = check_checkout(options.against) if options.against else None
        print(machine.describe())
        seconds = measure(before, options.rounds, options.requests)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table([row(name, seconds) for name in seconds]))
    return 0


def measure(before: Path | None, rounds: int, requests: int) -> dict[str, list[float]]:
    """Measure in turns the seconds of processor time that a request takes.

    Raises:
        BenchmarkError: a process failed.
    """
    order = ([BEFORE] if before else []) + [OFF, *TRACED]
    seconds: dict[str, list[float]] = {name: [] for name in order}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _collecting() as port, ExitStack() as stack:
        image = Path(folder, "image.png")
        image.write_bytes(bodies.pictures()[0].data)
        checkouts = {name: before if before and name == BEFORE else HERE.parent for name in order}
        processes = {
            name: stack.enter_context(_driver(checkouts[name], image, _variables(name, port))) for name in order
        }
        for name in order:
            _turn(name, processes[name], WARM_UP)
        for _ in range(rounds):
            for name in order:
                seconds[name].append(_turn(name, processes[name], requests))
            order.reverse()
    return seconds


@contextmanager
def _collecting() -> Iterator[int]:
    with _Collector() as collector:
        thread = Thread(target=collector.serve_forever)
        thread.start()
        yield collector.server_port
        collector.shutdown()
        thread.join()


def _variables(name: str, port: int) -> dict[str, str]:
    if name not in TRACED:
        return {}
    endpoint = {"CIFAR10_TRACES": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    return endpoint | {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": TRACED[name]}


@contextmanager
def _driver(checkout: Path, image: Path, variables: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    environment = environ | {"PYTHONPATH": str(checkout)} | variables
    command = [sys.executable, "-P", str(HERE / "harness" / "traces_driver.py"), str(image)]
    process = subprocess.Popen(
        command, cwd=checkout, env=environment, text=True, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _turn(name: str, process: "subprocess.Popen[str]", requests: int) -> float:
    assert process.stdin and process.stdout
    try:
        print(requests, file=process.stdin, flush=True)
        return float(process.stdout.readline())
    except (OSError, ValueError):
        raise BenchmarkError(f"the process of {name!r} ended; `python -m app check` there may say why") from None


def row(name: str, seconds: dict[str, list[float]]) -> Row:
    """Tabulate one kind of process, beside the first."""
    own, first = seconds[name], next(iter(seconds))
    low, middle, high = (value * 1e6 for value in quantiles(own, n=4))
    return {
        "traces": name,
        "CPU µs a request": middle,
        "first quartile": low,
        "third quartile": high,
        f"/ {first}": ratio(median(one / other for one, other in zip(own, seconds[first], strict=True))),
    }


if __name__ == "__main__":
    sys.exit(main())
