"""The cores that a process may compute on: its own share, and those of processes of the service without work.

Each process keeps a byte of a file that all of them map into memory: 1 while it has requests, else 0.
"""

import fcntl
import itertools
import logging
import mmap
import weakref
from pathlib import Path
from typing import BinaryIO

from app.process.shared_directory import open_reserved

logger = logging.getLogger("app")
FILE, FILE_BYTES = "processes.busy", 4_096


class CoreShare:
    """The cores of this process: always its `own`, and up to `most` while others have no work."""

    def __init__(self, cores: int = 1, processes: int = 1, directory: Path | None = None) -> None:
        """Share the cores equally among the processes, at least one each.

        Args:
            directory: shared by the processes; without it, or without room in it, each keeps to its own share.
        """
        self._processes, self.own = processes, max(1, cores // processes)
        self.most = min(cores, max(2, self.own))
        self._file = _open(directory) if directory and self.most > self.own else None
        if self._file is None:
            self.most = self.own
            return
        weakref.finalize(self, self._file.close)
        self._bytes = mmap.mmap(self._file.fileno(), FILE_BYTES)
        self._place = _claim(self._file)
        self.set_busy(False)

    def set_busy(self, busy: bool) -> None:
        """Say whether this process has work."""
        if self._file:
            self._bytes[self._place] = busy

    def has_all(self) -> bool:
        """Return whether enough other processes are idle for this one to compute on `most` cores."""
        if self._file is None:
            return False
        idle = self._processes - 1 - (self._bytes[:].count(1) - self._bytes[self._place])
        return self.own * (1 + idle) >= self.most


ONE_CORE = CoreShare()


def _open(directory: Path) -> BinaryIO | None:
    try:
        return open_reserved(directory / FILE, FILE_BYTES)
    except OSError as error:
        reason = error.strerror
        logger.warning("%s has no room for %s: %s; each process keeps to its own cores", directory, FILE, reason)
        return None


def _claim(file: BinaryIO) -> int:
    """Lock the first free byte until this process ends, and return its place."""
    for place in itertools.count():
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError:
            continue
        return place
    raise AssertionError("itertools.count ended")
