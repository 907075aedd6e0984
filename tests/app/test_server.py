"""The service as a process of its own: start, shutdown, proxies, slow and lying clients."""

import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from app.settings import SHIPPED_STORE
from tests.app.conftest import PATIENCE_SECONDS, png

ROOT = Path(__file__).parent.parent.parent
RECORDER = """
import os, socket, sys
real = socket.socket.connect
def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6):
        open(os.environ["DIALLED"], "a").write(repr(address) + "\\n")
    return real(self, address)
socket.socket.connect = connect
looked_up = socket.getaddrinfo
def getaddrinfo(host, *rest, **named):
    if host not in (None, "127.0.0.1"):
        open(os.environ["DIALLED"], "a").write(repr(host) + "\\n")
    return looked_up(host, *rest, **named)
socket.getaddrinfo = getaddrinfo
"""


@dataclass
class Server:
    process: subprocess.Popen
    port: int
    log: Path

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def serving(tmp_path: Path, **settings: str) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path / "log"
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    environment |= {f"CIFAR10_{name.upper()}": value for name, value in settings.items() if name.islower()}
    environment |= {name: value for name, value in settings.items() if name.isupper()}
    command = [sys.executable, "-m", "app", "serve", "--port", str(port)]
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    server = Server(process, port, log)
    try:
        wait_until_ready(server)
        yield server
    finally:
        process.kill()
        process.wait()


def wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert server.process.poll() is None, server.log.read_text()
        try:
            if httpx2.get(server.url("/health/ready")).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.02)
    raise AssertionError(server.log.read_text())


def stop(server: Server, signal_: int = signal.SIGTERM) -> int:
    server.process.send_signal(signal_)
    return server.process.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda given: given.name)
def test_stops_with_exit_code_0(tmp_path, signal_):
    before = signal.signal(signal_, signal.SIG_DFL)  # or it is ignored, as under nohup, by who is started, too
    try:
        with serving(tmp_path, drain_seconds="0") as server:
            assert stop(server, signal_) == 0
    finally:
        signal.signal(signal_, before)


def test_sigterm_lets_readiness_fall_first_and_the_request_under_way_finish(tmp_path):
    body = png()
    with serving(tmp_path, drain_seconds="1") as server:
        slow = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
        slow.putrequest("POST", "/predict")
        slow.putheader("Content-Length", str(len(body)))
        slow.endheaders(body[:10])
        server.process.send_signal(signal.SIGTERM)
        while (fallen := httpx2.get(server.url("/health/ready"))).status_code == 200:
            pass
        assert fallen.json()["code"] == "not_ready"
        assert httpx2.post(server.url("/predict"), content=body).status_code == 200
        slow.send(body[10:])
        assert json.loads(slow.getresponse().read())["label"]
        slow.close()
        assert server.process.wait(PATIENCE_SECONDS) == 0


def serving_processes(server: Server) -> set[int]:
    """The processes that answered since the log was begun, after some new connections."""
    for _ in range(20):
        assert httpx2.get(server.url("/health")).status_code == 200
    return {line["process"] for line in server.lines() if line.get("route") == "/health"}


def wait_for(what) -> object:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


needs_reuseport = pytest.mark.skipif(sys.platform != "linux", reason="connections are spread by Linux's SO_REUSEPORT")


@needs_reuseport
def test_workers_share_the_port_and_one_that_dies_is_replaced(tmp_path):
    with serving(tmp_path, workers="3", drain_seconds="0") as server:
        assert wait_for(lambda: len(serving_processes(server)) == 3)
        victim = next(iter(serving_processes(server) - {server.process.pid}))
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: not is_alive(victim))  # until then the kernel may hand it connections, to die with it
        wait_for(lambda: len(serving_processes(server)) == 4)
        (said,) = [line for line in server.lines() if line["message"] == "a worker process ended"]
        assert said["exit_code"] == -signal.SIGKILL
        processes = serving_processes(server)
        assert stop(server) == 0
    assert not any(is_alive(process) for process in processes)


@needs_reuseport
def test_a_removed_setting_is_named_once_whatever_the_number_of_processes(tmp_path):
    with serving(tmp_path, CIFAR10_WORKERS="2", CIFAR10_MAX_BATCH="16") as server:
        wait_until_ready(server)
        wait_for(lambda: server.log.read_text().count('"ready"') == 2)  # in both processes
        assert server.log.read_text().count("CIFAR10_MAX_BATCH is set but no longer a setting") == 1


