"""The service as a process of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from benchmarks.harness.processes import default_signals
from tests.waiting import DEADLINE_SECONDS, wait_until

ROOT = Path(__file__).parent.parent.parent
LISTENING = re.compile(r"starting on http://127\.0\.0\.1:(\d+) in ")
needs_reuseport = pytest.mark.skipif(sys.platform != "linux", reason="connections are spread by Linux's SO_REUSEPORT")

MOUNTING = ["unshare", "--map-root-user", "--mount"]  # starts a command that may mount file systems for itself


def _may_mount() -> bool:
    try:
        return subprocess.run([*MOUNTING, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


needs_mounts = pytest.mark.skipif(not _may_mount(), reason="this user or machine may not make a mount namespace")


@dataclass
class Server:
    """A running service and its log."""

    process: subprocess.Popen
    port: int
    log: Path

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def lines(self) -> list[dict]:
        """The complete lines of the log."""
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def processes(self, **fields: object) -> set[int]:
        """The ids of the processes that logged a line with these fields."""
        return {line["process"] for line in self.lines() if fields.items() <= line.items()}

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), DEADLINE_SECONDS)


@contextmanager
def serving(tmp_path: Path, through: Sequence[str] = (), **settings: str) -> Iterator[Server]:
    """Start the service on a free port and wait until it is ready; kill it at the end.

    Args:
        through: a command that runs the one that follows it, in its own process.
        settings: lower case for the service's settings, upper case for other environment variables.
    """
    log = tmp_path / "log"
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    environment |= {f"CIFAR10_{name.upper()}": value for name, value in settings.items() if name.islower()}
    environment |= {name: value for name, value in settings.items() if name.isupper()}
    with log.open("w") as out, default_signals():
        command = [*through, sys.executable, "-m", "app", "serve", "--port", "0"]
        # In a session of its own, so that it has no controlling terminal even where the test run has one.
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        server = Server(process, wait_until(lambda: _port(process, log), log.read_text), log)
        wait_until(lambda: _is_ready(server), log.read_text)
        yield server
    finally:
        process.kill()
        process.wait()


def _port(process: subprocess.Popen, log: Path) -> int | None:
    assert process.poll() is None, log.read_text()
    match = LISTENING.search(log.read_text())
    return int(match[1]) if match else None


def _is_ready(server: Server) -> bool:
    assert server.process.poll() is None, server.log.read_text()
    return is_ready(server.port)


def is_ready(port: int) -> bool:
    """True if a service on this port takes requests."""
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
    except httpx2.TransportError:  # it does not listen yet
        return False


def stop(server: Server, signal_: int = signal.SIGTERM) -> int:
    """Send the signal and return the exit code."""
    server.process.send_signal(signal_)
    return server.process.wait(DEADLINE_SECONDS)


def answering_processes(server: Server) -> set[int]:
    """The ids of the processes that have answered /health, after twenty more connections."""
    for _ in range(20):
        assert httpx2.get(server.url("/health")).status_code == 200
    return server.processes(route="/health")


def wait_for_processes(server: Server, count: int) -> set[int]:
    """Wait until so many processes in all have answered, and return their ids."""
    wait_until(lambda: len(answering_processes(server)) == count, server.log.read_text)
    return answering_processes(server)


def wait_until_port_is_closed(server: Server) -> None:
    """Wait until no process of the service accepts connections any more."""

    def is_closed() -> bool:
        try:
            server.connect().close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            pass
        return False

    wait_until(is_closed, server.log.read_text)


def is_alive(process: int) -> bool:
    """True while a process has a thread that is not a zombie (Linux).

    A killed process's first thread may become a zombie while others still hold its sockets open.
    """
    try:
        threads = len(list(Path(f"/proc/{process}/task").iterdir()))
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z" or threads > 1
