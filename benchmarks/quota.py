"""Part of a core: a control group whose processes get so much processor time in each tenth of a second."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.errors import BenchmarkError

PERIOD = 100_000  # microseconds
PATIENCE_SECONDS = 10.0
ENTER = ("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"')
MOUNTED, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@contextmanager
def quota(cores: float) -> Iterator[list[str]]:
    """A control group of its own, of the second version of them or the first.

    Yields a command that enters it and goes on as the command behind it. Whatever that starts must have ended before
    the block does.

    Raises:
        BenchmarkError: this machine does not allow it; the text says why.
    """
    group = _made(*_parent(cores))
    try:
        yield [*ENTER, str(group)]
    finally:
        _remove(group)


def _made(parent: Path, limits: dict[str, str]) -> Path:
    try:
        group = Path(mkdtemp(prefix="bench-", dir=parent))
    except OSError as error:
        raise BenchmarkError(f"no control group can be made in {parent}: {error.strerror}") from None
    try:
        for name, value in limits.items():
            (group / name).write_text(value)
    except OSError as error:
        _remove(group)
        raise BenchmarkError(f"no quota can be set in {group}: {error.strerror}") from None
    return group


def _parent(cores: float) -> tuple[Path, dict[str, str]]:
    """Where this process's own group is, and the files that set the limit of a group in it."""
    allowed = str(round(cores * PERIOD))
    groups = [line.split(":", 2) for line in MEMBERSHIP.read_text().splitlines()]
    for _, controllers, path in groups:
        if "cpu" in controllers.split(","):
            return MOUNTED / "cpu" / path.lstrip("/"), {
                "cpu.cfs_period_us": str(PERIOD),
                "cpu.cfs_quota_us": allowed,
            }
    own = next((path for number, _, path in groups if number == "0"), "/")
    parent = MOUNTED / own.lstrip("/")
    control = parent / "cgroup.subtree_control"
    if not control.exists() or "cpu" not in control.read_text().split():
        raise BenchmarkError(f"{control} does not hand on the controller `cpu`, so no part of a core can be given")
    return parent, {"cpu.max": f"{allowed} {PERIOD}"}


def _remove(group: Path) -> None:
    """Once its last process has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    group.rmdir()
