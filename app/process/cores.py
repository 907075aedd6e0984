"""The CPU cores and the memory available to this process, and the priority of its threads.

Limits come from the process's own control group and from every group around it: systemd's `CPUQuota` and a container's
limits are on one of them, in version 1 or 2 of control groups.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc/self")
NICENESS = 5  # steps; each divides a thread's share of a busy core by 1.25
# A process takes 175 MB when idle and 314 MB while it decodes a PNG of 35 megapixels (resident, on an AMD EPYC).
PROCESS_BYTES = 400_000_000
WORKER_OOM_SCORE = 300  # more than the first process may differ from a worker by its images
UNKNOWN_BYTES = 4_000_000_000  # of memory, where the machine does not tell


@dataclass(frozen=True)
class Limit:
    """An upper bound and where it comes from."""

    value: float
    source: str


def available_cores() -> int:
    """Count the cores this process may use, at least 1: the smaller of CPU affinity and the groups' quotas."""
    return max(1, int(_cores().value))


def choose_processes(setting: int | None) -> tuple[int, str]:
    """Return the number of processes to serve with, and the reason in words.

    Args:
        setting: the number that was set; by default one per core, as far as memory has room for them.
    """
    if setting:
        return setting, f"CIFAR10_WORKERS is {setting}"
    cores, memory = _cores(), _memory()
    if memory.value < PROCESS_BYTES * max(1, int(cores.value)):
        room = f"{memory.value / 1e6:,.0f} MB of memory ({memory.source})"
        return max(1, int(memory.value // PROCESS_BYTES)), f"{room} at {PROCESS_BYTES // 1_000_000} MB each"
    return available_cores(), f"one per core, of {cores.value:g} ({cores.source})"


def memory_limit() -> int:
    """Return the bytes of memory that the service may use: the smallest limit of the groups, or half of the machine.

    A container or a systemd unit has its limit to itself; a machine without one has other programs.
    """
    return int(min([*(limit.value for limit in _memory_limits()), _machine_bytes() / 2]))


def _machine_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return UNKNOWN_BYTES


def _cores() -> Limit:
    affinity = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    return min([Limit(affinity, "CPU affinity"), *_quotas()], key=lambda limit: limit.value)


def _memory() -> Limit:
    return min([Limit(_machine_bytes(), "the machine's"), *_memory_limits()], key=lambda limit: limit.value)


def _quotas() -> Iterator[Limit]:
    for group in _groups("cpu"):
        quota = _read(group / "cpu.max") or [*_read(group / "cpu.cfs_quota_us"), *_read(group / "cpu.cfs_period_us")]
        try:
            allowed, period = map(int, quota)
        except ValueError:  # "max": unlimited; or no such file
            continue
        if allowed > 0 and period > 0:  # -1: unlimited
            yield Limit(allowed / period, f"CPU quota of {group}")


def _memory_limits() -> Iterator[Limit]:
    for group in _groups("memory"):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            words = _read(group / name)
            if len(words) == 1 and words[0].isdigit():  # not "max"
                yield Limit(int(words[0]), f"{name} of {group}")


def _groups(controller: str) -> Iterator[Path]:
    """Find the folders of this process's control groups and of those around them, in every hierarchy."""
    paths = [line.split(":", 2) for line in _lines(PROC / "cgroup")]
    for line in _lines(PROC / "mountinfo"):
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(maxsplit=2)
        root, mount = map(_unescape, fields.split()[3:5])
        for _, controllers, path in paths:
            version_2 = kind == "cgroup2" and not controllers
            version_1 = kind == "cgroup" and controller in controllers.split(",") and controller in options.split(",")
            if version_1 or version_2:
                yield from _with_parents(Path(mount), Path(path), Path(root))


def _with_parents(mount: Path, path: Path, root: Path) -> Iterator[Path]:
    """Find the folder of the group `path` where the group `root` is mounted, and the folders around it."""
    inside = path.relative_to(root) if path.is_relative_to(root) and ".." not in path.parts else Path()
    yield mount / inside
    for parent in inside.parents:
        yield mount / parent


def _unescape(path: str) -> str:
    return path.replace("\\040", " ")


def _read(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []


def be_killed_first() -> None:
    """Make the kernel choose this process, rather than the first one, when it kills for memory.

    A worker is replaced; the end of the first process ends the service. proc(5): the value counts as thousandths of the
    limit that the process would take besides its memory.
    """
    with suppress(OSError, ValueError):  # not Linux, or not permitted
        file = PROC / "oom_score_adj"
        file.write_text(str(min(1_000, int(file.read_text()) + WORKER_OOM_SCORE)))


def give_way() -> None:
    """Lower the priority of this thread, and of those it starts, to a third of the event loop's share of a busy core.

    The event loop's thread has little to do but must respond at once: it refuses requests under overload and answers
    liveness probes.
    """
    if sys.platform == "linux":  # elsewhere niceness applies to the whole process
        os.nice(NICENESS)
