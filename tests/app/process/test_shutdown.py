"""Stopping on signals: readiness falls first, requests in flight finish, the exit code is 0."""

import http.client
import json
import os
import pty
import re
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from tests.app.conftest import png
from tests.app.service import (
    ROOT,
    Server,
    default_signals,
    is_alive,
    needs_mounts,
    needs_reuseport,
    serving,
    stop,
    wait_for_processes,
    wait_until_port_is_closed,
)
from tests.waiting import DEADLINE_SECONDS, wait_until

pytestmark = pytest.mark.process


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT], ids=lambda signal_: signal_.name)
def test_stops_with_exit_code_0(tmp_path, signal_):
    with serving(tmp_path, workers="1", drain_seconds="0") as server:
        assert stop(server, signal_) == 0


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
@needs_mounts
def test_process_1_of_a_container_stops_while_it_starts(tmp_path):
    command = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "app", "serve"]
    with (tmp_path / "log").open("w") as log, default_signals():
        outer = subprocess.Popen([*command, "--port", "0"], cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        inner = int(wait_until(lambda: Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text()))
        wait_until(lambda: handles_sigterm(inner))
        os.kill(inner, signal.SIGTERM)
        assert outer.wait(DEADLINE_SECONDS) in (0, 128 + signal.SIGTERM)
    finally:
        outer.kill()
        outer.wait()


def handles_sigterm(process: int) -> bool:
    """True once the process has installed a handler (proc(5), SigCgt)."""
    (caught,) = re.findall(r"^SigCgt:\t(\w+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def test_a_terminal_that_closes_stops_the_service_with_exit_code_0(tmp_path):
    log, environment = tmp_path / "log", os.environ | {"CIFAR10_WORKERS": "1", "CIFAR10_DRAIN_SECONDS": "0"}
    command = [shlex.quote(sys.executable), "-m", "app", "serve", "--port", "0", "2>", shlex.quote(str(log))]
    with default_signals():
        process, terminal = pty.fork()
        if process == 0:
            os.chdir(ROOT)
            os.execve("/bin/sh", ["sh", "-c", "exec " + " ".join(command)], environment)
    wait_until(lambda: log.exists() and '"ready"' in log.read_text())
    os.close(terminal)
    ended, status = wait_until(lambda: (found := os.waitpid(process, os.WNOHANG))[0] and found, log.read_text)
    assert (ended, os.waitstatus_to_exitcode(status)) == (process, 0), log.read_text()
    assert "Shutting down" in log.read_text()


def test_sigterm_lets_readiness_fall_first_and_the_request_under_way_finish(tmp_path):
    body = png()
    with serving(tmp_path, workers="1", drain_seconds="3") as server:
        (slow,) = begin_predictions(server, body, 1)
        server.process.send_signal(signal.SIGTERM)
        fallen = wait_until(lambda: (answer := httpx2.get(server.url("/health/ready"))).status_code != 200 and answer)
        assert fallen.json()["code"] == "not_ready"
        assert httpx2.post(server.url("/predict"), content=body).status_code == 200
        wait_until_port_is_closed(server)
        slow.send(body[10:])
        assert json.loads(slow.getresponse().read())["label"]
        slow.close()
        assert server.process.wait(DEADLINE_SECONDS) == 0


def test_answers_close_their_connections_while_draining(tmp_path):
    get = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    with serving(tmp_path, workers="1", drain_seconds="600") as server, server.connect() as client:
        client.sendall(get)
        assert b"connection: close" not in client.recv(65_536)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx2.get(server.url("/health/ready")).status_code == 503)
        client.sendall(get)
        assert b"connection: close\r\n" in client.recv(65_536)
        assert client.recv(65_536) == b""


@needs_reuseport
@pytest.mark.parametrize("workers", ["1", "2"])
def test_requests_on_connections_that_wait_to_be_accepted_are_answered(tmp_path, workers):
    request = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(png()), png())
    with serving(tmp_path, workers=workers, drain_seconds="0") as server, ExitStack() as clients:
        wait_for_processes(server, int(workers))
        processes = server.processes(message="ready")
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        connections = [clients.enter_context(server.connect()) for _ in range(20)]
        for connection in connections:
            connection.sendall(request)
        server.process.send_signal(signal.SIGTERM)
        for process in processes:
            os.kill(process, signal.SIGCONT)
        answers = [connection.recv(65_536) for connection in connections]
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        assert server.process.wait(DEADLINE_SECONDS) == 0


