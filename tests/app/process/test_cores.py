"""Cores and memory: affinity, and the control groups of both versions."""

import os
import sys
from pathlib import Path

import pytest

from app.process import cores
from app.process.cores import available_cores, choose_processes


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with eight cores, 64 GB of memory and the control groups that a test describes."""

    def describe(cgroup: str, mounts: dict[str, str], files: dict[str, str]) -> None:
        (tmp_path / "cgroup").write_text(cgroup + "\n")
        lines = [
            f"30 23 0:26 {root} {tmp_path}/{mount} rw,relatime shared:4 - {kind}"
            for mount, (root, kind) in ((mount, value.split(" ", 1)) for mount, value in mounts.items())
        ]
        (tmp_path / "mountinfo").write_text("\n".join(["22 1 0:1 / / rw - overlay overlay rw", *lines]) + "\n")
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content + "\n")

    monkeypatch.setattr(cores, "PROC", tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4_096, "SC_PHYS_PAGES": 15_625_000}.__getitem__)
    return describe


V2 = {"v2": "/ cgroup2 cgroup2 rw"}
V1 = {"cpu": "/ cgroup cgroup rw,cpu,cpuacct", "memory": "/ cgroup cgroup rw,memory"}


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8), ("?", 8)],
)
def test_cores_are_those_of_affinity_and_quota(machine, quota, expected):
    machine("0::/", V2, {"v2/cpu.max": quota})
    assert available_cores() == expected


@pytest.mark.parametrize(
    ("cgroup", "mounts", "files"),
    [
        ("0::/system.slice/cifar10.service", V2, {"v2/system.slice/cifar10.service/cpu.max": "300000 100000"}),
        ("0::/limited.slice/cifar10.service", V2, {"v2/limited.slice/cpu.max": "300000 100000"}),
        (
            "0::/outer/inner",
            V2,
            {"v2/outer/cpu.max": "300000 100000", "v2/outer/inner/cpu.max": "500000 100000"},
        ),
        ("0::/docker/abc", {"v2": "/docker/abc cgroup2 cgroup2 rw"}, {"v2/cpu.max": "300000 100000"}),
        ("0::/../other", V2, {"v2/cpu.max": "300000 100000"}),
        (
            "5:memory:/a\n3:cpu,cpuacct:/a/b\n0::/",
            V1 | V2,
            {"cpu/a/b/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_quota_us": "300000", "cpu/a/cpu.cfs_period_us": "100000"},
        ),
    ],
    ids=["own group", "parent", "nested", "container", "outside", "version 1"],
)
def test_a_quota_counts_on_the_own_group_and_on_those_around_it(machine, cgroup, mounts, files):
    machine(cgroup, mounts, files)
    assert available_cores() == 3


def test_a_quota_of_another_group_does_not_count(machine):
    machine("0::/mine", V2, {"v2/other/cpu.max": "100000 100000", "v2/mine/cpu.max": "max 100000"})
    assert available_cores() == 8


@pytest.mark.parametrize(
    ("files", "processes", "reason"),
    [
        ({}, 8, "one per core, of 8 (CPU affinity)"),
        ({"v2/a/memory.max": "1000000000"}, 2, "1,000 MB of memory (memory.max of TMP/v2/a) at 400 MB each"),
        ({"v2/memory.high": "1300000000"}, 3, "1,300 MB of memory (memory.high of TMP/v2) at 400 MB each"),
        ({"v2/a/memory.max": "1000000"}, 1, "1 MB of memory (memory.max of TMP/v2/a) at 400 MB each"),
        ({"v2/a/memory.max": "max", "v2/cpu.max": "250000 100000"}, 2, "one per core, of 2.5 (CPU quota of TMP/v2)"),
        ({"memory/a/memory.limit_in_bytes": "9223372036854771712"}, 8, "one per core, of 8 (CPU affinity)"),
        (
            {"memory/memory.limit_in_bytes": "900000000"},
            2,
            "900 MB of memory (memory.limit_in_bytes of TMP/memory) at 400 MB each",
        ),
    ],
    ids=["none", "own", "high", "tiny", "quota", "unlimited version 1", "version 1"],
)
def test_the_number_of_processes_has_a_reason(machine, tmp_path, files, processes, reason):
    machine("5:memory:/a\n0::/a", V1 | V2, files)
    assert choose_processes(None) == (processes, reason.replace("TMP", str(tmp_path)))


def test_the_setting_decides_alone(machine):
    machine("0::/", V2, {"v2/memory.max": "1000", "v2/cpu.max": "1000 100000"})
    assert choose_processes(5) == (5, "CIFAR10_WORKERS is 5")


def test_without_control_groups_the_affinity_counts(monkeypatch):
    monkeypatch.setattr(cores, "PROC", Path("/nowhere"))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert available_cores() == 2


@pytest.mark.parametrize(
    ("files", "expected"),
    [({"v2/a/memory.max": "500000000"}, 500_000_000), ({"v2/memory.max": "max"}, 32_000_000_000), ({}, 32_000_000_000)],
    ids=["a group's", "no limit", "no group"],
)
def test_memory_is_a_groups_or_half_of_the_machines(machine, files, expected):
    machine("0::/a", V2, files)
    assert cores.memory_limit() == pytest.approx(expected, rel=0.1)
