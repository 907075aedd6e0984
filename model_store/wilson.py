"""The sampling error of a share of n images, for the jobs and for the model card."""

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z = NormalDist().inv_cdf(0.975)  # for 95 %, both sides
TWO_DECIMALS_FROM = 1_000  # images; with fewer, a second decimal would only look exact


def decimals(n: float) -> int:
    """Return the number of decimals that a percentage of n images deserves."""
    return 2 if n >= TWO_DECIMALS_FROM else 1


def wilson_interval(right: ArrayLike, n: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the 95 % interval of the share `right / n`, element by element; (0, 1) where n is 0.

    Unlike the normal approximation it stays within 0 and 1 and holds for few images and for shares near 1.
    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    hits, counts = np.asarray(right, np.float64), np.asarray(n, np.float64)
    middle = hits + Z**2 / 2
    spread = Z * np.sqrt(hits * (1 - hits / np.maximum(counts, 1)) + Z**2 / 4)
    low, high = (middle - spread) / (counts + Z**2), (middle + spread) / (counts + Z**2)
    return np.clip(low, 0, 1), np.clip(high, 0, 1)
