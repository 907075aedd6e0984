"""The number of CPU cores available to this process, and the priority of its threads."""

import os
import sys
from pathlib import Path

CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
CGROUP_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
NICENESS = 5  # steps; each divides a thread's share of a busy core by 1.25


def available_cores() -> int:
    """Count the cores this process may use, at least 1: the smaller of CPU affinity and the container's quota."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    quota = _quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def _quota() -> float | None:
    """Read the control group's CPU quota in cores; None if it is unlimited or unreadable."""
    try:
        if CGROUP_V2.exists():
            quota, period = CGROUP_V2.read_text().split()
        else:
            quota, period = (path.read_text().strip() for path in CGROUP_V1)
    except (OSError, ValueError):
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def give_way() -> None:
    """Lower the priority of this thread, and of those it starts, to a third of the event loop's share of a busy core.

    The event loop's thread has little to do but must respond at once: it refuses requests under overload and answers
    liveness probes.
    """
    if sys.platform == "linux":  # elsewhere niceness applies to the whole process
        os.nice(NICENESS)
