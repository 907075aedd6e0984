"""The machine of a measurement, and its use by other processes meanwhile."""

import datetime
import os
import platform
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

IDLE_SECONDS = 1.0
FLAGS = ("amx_int8", "amx_bf16", "avx512_vnni", "avx512_bf16", "avx2")


@dataclass(frozen=True)
class Machine:
    """One machine at one time."""

    date: str
    processor: str
    cores: int
    memory_gigabytes: float
    system: str
    python: str
    others_before: float  # cores used by other processes before the run

    def __str__(self) -> str:
        return (
            f"{self.cores} cores of {self.processor}, {self.memory_gigabytes:.0f} GB, {self.system}, "
            f"Python {self.python}, {self.date}; others used {self.others_before:.1f} cores before the run"
        )


@dataclass(frozen=True)
class CpuTimes:
    """CPU seconds used up to one moment."""

    moment: float
    machine: float
    own: float  # by this process and those of its children that have ended

    @classmethod
    def now(cls) -> "CpuTimes":
        """Read proc(5), `cpu` of /proc/stat: everything but idling and waiting for disks."""
        ticks = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
        return cls(time.perf_counter(), busy, sum(usage.ru_utime + usage.ru_stime for usage in usages))

    def others_until(self, later: "CpuTimes") -> float:
        """Return the cores that other processes used on average. All child processes must have ended."""
        others = (later.machine - self.machine) - (later.own - self.own)
        return max(0.0, others / (later.moment - self.moment))


def describe(idle_seconds: float = IDLE_SECONDS) -> Machine:
    """Describe this machine. Sleeps for `idle_seconds` to measure what other processes use."""
    before = CpuTimes.now()
    time.sleep(idle_seconds)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        datetime.datetime.now(datetime.UTC).date().isoformat(),
        _processor(),
        len(cores()),
        pages / 2**30,
        f"{platform.system()} {platform.release()}",
        platform.python_version(),
        before.others_until(CpuTimes.now()),
    )


def cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


@contextmanager
def on_cores(numbers: Sequence[int]) -> Iterator[None]:
    """Restrict processes started in the block to these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, numbers)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name, flags = fields.get("model name", platform.machine()), fields.get("flags", "").split()
    return f"{name} ({', '.join(flag for flag in FLAGS if flag in flags) or 'no AVX2'})"
