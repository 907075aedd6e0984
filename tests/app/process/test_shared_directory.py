"""The metrics directory: emptied at the start, made and removed where none is named."""

import re
from pathlib import Path

import httpx2
import pytest

from app.__main__ import main
from tests.app.service import needs_reuseport, serving, stop


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


def test_a_metrics_directory_that_is_none_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"PROMETHEUS_MULTIPROC_DIR is .*: File exists; name a folder"):
        main(["serve", "--port", "0"])
