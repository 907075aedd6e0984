"""The memory that the service may use: of its control group and the groups around it, or of the machine."""

import os
from collections.abc import Iterator
from pathlib import Path

MEMBERSHIP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
UNKNOWN = 4_000_000_000  # where the machine does not tell, as on Windows


def memory_limit(membership: Path = MEMBERSHIP, groups: Path = GROUPS) -> int:
    """Return the smallest limit of the control groups this process is in (version 1 or 2), or half of the machine.

    A container or a systemd unit has its limit to itself; a machine without one has other programs.
    """
    return min([*_group_limits(membership, groups), _machine() // 2])


def _machine() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return UNKNOWN


def _group_limits(membership: Path, groups: Path) -> Iterator[int]:
    """Yield the limits of the process's groups and of their parents; a file that is missing or "max" is no limit."""
    for folder, name in _memory_groups(membership, groups):
        for each in (folder, *folder.parents):
            if not each.is_relative_to(groups):
                break
            try:
                yield int((each / name).read_text())
            except (OSError, ValueError):
                continue


def _memory_groups(membership: Path, groups: Path) -> Iterator[tuple[Path, str]]:
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:  # number:controllers:path, without controllers for version 2
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield groups / path.lstrip("/"), "memory.max"
        elif "memory" in controllers.split(","):
            yield groups / "memory" / path.lstrip("/"), "memory.limit_in_bytes"
