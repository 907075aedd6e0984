"""The machine that figures were measured on, and whether other processes used it meanwhile."""

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
NOTABLE = 0.1  # cores used by others above which a run is warned about
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
    """CPU seconds used until one moment."""

    moment: float
    machine: float
    own: float  # by this process and those of its children that have ended

    @classmethod
    def now(cls) -> "CpuTimes":
        """Read proc(5), `cpu` of /proc/stat: everything but idling and waiting for disks."""
        ticks = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
        return cls(time.perf_counter(), busy, sum(each.ru_utime + each.ru_stime for each in used))

    def others_until(self, later: "CpuTimes") -> float:
        """Cores that other processes used on average. All child processes must have ended."""
        others = (later.machine - self.machine) - (later.own - self.own)
        return max(0.0, others / (later.moment - self.moment))


def describe(idle_seconds: float = IDLE_SECONDS) -> Machine:
    """Describe this machine. Sleeps for `idle_seconds` to see what other processes use; warns if that matters."""
    before = CpuTimes.now()
    time.sleep(idle_seconds)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    here = Machine(
        datetime.datetime.now(datetime.UTC).date().isoformat(),
        _processor(),
        len(cores()),
        pages / 2**30,
        f"{platform.system()} {platform.release()}",
        platform.python_version(),
        before.others_until(CpuTimes.now()),
    )
    warn_if_busy(here)
    return here


def warn_if_busy(machine: Machine) -> None:
    """Print a warning if other processes distort the figures."""
    if machine.others_before > NOTABLE:
        print(
            f"warning: other processes use {machine.others_before:.1f} of {machine.cores} cores; absolute figures will "
            "be too low, so stop them or read ratios only",
            flush=True,
        )


def cores() -> list[int]:
    """The numbers of the cores this process may use."""
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
    name, known = fields.get("model name", platform.machine()), fields.get("flags", "").split()
    return f"{name} ({', '.join(flag for flag in FLAGS if flag in known) or 'no AVX2'})"
