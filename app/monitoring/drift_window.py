"""Counts of the last hour, of all processes of the service together, in bounded memory. Knows numbers and files only.

The hour is a ring of slices of five minutes each: a slice has the number of its five minutes since the machine started,
then its counts, and is emptied when its place in the ring comes round again. Each process maps a file of its own into
memory, in the directory that they share; whoever is asked adds up all files, without the slices that are too old.

A process holds a lock on its file for as long as it lives, and a new one takes over the first file that nobody holds,
with what a dead process had counted: so there are never more files than there were processes at a time. Nothing else is
locked. A count is an aligned eight bytes, so none is read half written; a reader may see some of an image's counts and
not yet the others. A slice is emptied before it gets its new number, and until then is too old to be added.
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


class Recent:
    """Counts in a fixed number of bins. One thread adds; several may ask."""

    def __init__(
        self, bins: int, directory: Path | None = None, name: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin, or go on where a dead process stopped.

        Args:
            directory: what the processes share; None for this process alone.
            name: of what is counted; only counts of the same name are added up.
            clock: seconds since a time that all processes agree on, as the monotonic clock's is.
        """
        self._shape, self._directory, self._name, self._clock = (SLICES, 1 + bins), directory, name, clock
        self._file = _own_file(directory, name) if directory else None
        self._slices = self._map(self._file, "r+") if self._file else np.zeros(self._shape, np.int64)

    def add(self, places: Integers) -> None:
        """Count one more in each of these bins (N,), which may repeat."""
        number = self._number()
        current = self._slices[number % SLICES]
        if current[0] != number:
            current[1:] = 0
            current[0] = number
        np.add.at(current[1:], places, 1)

    def total(self) -> Integers:
        """The counts (bins,) of the last 55 to 60 minutes, of all processes."""
        found, oldest = np.zeros(self._shape[1] - 1, np.int64), self._number() - SLICES + 1
        for slices in self._everyones():
            found += slices[:, 1:].sum(0, where=slices[:, :1] >= oldest)
        return found

    def close(self) -> None:
        """Leave the file to the next process."""
        if self._file:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # closing is not enough: the memory map holds the file, too
            self._file.close()

    def _number(self) -> int:
        return int(self._clock() // SLICE_SECONDS) + 1  # 0 is that of a slice never used

    def _everyones(self) -> Iterator[Integers]:
        if self._directory is None:
            yield self._slices
            return
        for path in self._directory.glob(f"{self._name}@*{SUFFIX}"):
            with path.open("rb") as file:
                if path.stat().st_size:  # else its process is just making it
                    yield self._map(file, "r")

    def _map(self, file: BinaryIO, mode: str) -> Integers:
        return np.asarray(np.memmap(file, np.int64, mode, shape=self._shape))  # type: ignore[call-overload]


def _own_file(directory: Path, name: str) -> BinaryIO:
    """The first file that no process holds, made if need be; held until it is closed."""
    for place in itertools.count():
        path = directory / f"{name}@{place}{SUFFIX}"
        path.touch(0o600)
        file = path.open("r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
        else:
            return file
    raise AssertionError("itertools.count ended")
