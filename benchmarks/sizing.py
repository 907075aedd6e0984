"""The service under CPU quotas and memory limits: how it sizes itself, what it answers, and whether it is killed.

    python -m benchmarks.sizing [--cores 0.5 1 2] [--megabytes 256 512 1024] [--seconds 5]

Serves in a real control group for each quota and limit (control_groups.py), with libraries of its own, so
that the group pays for the cache of their files as in a container. Measures small PNGs over 8 connections, and sends
what takes most memory: large images and bodies, alone and many at once, uploads that stop half-way, and clients that
never read their answers. The exit code is 1 if a process was killed, a request was lost or failed otherwise than by a
refusal with a remedy, or the service did not answer afterwards. Linux only, with control groups that may be made.
"""

import argparse
import asyncio
import importlib.metadata
import io
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import uvloop
from PIL import Image

from app.settings import Settings
from benchmarks import BenchmarkError
from benchmarks.harness import machine
from benchmarks.harness.control_groups import Group, control_group
from benchmarks.harness.processes import family
from benchmarks.harness.server import ROOT, Server, serving
from benchmarks.harness.tables import Row, table
from benchmarks.load import bodies
from benchmarks.load.bodies import Body, Picture
from benchmarks.load.client import Answer, Client
from benchmarks.load.closed_loop import closed_loop, require_wrk, whole_number
from benchmarks.swaps import MODELS, NAME, put
from model_store.store import Store

CONNECTIONS = 8
PATIENCE_SECONDS, RECOVERY_SECONDS = 90.0, 30.0
HALF_UPLOADS, SLOW_READERS, HELD_SECONDS = 32, 200, 3.0
SAMPLE_SECONDS = 0.02
MEGABYTE = 2**20
REFUSED = re.compile(r'"code": "(\w+)"')
STARTED = re.compile(r"starting on \S+ in (\d+) process")


@dataclass(frozen=True)
class Case:
    """A request, how many of it are sent at once, and the statuses that are right; 503 is, if several are sent."""

    name: str
    body: Body
    count: int = 1
    statuses: tuple[int, ...] = (200,)


@dataclass
class Cell:
    """What was measured under one quota and one limit."""

    cores: float
    megabytes: int
    processes: int = 0
    image_megabytes: int = 0  # of each process, for bodies and pixels
    ready_seconds: float = 0.0
    rate: float = 0.0
    p99_ms: float = 0.0
    pinned_megabytes: float = 0.0  # the most that the kernel could not take back, seen every SAMPLE_SECONDS
    peak_megabytes: float = 0.0  # with the cache of files
    kills: int = 0
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    slowest_seconds: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The quota and the limit."""
        return f"{self.cores:g} cores, {self.megabytes} MB"

    def sizes(self) -> Row:
        """Summarise how the service sized itself and what it needed, for a table."""
        row: Row = {"": self.name, "processes": self.processes, "MB for images": self.image_megabytes}
        row |= {"ready s": self.ready_seconds, "requests/s": self.rate, "p99 ms": self.p99_ms}
        return row | {"pinned MB": self.pinned_megabytes, "peak MB": self.peak_megabytes, "killed": self.kills}

    def answers(self) -> Row:
        """Summarise what became of each case, for a table."""
        row: Row = {"": self.name}
        for name, outcomes in self.outcomes.items():
            row[name] = ", ".join(f"{text} ×{count}" if count > 1 else text for text, count in sorted(outcomes.items()))
        return row


def main() -> int:
    """Measure every cell and print. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sizing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cores", type=float, nargs="+", default=[0.5, 1, 2], help="CPU quotas (default: 0.5 1 2)")
    parser.add_argument("--megabytes", type=whole_number, nargs="+", default=[256, 512, 1024], help="memory limits")
    parser.add_argument("--seconds", type=whole_number, default=5, help="of small PNGs in each cell (default: 5)")
    options = parser.parse_args()
    print(machine.describe())
    try:
        require_wrk()
        with tempfile.TemporaryDirectory(prefix="sizing-") as folder:
            libraries = copy_libraries(Path(folder))
            cells = [
                show(measure(cores, megabytes, libraries, options.seconds))
                for cores in options.cores
                for megabytes in options.megabytes
            ]
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table([cell.sizes() for cell in cells]), table([cell.answers() for cell in cells]), sep="\n\n")
    faults = [f"fault: {cell.name}: {fault}" for cell in cells for fault in cell.faults]
    print("\n".join(faults) or "no fault")
    return int(bool(faults))


def show(cell: Cell) -> Cell:
    """Print a cell while the others are measured."""
    slowest = {name: round(seconds, 1) for name, seconds in cell.slowest_seconds.items()}
    print(cell.name, cell.sizes(), cell.answers(), slowest, cell.faults, file=sys.stderr, flush=True)
    return cell