@needs_reuseport
def test_a_process_that_is_replaced_serves_the_version_that_the_others_serve(tmp_path):
    store = tmp_path / "store"
    shutil.copytree(SHIPPED_STORE / "cifar10-small" / "1", store / "cifar10" / "1")
    manifest = (store / "cifar10" / "1" / "manifest.json").read_text().replace('"cifar10-small"', '"cifar10"', 1)
    (store / "cifar10" / "1" / "manifest.json").write_text(manifest)
    with serving(tmp_path, workers="2", store=str(store)) as server:
        wait_for(lambda: len(serving_processes(server)) == 2)
        (store / "cifar10" / "ACTIVE").write_text("2")  # which is not there: who chose anew could not serve
        (victim,) = serving_processes(server) - {server.process.pid}
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: not is_alive(victim))
        wait_for(lambda: len(serving_processes(server)) == 3)


@needs_reuseport
def test_a_second_interrupt_leaves_who_still_waits_without_an_error(tmp_path):
    body = png()
    head = b"POST /explain HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with serving(tmp_path, workers="2") as server:
        wait_for(lambda: len(serving_processes(server)) == 2)
        waiting = [socket.create_connection(("127.0.0.1", server.port), PATIENCE_SECONDS) for _ in range(12)]
        for each in waiting:
            each.sendall(head + body)
        time.sleep(0.1)
        for _ in range(2):
            server.process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        began = time.monotonic()
        answers = [answered(each) for each in waiting]
        assert server.process.wait(PATIENCE_SECONDS) == 0
        assert time.monotonic() - began < PATIENCE_SECONDS / 2
        assert {answer[:12] for answer in answers} <= {b"", b"HTTP/1.1 200"}
        assert b"" in answers  # else all were answered before
        assert [line for line in server.lines() if line["level"] == "error"] == []


def answered(connection: socket.socket) -> bytes:
    with connection:
        try:
            return connection.recv(65_536)
        except ConnectionError:
            return b""


@needs_reuseport
def test_every_process_drains_when_all_are_told_to_stop(tmp_path):
    with serving(tmp_path, workers="2", drain_seconds="2") as server:
        wait_for(lambda: len(serving_processes(server)) == 2)
        (worker,) = serving_processes(server) - {server.process.pid}
        for process in (worker, server.process.pid):
            os.kill(process, signal.SIGTERM)
        time.sleep(1)
        assert is_alive(worker) and is_alive(server.process.pid)
        assert server.process.wait(PATIENCE_SECONDS) == 0
        assert not is_alive(worker)


@needs_reuseport
def test_whichever_process_is_asked_its_metrics_are_those_of_all(tmp_path):
    with serving(tmp_path, workers="2", drain_seconds="0") as server:
        wait_for(lambda: len(serving_processes(server)) == 2)
        for _ in range(30):
            assert httpx2.post(server.url("/predict"), content=png()).status_code == 200
        counted = {counts(httpx2.get(server.url("/metrics")).text, 'route="/predict",status="200"') for _ in range(10)}
        answered = [line for line in server.lines() if line.get("route") == "/predict"]
    assert counted == {30.0}
    assert len({line["process"] for line in answered}) == 2


def counts(metrics: str, labels: str) -> float:
    (line,) = [each for each in metrics.splitlines() if each.startswith(f"cifar10_request_seconds_count{{{labels}}}")]
    return float(line.split()[-1])


@needs_reuseport
def test_a_service_leaves_no_metrics_behind_and_begins_with_none(tmp_path):
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "counter_1.db").write_bytes(b"left by an earlier service")
    (tmp_path / "metrics" / "other@1@0.counts").write_bytes(b"this, too")
    with serving(tmp_path, drain_seconds="0") as server:
        assert "cifar10_request_seconds" in httpx2.get(server.url("/metrics")).text
        assert not (tmp_path / "metrics" / "other@1@0.counts").exists()
    before = set(Path("/dev/shm").glob("cifar10-metrics-*"))
    with serving(tmp_path, PROMETHEUS_MULTIPROC_DIR="", drain_seconds="0") as server:
        assert set(Path("/dev/shm").glob("cifar10-metrics-*")) > before
        assert stop(server) == 0
    assert set(Path("/dev/shm").glob("cifar10-metrics-*")) == before


@needs_reuseport
def test_workers_do_not_outlive_a_first_process_that_is_killed_but_finish_what_they_have(tmp_path):
    body = png()
    with serving(tmp_path, workers="2") as server:
        wait_for(lambda: len(serving_processes(server)) == 2)
        (worker,) = serving_processes(server) - {server.process.pid}
        begun = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS) for _ in range(20)]
        for each in begun:
            each.putrequest("POST", "/predict")
            each.putheader("Content-Length", str(len(body)))
            each.putheader("Connection", "close")
            each.endheaders(body[:10])
        server.process.kill()
        server.process.wait()
        time.sleep(0.2)  # in which the worker is told
        answered = [status for each in begun if (status := finished(each, body[10:]))]
        wait_for(lambda: not is_alive(worker))
        assert answered == [200] * len(answered) != []  # all that it had: chance gives it none once in a million
        assert [line for line in server.lines() if line["level"] == "error"] == []


