"""How long a prediction of one image takes at present, which a queue's length alone does not say.

Knows no settings and no network.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# So many predictions at a time make one call of the network, or two: that is no backlog, however long they take.
NO_BACKLOG = 32
# Answers come a call of the network at a time, and the first calls are slow: of fewer than four no rate is told.
FEWEST, MOST = 4 * NO_BACKLOG, 8 * NO_BACKLOG


class Backlog:
    """Predictions at work, and when the last ones were done.

    By Little's law those at work divided by how many are done in a second is the seconds that each takes. What still
    waits for its client to send it is not at work.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._at_work = 0
        self._done: deque[float] = deque(maxlen=MOST)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around one prediction, from when its body is there until its answer is.

        One that is cancelled, because its client left or its time was up, was not done.
        """
        if not self._at_work:
            self._done.clear()  # how long nothing was asked for says nothing of how fast it would have been answered
        self._at_work += 1
        cancelled = False
        try:
            yield
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            self._at_work -= 1
            if not cancelled:
                self._done.append(self._now())

    @property
    def seconds(self) -> float:
        """What a prediction takes that comes now; 0 while there is no backlog, or too little to tell."""
        if self._at_work <= NO_BACKLOG or len(self._done) < FEWEST:
            return 0.0
        return self._at_work * (self._now() - self._done[0]) / len(self._done)
