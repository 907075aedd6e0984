"""Requests while the service is replaced: behind nginx and HAProxy, one instance after the other, and by SIGHUP.

    python -m benchmarks.rolling [--replacements 20] [--connections 16]

Two instances answer predictions behind a real proxy with the configuration in deploy/proxies. One after the other is
stopped with SIGTERM and started again on its port, while a closed loop of clients checks every answer. Then the two
processes of one instance, which clients ask directly, are replaced with SIGHUP. A proxy that is not installed is named
and left out. The exit code is 1 if a request failed. Linux only.
"""

import argparse
import asyncio
import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks import BenchmarkError
from benchmarks.harness import machine
from benchmarks.harness.processes import running, wait_for
from benchmarks.harness.server import ROOT, free_port
from benchmarks.harness.tables import Row, table
from benchmarks.load import bodies
from benchmarks.load.client import Client
from benchmarks.load.closed_loop import whole_number
from benchmarks.load.open_loop import percentile_ms

PROXIES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}
DRAIN_SECONDS = {"nginx": 3.0, "haproxy": 1.0}  # as their files say
DOCUMENTED_PORTS = "8000", "8001", "8002"  # of the proxy and the instances in deploy/proxies
SETTLE_SECONDS, RENEWAL_SECONDS, MIN_REQUESTS = 1.0, 60.0, 10_000


@dataclass
class Trial:
    """The outcomes of one trial: requests by status (0: no answer), and their durations in seconds."""

    name: str
    replacements: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """The number of requests without a prediction."""
        return self.statuses.total() - self.statuses[200]

    def row(self) -> Row:
        """Summarise it for a table."""
        seconds = sorted(self.seconds)
        row: Row = {"": self.name, "replacements": self.replacements, "requests": self.statuses.total()}
        row |= {"failed": self.failed, "p50 ms": percentile_ms(seconds, 50), "p99 ms": percentile_ms(seconds, 99)}
        return row | {"slowest ms": 1000 * seconds[-1]}


class Instance:
    """One instance of the service on a port, with one log for all its programs."""

    def __init__(self, folder: Path, port: int, workers: int, drain_seconds: float = 1.0) -> None:
        self._folder, self.port, self._workers = folder, port, workers
        self._drain_seconds = str(drain_seconds)
        self._stack = ExitStack()

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        log = self._folder / f"{self.port}.log"
        environment = {"CIFAR10_WORKERS": str(self._workers), "CIFAR10_BIND_PORT": str(self.port)}
        environment["CIFAR10_DRAIN_SECONDS"] = self._drain_seconds
        command = [sys.executable, "-m", "app", "serve"]
        self.process = self._stack.enter_context(running(command, log, environment, ROOT))
        await asyncio.to_thread(wait_for, self.process, log, self.is_ready)

    def is_ready(self) -> bool:
        """Tell whether it would be sent requests."""
        return _status(self.port, "/health/ready") == 200

    async def replace(self) -> None:
        """Stop it as an orchestrator does, and start another in its place."""
        self.process.send_signal(signal.SIGTERM)
        if (code := await asyncio.to_thread(self.process.wait)) != 0:
            raise BenchmarkError(f"an instance ended with code {code} after SIGTERM")
        await self.start()

    async def renew(self) -> None:
        """Replace all its processes with SIGHUP, and wait until none of the old ones is left."""
        log = self._folder / f"{self.port}.log"
        ready = log.read_text().count('"ready"')
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + RENEWAL_SECONDS
        while log.read_text().count('"ready"') < ready + self._workers + 1:  # the stand-in as well
            if time.monotonic() > deadline:
                raise BenchmarkError(f"SIGHUP has not replaced all processes within {RENEWAL_SECONDS:g} s")
            await asyncio.sleep(0.1)
        await asyncio.sleep(SETTLE_SECONDS)

    def stop(self) -> None:
        """Stop it for good."""
        self._stack.close()


