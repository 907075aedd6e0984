"""The real service as users start it: `python -m app serve`, a process of its own that starts its workers."""

import http.client
import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.settings import Settings
from app.workers import available_cores
from benchmarks.machine import cores, on_cores
from benchmarks.processes import cpu_seconds, resident_megabytes, running, settle, wait_for

ROOT = Path(__file__).resolve().parent.parent
LISTENING = "0A"  # a socket's state in /proc/net/tcp
SETTLE_SECONDS = 30.0


@dataclass(frozen=True)
class Server:
    """The service, ready in all its processes."""

    pid: int
    port: int
    model: str
    precision: str
    ready_seconds: float  # from its start until /health/ready said 200
    all_ready_seconds: float  # and until every process listened

    def cpu_seconds(self) -> float:
        """Processor seconds of all processes so far."""
        return cpu_seconds(self.pid)

    def settle(self) -> None:
        """Wait until it does nothing any more: what a client has left behind is computed to its end."""
        settle(self.pid, SETTLE_SECONDS)

    def megabytes(self) -> list[float]:
        """Resident memory of each process."""
        return resident_megabytes(self.pid)


@contextmanager
def serving(
    settings: Settings | None = None, on: Sequence[int] | None = None, prefix: Sequence[str] = ()
) -> Iterator[Server]:
    """The service until the end of the block.

    Args:
        settings: those of the environment if there are none; it stops without draining in any case.
        on: the cores it may use; None means all.
        prefix: a command that starts it, such as one that enters a control group.

    Raises:
        BenchmarkError: it did not become ready; with the end of its log.
    """
    settings, port = settings or Settings(), free_port()
    command = [*prefix, sys.executable, "-m", "app", "serve", "--port", str(port)]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        log, began = Path(folder, "log"), time.perf_counter()
        with on_cores(on or cores()):
            process = stack.enter_context(running(command, log, _environment(settings), ROOT))
            count = settings.workers or available_cores()
        wait_for(process, log, lambda: bool(_health(port)))
        ready = time.perf_counter() - began
        wait_for(process, log, lambda: listeners(port) >= count)
        everyone, health = time.perf_counter() - began, _health(port)
        yield Server(
            process.pid, port, "{name} {version}".format(**health["model"]), health["precision"], ready, everyone
        )


def _environment(settings: Settings) -> dict[str, str]:
    given = settings.model_dump(mode="json") | {"drain_seconds": 0}
    return {f"CIFAR10_{name.upper()}": str(value) for name, value in given.items() if value is not None}


def free_port() -> int:
    """A local port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _health(port: int) -> dict[str, Any]:
    """What a ready service says of itself; nothing while it is not ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        health: dict[str, Any] = json.loads(answer.read())
    except OSError:
        return {}
    finally:
        connection.close()
    return health if answer.status == 200 else {}


def listeners(port: int) -> int:
    """How many sockets listen on a local port: one for each process of the service (proc(5), /proc/net/tcp)."""
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(fields[1].endswith(f":{port:04X}") and fields[3] == LISTENING for fields in sockets)
