"""Threads for work that takes longer than a millisecond: decoding images and parsing large bodies.

Work that has waited too long for a thread is refused. Otherwise many large images at once would each wait until the
deadline of their requests: answers that come too late, and an alert about a fault where there is only overload.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from app.errors import Problem
from app.process.cores import give_way

P = ParamSpec("P")
T = TypeVar("T")


class Decoders:
    """A pool of threads of low priority."""

    def __init__(self, threads: int, max_wait_seconds: float) -> None:
        self._pool, self._max_wait_seconds = (
            ThreadPoolExecutor(threads, "decode", initializer=give_way),
            max_wait_seconds,
        )

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in a thread.

        Raises:
            Problem: no thread was free within `max_wait_seconds`.
        """
        job, late = self._pool.submit(function, *args, **kwargs), False

        def give_up() -> None:
            nonlocal late
            late = job.cancel()  # False once it runs

        timer = asyncio.get_running_loop().call_later(self._max_wait_seconds, give_up)
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            if not late:
                raise
            waited = f"images before this one have been decoded for {self._max_wait_seconds:g} s"
            raise Problem("overloaded", f"{waited}; try again, with fewer or smaller images") from None
        finally:
            timer.cancel()

    def close(self) -> None:
        """Forget the work that waits, and end the threads when they are done."""
        self._pool.shutdown(wait=False, cancel_futures=True)
