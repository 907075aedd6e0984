"""Ends a task's work early: its client has left, its deadline has passed, or others need the memory."""

import asyncio
from collections.abc import Callable


class Stop:
    """Lets others end the work of the current task with an exception."""

    __slots__ = ("_cancelling", "_make_error", "_task")

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        # Makes the exception, which is not kept: its traceback would refer to the work, and that to this object.
        self._make_error: Callable[[], Exception] | None = None

    def __call__(self, make_error: Callable[[], Exception]) -> None:
        """Cancel the task, unless that was done already; its work then ends with this exception."""
        if self._make_error is None:
            self._make_error = make_error
            self._task.cancel()

    def finish(self, error: BaseException | None) -> None:
        """End the work, which raised this or nothing; raise what ended it early, if nothing else cancelled the task."""
        if self._make_error is None:
            return
        is_last = self._task.uncancel() <= self._cancelling
        if is_last and isinstance(error, asyncio.CancelledError):
            raise self._make_error() from None


class Deadlines:
    """Calls functions when the same number of seconds has passed for each, with one timer for all of them."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._due: dict[Callable[[], None], float] = {}  # the next one first
        self._timer: asyncio.TimerHandle | None = None

    def add(self, expire: Callable[[], None]) -> None:
        """Call `expire` after the seconds, unless it is removed before; needs a running event loop."""
        loop = asyncio.get_running_loop()
        self._due[expire] = due = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_at(due, self._expire)

    def remove(self, expire: Callable[[], None]) -> None:
        """Forget a function; one that was called already is not known any more."""
        self._due.pop(expire, None)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        while (expire := next(iter(self._due), None)) and self._due[expire] <= loop.time():
            del self._due[expire]
            expire()
        self._timer = loop.call_at(self._due[expire], self._expire) if expire else None
