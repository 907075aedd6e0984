"""Load shedding: refuses predictions when too many are in flight, they take too long or images fill the memory.

While several clients have requests in flight, one that has more than its share of them is refused earlier, and the
others later: an idle service gives one client everything, and a flood of requests delays others without shutting them
out. Knows neither settings nor the network.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable

from app.errors import Problem
from app.process.core_share import ONE_CORE, CoreShare

# Up to this many predictions fit into one or two calls of the network and do not count as a backlog.
NO_BACKLOG = 32
# A call of the network completes many predictions at once, and the first calls are slow: measuring a rate takes four.
MIN_COMPLETED, MAX_COMPLETED = 4 * NO_BACKLOG, 8 * NO_BACKLOG

# While several clients have requests in flight, the limits are multiplied by these: for a client with more than its
# share of them, and for one with less. Predictions may take twice as long for the latter, since another caused that.
ABOVE_SHARE, BELOW_SHARE, BELOW_SHARE_WAIT = 0.5, 1.125, 2.0
# Equal clients differ by chance, and each should have all of the limit.
MUCH_ABOVE = 1.5

# While a body is joined, cut out of a form, or rid of what pixels do not depend on, there are two copies of it.
BODY_COPIES = 2


class Backlog:
    """Counts predictions in progress, each in a `with` block, and records when recent ones completed.

    By Little's law, a prediction takes as long as the number in progress divided by the number completed per second.
    A request is not in progress while its body is still being received.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._in_progress = 0
        self._completed: deque[float] = deque(maxlen=MAX_COMPLETED)

    def __enter__(self) -> None:
        """Begin one prediction, when its request's body has arrived."""
        if not self._in_progress:
            self._completed.clear()  # idle time says nothing about speed
        self._in_progress += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End one. A cancelled prediction (client disconnect or timeout) does not count as completed."""
        self._in_progress -= 1
        if kind is not asyncio.CancelledError:
            self._completed.append(self._clock())

    @property
    def seconds(self) -> float:
        """Expected duration of a prediction that arrives now; 0 without a backlog or with too few completions."""
        if self._in_progress <= NO_BACKLOG or len(self._completed) < MIN_COMPLETED:
            return 0.0
        return self._in_progress * (self._clock() - self._completed[0]) / len(self._completed)


class Admission:
    """Limits how many requests are in flight, uploads excepted, and how long predictions take."""

    def __init__(self, max_requests: int, max_wait_seconds: float, share: CoreShare = ONE_CORE) -> None:
        """`share` is told whether requests are in flight."""
        self._max_requests, self._max_wait_seconds, self._share = max_requests, max_wait_seconds, share
        self.requests = 0  # in flight: their bodies have arrived
        self._by_client: dict[str, int] = {}  # those in flight
        self.backlog = Backlog()

    def check(self, client: str = "") -> None:
        """Refuse a request that `admit` would refuse, before its body is read.

        Raises:
            Problem: too many requests are in flight, or predictions take too long; while other clients have requests
                in flight too, a client with more than its share is refused at half of these limits.
        """
        max_requests, max_wait_seconds = self._limits(client)
        if self.requests >= max_requests:
            if max_requests < self._max_requests:
                detail = f"{self._by_client[client]} of the {self.requests} requests in flight are yours"
                raise Problem("overloaded", f"{detail}, and others wait too; try again, with fewer at once")
            raise Problem("overloaded", f"{self.requests} requests are in flight, which is the limit; try again")
        if (seconds := self.backlog.seconds) > max_wait_seconds:
            raise Problem("overloaded", f"predictions currently take {seconds:.1f} s, which is too long; try again")

    def _limits(self, client: str) -> tuple[int, float]:
        """Return how many requests may be in flight, and how long predictions may take, to let this client in."""
        max_requests, max_wait_seconds = self._max_requests, self._max_wait_seconds
        own = self._by_client.get(client, 0)
        clients = len(self._by_client) + (own == 0)
        if clients > 1:
            max_requests = int(max_requests * (BELOW_SHARE if own * clients < max_requests else ABOVE_SHARE))
            if own * clients < self.requests:
                max_wait_seconds *= BELOW_SHARE_WAIT
            elif own * clients > MUCH_ABOVE * self.requests:
                max_wait_seconds *= ABOVE_SHARE
        return max_requests, max_wait_seconds

    def enter(self, client: str = "") -> None:
        """Admit one request whose body has arrived, until `leave`.

        Raises:
            Problem: as `check`.
        """
        self.check(client)
        self.requests += 1
        self._by_client[client] = self._by_client.get(client, 0) + 1
        if self.requests == 1:
            self._share.set_busy(True)

    def leave(self, client: str = "") -> None:
        """End one request."""
        self.requests -= 1
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]
        if not self.requests:
            self._share.set_busy(False)


class ImageMemory:
    """The bytes that bodies and decoded pixels of this process may take together, in all its threads."""

    def __init__(self, capacity: int) -> None:
        self.capacity = self.free = capacity
        self._lock = threading.Lock()

    def reserve(self) -> "Reservation":
        """Start an empty reservation; the end of a `with` block, or `release`, returns its bytes."""
        return Reservation(self)

    def take(self, size: int) -> None:
        """Take bytes.

        Raises:
            Problem: fewer are free.
        """
        with self._lock:
            if self.free < size:
                used, capacity = (self.capacity - self.free) // 1_000_000, self.capacity // 1_000_000
                raise Problem("overloaded", f"other images take {used} of {capacity} MB of memory; try again")
            self.free -= size

    def give_back(self, size: int) -> None:
        """Give bytes back."""
        with self._lock:
            self.free += size


class Reservation:
    """A share of `ImageMemory`: one body's, or one decoder's."""

    def __init__(self, memory: ImageMemory) -> None:
        self._memory, self._size = memory, 0

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Return the bytes."""
        self._memory.give_back(self._size)
        self._size = 0

    def grow(self, size: int) -> None:
        """Take `size` more bytes.

        Raises:
            Problem: they are not free.
        """
        self._memory.take(size)
        self._size += size
