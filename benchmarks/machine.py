"""What a figure was measured on, and whether the machine was free for it."""

import dataclasses
import datetime
import os
import platform
import resource
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
    others_cores: float | None = None  # used by others on average while it went on

    def __str__(self) -> str:
        meanwhile = "" if self.others_cores is None else f" and {self.others_cores:.1f} meanwhile"
        return (
            f"{self.cores} cores of {self.processor}, {self.memory_gigabytes:.0f} GB, {self.system}, "
            f"Python {self.python}, {self.date}; others used {self.busy_cores:.1f} cores before the run{meanwhile}"
        )


class Watch:
    """What others use of the processor, from its making on."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.perf_counter(), _busy_seconds(), _own_seconds()

    def stamped(self, here: Machine) -> Machine:
        """The machine, with what others used until now. All that was started must have ended."""
        others = (_busy_seconds() - self._busy) - (_own_seconds() - self._own)
        return dataclasses.replace(here, others_cores=max(0.0, others / (time.perf_counter() - self._began)))


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
    before = _busy_seconds()
    time.sleep(BUSY_SECONDS)
    return (_busy_seconds() - before) / BUSY_SECONDS


def _busy_seconds() -> float:
    """Seconds that all cores have spent on anything but idling and waiting for disks (proc(5), `cpu` of /proc/stat)."""
    ticks = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Processor seconds of this process and of all that it has started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
