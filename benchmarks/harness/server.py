"""The service as users start it: `python -m app serve`, in this checkout or another one."""

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

from benchmarks.harness.machine import cores, on_cores
from benchmarks.harness.processes import family, resident_megabytes, running, settle, wait_for

ROOT = Path(__file__).resolve().parents[2]
LISTENING = "0A"  # a socket's state in /proc/net/tcp
SETTLE_SECONDS = 30.0
STEADY_SECONDS, MAX_STEADY_SECONDS = 1.0, 10.0  # without a further process starting to listen


@dataclass(frozen=True)
class Server:
    """The service, ready in all its processes."""

    pid: int
    port: int
    model: str
    precision: str
    log: Path  # exists as long as the server
    ready_seconds: float  # from its start until /health/ready answered 200
    all_ready_seconds: float  # from its start until its last process listened

    def settle(self) -> None:
        """Wait until the service is idle after a client has left requests behind."""
        settle(self.pid, SETTLE_SECONDS)

    def megabytes(self) -> list[float]:
        """Return the resident memory of each process."""
        return resident_megabytes(self.pid)


@contextmanager
def serving(
    checkout: Path = ROOT, on: Sequence[int] | None = None, through: Sequence[str] = (), **settings: Any
) -> Iterator[Server]:
    """Start the service, wait until it is ready, and stop it without draining at the end of the block.

    The number of processes depends on the checkout, so this waits until no further one starts to listen: for one
    second if all listen, for ten if some do not.

    Args:
        checkout: the checkout to serve, with its own .venv if it has one, else with this interpreter.
        on: numbers of the cores it may use (default: all).
        through: a command that runs the one that follows it, in its own process.
        settings: fields of `Settings` that differ from the environment's.

    Raises:
        BenchmarkError: it did not become ready; the text has the end of its log.
    """
    port, python = free_port(), checkout / ".venv" / "bin" / "python"
    command = [*through, python if python.exists() else sys.executable, "-m", "app", "serve", "--port", str(port)]
    environment = {f"CIFAR10_{name.upper()}": str(value) for name, value in settings.items()}
    environment["CIFAR10_DRAIN_SECONDS"] = "0"
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        log, start = Path(folder, "log"), time.perf_counter()
        with on_cores(on or cores()):
            process = stack.enter_context(running(command, log, environment, checkout))
        wait_for(process, log, lambda: bool(_health(port)))
        ready = last = time.perf_counter()
        count = listeners(port)

        def is_steady() -> bool:
            nonlocal count, last
            if (current := listeners(port)) > count:
                count, last = current, time.perf_counter()
            steady = STEADY_SECONDS if count >= len(family(process.pid)) else MAX_STEADY_SECONDS
            return time.perf_counter() - last >= steady

        wait_for(process, log, is_steady)
        health = _health(port)
        model = "{name} {version}".format(**health["model"])
        yield Server(process.pid, port, model, health["precision"], log, ready - start, last - start)


def free_port() -> int:
    """Find a local port that is not in use."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
        return port


def _health(port: int) -> dict[str, Any]:
    """Return the answer of /health/ready, empty unless its status is 200."""
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
    """Count the sockets that listen on a local port, one for each process of the service (proc(5), /proc/net/tcp)."""
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(fields[1].endswith(f":{port:04X}") and fields[3] == LISTENING for fields in sockets)
