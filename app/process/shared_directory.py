"""The shared directory of the service's processes, for metrics, drift counts and the rates of keys.

Its files are mapped into memory. Writing to a mapped page for which the disk has no room kills the process with SIGBUS,
so `reserve` allocates a file's blocks first: a full disk then costs counts, never answers.
"""

import fcntl
import itertools
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from app.settings import METRICS_DIRECTORY

logger = logging.getLogger("app")
# By prometheus_client, monitoring/drift_window.py, monitoring/metrics.py, access/rates.py and core_share.py.
LEFT_BEHIND = "*.db", "*.counts", "*.number", "*.rates", "*.busy"
PREFIX, LOCK = "cifar10-metrics-", "lock"


@contextmanager
def shared_directory(directory: Path | None, inherited: bool = False) -> Iterator[Path | None]:
    """Delete an earlier run's files from `directory`; without one, create a temporary directory, in memory if possible.

    Yields None if no temporary directory can be created: each process then counts for itself.

    Args:
        inherited: `directory` is in use by this service; another program in this process prepared it.

    Raises:
        SystemExit: the directory is not writable.
    """
    if directory and not inherited:
        _empty(directory)
    if directory:
        yield directory
        if inherited and (directory / LOCK).exists():  # a temporary one
            shutil.rmtree(directory, ignore_errors=True)
        return
    try:
        parent = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())
        _remove_dead(parent)
        temporary, lock = _create_locked(parent)
    except OSError as error:
        logger.warning(
            "no directory for metrics can be created: %s; each process reports its own metrics only; "
            "make room in /dev/shm, or name a writable folder in %s",
            error.strerror,
            METRICS_DIRECTORY,
        )
        yield None
        return
    # prometheus_client, imported later, and the worker processes read it from the environment.
    os.environ[METRICS_DIRECTORY] = str(temporary)
    try:
        yield temporary
    finally:
        os.environ.pop(METRICS_DIRECTORY, None)
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


def reserve(file: BinaryIO, size: int) -> None:
    """Extend the file to `size` bytes of zeros and allocate its blocks.

    Raises:
        OSError: the disk or a quota has no room for them.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    elif (missing := size - os.fstat(file.fileno()).st_size) > 0:
        file.seek(0, os.SEEK_END)
        file.write(bytes(missing))
        file.flush()


def open_reserved(path: Path, size: int) -> BinaryIO:
    """Open a file of `size` bytes, to be mapped into memory; a new one holds zeros.

    Raises:
        OSError: it cannot be opened, or there is no room for it.
    """
    path.touch(0o600)
    file = path.open("r+b")
    try:
        reserve(file, size)
    except OSError:
        file.close()
        raise
    return file


def claim_file(directory: Path, name: str, suffix: str) -> tuple[int, BinaryIO]:
    """Lock the first unlocked of the files `{name}{number}{suffix}`, creating one if necessary.

    Closing the file, or the end of the process, unlocks it, so there are never more files than processes at one time.

    Raises:
        OSError: no file can be created.
    """
    for number in itertools.count():
        path = directory / f"{name}{number}{suffix}"
        path.touch(0o600)
        file = path.open("r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
        else:
            return number, file
    raise AssertionError("itertools.count ended")


def _create_locked(parent: Path) -> tuple[Path, int]:
    """Create a directory with a file that stays locked for as long as the service runs, however it ends."""
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        lock = os.open(path / "new", os.O_RDWR | os.O_CREAT, 0o600)
        os.set_inheritable(lock, True)  # by the program that replaces this one after SIGHUP
        fcntl.flock(lock, fcntl.LOCK_EX)
        (path / "new").rename(path / LOCK)  # nobody finds it unlocked
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return path, lock


def _remove_dead(parent: Path) -> None:
    """Remove the directories that this user's services left behind when they were killed."""
    for path in parent.glob(f"{PREFIX}*"):
        try:
            lock = os.open(path / LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if path.lstat().st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # its service is running, or another start removes it
            pass
        finally:
            os.close(lock)


def _empty(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for pattern in LEFT_BEHIND:
            for path in directory.glob(pattern):
                path.unlink()
    except OSError as error:
        raise SystemExit(
            f"error: {METRICS_DIRECTORY} is {str(directory)!r}: {error.strerror}; "
            "name a folder that is writable, or unset it"
        ) from None