def test_clients_that_do_not_read_their_answers_do_not_hold_up_the_end(tmp_path):
    with serving(tmp_path, workers="1", drain_seconds="0") as server, ExitStack() as clients:
        for request in (b"GET /page/swagger/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n",) * 3:
            client = clients.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.connect(("127.0.0.1", server.port))
            client.sendall(request * 4)
            assert client.recv(1) == b"H"
        assert stop(server) == 0
        assert not [line for line in server.lines() if "timeout graceful shutdown exceeded" in line["message"]]


def begin_predictions(server: Server, body: bytes, count: int) -> list[http.client.HTTPConnection]:
    """Connections that have each sent a request's head and the first ten bytes of its body."""
    connections = []
    for _ in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Length", str(len(body)))
        connection.putheader("Connection", "close")
        connection.endheaders(body[:10])
        connections.append(connection)
    return connections


@needs_reuseport
def test_a_second_interrupt_aborts_requests_in_flight_without_an_error(tmp_path):
    body = png()
    head = b"POST /explain HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with serving(tmp_path, workers="2") as server:
        wait_for_processes(server, 2)
        clients = [server.connect() for _ in range(60)]
        for client in clients:
            client.sendall(head + body)
        wait_until_one_is_answered(clients)
        server.process.send_signal(signal.SIGINT)
        wait_until_port_is_closed(server)
        server.process.send_signal(signal.SIGINT)
        answers = [answer_of(client) for client in clients]
        assert server.process.wait(DEADLINE_SECONDS) == 0
        assert set(answers) == {b"", b"HTTP/1.1 200"}
        assert [line for line in server.lines() if line["level"] == "error"] == []


def wait_until_one_is_answered(clients: list[socket.socket]) -> None:
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
        assert selector.select(DEADLINE_SECONDS)


def answer_of(client: socket.socket) -> bytes:
    """The first bytes of an answer; none if the connection was closed or reset."""
    with client:
        try:
            return client.recv(65_536)[:12]
        except ConnectionError:
            return b""


@needs_reuseport
def test_every_process_drains_when_all_are_told_to_stop(tmp_path):
    """The worker is told twice: by the signal sent to all, and by the first process."""
    with serving(tmp_path, workers="2", drain_seconds="600") as server:
        processes = wait_for_processes(server, 2)
        for process in processes:
            os.kill(process, signal.SIGTERM)

        def draining() -> set[int]:
            assert httpx2.get(server.url("/health/ready")).status_code in (200, 503)
            return server.processes(route="/health/ready", status=503)

        wait_until(lambda: draining() == processes, server.log.read_text)
        assert all(map(is_alive, processes))
        assert stop(server, signal.SIGINT) == 0
        assert not any(map(is_alive, processes))


@needs_reuseport
def test_workers_do_not_outlive_a_first_process_that_is_killed_but_finish_what_they_have(tmp_path):
    body = png()
    with serving(tmp_path, workers="2") as server:
        (worker,) = wait_for_processes(server, 2) - {server.process.pid}
        begun = begin_predictions(server, body, 20)
        server.process.kill()
        server.process.wait()
        wait_until_port_is_closed(server)
        statuses = [status for each in begun if (status := finish(each, body[10:]))]
        wait_until(lambda: not is_alive(worker))
        assert statuses == [200] * len(statuses) != []  # the kernel gives the worker none of 20 once in a million
        assert [line for line in server.lines() if line["level"] == "error"] == []


def finish(begun: http.client.HTTPConnection, rest: bytes) -> int | None:
    """Send the rest of the body; the answer's status, None if the process that had the connection is gone."""
    try:
        begun.send(rest)
        with begun.getresponse() as answer:
            return answer.status
    except (ConnectionError, http.client.HTTPException):
        return None
    finally:
        begun.close()
