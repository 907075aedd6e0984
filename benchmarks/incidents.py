"""Rehearsed incidents: what clients see, what notices the fault and when, and how long the remedy takes.

    python -m benchmarks.incidents [hung memory version disk overload start] [--connections 16]

Each incident happens to a real service under a closed loop of clients, while a real Prometheus scrapes it and evaluates
the rules of deploy/monitoring. To keep the rehearsal short, both happen every second, and the minutes of the rules (the
`for` of an alert and the windows of rates) are taken as seconds. Needs Prometheus, root for a small file system (disk)
and for control groups (memory). Linux only.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import uvloop

from benchmarks import BenchmarkError
from benchmarks.harness import machine
from benchmarks.harness.control_groups import control_group
from benchmarks.harness.processes import family, running, wait_for
from benchmarks.harness.server import ROOT, free_port
from benchmarks.harness.tables import Row, table
from benchmarks.load import bodies
from benchmarks.load.client import Client
from benchmarks.load.closed_loop import whole_number
from benchmarks.load.open_loop import at_rate
from benchmarks.sizing import MEGABYTE, encoded
from model_store.manifest import read_manifest
from model_store.store import SHIPPED_STORE, Store

MODEL = "cifar10"
POLL_SECONDS, SETTLE_SECONDS, PATIENCE_SECONDS = 0.1, 3.0, 120.0
OVERLOAD, OVERLOAD_SECONDS, PEAK_SECONDS = 5.0, 20.0, 5.0
DISK_MEGABYTES = 48


@dataclass
class Incident:
    """Requests by outcome (0: no answer), and seconds from the fault until each thing happened, in order."""

    name: str
    outcomes: Counter[int] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    slowest: float = 0.0
    began: float = 0.0

    def note(self, event: str) -> None:
        """Record that something has happened now."""
        self.seconds.setdefault(event, time.perf_counter() - self.began)

    def row(self) -> Row:
        """Summarise it for a table."""
        times = ", ".join(f"{event} {seconds:.1f} s" for event, seconds in self.seconds.items())
        row: Row = {"": self.name, "requests": self.outcomes.total(), "lost": self.outcomes[0]}
        refused = {status: count for status, count in self.outcomes.items() if status not in (0, 200)}
        return row | {"others": str(refused) if refused else "–", "slowest s": self.slowest, "after the fault": times}


@dataclass
class Site:
    """A service, its Prometheus and its folder."""

    process: "subprocess.Popen[bytes]"
    port: int
    prometheus: int
    log: Path
    connections: int

    def get(self, path: str) -> str:
        """Return an answer of the service, empty without one."""
        return _get(f"http://127.0.0.1:{self.port}{path}")

    def metric(self, pattern: str) -> float:
        """Return the sum of the samples whose names and labels match, 0 without any."""
        found = re.findall(rf"^{pattern} (\S+)$", self.get("/metrics"), re.MULTILINE)
        return sum(map(float, found))

    def alerts(self) -> set[str]:
        """Return the names of the alerts that fire."""
        answer = json.loads(_get(f"http://127.0.0.1:{self.prometheus}/api/v1/alerts") or '{"data": {"alerts": []}}')
        return {alert["labels"]["alertname"] for alert in answer["data"]["alerts"] if alert["state"] == "firing"}

    async def until(self, incident: Incident, event: str, condition: Callable[[], Any]) -> None:
        """Note the event when the condition is true.

        Raises:
            BenchmarkError: it is not within PATIENCE_SECONDS.
        """
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while not await asyncio.to_thread(condition):
            if time.perf_counter() > deadline:
                raise BenchmarkError(f"{incident.name}: no '{event}' within {PATIENCE_SECONDS:g} s")
            await asyncio.sleep(POLL_SECONDS)
        incident.note(event)

    async def until_alert(self, incident: Incident, name: str) -> None:
        """Note when an alert fires."""
        await self.until(incident, name, lambda: name in self.alerts())

    async def until_quiet(self, incident: Incident, name: str) -> None:
        """Note when an alert has ended."""
        await self.until(incident, f"{name} ended", lambda: name not in self.alerts())

    @asynccontextmanager
    async def load(self, incident: Incident) -> AsyncIterator[None]:
        """Ask for predictions in a closed loop during the block, and count the answers after the fault."""
        client, request, over = Client(self.port, self.connections), bodies.raw(bodies.pictures()[0]).request(), False

        async def ask() -> None:
            while not over:
                answer = await client.ask(request, time.perf_counter())
                if incident.began:
                    incident.outcomes[answer.status] += 1
                    incident.slowest = max(incident.slowest, answer.seconds)
                if answer.status != 200:
                    await asyncio.sleep(POLL_SECONDS)  # a client that tries again, not a flood

        asking = [asyncio.create_task(ask()) for _ in range(self.connections)]
        try:
            await asyncio.sleep(SETTLE_SECONDS)
            yield
        finally:
            over = True
            await asyncio.wait(asking, timeout=SETTLE_SECONDS)
            for task in asking:
                task.cancel()
            client.close()


def main() -> int:
    """Rehearse the incidents and print the times. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.incidents", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("incidents", nargs="*", metavar="INCIDENT", help=f"{', '.join(INCIDENTS)} (default: all)")
    parser.add_argument("--connections", type=whole_number, default=16, help="of the clients (default: 16)")
    options = parser.parse_args()
    if unknown := set(options.incidents) - set(INCIDENTS):
        parser.error(f"{', '.join(sorted(unknown))}: no such incident; choose from {', '.join(INCIDENTS)}")
    print(machine.describe())
    rows, faults = list[Row](), list[str]()
    for name in options.incidents or INCIDENTS:
        incident = Incident(name)
        try:
            uvloop.run(INCIDENTS[name](incident, options.connections))
        except BenchmarkError as error:
            faults.append(str(error))
        rows.append(incident.row())
        print(incident.row(), file=sys.stderr, flush=True)
    print(table(rows), *(f"fault: {fault}" for fault in faults), sep="\n")
    return int(bool(faults))


