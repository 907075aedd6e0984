"""Counts of the last hour, of all processes of the service together, in bounded memory. Knows numbers and files only.

The hour is a ring of five-minute slices. A slice holds the number of its five minutes since the machine started, then
its counts, and is emptied when the ring comes round to it again. Each process maps a file of its own in the shared
directory into memory; a reader adds up all files, without the slices that are too old.

A process locks its file for as long as it lives. A new process takes over the first unlocked file, with the counts of
the dead process that had it, so there are never more files than processes at one time. Nothing else is locked: a count
is an aligned eight bytes, so none is read half written. A reader may see some of an image's counts before the others.
A slice is emptied before it gets its new number, and until then it is too old to be added.
"""

import fcntl
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

SLICES, SLICE_SECONDS = 12, 300
WINDOW_SECONDS = SLICES * SLICE_SECONDS
SUFFIX = ".counts"
Integers = NDArray[np.int64]


class RecentCounts:
    """Counts in a fixed number of bins. One thread adds; any may read."""

    def __init__(
        self, bins: int, directory: Path | None = None, name: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start at zero, or with the counts of a dead process.

        Args:
            directory: shared by the processes; None for this process alone.
            name: counts of the same name are added up.
            clock: seconds since a time common to all processes, as the monotonic clock's are.
        """
        self._shape, self._directory, self._name, self._clock = (SLICES, 1 + bins), directory, name, clock
        self._file = _claim_file(directory, name) if directory else None
        self._slices = self._map(self._file, "r+") if self._file else np.zeros(self._shape, np.int64)

    def add(self, bins: Integers) -> None:
        """Add one to each of these bins (N,), which may repeat."""
        number = self._number()
        current = self._slices[number % SLICES]
        if current[0] != number:
            current[1:] = 0
            current[0] = number
        np.add.at(current[1:], bins, 1)

    def total(self) -> Integers:
        """The counts (bins,) of the last 55 to 60 minutes, of all processes."""
        counts, oldest = np.zeros(self._shape[1] - 1, np.int64), self._number() - SLICES + 1
        for slices in self._slices_of_all_processes():
            counts += slices[:, 1:].sum(0, where=slices[:, :1] >= oldest)
        return counts

    def close(self) -> None:
        """Leave the file to the next process."""
        if self._file:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # closing is not enough: the memory map holds the file, too
            self._file.close()

    def _number(self) -> int:
        return int(self._clock() // SLICE_SECONDS) + 1  # 0 marks a slice that was never used

    def _slices_of_all_processes(self) -> Iterator[Integers]:
        if self._directory is None:
            yield self._slices
            return
        for path in self._directory.glob(f"{self._name}@*{SUFFIX}"):
            with path.open("rb") as file:
                if path.stat().st_size:  # empty while its process creates it
                    yield self._map(file, "r")

    def _map(self, file: BinaryIO, mode: str) -> Integers:
        return np.asarray(np.memmap(file, np.int64, mode, shape=self._shape))  # type: ignore[call-overload]


def _claim_file(directory: Path, name: str) -> BinaryIO:
    """Lock the first file that no process holds, a new one if necessary."""
    for number in itertools.count():
        path = directory / f"{name}@{number}{SUFFIX}"
        path.touch(0o600)
        file = path.open("r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
        else:
            return file
    raise AssertionError("itertools.count ended")
