"""What a figure was measured on, and whether the machine was free for it."""

import datetime
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BUSY_SECONDS = 1.0
NOTABLE = 0.1  # cores that others use, from which a run is marked
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
    busy_cores: float  # used by others before the run began

    def __str__(self) -> str:
        return (
            f"{self.cores} cores of {self.processor}, {self.memory_gigabytes:.0f} GB, {self.system}, "
            f"Python {self.python}, {self.date}; others used {self.busy_cores:.1f} cores before the run"
        )


def describe() -> Machine:
    """This machine; takes a second, in which nothing of ours may run."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        datetime.datetime.now(datetime.UTC).date().isoformat(),
        _processor(),
        len(cores()),
        pages / 2**30,
        f"{platform.system()} {platform.release()}",
        platform.python_version(),
        _busy_cores(),
    )


def warn_if_busy(machine: Machine) -> None:
    """Say so where others' work will be in the figures."""
    if machine.busy_cores > NOTABLE:
        print(
            f"warning: other processes use {machine.busy_cores:.1f} of {machine.cores} cores; absolute figures will be "
            "too low, so stop them or read ratios only",
            flush=True,
        )


def cores() -> list[int]:
    """The numbers of the cores this process may use."""
    return sorted(os.sched_getaffinity(0))


@contextmanager
def on_cores(numbers: Sequence[int]) -> Iterator[None]:
    """What is started meanwhile runs on these cores alone."""
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


def _busy_cores() -> float:
    before = _jiffies()
    time.sleep(BUSY_SECONDS)
    return (_jiffies() - before) / os.sysconf("SC_CLK_TCK") / BUSY_SECONDS


def _jiffies() -> int:
    """Ticks that all cores have spent on anything but idling and waiting for disks (proc(5), `cpu` of /proc/stat)."""
    ticks = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4]
