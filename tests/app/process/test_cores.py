"""The number of cores: affinity and control groups."""

import os
import sys
from pathlib import Path

import pytest

from app.process.cores import available_cores


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8), ("?", 8)]
)
def test_cores_are_those_of_affinity_and_quota(tmp_path, monkeypatch, quota, cores):
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr("app.process.cores.CGROUP_V2", tmp_path / "cpu.max")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert available_cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("300000", 3)])
def test_cores_by_the_first_version_of_control_groups(tmp_path, monkeypatch, quota, cores):
    (tmp_path / "quota").write_text(quota + "\n")
    (tmp_path / "period").write_text("100000\n")
    monkeypatch.setattr("app.process.cores.CGROUP_V2", tmp_path / "absent")
    monkeypatch.setattr("app.process.cores.CGROUP_V1", (tmp_path / "quota", tmp_path / "period"))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert available_cores() == cores


def test_without_control_groups_the_affinity_counts(monkeypatch):
    monkeypatch.setattr("app.process.cores.CGROUP_V2", Path("/nowhere"))
    monkeypatch.setattr("app.process.cores.CGROUP_V1", (Path("/nowhere"), Path("/nowhere")))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert available_cores() == 2