async def hung(incident: Incident, connections: int) -> None:
    """A worker stops making progress: SIGSTOP."""
    with site(connections) as place:
        (worker,) = family(place.process.pid) - {place.process.pid}
        async with place.load(incident):
            os.kill(worker, signal.SIGSTOP)
            incident.began = time.perf_counter()
            await place.until(incident, "log", lambda: "made no progress" in place.log.read_text())
            hung_metric = r'cifar10_process_restarts_total\{reason="hung"\}'
            await place.until(incident, "metric", lambda: place.metric(hung_metric))
            await place.until_alert(incident, "Cifar10ProcessReplaced")
            await place.until(incident, "replaced", lambda: place.log.read_text().count('"ready"') == 3)


async def memory(incident: Incident, connections: int) -> None:
    """The kernel kills a process for memory: the limit is lowered, and large images arrive."""
    with control_group("incident", 2, 1024 * MEGABYTE) as group, site(connections, group.command) as place:
        async with place.load(incident):
            group.limit_memory(group.pinned_bytes() + 24 * MEGABYTE)
            incident.began = time.perf_counter()
            large = asyncio.create_task(_send_large(place.port))
            await place.until(incident, "killed", group.kills)
            group.limit_memory(1024 * MEGABYTE)  # the action of the runbook: MEMORY=… docker compose up
            large.cancel()
            await place.until(incident, "log", lambda: '"exit_code": -9' in place.log.read_text())
            await place.until_alert(incident, "Cifar10ProcessReplaced")
            await place.until(incident, "replaced", lambda: place.log.read_text().count('"ready"') == 3)


async def _send_large(port: int) -> None:
    client, request = Client(port, 16), bodies.raw(encoded(4000, 3000, "PNG")).request()
    try:
        while True:
            await asyncio.gather(*(client.ask(request, time.perf_counter()) for _ in range(16)))
    finally:
        client.close()


async def version(incident: Incident, connections: int) -> None:
    """Two bad versions are published: damaged weights, and a manifest of a newer schema; then they are removed."""
    with temporary_store() as store, site(connections, CIFAR10_STORE=str(store.root)) as place:
        good = store.choose_version(MODEL)
        async with place.load(incident):
            for number, damage in enumerate((_damage_weights, _renew_schema), good + 1):
                _publish_copy(store, good, number, damage)
            incident.began = time.perf_counter()
            await place.until(incident, "log", lambda: "is skipped for" in place.log.read_text())
            await place.until(incident, "health", lambda: len(json.loads(place.get("/health"))["skipped"]) == 2)
            await place.until_alert(incident, "Cifar10VersionRefused")
            for number in (good + 1, good + 2):
                shutil.rmtree(store.folder(MODEL, number))
            incident.note("versions removed")
            await place.until_quiet(incident, "Cifar10VersionRefused")