def main() -> int:
    """Run all trials and print what became of the requests. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rolling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replacements", type=whole_number, default=20, help="(default: 20)")
    parser.add_argument("--connections", type=whole_number, default=16, help="of the clients (default: 16)")
    options = parser.parse_args()
    print(machine.describe())
    installed = [name for name in PROXIES if shutil.which(name)]
    for name in PROXIES.keys() - set(installed):
        print(f"{name} is not installed; its trial is left out")
    try:
        trials = [uvloop.run(behind(name, options.replacements, options.connections)) for name in installed]
        trials.append(uvloop.run(by_sighup(max(1, options.replacements // 4), options.connections)))
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table([trial.row() for trial in trials]))
    for trial in trials:
        if trial.failed:
            print(f"fault: {trial.name}: {dict(trial.statuses)} by status, 0 for no answer")
    return int(any(trial.failed for trial in trials))


async def behind(proxy: str, replacements: int, connections: int, min_requests: int = MIN_REQUESTS) -> Trial:
    """Replace two instances behind a proxy in turn."""
    trial = Trial(f"two instances behind {proxy}, SIGTERM and start")
    with tempfile.TemporaryDirectory(prefix="rolling-") as name:
        folder, ports = Path(name), (free_port(), free_port(), free_port())
        instances = [Instance(folder, port, workers=1, drain_seconds=DRAIN_SECONDS[proxy]) for port in ports[1:]]
        try:
            await asyncio.gather(*(instance.start() for instance in instances))
            with _proxy(proxy, folder, ports) as process:
                log = folder / f"{proxy}.log"
                await asyncio.to_thread(wait_for, process, log, lambda: _status(ports[0], "/health/ready") == 200)

                async def replace(number: int) -> None:
                    await instances[number % 2].replace()
                    await asyncio.sleep(SETTLE_SECONDS)

                await _under_load(trial, ports[0], connections, replacements, replace, min_requests)
        finally:
            for instance in instances:
                instance.stop()
    return trial


async def by_sighup(replacements: int, connections: int, min_requests: int = MIN_REQUESTS) -> Trial:
    """Replace the two processes of one instance, which the clients ask directly."""
    trial = Trial("one instance of two processes, SIGHUP")
    with tempfile.TemporaryDirectory(prefix="rolling-") as name:
        instance = Instance(Path(name), free_port(), workers=2)
        try:
            await instance.start()
            await _under_load(
                trial, instance.port, connections, replacements, lambda number: instance.renew(), min_requests
            )
        finally:
            instance.stop()
    return trial


async def _under_load(
    trial: Trial,
    port: int,
    connections: int,
    replacements: int,
    replace: Callable[[int], Awaitable[None]],
    min_requests: int,
) -> None:
    async with _load(trial, port, connections):
        await asyncio.sleep(SETTLE_SECONDS)
        while trial.replacements < replacements or trial.statuses.total() < min_requests:
            await replace(trial.replacements)
            trial.replacements += 1
            print(
                f"{trial.name}: replacement {trial.replacements}, {trial.statuses.total():,} requests, "
                f"{trial.failed} failed",
                file=sys.stderr,
                flush=True,
            )


@asynccontextmanager
async def _load(trial: Trial, port: int, connections: int) -> AsyncIterator[None]:
    """Ask for predictions in a closed loop during the block, and count the answers."""
    client, request = Client(port, connections), bodies.raw(bodies.pictures()[0]).request()
    stopping = asyncio.Event()

    async def ask_until_stopped() -> None:
        while not stopping.is_set():
            answer = await client.ask(request, time.perf_counter())
            status = answer.status
            if status == 200 and "probabilities" not in json.loads(answer.content):
                status = -1
            trial.statuses[status] += 1
            trial.seconds.append(answer.seconds)

    asking = [asyncio.create_task(ask_until_stopped()) for _ in range(connections)]
    try:
        yield
    finally:
        stopping.set()
        await asyncio.gather(*asking)
        client.close()


def _proxy(name: str, folder: Path, ports: Sequence[int]) -> "AbstractContextManager[subprocess.Popen[bytes]]":
    """Start a proxy with the documented configuration on these ports."""
    path = folder / PROXIES[name]
    path.write_text(proxy_configuration(name, ports))
    command = ["nginx", "-p", str(folder), "-c", str(path)] if name == "nginx" else ["haproxy", "-f", str(path)]
    return running(command, folder / f"{name}.log", {}, folder)


def proxy_configuration(name: str, ports: Sequence[int]) -> str:
    """Return the documented configuration with these ports, the proxy's own first."""
    text = (ROOT / "deploy" / "proxies" / PROXIES[name]).read_text()
    for documented, port in zip(DOCUMENTED_PORTS, ports, strict=True):
        text = re.sub(rf"\b127\.0\.0\.1:{documented}\b", f"127.0.0.1:{port}", text)
    return text


def _status(port: int, path: str) -> int:
    """Return the status of a GET, 0 without an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
