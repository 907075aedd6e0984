"""The stages of a request, measured once for Server-Timing, metrics and traces."""

import time
from typing import TypeAlias

Interval: TypeAlias = tuple[float, float]  # began and ended, on the clock of time.perf_counter


class Stages(dict[str, Interval]):
    """When each finished stage of one request began and ended."""

    __slots__ = ("batch_images",)
    batch_images: int  # in the call of the network that computed its last image; unset before it

    def timed(self, stage: str) -> "Timed":
        """Record when a `with` block began and ended, unless it raises."""
        return Timed(self, stage)


class Timed:
    """A stage that is being measured."""

    __slots__ = ("_began", "_stage", "_stages")

    def __init__(self, stages: Stages, stage: str) -> None:
        self._stages, self._stage = stages, stage

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._stages[self._stage] = self._began, time.perf_counter()
