"""Closed-loop load with `wrk`: so many connections, each of which waits for its answer before it sends again.

wrk's percentiles are corrected for what a closed loop does not ask while it waits ("coordinated omission"): for each
latency of more than twice the mean it adds those that requests sent meanwhile would have had. A connection that is
closed without an answer is opened again and not counted; `arrivals` counts those.
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

from benchmarks.bodies import Body
from benchmarks.errors import BenchmarkError
from benchmarks.processes import cpu_seconds, settle

WARM_UP_SECONDS, LONGEST_SECONDS, LEFT_BEHIND_SECONDS = 1, 30, 2.0
SCRIPT, MARK = Path(__file__).with_name("post.lua"), "measured: "


@dataclass(frozen=True)
class Load:
    """What one closed loop got."""

    body: str
    images: int  # in each request
    connections: int
    requests: int  # answered, whatever the status
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int  # answered with a status of 400 or more
    broken: int  # connections, as far as wrk counts them
    server_ms: float  # processor time of all the server's processes, for each request
    client_cores: float  # processor time of wrk for each second

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (self.requests - self.refused) / self.seconds


def whole_seconds(text: str) -> int:
    """A duration that wrk takes, for a command line."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of seconds from 1 on, which is what wrk takes")
    return int(text)


def require_wrk() -> None:
    """Raises BenchmarkError where wrk is not installed."""
    if not shutil.which("wrk"):
        raise BenchmarkError("wrk, which makes the load, is not installed; on Debian or Ubuntu: apt install wrk")


def closed_loop(
    pid: int, port: int, body: Body, connections: int, seconds: int, warm_up: int = WARM_UP_SECONDS
) -> Load:
    """Load a server of process `pid` on a local port, after a short warm-up with the same load.

    What wrk asks for at its end is computed though nobody waits for it; that must not be part of what follows.
    """
    run_wrk(port, body, connections, warm_up)
    settle(pid, LEFT_BEHIND_SECONDS)
    return measured(pid, port, body, connections, seconds)


def measured(pid: int, port: int, body: Body, connections: int, seconds: int) -> Load:
    """The same without the warm-up. Goes on for longer where no request is answered in so many seconds.

    Raises:
        BenchmarkError: wrk failed, or no request was answered in LONGEST_SECONDS either.
    """
    while True:
        before, own = cpu_seconds(pid), _children_seconds()
        figures = parse(run_wrk(port, body, connections, seconds))
        used, client = cpu_seconds(pid) - before, _children_seconds() - own
        if figures["requests"]:
            return _load(body, connections, figures, used, client)
        if seconds >= LONGEST_SECONDS:
            raise BenchmarkError(f"{body.name}: no request was answered in {seconds} s; see what the server does")
        seconds = min(2 * seconds, LONGEST_SECONDS)


def _load(body: Body, connections: int, figures: dict[str, float], used: float, client: float) -> Load:
    return Load(
        body=body.name,
        images=body.count,
        connections=connections,
        requests=int(figures["requests"]),
        seconds=figures["seconds"],
        p50_ms=figures["p50_ms"],
        p99_ms=figures["p99_ms"],
        refused=int(figures["refused"]),
        broken=int(figures["broken"]),
        server_ms=used * 1_000 / figures["requests"],
        client_cores=client / figures["seconds"],
    )


def run_wrk(port: int, body: Body, connections: int, seconds: int) -> str:
    """What wrk prints, with the line that SCRIPT adds.

    Raises:
        BenchmarkError: wrk failed.
    """
    with tempfile.NamedTemporaryFile(prefix="bench-") as data:
        data.write(body.data)
        data.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(SCRIPT)]
        command.append(f"http://127.0.0.1:{port}{body.path}")
        environment = os.environ | {"BODY": data.name, "MIME": body.mime}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(f"wrk ended with code {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def parse(output: str) -> dict[str, float]:
    """The figures in what wrk printed.

    Raises:
        BenchmarkError: there are none.
    """
    line = next((line for line in output.splitlines() if line.startswith(MARK)), None)
    if line is None:
        raise BenchmarkError(f"wrk printed no line with {MARK!r}, but: {output.strip() or 'nothing'}")
    figures: dict[str, float] = json.loads(line.removeprefix(MARK))
    return figures


def _children_seconds() -> float:
    """Processor seconds of the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