async def disk(incident: Incident, connections: int) -> None:
    """The file system of store, metrics and log is full; then room is made."""
    with small_disk() as folder:
        store = Store(folder / "store")
        _copy_shipped(store)
        settings = {"CIFAR10_STORE": str(store.root), "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics")}
        with site(connections, log=folder / "log", **settings) as place:
            good = store.choose_version(MODEL)
            async with place.load(incident):
                filler = folder / "filler"
                with suppress(OSError), filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(4_096))
                incident.began = time.perf_counter()
                try:
                    store.publish(MODEL, lambda staging, _: _copy_into(staging, store.folder(MODEL, good)))
                except OSError:
                    incident.note("publishing failed")
                await place.until(incident, "metric", lambda: place.metric("cifar10_log_lines_dropped_total"))
                await place.until_alert(incident, "Cifar10LogLinesDropped")
                filler.unlink()
                incident.note("room made")
                store.publish(MODEL, lambda staging, _: _copy_into(staging, store.folder(MODEL, good)))
                newer = f'"version":"{good + 1}"'
                await place.until(incident, "published", lambda: newer in place.get("/health").replace(" ", ""))
                await place.until_quiet(incident, "Cifar10LogLinesDropped")


async def overload(incident: Incident, connections: int) -> None:
    """Clients offer five times what the service can do, for 20 s, then what it can do."""
    with site(connections) as place:
        incident.began = time.perf_counter()
        async with place.load(incident):
            await asyncio.sleep(PEAK_SECONDS)
        peak = incident.outcomes[200] / (PEAK_SECONDS + SETTLE_SECONDS)
        incident.outcomes.clear()
        client, request = Client(place.port, 1_000), bodies.raw(bodies.pictures()[0]).request()

        async def ask(due: float) -> None:
            answer = await client.ask(request, due)
            incident.outcomes[answer.status] += 1
            incident.slowest = max(incident.slowest, answer.seconds)

        incident.began, incident.slowest = time.perf_counter(), 0.0
        noticing = asyncio.create_task(place.until_alert(incident, "Cifar10Overloaded"))
        await at_rate(ask, OVERLOAD * peak, OVERLOAD_SECONDS, PATIENCE_SECONDS)
        await noticing
        incident.note("load ended")
        await place.until_quiet(incident, "Cifar10Overloaded")
        client.close()
        incident.name = f"{incident.name} ({OVERLOAD:g} × {peak:,.0f} requests/s)"


