"""The metrics directory: emptied at the start, made and removed where none is named."""

import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from app.process.shared_directory import LOCK, PREFIX, claim_file, reserve, shared_directory
from tests.app.conftest import png
from tests.app.service import MOUNTING, ROOT, needs_mounts, needs_reuseport, serving, stop


@pytest.mark.process
@needs_reuseport
def test_a_service_removes_the_metrics_of_an_earlier_one(tmp_path):
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "counter_1.db").write_bytes(b"left by an earlier service")
    (tmp_path / "metrics" / "other@1@0.counts").write_bytes(b"this, too")
    with serving(tmp_path, workers="1", drain_seconds="0") as server:
        assert "cifar10_request_seconds" in httpx2.get(server.url("/metrics")).text
        assert not (tmp_path / "metrics" / "other@1@0.counts").exists()


@pytest.mark.process
@needs_reuseport
def test_a_service_without_a_metrics_directory_makes_one_and_removes_it(tmp_path):
    with serving(tmp_path, PROMETHEUS_MULTIPROC_DIR="", workers="1", drain_seconds="0") as server:
        mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
        (folder,) = {Path(found) for found in re.findall(r"(/\S*/cifar10-metrics-[^/\s]+)/", mapped)}
        assert folder.is_dir()
        assert stop(server) == 0
    assert not folder.exists()


@pytest.mark.process
def test_a_metrics_directory_that_is_none_is_named(tmp_path):
    (tmp_path / "file").touch()
    ended = subprocess.run(
        [sys.executable, "-m", "app", "serve", "--port", "0"],
        cwd=ROOT,
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "file")},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert re.search(r"PROMETHEUS_MULTIPROC_DIR is .*: File exists; name a folder", ended.stderr)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems free a dead process's memory files themselves")
def test_a_start_removes_the_directories_of_dead_services_only():
    with shared_directory(None) as live:
        assert live
        dead, other = (Path(tempfile.mkdtemp(prefix=PREFIX, dir=live.parent)) for _ in range(2))
        (dead / LOCK).touch()
        (dead / "counter_0.db").write_bytes(bytes(4_096))
        with shared_directory(None):
            assert live.is_dir() and not dead.exists()
            assert other.is_dir()  # without a lock it may belong to a running service of an earlier release
        other.rmdir()
    assert not live.exists()


def test_a_claimed_file_is_free_again_when_it_is_closed(tmp_path):
    claimed = [claim_file(tmp_path, "x", ".number") for _ in range(3)]
    assert [number for number, _ in claimed] == [0, 1, 2]
    claimed[1][1].close()
    number, again = claim_file(tmp_path, "x", ".number")
    assert number == 1
    for file in (claimed[0][1], again, claimed[2][1]):
        file.close()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let this process write no file beyond `size` bytes, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_reserving_allocates_every_block_or_fails(tmp_path):
    with (tmp_path / "file").open("w+b") as file:
        reserve(file, 40_000)
        status = os.fstat(file.fileno())
        assert status.st_size == 40_000 and status.st_blocks * 512 >= 40_000
        with largest_file(50_000), pytest.raises(OSError, match="File too large"):
            reserve(file, 60_000)


FULL = """
mount -t tmpfs -o size=4k tmpfs /dev/shm
"$0" -m app serve --port 0 2>"$1/log" &
service=$!
until port=$(grep -o 'starting on http://127.0.0.1:[0-9]*' "$1/log") || ! kill -0 $service; do sleep 0.1; done
"$0" - "${port##*:}" "$1" <<'END' || { kill $service; exit 1; }
import sys
from pathlib import Path
import httpx2
from tests.waiting import wait_until
url = f"http://127.0.0.1:{sys.argv[1]}"
def is_ready():
    try:
        return httpx2.get(f"{url}/health/ready").status_code == 200
    except httpx2.TransportError:  # it does not listen yet
        return False
wait_until(is_ready)
body = Path(sys.argv[2], "image").read_bytes()
assert [httpx2.post(f"{url}/predict", content=body).status_code for _ in range(20)] == [200] * 20
assert httpx2.get(f"{url}/metrics").status_code == 200
END
kill $service
wait $service
"""


@pytest.mark.process
@needs_mounts
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_full_memory_disk_costs_metrics_but_no_answers(tmp_path, workers):
    (tmp_path / "image").write_bytes(png())
    environment = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    ended = subprocess.run(
        [*MOUNTING, "bash", "-c", FULL, sys.executable, str(tmp_path)],
        cwd=ROOT,
        env=environment | {"CIFAR10_WORKERS": workers, "CIFAR10_DRAIN_SECONDS": "0"},
        capture_output=True,
        text=True,
    )
    log = (tmp_path / "log").read_text()
    assert ended.returncode == 0, ended.stderr + log
    assert 1 <= log.count("are incomplete: No space left on device") <= int(workers)
