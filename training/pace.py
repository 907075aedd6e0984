"""How often a log gets a line of progress where no terminal shows a bar."""

import time
from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], float]  # seconds since any moment, as time.monotonic

LINE_SECONDS = 60.0


class Pace:
    """Spaces lines out: at most one a minute."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock, self._last = clock, clock()

    def due(self) -> bool:
        """Return True, for a line to be printed now, if the last one was a minute ago."""
        if self._clock() - self._last < LINE_SECONDS:
            return False
        self.restart()
        return True

    def restart(self) -> None:
        """Count the minute from now, because a line has been printed."""
        self._last = self._clock()


def format_duration(seconds: float) -> str:
    """Format seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
