"""Sampling error of accuracies: the interval of one, the standard error of the difference of two."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z = NormalDist().inv_cdf(0.975)  # for 95 %, both sides
TWO_DECIMALS_FROM = 1_000  # images; with fewer, a second decimal would only look exact


def accuracy_with_interval(right: int, n: int) -> str:
    """Format an accuracy, its number of images and its 95 % interval: `95.7% of 300 (95% interval 92.7% to 97.5%)`."""
    if n == 0:
        return "unknown, of 0 images"
    low, high = wilson_interval(right, n)
    decimals = 2 if n >= TWO_DECIMALS_FROM else 1
    accuracy, least, most = (f"{share:.{decimals}%}" for share in (right / n, float(low), float(high)))
    return f"{accuracy} of {n:,} (95% interval {least} to {most})"


def accuracy_document(right: int, n: int) -> dict[str, Any]:
    """Return an accuracy for JSON: `value`, `n` and `interval_95`; value and interval are null if n is 0."""
    if n == 0:
        return {"value": None, "n": 0, "interval_95": None}
    return {"value": right / n, "n": n, "interval_95": [float(bound) for bound in wilson_interval(right, n)]}


def mean_document(hits: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the mean accuracy under several conditions (…, N) for JSON, as `accuracy_document` does.

    The interval is normal, of the N images' means: the conditions share the images.
    """
    value, reach = float(hits.mean()), Z * standard_error(hits)
    return {"value": value, "n": hits.shape[-1], "interval_95": [max(value - reach, 0.0), min(value + reach, 1.0)]}


def standard_error(values: NDArray[Any]) -> float:
    """Standard error of a mean over conditions and images (…, N), which are averaged first: conditions share them."""
    by_image = values.reshape(-1, values.shape[-1]).mean(0)
    return float(by_image.std() / np.sqrt(len(by_image)))


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


@dataclass(frozen=True)
class Difference:
    """Accuracy of a new network and of an old one on n images, and the standard error of their difference."""

    new: float
    old: float
    n: int
    standard_error: float

    @property
    def is_loss(self) -> bool:
        """True if the new network is worse by more than a standard error."""
        return self.new < self.old and self.old - self.new > self.standard_error * (1 + 1e-9)  # for rounding

    def __str__(self) -> str:
        return (
            f"{self.new:.2%} against {self.old:.2%} of {self.n:,} test images, a difference of "
            f"{100 * (self.new - self.old):+.2f} points with a standard error of {100 * self.standard_error:.2f}"
        )


def paired_difference(new: NDArray[np.bool_], old: NDArray[np.bool_]) -> Difference:
    """Compare two networks on the same images: which of them (N,) each is right on.

    The standard error counts the images on which one of them alone is right, as the test of McNemar (1947) does:
    two good networks mostly err on the same images, so that their difference is known better than either accuracy.
    """
    return Difference(float(new.mean()), float(old.mean()), len(new), sqrt(np.count_nonzero(new != old)) / len(new))


def unpaired_difference(new: float, old: float, n: int) -> Difference:
    """Compare two accuracies of n images each, where it is not known on which images each network was right."""
    return Difference(new, old, n, sqrt((new * (1 - new) + old * (1 - old)) / n))