def finished(begun: http.client.HTTPConnection, rest: bytes) -> int | None:
    """The status of an answer, None if who was to give it is gone."""
    try:
        begun.send(rest)
        with begun.getresponse() as answer:
            return answer.status
    except (ConnectionError, http.client.HTTPException):
        return None
    finally:
        begun.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_named(tmp_path, workers):
    with serving(tmp_path, workers=workers) as server:
        command = [sys.executable, "-m", "app", "serve", "--port", str(server.port)]
        environment = os.environ | {"CIFAR10_WORKERS": workers}
        second = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert f"port {server.port}: Address already in use" in second.stderr


def test_a_body_that_does_not_arrive_is_given_up(tmp_path):
    with serving(tmp_path, timeout_seconds="0.2") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"only this")
        response = connection.getresponse()
        assert response.status == 408 and json.loads(response.read())["code"] == "slow_upload"
        connection.close()


def test_many_connections_each_get_their_own_answer(tmp_path):
    bodies = [png(seed) for seed in range(40)]
    with serving(tmp_path, precision="float32") as server, httpx2.Client() as client:
        alone = [client.post(server.url("/predict"), content=body).json()["probabilities"] for body in bodies]
        answers = hammer(server, bodies * 5)
    for index, answer in enumerate(answers):
        for label, probability in alone[index % len(bodies)].items():
            assert answer["probabilities"][label] == pytest.approx(probability, abs=1e-4)


def hammer(server: Server, bodies: list[bytes]) -> list[dict]:
    from concurrent.futures import ThreadPoolExecutor

    with httpx2.Client() as client, ThreadPoolExecutor(32) as pool:
        return list(pool.map(lambda body: client.post(server.url("/predict"), content=body).json(), bodies))


def test_nothing_dials_out_and_nothing_of_an_upload_is_written(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(RECORDER)
    (tmp_path / "home").mkdir()
    dialled = tmp_path / "dialled"
    moved = {"PYTHONPATH": str(tmp_path / "site"), "DIALLED": str(dialled)}
    moved |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    with serving(tmp_path, **moved) as server:
        files = {"file": ("marked-file-name.png", png() + b"marked-content" * 200_000)}
        assert httpx2.post(server.url("/predict?marked-query=1"), files=files).status_code == 200
        httpx2.post(server.url("/marked-path.png"), content=b"marked-content")
        metrics = httpx2.get(server.url("/metrics")).text
        assert stop(server) == 0
        log = server.log.read_text()
    assert not dialled.exists(), dialled.read_text()
    assert "marked" not in metrics and b"marked" not in b"".join(
        f.read_bytes() for f in (tmp_path / "metrics").iterdir()
    )
    assert "marked" not in log and "127.0.0.1:5" not in log
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []


def test_log_lines_are_json_and_carry_the_request_id(tmp_path):
    with serving(tmp_path) as server:
        httpx2.post(server.url("/predict"), content=png(), headers={"X-Request-ID": "tell-me-apart"})
        stop(server)
        (line,) = [line for line in server.lines() if line.get("request_id") == "tell-me-apart"]
    assert (line["method"], line["route"], line["status"]) == ("POST", "/predict", 200)


def test_a_proxy_that_strips_a_prefix_is_served(tmp_path):
    with serving(tmp_path, root_path="/cifar10") as server:
        assert httpx2.get(server.url("/openapi.json")).json()["servers"] == [{"url": "/cifar10"}]
        assert httpx2.post(server.url("/predict"), content=png()).status_code == 200


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="another C library than glibc from 2.33 on")
@pytest.mark.parametrize(("asked", "mapped"), [(False, 0), (True, 1)], ids=["by default", "as the service does"])
def test_a_large_block_goes_back_to_the_system_also_after_a_larger_one_was_freed(asked, mapped):
    program = f"""
import ctypes
from app.server import return_large_blocks
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.mallinfo2.restype = type("Info", (ctypes.Structure,), {{"_fields_": [(n, ctypes.c_size_t) for n in "abcdefghij"]}})
if {asked}:
    return_large_blocks()
libc.free(libc.malloc(20_000_000))
before = libc.mallinfo2().d  # hblks: blocks that are mapped, which free() unmaps
libc.malloc(1_000_000)
print(libc.mallinfo2().d - before)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert int(said) == mapped
