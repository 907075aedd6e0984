"""Waiting for events: in other processes with a deadline, in this event loop turn by turn."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
DEADLINE_SECONDS = 60


def wait_until(
    condition: Callable[[], T], describe: Callable[[], object] = lambda: "", seconds: float = DEADLINE_SECONDS
) -> T:
    """Poll until `condition` returns something true, and return that; fail with `describe()` at the deadline."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, describe()
        time.sleep(0.01)
    return result


async def next_turn() -> None:
    """Let the event loop run the callbacks that are ready now."""
    await asyncio.sleep(0)


async def run_ready_tasks() -> None:
    """Let every task that is not waiting for an event run until it is."""
    for _ in range(10):
        await next_turn()
