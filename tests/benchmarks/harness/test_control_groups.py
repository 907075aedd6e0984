"""Control groups: version 1 where this machine has it, and the files of version 2 in a folder that looks like it."""

import subprocess

import pytest

from benchmarks import BenchmarkError
from benchmarks.harness.control_groups import control_group

MEMORY = 64 * 2**20


def made(cores: float = 0.5, memory: int = MEMORY, **options):
    """A group, unless this user or machine may not make one."""
    try:
        group = control_group("test", cores, memory, **options)
        entered = group.__enter__()
    except BenchmarkError as error:
        pytest.skip(str(error))
    return group, entered


def run(command: list[str], program: str) -> subprocess.CompletedProcess:
    return subprocess.run([*command, "python3", "-c", program], capture_output=True, text=True)


@pytest.mark.process
def test_a_program_in_a_group_is_limited_and_its_memory_is_measured():
    manager, group = made()
    try:
        within = run(group.command, "data = b'x' * 32_000_000; print(open('/proc/self/cgroup').read())")
        assert within.returncode == 0 and group.memory.name in within.stdout
        assert group.peak_bytes() > 32_000_000 and group.kills() == 0
        assert run(group.command, "data = b'x' * 100_000_000").returncode != 0
        assert group.kills() == 1 and group.pinned_bytes() < 32_000_000
    finally:
        manager.__exit__(None, None, None)
    assert not group.memory.exists() and not group.cpu.exists()


def test_version_2_has_one_folder_with_both_limits(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    with control_group("test", 0.5, MEMORY, mount=tmp_path) as group:
        assert group.is_v2 and group.command[2].count("cgroup.procs") == 1
        assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory"
        assert (group.cpu / "cpu.max").read_text() == "50000 100000"
        assert (group.memory / "memory.max").read_text() == str(MEMORY)
        (group.memory / "memory.peak").write_text("7\n")
        (group.memory / "memory.events").write_text("low 0\noom_kill 2\noom_group_kill 0\n")
        (group.memory / "memory.stat").write_text("anon 1\nfile 9\nkernel 2\nshmem 4\nsock 8\n")
        (group.cpu / "cpu.stat").write_text("usage_usec 5\nthrottled_usec 1500000\n")
        assert (group.peak_bytes(), group.kills(), group.pinned_bytes()) == (7, 2, 15)
        assert group.throttled_seconds() == 1.5
        for file in group.memory.iterdir():  # in a real hierarchy, rmdir alone removes them
            file.unlink()
    assert not group.memory.exists()


def test_where_no_group_can_be_made_the_error_says_what_to_do(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    (tmp_path / "cgroup.subtree_control").mkdir()  # not writable, whoever runs this
    expected = r"no control group can be made at .*; run this as root, where cpu"
    with pytest.raises(BenchmarkError, match=expected), control_group("test", 1, MEMORY, mount=tmp_path):
        pass
