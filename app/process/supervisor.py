"""How many processes serve, and the keeping of all but the first.

Python code runs on one core at a time, so one process cannot use two. The first process answers from the start and,
once its model is ready, starts the others. Each listens on the address itself (SO_REUSEPORT) as soon as its own model
is ready, and the kernel spreads the connections. They share nothing but the store and a directory for their metrics.
"""

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger("app")
RETRY_SECONDS = 1.0, 60.0  # before a worker is started again: the first time, and at most
CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
CGROUP_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")

GIVING_WAY = 5  # steps of niceness: each counts for a quarter

METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus_client when it is imported, so set before that
LEFT_BEHIND = "*.db", "*.counts"


@contextmanager
def shared_metrics() -> Iterator[None]:
    """Give this process and those that it starts one directory for their metrics, in memory if possible.

    One that the operator names is used, emptied of what an earlier service left in it.
    """
    if given := os.environ.get(METRICS_DIRECTORY):
        try:
            Path(given).mkdir(parents=True, exist_ok=True)
            for ending in LEFT_BEHIND:
                for left in Path(given).glob(ending):
                    left.unlink()
        except OSError as error:
            raise SystemExit(
                f"error: {METRICS_DIRECTORY} is {given!r}: {error.strerror}; name a folder that can be written, or none"
            ) from None
        yield
        return
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="cifar10-metrics-", dir=memory) as made:
        os.environ[METRICS_DIRECTORY] = made
        try:
            yield
        finally:
            del os.environ[METRICS_DIRECTORY]


def shared_directory() -> Path | None:
    """The directory of the service's metrics, if it has one."""
    given = os.environ.get(METRICS_DIRECTORY)
    return Path(given) if given else None


def give_way() -> None:
    """Let this thread, and those that it will start, have busy cores a third as often as the event loop's thread.

    That one has little to do, but it answers for the service: it refuses what is too much, and says that it is alive.
    """
    if sys.platform == "linux":  # where a thread has a niceness of its own
        os.nice(GIVING_WAY)


def available_cores() -> int:
    """How many cores this process may use, at least 1: the scheduler's affinity or the container's quota."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    quota = _quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def _quota() -> float | None:
    """The CPU quota of this control group in cores, None if there is none."""
    try:
        if CGROUP_V2.exists():
            quota, period = CGROUP_V2.read_text().split()
        else:
            quota, period = (path.read_text().strip() for path in CGROUP_V1)
    except (OSError, ValueError):
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


class Workers:
    """Keeps `count` further processes serving the same address until it is stopped."""

    def __init__(self, count: int, host: str, port: int, on_end: Callable[[int], None]) -> None:
        """`on_end` is told the process id of each that has ended."""
        self._command = [sys.executable, "-m", "app", "worker", "--host", host, "--port", str(port)]
        self._count, self._on_end = count, on_end
        self._processes: set[asyncio.subprocess.Process] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._environment: dict[str, str] = {}

    def start(self, version: int) -> None:
        """Start them all, to serve this version, whatever is published later; needs a running event loop."""
        self._environment = os.environ | {"CIFAR10_MODEL_VERSION": str(version)}
        self._tasks = [asyncio.create_task(self._keep()) for _ in range(self._count)]

    def stop(self, signal_: int) -> None:
        """Hand on the signal to stop. None is started again."""
        self._stopping = True
        for process in self._processes:
            process.send_signal(signal_)

    async def wait(self) -> None:
        """Until all have ended, which `stop` must have told them."""
        self._stopping = True
        await asyncio.gather(*(process.wait() for process in self._processes))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self) -> None:
        (soonest, longest), loop = RETRY_SECONDS, asyncio.get_running_loop()
        delay = soonest
        while True:
            began = loop.time()
            # A session of its own, so that Ctrl-C reaches it through `stop` alone; and the read end of a pipe that
            # closes when this process ends, however it ends.
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE, start_new_session=True, env=self._environment
            )
            self._processes.add(process)
            if self._stopping:  # was told so while this one began
                process.terminate()
            code = await process.wait()
            self._processes.discard(process)
            self._on_end(process.pid)
            if self._stopping:
                return
            if loop.time() - began > longest:
                delay = soonest
            logger.error("a worker process ended", extra={"fields": {"exit_code": code, "again_in_seconds": delay}})
            await asyncio.sleep(delay)
            delay = min(2 * delay, longest)