async def start(incident: Incident, connections: int) -> None:
    """The service starts while clients already send full load."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="incident-") as name:
        log = Path(name, "log")
        client, request = Client(port, connections), bodies.raw(bodies.pictures()[0]).request()
        refused_connections, over = 0, False

        async def ask() -> None:
            nonlocal refused_connections
            while not over:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    refused_connections += 1
                    await asyncio.sleep(0.01)
                    continue
                writer.close()
                break
            while not over:
                answer = await client.ask(request, time.perf_counter())
                incident.outcomes[answer.status] += 1
                incident.slowest = max(incident.slowest, answer.seconds)

        incident.began = time.perf_counter()
        asking = [asyncio.create_task(ask()) for _ in range(connections)]
        with running([sys.executable, "-m", "app", "serve"], log, {"CIFAR10_BIND_PORT": str(port)}, ROOT):
            while not incident.outcomes[200]:
                await asyncio.sleep(0.01)
            incident.note("first prediction")
            while log.read_text().count('"ready"') < len(machine.cores()):
                await asyncio.sleep(POLL_SECONDS)
            incident.note("all processes ready")
            await asyncio.sleep(SETTLE_SECONDS)
            over = True
            await asyncio.wait(asking)
            client.close()


INCIDENTS: dict[str, Callable[[Incident, int], Coroutine[Any, Any, None]]] = {
    "hung": hung,
    "memory": memory,
    "version": version,
    "disk": disk,
    "overload": overload,
    "start": start,
}


@contextmanager
def site(connections: int, through: Sequence[str] = (), log: Path | None = None, **environment: str) -> Iterator[Site]:
    """Start the service in two processes, and a Prometheus that scrapes it."""
    if not shutil.which("prometheus"):
        raise BenchmarkError("prometheus is not installed; on Debian or Ubuntu: apt install prometheus")
    with tempfile.TemporaryDirectory(prefix="incident-") as name, ExitStack() as stack:
        folder, port, prometheus = Path(name), free_port(), free_port()
        log = log or folder / "log"
        environment |= {"CIFAR10_BIND_PORT": str(port), "CIFAR10_WORKERS": "2"}
        command = [*through, sys.executable, "-m", "app", "serve"]
        process = stack.enter_context(running(command, log, environment, ROOT))
        wait_for(process, log, lambda: log.read_text().count('"ready"') == 2)
        arguments = [f"--config.file={_configure(folder, port)}", f"--storage.tsdb.path={folder / 'data'}"]
        arguments.append(f"--web.listen-address=127.0.0.1:{prometheus}")
        own_log = folder / "prometheus.log"
        scraper = stack.enter_context(running(["prometheus", *arguments], own_log, {}, folder))
        wait_for(scraper, own_log, lambda: "Ready" in _get(f"http://127.0.0.1:{prometheus}/-/ready"))
        yield Site(process, port, prometheus, log, connections)


def _configure(folder: Path, port: int) -> Path:
    """Write Prometheus's configuration and rules, with seconds for minutes."""
    monitoring = ROOT / "deploy" / "monitoring"
    rules = re.sub(r"(for: |\[)(\d+)m", r"\1\2s", (monitoring / "rules.yml").read_text())
    (folder / "rules.yml").write_text(rules)
    job = {"job_name": "cifar10", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    intervals = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "1s")
    configuration = {"global": intervals, "rule_files": [str(folder / "rules.yml")], "scrape_configs": [job]}
    (folder / "prometheus.yml").write_text(json.dumps(configuration))  # JSON is YAML
    return folder / "prometheus.yml"


def _get(address: str) -> str:
    try:
        with urlopen(address, timeout=3) as answer:
            return str(answer.read().decode())
    except (URLError, OSError):
        return ""


@contextmanager
def temporary_store() -> Iterator[Store]:
    """Make a store with the newest shipped version of MODEL."""
    with tempfile.TemporaryDirectory(prefix="incident-") as name:
        store = Store(Path(name))
        _copy_shipped(store)
        yield store


def _copy_shipped(store: Store) -> None:
    shipped = Store(SHIPPED_STORE)
    newest = shipped.choose_version(MODEL)
    shutil.copytree(shipped.folder(MODEL, newest), store.folder(MODEL, newest))


def _copy_into(staging: Path, folder: Path) -> Any:
    """Fill a version's folder with a copy of another one's, as `Store.publish` asks."""
    shutil.copytree(folder, staging, dirs_exist_ok=True)
    (staging / "manifest.json").unlink()
    manifest = read_manifest(folder / "manifest.json")
    return manifest.model_copy(update={"version": int(folder.name) + 1, "files": {}})


def _publish_copy(store: Store, good: int, number: int, damage: Callable[[Path], None]) -> None:
    """Put a damaged copy of a version into the store under another number, complete at once."""
    hidden = shutil.copytree(store.folder(MODEL, good), store.root / MODEL / f".copy-{number}")
    manifest = json.loads((hidden / "manifest.json").read_text()) | {"version": number}
    (hidden / "manifest.json").write_text(json.dumps(manifest))
    damage(hidden)
    hidden.rename(store.folder(MODEL, number))


def _damage_weights(folder: Path) -> None:
    with (folder / "model.weights.h5").open("r+b") as file:
        file.seek(100_000)
        file.write(bytes(1_000))


def _renew_schema(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text()) | {"schema_version": 999}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@contextmanager
def small_disk() -> Iterator[Path]:
    """Mount a file system of DISK_MEGABYTES.

    Raises:
        BenchmarkError: this user may not mount one.
    """
    with tempfile.TemporaryDirectory(prefix="incident-disk-") as name:
        options = ["-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", name]
        if (done := subprocess.run(["mount", *options], capture_output=True, text=True)).returncode:
            raise BenchmarkError(f"no file system can be mounted: {done.stderr.strip()}; run this as root")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


if __name__ == "__main__":
    sys.exit(main())
