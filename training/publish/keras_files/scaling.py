"""Take the layers that scale the pixels off a network's front: they become the version's preprocessing."""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store.errors import ModelError
from training.publish.keras_files.graph import Call, Graph, rewired
from training.publish.keras_files.layers import REVERSED

EPSILON = 1e-7  # Normalization divides by no less
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Scaling:
    """`pixel * scale + offset`, one number for each channel, after reversing the channels or not."""

    scale: Numbers
    offset: Numbers
    reversed: bool = False

    def then(self, other: "Scaling") -> "Scaling":
        """Return the scaling that applies this one, then the other."""
        scale, offset = self.scale, self.offset
        if other.reversed:
            scale, offset = scale[::-1], offset[::-1]
        with np.errstate(all="ignore"):  # what overflows is refused as a preprocessing
            offset = offset * other.scale + other.offset
            return Scaling(scale * other.scale, offset, self.reversed != other.reversed)

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scale images (N, H, W, C)."""
        ordered = pixels[..., ::-1] if self.reversed else pixels
        return (ordered * self.scale + self.offset).astype(np.float32)


def identity(channels: int) -> Scaling:
    """Return the scaling that changes nothing."""
    return Scaling(np.ones(channels), np.zeros(channels))


def take_scaling(graph: Graph, channels: int) -> list[Call]:
    """Remove the layers between the input and the first one that is not a scaling, and return them.

    A layer that scales by a number that is not above zero stays: a preprocessing has no such deviation.
    """
    readers: defaultdict[str, list[Call]] = defaultdict(list)
    for call in graph.calls:
        for name in set(call.inputs):
            readers[name].append(call)
    first, *rest = graph.calls
    taken, last = list[Call](), first
    while len(readers[last.name]) == 1:
        (reader,) = readers[last.name]
        if reader.name == graph.output or not _is_scaling(reader, channels):
            break
        taken.append(reader)
        last = reader
    names = {call.name: first.name for call in taken}
    graph.calls = [first, *(rewired(call, names) for call in rest if call.name not in names)]
    return taken


def _is_scaling(call: Call, channels: int) -> bool:
    if call.kind == "Normalization":
        return _last_axis(call.config.get("axis")) and _has_numbers(call, channels)
    if call.kind == "Rescaling":
        return (scaling := _rescaling(call, channels)) is not None and bool((scaling.scale > 0).all())
    return call.kind == REVERSED and channels == 3


def _last_axis(axis: Any) -> bool:
    return axis in (None, [], -1, 3, [-1], [3])


def _has_numbers(call: Call, channels: int) -> bool:
    """Tell if a Normalization's mean and variance, where its config has them, are numbers."""
    given = [call.config.get(key) for key in ("mean", "variance")]
    return given == [None, None] or all(_numbers(value, channels) is not None for value in given)


def needs_weights(call: Call) -> bool:
    """Tell if it is a Normalization that was adapted to images, so that its weights have mean and variance."""
    return call.kind == "Normalization" and call.config.get("mean") is None


def weight_shape(call: Call, channels: int) -> tuple[int, ...]:
    """Return the shape of an adapted Normalization's mean: one number for all, or one for each channel."""
    return () if call.config.get("axis") in (None, []) else (channels,)


def compose(taken: list[Call], weights: dict[str, tuple[Any, Any]], channels: int) -> Scaling:
    """Return what the layers taken do together.

    Args:
        weights: mean and variance of each adapted Normalization, by its name.

    Raises:
        ModelError: a variance is below zero.
    """
    scaling = identity(channels)
    for call in taken:
        scaling = scaling.then(_scaling(call, weights, channels))
    return scaling


def _scaling(call: Call, weights: dict[str, tuple[Any, Any]], channels: int) -> Scaling:
    if call.kind == REVERSED:
        return replace(identity(channels), reversed=True)
    if scaling := _rescaling(call, channels) if call.kind == "Rescaling" else None:
        return scaling
    given = weights.get(call.name) or [_numbers(call.config[key], channels) for key in ("mean", "variance")]
    mean, variance = (np.broadcast_to(np.asarray(value, np.float64).ravel(), channels) for value in given)
    if not (variance >= 0).all():
        raise ModelError(f"layer {call.name!r} (Normalization) has a variance below zero; adapt it to images again")
    deviation = np.maximum(np.sqrt(variance), EPSILON)
    if call.config.get("invert"):
        return Scaling(deviation, mean)
    return Scaling(1 / deviation, -mean / deviation)


def _rescaling(call: Call, channels: int) -> Scaling | None:
    scale, offset = (_numbers(call.config.get(key, 0.0), channels) for key in ("scale", "offset"))
    return None if scale is None or offset is None else Scaling(scale, offset)


def _numbers(value: Any, channels: int) -> Numbers | None:
    """Return one number for each channel, or None if it is neither that nor one number for all."""
    while isinstance(value, dict) and isinstance(value.get("config"), dict):
        value = value["config"].get("value")
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    values = value if isinstance(value, list) else [value] * channels
    if len(values) != channels or not all(isinstance(number, int | float) and abs(number) < 1e30 for number in values):
        return None
    return np.asarray(values, np.float64)
