"""`quantization.npz`: ranges in which activations are rounded to 8 bits. Weights are stored in float32 only.

Only the inputs of Conv2D are rounded: these do nearly all multiply-adds. Depthwise convolutions are bound by memory,
and MobileNetV2 is slower if they are rounded too: 580 instead of 763 images/s at 128×128 in batches of 32, where
bfloat16 has 605 (2 cores of an AMD EPYC with AVX-512 and VNNI, n = 1). The input itself is not rounded: 8 bits of
a normalised range would lose differences between pixels.

Kernels use 7 of the 8 bits. A processor without instructions for sums of 8-bit products (VNNI) adds two products in 16
bits and saturates; 7-bit kernels never reach that, so every processor computes the same sums.
"""

from pathlib import Path

import numpy as np

from model_store.arrays import read_arrays
from model_store.errors import ModelError
from model_store.files import MAX_BYTES, QUANTIZATION
from model_store.network.architecture import Architecture

Ranges = dict[str, tuple[float, float]]  # layer name -> lowest and highest value of its rounded output
STEPS = 255
KERNEL_STEPS = 63  # on either side of zero; twice 255 × 63 is less than 2 ** 15


def quantizable(architecture: Architecture) -> tuple[str, ...]:
    """Return the names of the layers that feed rounded convolutions, in the architecture's order."""
    inputs = {node.inputs[0] for node in architecture.nodes if node.layer.is_rounded}
    return tuple(node.layer.name for node in architecture.nodes[1:] if node.layer.name in inputs)


def representable(low: float, high: float) -> tuple[float, float]:
    """Return a range near `low` <= 0 <= `high` whose 256 levels include zero, the value of padding.

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
        ModelError: it cannot be read, or does not hold one valid range for every quantizable layer.
    """
    arrays = read_arrays(content, QUANTIZATION, ("layers", "ranges"), MAX_BYTES[QUANTIZATION])
    names, values = arrays["layers"], arrays["ranges"]
    if values.dtype != np.float32 or values.shape != (names.size, 2) or not np.isfinite(values).all():
        raise ModelError(f"{QUANTIZATION} holds ranges {values.dtype} {values.shape}, not finite float32 (L, 2)")
    quantizable_names = quantizable(architecture)
    if sorted(map(str, names.ravel())) != sorted(quantizable_names):
        raise ModelError(
            f"{QUANTIZATION} has ranges for {str(names.tolist())[:200]}, "
            f"the network needs ranges for {str(list(quantizable_names))[:200]}"
        )
    for name, (low, high) in zip(names, values, strict=True):
        if not low <= 0 <= high or low == high:
            raise ModelError(f"{QUANTIZATION}: the range of {str(name)!r} must span zero, it is {low} to {high}")
    return {str(name): (float(low), float(high)) for name, (low, high) in zip(names, values, strict=True)}
