"""The files in which the processes share their metrics: numbered, with their blocks allocated, in one directory.

A new process takes over the first free number together with its counts, so there are never more files than processes
at one time.
"""

import fcntl
import logging
import mmap
import os
import struct
from functools import partial
from pathlib import Path
from typing import BinaryIO

from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from app.process.shared_directory import claim_file, reserve

logger = logging.getLogger("app")
FILE_BYTES = 4_096  # of a new file, doubled as needed; prometheus_client's 65,536 would mostly stay empty
VALUE_BYTES = 16  # prometheus_client's: a number and its time
warned: set[Path] = set()  # directories whose fault is in the log


def render_files(directory: Path) -> bytes | None:
    """Render the metrics of all processes, None if the files cannot be read."""
    registry = CollectorRegistry()
    try:
        _forget_ended(directory)
        MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    except (OSError, ValueError, RuntimeError, struct.error) as error:
        _warn_once(directory, str(error))
        return None


def _forget_ended(directory: Path) -> None:
    """Remove the gauges of processes that have ended: their numbers are unlocked. Their counts stay."""
    for path in directory.glob("*.number"):
        with path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            mark_process_dead(int(path.stem), str(directory))  # type: ignore[no-untyped-call]


class ReservedValues(MmapedDict):
    """prometheus_client's file of values, with its blocks allocated. A value without room is counted, not reported.

    Such values share the last bytes of the file, which are never read.
    """

    def __init__(self, filename: str) -> None:
        path = Path(filename)
        try:
            with path.open("ab") as file:
                reserve(file, FILE_BYTES)
        except OSError as error:
            _warn_once(path.parent, str(error.strerror))
            path.unlink(missing_ok=True)
            self._f = None  # type: ignore[assignment]
            self._m, self._used = mmap.mmap(-1, FILE_BYTES), 8
            self._capacity, self._positions = FILE_BYTES, {}
        else:
            super().__init__(filename)  # type: ignore[no-untyped-call]
        self._capacity -= VALUE_BYTES
        self._full = self._f is None

    def _init_value(self, key: str) -> None:
        length = len(key.encode())
        size = 4 + length + (8 - (length + 4) % 8) + VALUE_BYTES
        while self._used + size > self._capacity and not self._full:
            self._grow()
        if self._used + size <= self._capacity:
            super()._init_value(key)  # type: ignore[no-untyped-call]
        else:
            self._m[self._capacity :] = bytes(VALUE_BYTES)
            self._positions[key] = self._capacity

    def _grow(self) -> None:
        size = 2 * (self._capacity + VALUE_BYTES)
        try:
            reserve(self._f, size)
        except OSError as error:
            _warn_once(Path(self._f.name).parent, str(error.strerror))
            self._full = True
        else:
            self._m = mmap.mmap(self._f.fileno(), size)
            self._capacity = size - VALUE_BYTES


def share_values(directory: Path) -> BinaryIO | None:
    """Keep this process's values in files of the directory from now on. The result reserves their number."""
    number, file = os.getpid(), None
    try:
        number, file = claim_file(directory, "", ".number")
        mark_process_dead(number, str(directory))  # type: ignore[no-untyped-call]  # its last owner's gauges
    except OSError as error:
        _warn_once(directory, str(error.strerror))
    values.MmapedDict = ReservedValues  # type: ignore[assignment,attr-defined]
    # By default every increment calls getpid() to detect a fork. The service never forks.
    values.ValueClass = values.MultiProcessValue(partial(int, number))  # type: ignore[no-untyped-call]
    return file


def _warn_once(directory: Path, reason: str) -> None:
    if directory in warned:
        return
    warned.add(directory)
    logger.warning(
        "metrics in %s are incomplete: %s; requests are answered as before; make room there and restart the service",
        directory,
        reason,
    )
