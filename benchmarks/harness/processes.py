"""Run a command and track its descendants: CPU time, memory and exit. Linux only, through /proc."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks import BenchmarkError

PROC = Path("/proc")
START_SECONDS = 120.0  # some peers take a minute
END_SECONDS, STILL_SECONDS = 10.0, 0.2


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str], folder: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command in `folder` with its output in `log`; stop it and its descendants at the end of the block."""
    with log.open("wb") as out, default_signals():
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
        _stop(process)


@contextmanager
def default_signals() -> Iterator[None]:
    """Start processes that stop on signals, even where this process itself ignores them, as under nohup."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ignored = [signal_ for signal_ in signals if signal.getsignal(signal_) is signal.SIG_IGN]
    for signal_ in ignored:
        signal.signal(signal_, signal.SIG_DFL)
    try:
        yield
    finally:
        for signal_ in ignored:
            signal.signal(signal_, signal.SIG_IGN)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    members = family(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    for member in members & set(relations()):
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    process.wait()


def wait_for(process: "subprocess.Popen[bytes]", log: Path, is_ready: Callable[[], bool]) -> None:
    """Wait until `is_ready` returns true.

    Raises:
        BenchmarkError: the process ended, or START_SECONDS passed; the text has the end of its log.
    """
    deadline = time.monotonic() + START_SECONDS
    while not is_ready():
        ended, late = process.poll() is not None, time.monotonic() > deadline
        if ended or late:
            why = f"ended with code {process.returncode}" if ended else f"was not ready in {START_SECONDS:g} s"
            tail = log.read_text(errors="replace")[-1_500:]
            raise BenchmarkError(f"the server {why}; the end of its log:\n{tail}")
        time.sleep(0.01)


def settle(pid: int, max_seconds: float) -> None:
    """Wait until a process and its descendants stop using CPU time, at most `max_seconds`."""
    deadline, seconds = time.monotonic() + max_seconds, -1.0
    while seconds != (seconds := cpu_seconds(pid)) and time.monotonic() < deadline:
        time.sleep(STILL_SECONDS)


def family(pid: int) -> set[int]:
    """Return a process, its descendants, and the other members of the process group it leads."""
    processes = relations()
    members = {pid} | {member for member, (_, group) in processes.items() if group == pid}
    while children := {member for member, (parent, _) in processes.items() if parent in members} - members:
        members |= children
    return members


def relations() -> dict[int, tuple[int, int]]:
    """Return the parent and group of every process that has not ended."""
    processes = {}
    for entry in PROC.glob("[0-9]*"):
        if (fields := _stat(int(entry.name))) and fields[0] != "Z":
            processes[int(entry.name)] = int(fields[1]), int(fields[2])
    return processes


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on (proc(5)); an empty list if the process has ended."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds used by a process and its family."""
    ticks = sum(int(fields[11]) + int(fields[12]) for member in family(pid) if (fields := _stat(member)))
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int) -> list[float]:
    """Return the resident memory of each process of a family, the process itself first."""
    page = os.sysconf("SC_PAGE_SIZE")
    ordered = [pid, *sorted(family(pid) - {pid})]
    return [int(fields[21]) * page / 2**20 for member in ordered if (fields := _stat(member))]


def threads(pid: int) -> int:
    """Count the threads of a process and its family."""
    return sum(int(fields[17]) for member in family(pid) if (fields := _stat(member)))


def descriptors(pid: int) -> int:
    """Count the open file descriptors of a process and its family."""
    count = 0
    for member in family(pid):
        with suppress(OSError):  # it has ended
            count += len(list((PROC / str(member) / "fd").iterdir()))
    return count
