"""Counts over the last hour, from all processes of the service, in bounded memory. Knows only numbers and files.

The hour is a ring of five-minute slices. A slice holds its number, counted in five-minute steps since the machine
started, followed by its counts, and is cleared when the ring returns to it. Each process maps its own file in the
shared directory into memory. A reader sums all files and skips slices that are too old.

A process locks its file as long as it lives. A new process takes over the first unlocked file together with the dead
process's counts, so there are never more files than processes at one time. Nothing else needs a lock: a count is
eight aligned bytes and cannot be read half written. A reader may see some of an image's counts before the others.
Slices are cleared before they are renumbered, and readers skip them until then.
"""

import fcntl
import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from app.process.shared_directory import claim_file, reserve

logger = logging.getLogger("app")

SLICES, SLICE_SECONDS = 12, 300
WINDOW_SECONDS = SLICES * SLICE_SECONDS
SUFFIX = ".counts"
Integers = NDArray[np.int64]


class RecentCounts:
    """Counts in a fixed number of bins. Only one thread may add; any thread may read."""

    def __init__(
        self, bins: int, directory: Path | None = None, name: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start at zero, or with the counts of a dead process.

        Args:
            directory: directory shared by the processes; None for this process alone.
            name: counts with the same name are summed.
            clock: clock in seconds with the same origin in all processes, like the monotonic clock.
        """
        self._shape, self._directory, self._name, self._clock = (SLICES, 1 + bins), directory, name, clock
        self._bytes = math.prod(self._shape) * np.dtype(np.int64).itemsize
        self._file = self._claim(directory) if directory else None
        if self._file:
            self._slices = self._map(self._file, "r+")
        else:
            self._directory, self._slices = None, np.zeros(self._shape, np.int64)

    def add(self, bins: Integers) -> None:
        """Add one to each of the bins (N,); a bin may occur more than once."""
        number = self._number()
        current = self._slices[number % SLICES]
        if current[0] != number:
            current[1:] = 0
            current[0] = number
        np.add.at(current[1:], bins, 1)

    def total(self) -> Integers:
        """Sum the counts (bins,) of all processes over the last 55 to 60 minutes."""
        counts, oldest = np.zeros(self._shape[1] - 1, np.int64), self._number() - SLICES + 1
        for slices in self._slices_of_all_processes():
            counts += slices[:, 1:].sum(0, where=slices[:, :1] >= oldest)
        return counts

    def close(self) -> None:
        """Release the file for the next process."""
        if self._file:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # closing does not unlock: the memory map keeps the file open
            self._file.close()

    def _number(self) -> int:
        return int(self._clock() // SLICE_SECONDS) + 1  # 0 marks an unused slice

    def _slices_of_all_processes(self) -> Iterator[Integers]:
        if self._directory is None:
            yield self._slices
            return
        for path in self._directory.glob(f"{self._name}@*{SUFFIX}"):
            with path.open("rb") as file:
                if path.stat().st_size >= self._bytes:  # smaller while its process is creating it
                    yield self._map(file, "r")

    def _claim(self, directory: Path) -> BinaryIO | None:
        """Claim a file with all its blocks; None if the disk has no room, and this process then counts for itself."""
        file = None
        try:
            _, file = claim_file(directory, f"{self._name}@", SUFFIX)
            reserve(file, self._bytes)
        except OSError as error:
            logger.warning(
                "%s has no room for drift counts: %s; this process reports its own images only until a restart",
                directory,
                error.strerror,
            )
            if file:
                file.close()
            return None
        return file

    def _map(self, file: BinaryIO, mode: str) -> Integers:
        return np.asarray(np.memmap(file, np.int64, mode, shape=self._shape))  # type: ignore[call-overload]