def copy_libraries(folder: Path) -> Path:
    """Copy the packages of the service, 330 MB.

    The kernel charges the cache of a file to the group that first read it, so a shared copy would cost nothing.
    """
    names = re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "serve.txt").read_text(), re.MULTILINE)
    for name in names:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # of another platform
            continue
        for file in distribution.files or ():
            if ".." not in file.parts and (source := Path(str(file.locate()))).is_file():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / file)
    return folder


def drop_cache(folder: Path) -> None:
    """Let the kernel forget the cached pages of all files in a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


@contextmanager
def two_versions() -> Iterator[Store]:
    """Make a store with two shipped models as versions of one; the first is active."""
    with tempfile.TemporaryDirectory(prefix="sizing-") as folder:
        store = Store(Path(folder))
        for version, model in enumerate(MODELS, 1):
            put(store, version, model)
        store.activate(NAME, 1)
        yield store


def measure(
    cores: float, megabytes: int, libraries: Path | None, seconds: int, cases: Sequence[Case] | None = None
) -> Cell:
    """Serve under one quota and one limit, and send every case.

    Args:
        libraries: a copy of the service's packages for this group alone; None to share this interpreter's.
        seconds: of small PNGs over CONNECTIONS connections; 0 to leave them out.
        cases: default: all.

    Raises:
        BenchmarkError: no group can be made, or the service did not become ready.
    """
    cell, environment = Cell(cores, megabytes), ["env"]
    if libraries:
        drop_cache(libraries)
        environment.append(f"PYTHONPATH={libraries}")
    with (
        two_versions() as store,
        control_group("sizing", cores, megabytes * MEGABYTE) as group,
        serving(through=[*environment, *group.command], store=store.root, model_name=NAME) as server,
    ):
        _note_sizes(cell, server)
        if seconds:
            load = closed_loop(server.pid, server.port, bodies.raw(bodies.pictures()[0]), CONNECTIONS, seconds)
            cell.rate, cell.p99_ms = load.rate, load.p99_ms
            if load.errors:
                cell.faults.append(f"{load.errors} of {load.requests} small PNGs were not answered")
        uvloop.run(_load(cell, server, group, store, all_cases() if cases is None else cases))
        cell.peak_megabytes, cell.kills = group.peak_bytes() / MEGABYTE, group.kills()
        _note_deaths(cell, server)
    return cell


def _note_sizes(cell: Cell, server: Server) -> None:
    (processes,) = STARTED.findall(server.log.read_text())
    cell.processes, cell.ready_seconds = int(processes), server.ready_seconds
    cell.image_megabytes = Settings().limits(cell.processes, cell.megabytes * MEGABYTE).image_bytes // 1_000_000


def _note_deaths(cell: Cell, server: Server) -> None:
    log = server.log.read_text()
    if cell.kills:
        cell.faults.append(f"the kernel killed {cell.kills} processes for memory")
    cell.faults += [f"the log has: {line}" for line in log.splitlines() if '"level": "error"' in line]
    if len(family(server.pid)) != cell.processes:
        cell.faults.append(f"{len(family(server.pid))} of {cell.processes} processes are left")


async def _load(cell: Cell, server: Server, group: Group, store: Store, cases: Sequence[Case]) -> None:
    watching = asyncio.create_task(_watch(cell, group))
    for case in cases:
        await _send(cell, server.port, case)
        await _require_recovery(cell, server.port, case.name)
    await _stop_half_way(server.port)
    await _require_recovery(cell, server.port, f"{HALF_UPLOADS} uploads that stopped half-way")
    await _read_nothing(server.port)
    await _require_recovery(cell, server.port, f"{SLOW_READERS} clients that read nothing")
    store.activate(NAME, 2)
    many = [case for case in cases if case.count > 1]
    await asyncio.gather(
        *(_send(cell, server.port, replace(case, name=f"{case.name}, with all others")) for case in many),
        _stop_half_way(server.port),
        _read_nothing(server.port),
    )
    await _require_recovery(cell, server.port, "everything at once")
    await _require_version(cell, server, 2)
    watching.cancel()


async def _watch(cell: Cell, group: Group) -> None:
    while True:
        cell.pinned_megabytes = max(cell.pinned_megabytes, group.pinned_bytes() / MEGABYTE)
        await asyncio.sleep(SAMPLE_SECONDS)


async def _require_version(cell: Cell, server: Server, version: int) -> None:
    """Wait until all processes serve a version."""
    client, request = Client(server.port, 1), b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    expected = f'cifar10_serving_processes{{model="{NAME}",version="{version}"}} {cell.processes}'.encode()
    deadline, content = time.perf_counter() + RECOVERY_SECONDS, b""
    while expected not in content and time.perf_counter() < deadline:
        content = (await client.ask(request, time.perf_counter())).content
        await asyncio.sleep(0.05)
    client.close()
    if expected not in content:
        cell.faults.append(f"version {version} is not served {RECOVERY_SECONDS:g} s after everything at once")


async def _send(cell: Cell, port: int, case: Case) -> None:
    client, request = Client(port, case.count), case.body.request()
    asked = [asyncio.create_task(client.ask(request, time.perf_counter())) for _ in range(case.count)]
    await asyncio.wait(asked, timeout=PATIENCE_SECONDS)
    for task in asked:
        task.cancel()  # those that are finished stay so
    answers = await asyncio.gather(*asked)
    client.close()
    cell.outcomes[case.name] = Counter(map(_outcome, answers))
    cell.slowest_seconds[case.name] = max(answer.seconds for answer in answers)
    right = {*case.statuses, 503} if case.count > 1 else {*case.statuses}
    cell.faults += [
        f"{case.name}: {_outcome(answer)}: {answer.content[:300].decode(errors='replace')}"
        for answer in answers
        if answer.status not in right or (answer.status == 503 and not answer.retry_after)
    ]


def _outcome(answer: Answer) -> str:
    """Return a status, with the code of a problem; in a batch, that of its first one."""
    code = REFUSED.search(answer.content.decode(errors="replace"))
    return f"{answer.status or 'lost'} {code[1]}" if code else str(answer.status or "lost")


async def _require_recovery(cell: Cell, port: int, name: str) -> None:
    """Ask for a prediction until there is one."""
    client, request = Client(port, 1), bodies.raw(bodies.pictures()[0]).request()
    deadline, answer = time.perf_counter() + RECOVERY_SECONDS, Answer(0, 0.0, False)
    while answer.status != 200 and time.perf_counter() < deadline:
        answer = await client.ask(request, time.perf_counter())
        await asyncio.sleep(0.05)
    client.close()
    if answer.status != 200:
        cell.faults.append(f"no prediction within {RECOVERY_SECONDS:g} s after {name}: {_outcome(answer)}")


async def _stop_half_way(port: int) -> None:
    """Send half of a large body over many connections, and leave after a while."""
    request = largest_body().request()
    clients = [Client(port, 1) for _ in range(HALF_UPLOADS)]
    await asyncio.gather(*(client.abandon(request, 0.5, HELD_SECONDS) for client in clients))


async def _read_nothing(port: int) -> None:
    """Ask many times over many connections for the longest answer, without reading, and leave after a while."""
    request, loop = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50, asyncio.get_running_loop()
    sockets = []
    for _ in range(SLOW_READERS):
        connection = socket.socket()
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        await loop.sock_sendall(connection, request)
        sockets.append(connection)
    await asyncio.sleep(HELD_SECONDS)
    for connection in sockets:
        connection.close()


def all_cases() -> list[Case]:
    """Return the cases, from what is always answered to what fills the memory."""
    small, twelve, largest = bodies.pictures()[0], encoded(4000, 3000, "JPEG"), largest_body()
    png, progressive = encoded(4000, 3000, "PNG"), encoded(4000, 3000, "JPEG", progressive=True)
    return [
        Case("explanation", bodies.explain(small)),
        Case("batch of 64", bodies.batch(small, 64)),
        Case("JPEG of 12 MP", bodies.raw(twelve)),
        Case("JPEG of 40 MP", bodies.raw(encoded(8000, 5000, "JPEG"))),
        Case("PNG of 40 MP", bodies.raw(encoded(8000, 5000, "PNG")), 1, (200, 422)),
        Case("WebP of 40 MP", bodies.raw(encoded(8000, 5000, "WEBP")), 1, (200, 422)),
        Case("PNG of 12 MP, 64 at once", bodies.raw(png), 64),
        Case("progressive JPEG of 12 MP, 16 at once", bodies.raw(progressive), 16, (200, 422)),
        Case("batch of 16 JPEGs of 12 MP, 4 at once", bodies.batch(twelve, 16), 4, (200, 413)),
        Case("body of 31 MB", largest, 1, (200, 413)),
        Case("body of 31 MB, 32 at once", largest, 32, (200, 408, 413)),
        Case("body of 40 MB", bodies.raw(Picture("", "image/png", bytes(40_000_000))), 1, (413,)),
        Case("small PNG, 300 at once", bodies.raw(small), 300),
        Case("explanation, 128 at once", bodies.explain(small), 128),
        Case("batch of 256, 16 at once", bodies.batch(small, 256), 16),
    ]


@cache
def encoded(width: int, height: int, image_format: str, progressive: bool = False) -> Picture:
    """Encode a gradient, whose file is small."""
    buffer, image = io.BytesIO(), Image.linear_gradient("L").resize((width, height)).convert("RGB")
    image.save(buffer, image_format, quality=75, compress_level=1, progressive=progressive, method=0)
    return Picture(f"{image_format} {width}×{height}", f"image/{image_format.lower()}", buffer.getvalue())


@cache
def largest_body() -> Body:
    """Return a request with an uncompressed PNG of 31 MB, near the default of CIFAR10_MAX_BODY_BYTES."""
    noise = np.random.default_rng(0).integers(0, 256, (3_210, 3_210, 3), np.uint8)
    return bodies.raw(bodies.encode(Image.fromarray(noise), "PNG", compress_level=0))


if __name__ == "__main__":
    sys.exit(main())
