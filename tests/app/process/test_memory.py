"""The memory limit: control groups of both versions, the groups around them, and the machine."""

import os
from pathlib import Path

import pytest

from app.process.memory import memory_limit

HALF = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
UNLIMITED = 9_223_372_036_854_771_712  # what version 1 says instead of "max"


def limit(tmp_path: Path, membership: str, **files: object) -> int:
    """The memory limit of a process in these groups; `files` maps a path with __ for / to its content."""
    (tmp_path / "membership").write_text(membership)
    for name, content in files.items():
        path = tmp_path / "groups" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return memory_limit(tmp_path / "membership", tmp_path / "groups")


@pytest.mark.parametrize(
    ("own", "parent", "expected"),
    [(500, "max", 500), ("max", 400, 400), (300, 400, 300), ("max", "max", HALF), ("", "?", HALF)],
)
def test_the_smallest_limit_of_a_group_and_its_parents_counts(tmp_path, own, parent, expected):
    groups = {"system.slice__unit.service__memory.max": own, "system.slice__memory.max": parent}
    assert limit(tmp_path, "0::/system.slice/unit.service\n", **groups) == expected


@pytest.mark.parametrize(("own", "root", "expected"), [(500, UNLIMITED, 500), (UNLIMITED, UNLIMITED, HALF)])
def test_limits_of_the_first_version_of_control_groups_count(tmp_path, own, root, expected):
    groups = {
        "memory__docker__abc__memory.limit_in_bytes": own,
        "memory__memory.limit_in_bytes": root,
        "cpu__docker__abc__memory.limit_in_bytes": 1,
    }
    assert limit(tmp_path, "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n", **groups) == expected


def test_in_a_container_that_does_not_see_its_groups_path_the_mounted_group_counts(tmp_path):
    assert limit(tmp_path, "0::/kubepods/pod1/abc\n", **{"memory.max": 700}) == 700


def test_without_control_groups_half_of_the_machine_counts(tmp_path):
    assert memory_limit(tmp_path / "absent", tmp_path / "absent") == HALF
