"""Turns: one task at a time, clients in rotation."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.batcher import QueueFullError


class Turns:
    """A lock that passes from client to client: one with many waiting tasks does not delay another's first."""

    def __init__(self, max_wait_seconds: float) -> None:
        self._max_wait_seconds = max_wait_seconds
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # the next client first
        self._is_taken = False

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for one of the client's turns, and hold it for the block.

        Raises:
            QueueFullError: it did not come within `max_wait_seconds`.
        """
        if self._is_taken:
            try:
                async with asyncio.timeout(self._max_wait_seconds):
                    await self._wait(client)
            except TimeoutError:
                raise QueueFullError(f"other explanations have taken {self._max_wait_seconds:g} s") from None
        self._is_taken = True
        try:
            yield
        finally:
            if client in self._waiting:
                self._waiting.move_to_end(client)
            self._pass_on()

    async def _wait(self, client: str) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(future)
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled():  # the turn came at the same time
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Wake the next client's longest-waiting task; the turn stays taken for it."""
        while self._waiting:
            client, futures = self._waiting.popitem(last=False)
            future = futures.popleft()
            if futures:
                self._waiting[client] = futures
            if not future.cancelled():
                future.set_result(None)
                return
        self._is_taken = False
