"""A command with all the processes it starts: their processor time, their memory, their end. Linux, through /proc.

Knows nothing of what they do.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.errors import BenchmarkError

PROC = Path("/proc")
PATIENCE_SECONDS = 120.0  # for a start; some peers take a minute
END_SECONDS, STILL_SECONDS = 10.0, 0.2


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str], folder: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command in `folder` with its output in `log`; at the end it and all it started are stopped."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=os.environ | environment,
            cwd=folder,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    members = family(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    for member in members & set(relations()):
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    process.wait()


def wait_for(process: "subprocess.Popen[bytes]", log: Path, answers: Callable[[], bool]) -> None:
    """Until `answers` is true.

    Raises:
        BenchmarkError: the process has ended, or a long time has passed; with the end of its log.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not answers():
        ended, late = process.poll() is not None, time.monotonic() > deadline
        if ended or late:
            why = f"ended with code {process.returncode}" if ended else f"did not answer in {PATIENCE_SECONDS:g} s"
            said = log.read_text(errors="replace")[-1_500:]
            raise BenchmarkError(f"the server {why}; the end of what it wrote:\n{said}")
        time.sleep(0.01)


def settle(pid: int, at_most: float) -> None:
    """Wait until a process and its descendants use no processor time any more, but only so many seconds."""
    deadline, used = time.monotonic() + at_most, -1.0
    while used != (used := cpu_seconds(pid)) and time.monotonic() < deadline:
        time.sleep(STILL_SECONDS)


def family(pid: int) -> set[int]:
    """A process, its descendants, and whoever else is in the process group that it leads."""
    known = relations()
    found = {pid} | {member for member, (_, group) in known.items() if group == pid}
    while more := {member for member, (parent, _) in known.items() if parent in found} - found:
        found |= more
    return found


def relations() -> dict[int, tuple[int, int]]:
    """For each process its parent and its group; of those that have ended and wait for their parent, none."""
    found = {}
    for entry in PROC.glob("[0-9]*"):
        if (fields := _stat(int(entry.name))) and fields[0] != "Z":
            found[int(entry.name)] = int(fields[1]), int(fields[2])
    return found


def _stat(pid: int) -> list[str]:
    """What stands after the process's name in /proc/PID/stat (proc(5), from field 3); nothing if it has ended."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def cpu_seconds(pid: int) -> float:
    """Processor seconds that a process and its family have used."""
    ticks = sum(int(fields[11]) + int(fields[12]) for member in family(pid) if (fields := _stat(member)))
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int) -> list[float]:
    """Resident memory of each process of a family, that of the process itself first."""
    page = os.sysconf("SC_PAGE_SIZE")
    ordered = [pid, *sorted(family(pid) - {pid})]
    return [int(fields[21]) * page / 2**20 for member in ordered if (fields := _stat(member))]
