"""Control groups that limit a program's CPU time and memory as container runtimes do, in version 1 or 2.

Each group is made below this process's own, or in version 2, where a group with processes may have no limited groups
below it, below the root. Both need root or a delegated hierarchy.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import BenchmarkError

MOUNT, PROC = Path("/sys/fs/cgroup"), Path("/proc/self")
PERIOD_MICROSECONDS = 100_000
END_SECONDS = 10.0


@dataclass(frozen=True)
class Group:
    """A control group: one folder in version 2, one for each controller in version 1."""

    cpu: Path
    memory: Path

    @property
    def is_v2(self) -> bool:
        """True if both controllers share one folder."""
        return self.cpu == self.memory

    @property
    def command(self) -> list[str]:
        """The start of a command line that runs the rest of it in this group."""
        joins = " && ".join(f"echo $$ > '{folder}/cgroup.procs'" for folder in {self.cpu, self.memory})
        return ["sh", "-c", f'{joins} && exec "$@"', "sh"]

    def limit(self, cores: float, memory: int) -> None:
        """Set the CPU quota in cores and the memory limit in bytes."""
        quota = round(cores * PERIOD_MICROSECONDS)
        if self.is_v2:
            (self.cpu / "cpu.max").write_text(f"{quota} {PERIOD_MICROSECONDS}")
        else:
            (self.cpu / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
            (self.cpu / "cpu.cfs_quota_us").write_text(str(quota))
        self.limit_memory(memory)

    def limit_memory(self, memory: int) -> None:
        """Set the memory limit in bytes, below what is in use as well: the kernel then reclaims pages or kills."""
        (self.memory / ("memory.max" if self.is_v2 else "memory.limit_in_bytes")).write_text(str(memory))

    def peak_bytes(self) -> int:
        """Return the most memory that was ever in use, the cache of files included. Version 2 tells from Linux 5.19."""
        return int((self.memory / ("memory.peak" if self.is_v2 else "memory.max_usage_in_bytes")).read_text())

    def pinned_bytes(self) -> int:
        """Return the memory that the kernel cannot take back without swap: all but the cache of files."""
        fields = dict(line.split() for line in (self.memory / "memory.stat").read_text().splitlines())
        if self.is_v2:
            return sum(int(fields.get(name, 0)) for name in ("anon", "shmem", "kernel", "sock"))
        kernel = int((self.memory / "memory.kmem.usage_in_bytes").read_text())
        return int(fields["total_rss"]) + int(fields["total_shmem"]) + kernel

    def kills(self) -> int:
        """Count the processes that the kernel has killed for memory."""
        lines = (self.memory / ("memory.events" if self.is_v2 else "memory.oom_control")).read_text().splitlines()
        return int(dict(line.split() for line in lines)["oom_kill"])

    def throttled_seconds(self) -> float:
        """Return the seconds in which threads waited for the next period, summed over cores."""
        fields = dict(line.split()[:2] for line in (self.cpu / "cpu.stat").read_text().splitlines())
        return int(fields["throttled_usec"]) / 1e6 if self.is_v2 else int(fields["throttled_time"]) / 1e9


@contextmanager
def control_group(name: str, cores: float, memory: int, mount: Path = MOUNT) -> Iterator[Group]:
    """Make a control group with a CPU quota in cores and a memory limit in bytes; remove it at the end.

    Raises:
        BenchmarkError: this user or machine may not make one.
    """
    group = _place(f"{name}-{os.getpid()}", mount)
    try:
        try:
            if group.is_v2:
                (group.memory.parent / "cgroup.subtree_control").write_text("+cpu +memory")
            group.memory.mkdir()
            group.cpu.mkdir(exist_ok=group.is_v2)
            group.limit(cores, memory)
        except OSError as error:
            raise BenchmarkError(
                f"no control group can be made at {error.filename or group.memory}: {error.strerror}; "
                "run this as root, where cpu and memory controllers are mounted for writing"
            ) from None
        yield group
    finally:
        for folder in {group.cpu, group.memory}:
            _remove(folder)


def _place(name: str, mount: Path) -> Group:
    if (mount / "cgroup.controllers").exists():
        return Group(mount / name, mount / name)
    lines = (line.split(":", 2) for line in (PROC / "cgroup").read_text().splitlines())
    own = {controller: path.strip("/") for _, controllers, path in lines for controller in controllers.split(",")}
    return Group(mount / "cpu" / own.get("cpu", "") / name, mount / "memory" / own.get("memory", "") / name)


def _remove(folder: Path) -> None:
    """Remove a group; its last process may still be ending."""
    deadline = time.monotonic() + END_SECONDS
    while folder.exists() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.05)
