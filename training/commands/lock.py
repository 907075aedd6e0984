"""One job at a time writes to a run directory."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from model_store.lock import FILE, Lock, lock
from model_store.os_errors import naming
from training.errors import TrainingError

LOCK = "lock"  # file in the run directory with the process id and the host of the job; removed at its end
MAX_HOLDER_BYTES = 300
ATTEMPTS = 10  # each fails only if another job ends at that moment


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a run directory, created if missing, against other jobs.

    A killed process leaves the file behind, but not the lock. Folders that were created and are empty at the end are
    removed.

    Raises:
        TrainingError: another job holds the lock.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        held = _take(folder)
        try:
            _sign(held, folder)
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)
            os.close(held.descriptor)
    finally:
        for path in missing:
            with suppress(OSError):  # it holds a run
                path.rmdir()


def _take(folder: Path) -> Lock:
    for _ in range(ATTEMPTS):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return lock(folder / LOCK, FILE)
        except BlockingIOError:
            raise TrainingError(
                f"another job is writing to {folder}{_holder(folder / LOCK)}; wait until it ends, or choose another "
                "--out"
            ) from None
        except FileNotFoundError:  # the other job removed the file, or the empty folder, at its end
            continue
    raise TrainingError(f"{folder / LOCK} is removed again and again; choose another --out")


def _holder(path: Path) -> str:
    try:
        process, host = path.read_bytes()[:MAX_HOLDER_BYTES].decode("utf-8", "replace").split()
    except (OSError, ValueError):
        return ""
    return f" (process {process} on {host})"


def _sign(held: Lock, folder: Path) -> None:
    if not held.effective:
        print(
            f"warning: the file system of {folder} has no locks (flock); run no other job with this --out meanwhile",
            file=sys.stderr,
        )
    with naming(folder / LOCK):
        os.ftruncate(held.descriptor, 0)
        os.pwrite(held.descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
