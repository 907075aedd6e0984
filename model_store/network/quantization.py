"""`quantization.npz`: between which values activations are rounded to 8 bits. The weights stay the one float32 set.

Only what convolutions read is rounded, and of a network's input nothing: that is where the multiply-adds are, and the
first layer sees differences of pixels that 8 bits of a normalised range would lose.

Kernels take 7 of the 8 bits. A processor without instructions for sums of 8-bit products (VNNI) adds two products in 16
bits and cuts off what is over; with these none is, so that every processor computes the same sums.
"""

import io
from pathlib import Path

import numpy as np

from model_store.errors import ModelError
from model_store.network.architecture import Architecture
from model_store.network.layers import Conv2D

Ranges = dict[str, tuple[float, float]]  # layer name -> lowest and highest value of its output that can be told apart
STEPS = 255
KERNEL_STEPS = 63  # on either side of zero; twice 255 × 63 is less than 2 ** 15


def quantizable(architecture: Architecture) -> tuple[str, ...]:
    """The layers whose outputs convolutions read, in the architecture's order."""
    read = {node.inputs[0] for node in architecture.nodes if isinstance(node.layer, Conv2D)}
    return tuple(node.layer.name for node in architecture.nodes[1:] if node.layer.name in read)


def representable(low: float, high: float) -> tuple[float, float]:
    """The range of 256 equal steps around `low` <= 0 <= `high` in which zero, the padding's value, is exact.

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", 2018.
    """
    step = (high - low) / STEPS or 1.0
    zero = round(-low / step)
    return float(-zero * step), float((STEPS - zero) * step)


def write_ranges(ranges: Ranges, path: Path) -> None:
    """Write `quantization.npz`: the names `layers` (L,) and their `ranges` (L, 2) float32."""
    np.savez(path, layers=np.array(list(ranges)), ranges=np.array(list(ranges.values()), np.float32))


def read_ranges(content: bytes, architecture: Architecture) -> Ranges:
    """Read `quantization.npz`; pickled objects are refused.

    Raises:
        ModelError: it is no such file, or does not hold one usable range for every layer that has to have one.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            names, values = arrays["layers"], arrays["ranges"]
    except Exception as error:  # noqa: BLE001 there is no end to what NumPy and zipfile raise on damaged files
        raise ModelError(f"quantization.npz cannot be read: {error}") from None
    if values.dtype != np.float32 or values.shape != (names.size, 2) or not np.isfinite(values).all():
        raise ModelError(f"quantization.npz holds ranges {values.dtype} {values.shape}, not finite float32 (L, 2)")
    wanted = quantizable(architecture)
    if sorted(map(str, names.ravel())) != sorted(wanted):
        raise ModelError(f"quantization.npz has ranges of {names.tolist()}, the network needs those of {list(wanted)}")
    for name, (low, high) in zip(names, values, strict=True):
        if not low <= 0 <= high or low == high:
            raise ModelError(f"quantization.npz: the range of {str(name)!r} must span zero, it is {low} to {high}")
    return {str(name): (float(low), float(high)) for name, (low, high) in zip(names, values, strict=True)}
