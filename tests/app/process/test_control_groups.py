"""The service in real control groups, where the machine lets us make them (version 1, as root)."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx2
import pytest

from tests.app.conftest import png
from tests.app.service import serving
from tests.waiting import wait_until

GROUPS = Path("/sys/fs/cgroup")
FILES = {"memory": "memory.limit_in_bytes", "cpu": "cpu.cfs_quota_us"}
JOIN = 'for group in $GROUPS_TO_JOIN; do echo $$ > "$group/cgroup.procs"; done; exec "$@"'


def _may_make_groups() -> bool:
    return all(os.access(GROUPS / name / "cgroup.procs", os.W_OK) for name in FILES)


pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not _may_make_groups(), reason="control groups of version 1 cannot be made here"),
]


@pytest.fixture
def inside() -> Iterator[Callable[..., dict[str, object]]]:
    """Makes groups with limits, and returns what `serving` needs to run in them; removes them at the end."""
    made: list[Path] = []

    def make(**limits: int) -> dict[str, object]:
        for controller, limit in limits.items():
            group = GROUPS / controller / f"test-{os.getpid()}"
            group.mkdir()
            made.append(group)
            (group / FILES[controller]).write_text(str(limit))
        return {"through": ["bash", "-c", JOIN, "bash"], "GROUPS_TO_JOIN": " ".join(map(str, made))}

    yield make
    for group in made:
        wait_until(lambda group=group: _remove(group))


def _remove(group: Path) -> bool:
    """Remove a group, unless a process in it has not yet ended."""
    with suppress(OSError):
        group.rmdir()
        return True
    return False


def test_a_quota_decides_the_number_of_processes(inside, tmp_path):
    with serving(tmp_path, **inside(cpu=100_000)) as server:
        (line,) = [line["message"] for line in server.lines() if "starting on" in line["message"]]
        assert f"in 1 process: one per core, of 1 (CPU quota of {GROUPS}/cpu/test-{os.getpid()})" in line


def test_a_memory_limit_decides_the_number_of_processes(inside, tmp_path):
    with serving(tmp_path, **inside(memory=700_000_000)) as server:
        (line,) = [line["message"] for line in server.lines() if "starting on" in line["message"]]
        assert f"700 MB of memory (memory.limit_in_bytes of {GROUPS}/memory/test-{os.getpid()})" in line


def test_uploads_sent_half_way_do_not_exhaust_a_memory_limit(inside, tmp_path):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 31000000\r\n\r\n"
    with serving(tmp_path, **inside(memory=600_000_000)) as server, ExitStack() as stack:
        for _ in range(40):
            connection = stack.enter_context(server.connect())
            with suppress(OSError):  # refused and closed meanwhile
                connection.sendall(head + bytes(20_000_000))
        time.sleep(1)
        assert httpx2.post(server.url("/predict"), content=png()).status_code == 200
        assert server.process.poll() is None
        assert not [line for line in server.lines() if line["level"] == "error"]
