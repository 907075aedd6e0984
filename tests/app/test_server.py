"""Binding the port, serving behind a proxy, and memory."""

import ctypes
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.app.conftest import png
from tests.app.service import ROOT, Server, is_ready, serving
from tests.waiting import wait_until


@pytest.mark.process
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_named(tmp_path, workers):
    with serving(tmp_path, workers=workers) as server:
        command = [sys.executable, "-m", "app", "serve", "--port", str(server.port)]
        environment = os.environ | {"CIFAR10_WORKERS": workers}
        second = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert f"port {server.port}: Address already in use" in second.stderr


@pytest.mark.process
def test_a_port_of_the_platform_does_not_matter_beside_the_option(tmp_path):
    with serving(tmp_path, workers="2", PORT="tcp://10.0.0.1:8000") as server:
        wait_until(lambda: server.log.read_text().count('"ready"') == 2, server.log.read_text)


@pytest.mark.process
def test_the_address_is_set_by_the_environment_whatever_kubernetes_sets_beside_it(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "CIFAR10_WORKERS": "1",
        "CIFAR10_BIND_HOST": "127.0.0.1",
        "CIFAR10_BIND_PORT": str(port),
        "CIFAR10_PORT": "tcp://10.96.0.7:8000",  # of a Service named cifar10
        "CIFAR10_SERVICE_PORT": "8000",
        "CIFAR10_MODEL_VERSION": "",  # as compose passes on what is not set
    }
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, "-m", "app", "serve"], cwd=ROOT, env=environment, stderr=out)
    try:
        wait_until(lambda: is_ready(port), log.read_text)
        assert "warning" not in log.read_text()
        assert f"starting on http://127.0.0.1:{port} in 1 process: CIFAR10_WORKERS is 1" in log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.process
def test_many_connections_each_get_their_own_answer(tmp_path):
    bodies = [png(seed) for seed in range(40)]
    with serving(tmp_path, precision="float32") as server, httpx2.Client() as client:
        alone = [client.post(server.url("/predict"), content=body).json()["probabilities"] for body in bodies]
        answers = hammer(server, bodies * 5)
    for index, answer in enumerate(answers):
        for label, probability in alone[index % len(bodies)].items():
            assert answer["probabilities"][label] == pytest.approx(probability, abs=1e-4)


def hammer(server: Server, bodies: list[bytes]) -> list[dict]:
    with httpx2.Client() as client, ThreadPoolExecutor(32) as pool:
        return list(pool.map(lambda body: client.post(server.url("/predict"), content=body).json(), bodies))


@pytest.mark.process
def test_a_proxy_that_strips_a_prefix_is_served(tmp_path):
    with serving(tmp_path, workers="1", root_path="/cifar10") as server:
        assert httpx2.get(server.url("/openapi.json")).json()["servers"] == [{"url": "/cifar10"}]
        assert httpx2.post(server.url("/predict"), content=png()).status_code == 200


@pytest.mark.process
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
    blocks = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    assert int(blocks) == mapped
