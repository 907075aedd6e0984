"""Images a second for each key, in all processes of the service together.

The processes map one file into memory. A place in it holds a key's mark and a time of the monotonic clock: when all
that the key took will have been earned at its rate (the generic cell rate algorithm, which is a token bucket without a
timer; ITU-T I.371). A place whose time has passed says the same as an empty one, so it is free for another key.
"""

import fcntl
import hashlib
import logging
import mmap
import os
import time
import weakref
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from app.access.key_file import MAX_KEYS, Key
from app.process.shared_directory import open_reserved

logger = logging.getLogger("app")
FILE = "keys.rates"
PLACES, PROBES = 4_096, 16  # four times as many as there are keys, so that one of the next 16 is free
PLACE_BYTES = 16
BURST_SECONDS = 1.0
# A process holds the lock for a few microseconds, unless it is suspended. Others then go on without it: a lost update
# costs the limit a few images, while waiting would stop every request.
LOCK_TRIES = 100
TOLERANCE = 1e-6  # seconds, for sums of fractions


class Rates:
    """The images that each key has taken."""

    def __init__(self, directory: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Share a file of the directory with the other processes; without room for it, count for this process alone.

        Args:
            clock: clock in seconds with the same origin in all processes, like the monotonic clock.
        """
        self._clock = clock
        self._file = _open(directory) if directory else None
        if self._file:
            weakref.finalize(self, self._file.close)
        memory = memoryview(mmap.mmap(self._file.fileno() if self._file else -1, PLACES * PLACE_BYTES))
        self._marks, self._times = memory.cast("Q"), memory.cast("d")

    def take(self, key: Key) -> float:
        """Take one image. Returns 0, or the seconds until the key may take one.

        An idle key has the images of one second at once, and at least one.
        """
        return self._spend(key, 1, max(BURST_SECONDS - 1 / key.rate, 0.0)) if key.rate else 0.0

    def charge(self, key: Key, images: int) -> None:
        """Take images that were answered already; the key waits for them afterwards."""
        self._spend(key, images, None)

    def _spend(self, key: Key, images: int, most_ahead: float | None) -> float:
        """Move the key's time on, unless that is more than `most_ahead` seconds ahead."""
        assert key.rate
        mark = _mark(key.name)
        is_locked = self._lock()
        try:
            now = self._clock()
            place = self._place(mark, now)
            earned = max(self._times[2 * place + 1], now) if self._marks[2 * place] == mark else now
            if most_ahead is not None and earned - now > most_ahead + TOLERANCE:
                return earned - now - most_ahead
            self._marks[2 * place], self._times[2 * place + 1] = mark, earned + images / key.rate
            return 0.0
        finally:
            if is_locked and self._file:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _place(self, mark: int, now: float) -> int:
        """Find the key's place, or one that is free; its first one if all are taken."""
        if self._marks[2 * (mark % PLACES)] == mark:
            return mark % PLACES
        places = [(mark + step) % PLACES for step in range(PROBES)]
        own = next((place for place in places if self._marks[2 * place] == mark), None)
        if own is not None:
            return own
        return next((place for place in places if self._times[2 * place + 1] <= now), places[0])

    def _lock(self) -> bool:
        for _ in range(LOCK_TRIES if self._file else 0):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
            except BlockingIOError:
                os.sched_yield()  # to the process that holds it
                continue
            return True
        return False


def _open(directory: Path) -> BinaryIO | None:
    try:
        return open_reserved(directory / FILE, PLACES * PLACE_BYTES)
    except OSError as error:
        logger.warning(
            "%s has no room for the keys' rates: %s; each process limits the rates for itself until a restart",
            directory,
            error.strerror,
        )
        return None


@lru_cache(MAX_KEYS)
def _mark(name: str) -> int:
    """Return a number for a name; never 0, which marks an unused place."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) | 1
