"""The stages of a request, measured once for Server-Timing, metrics and traces."""

from typing import TypeAlias

Interval: TypeAlias = tuple[float, float]  # began and ended, on the clock of time.perf_counter


class Stages(dict[str, Interval]):
    """When each finished stage of one request began and ended."""

    __slots__ = ("batch_images",)
    batch_images: int  # in the call of the network that computed its last image; unset before it
