"""Closed-loop load with `wrk`: each of N connections sends its next request when the last one has been answered.

wrk corrects its percentiles for coordinated omission: for each latency above twice the mean it adds the latencies of
the requests it could not send meanwhile. It reopens connections that close without an answer and does not count them;
`open_loop` does.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import BenchmarkError
from benchmarks.harness.processes import cpu_seconds, settle
from benchmarks.load.bodies import Body

WARM_UP_SECONDS, MAX_SECONDS, SETTLE_SECONDS = 1, 30, 2.0
SCRIPT, MARK = Path(__file__).with_name("post.lua"), "measured: "


@dataclass(frozen=True)
class Load:
    """Figures of one closed loop."""

    body: str
    images: int  # in each request
    connections: int
    requests: int  # answered, whatever the status
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int  # answered with a status of 400 or more
    broken: int  # broken connections, as far as wrk counts them
    server_ms: float  # CPU time of all server processes per request
    client_cores: float  # CPU seconds of wrk per second

    @property
    def rate(self) -> float:
        """Successful answers a second."""
        return (self.requests - self.refused) / self.seconds

    @property
    def errors(self) -> int:
        """Refusals and broken connections."""
        return self.refused + self.broken

    def figures(self) -> dict[str, float]:
        """Return the figures for comparing loads, by column of a table."""
        return {"requests/s": self.rate, "p50 ms": self.p50_ms, "p99 ms": self.p99_ms, "CPU ms": self.server_ms}


def whole_number(text: str) -> int:
    """Parse a count, or a duration for wrk, of the command line."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def require_wrk() -> None:
    """Raise BenchmarkError if wrk is not installed."""
    if not shutil.which("wrk"):
        raise BenchmarkError("wrk, the load generator, is not installed; on Debian or Ubuntu: apt install wrk")


def closed_loop(
    pid: int, port: int, body: Body, connections: int, seconds: int, warm_up: int = WARM_UP_SECONDS
) -> Load:
    """Load the server with process id `pid` on a local port, after a short warm-up with the same load.

    Waits for the server to become idle after the warm-up: the answers wrk left behind must not count.
    """
    run_wrk(port, body, connections, warm_up)
    settle(pid, SETTLE_SECONDS)
    return measure_load(pid, port, body, connections, seconds)


def measure_load(pid: int, port: int, body: Body, connections: int, seconds: int) -> Load:
    """Load without warm-up. Doubles the duration while no request is answered.

    Raises:
        BenchmarkError: wrk failed, or no request was answered in MAX_SECONDS.
    """
    while True:
        server_before, client_before = cpu_seconds(pid), _children_seconds()
        figures = parse(run_wrk(port, body, connections, seconds))
        server, client = cpu_seconds(pid) - server_before, _children_seconds() - client_before
        if figures["requests"]:
            break
        if seconds >= MAX_SECONDS:
            raise BenchmarkError(f"{body.name}: no request was answered in {seconds} s; check the server")
        seconds = min(2 * seconds, MAX_SECONDS)
    per_request = {"server_ms": server * 1_000 / figures["requests"], "client_cores": client / figures["seconds"]}
    return Load(body.name, body.count, connections, **figures, **per_request)


def run_wrk(port: int, body: Body, connections: int, seconds: int) -> str:
    """Run wrk and return its output, which includes the line that SCRIPT adds.

    Raises:
        BenchmarkError: wrk failed.
    """
    with tempfile.NamedTemporaryFile(prefix="bench-") as data:
        data.write(body.data)
        data.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(SCRIPT)]
        command.append(f"http://127.0.0.1:{port}{body.path}")
        environment = os.environ | {"BODY": data.name, "MIME": body.mime}
        if body.header:
            environment |= dict(zip(("HEADER_NAME", "HEADER_VALUE"), body.header, strict=True))
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
    if process.returncode:
        message = process.stderr.strip() or process.stdout.strip()
        raise BenchmarkError(f"wrk ended with code {process.returncode}: {message}")
    return process.stdout


def parse(output: str) -> dict[str, Any]:
    """Read the fields of Load that SCRIPT adds to wrk's output.

    Raises:
        BenchmarkError: they are missing.
    """
    line = next((line for line in output.splitlines() if line.startswith(MARK)), None)
    if line is None:
        raise BenchmarkError(f"wrk printed no line with {MARK!r}, but: {output.strip() or 'nothing'}")
    figures: dict[str, Any] = json.loads(line.removeprefix(MARK))
    return figures


def _children_seconds() -> float:
    """Return the CPU seconds of child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
