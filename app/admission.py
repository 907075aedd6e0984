"""Decides which predictions are let in: not too many at once, and none while they take too long.

Knows no settings and no network.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.errors import Problem

# Predictions that fit into one or two calls of the network are no backlog, however long they take.
NO_BACKLOG = 32
# Predictions end a call of the network at a time, and the first calls are slow: fewer than four calls give no rate.
MIN_COMPLETED, MAX_COMPLETED = 4 * NO_BACKLOG, 8 * NO_BACKLOG


class Backlog:
    """Counts predictions in progress, and remembers when the last ones were completed.

    By Little's law a prediction takes as many seconds as there are predictions in progress, divided by the number
    completed in a second. A request is not in progress while its client still sends the body.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._in_progress = 0
        self._completed: deque[float] = deque(maxlen=MAX_COMPLETED)

    @contextmanager
    def track(self) -> Iterator[None]:
        """Count one prediction, from the time its body has arrived until its answer is ready.

        A cancelled one (its client left, or its time was up) is not counted as completed.
        """
        if not self._in_progress:
            self._completed.clear()  # the time without any request says nothing about speed
        self._in_progress += 1
        cancelled = False
        try:
            yield
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            self._in_progress -= 1
            if not cancelled:
                self._completed.append(self._clock())

    @property
    def seconds(self) -> float:
        """Expected duration of a prediction that arrives now; 0 without a backlog, or with too few to tell."""
        if self._in_progress <= NO_BACKLOG or len(self._completed) < MIN_COMPLETED:
            return 0.0
        return self._in_progress * (self._clock() - self._completed[0]) / len(self._completed)


class Admission:
    """Limits the requests in flight, each of which holds a body in memory, and the time that predictions take."""

    def __init__(self, max_requests: int, max_wait_seconds: float) -> None:
        self._max_requests, self._max_wait_seconds = max_requests, max_wait_seconds
        self.requests = 0  # in flight
        self.backlog = Backlog()

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Let one request in.

        Raises:
            Problem: too many requests are in flight, or predictions take too long.
        """
        if self.requests >= self._max_requests:
            raise Problem("overloaded", f"{self.requests} predictions are under way, the limit; try again")
        if (seconds := self.backlog.seconds) > self._max_wait_seconds:
            raise Problem("overloaded", f"predictions take {seconds:.1f} s at present, which is too long; try again")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1
