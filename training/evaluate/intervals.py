"""Sampling error of accuracies: the interval of one, the standard error of the difference of two."""

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store.wilson import Z, decimals, wilson_interval


def accuracy_with_interval(right: int, n: int) -> str:
    """Format an accuracy, its number of images and its 95 % interval: `95.7% of 300 (95% interval 92.7% to 97.5%)`."""
    if n == 0:
        return "unknown, of 0 images"
    low, high = (f"{float(bound):.{decimals(n)}%}" for bound in wilson_interval(right, n))
    return f"{accuracy_of(right, n)} (95% interval {low} to {high})"


def accuracy_of(right: int, n: int) -> str:
    """Format an accuracy and its number of images: `95.7% of 300`."""
    return f"{right / n:.{decimals(n)}%} of {n:,}"


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

    @property
    def change(self) -> str:
        """How many more or fewer images the new network is right on; within chance is up to a standard error."""
        images = round((self.new - self.old) * self.n)
        if not images:
            return "as many right"
        by_chance = abs(images) <= self.standard_error * self.n * (1 + 1e-9)  # for rounding
        return f"{abs(images):,} {'more' if images > 0 else 'fewer'} right{', within chance' if by_chance else ''}"

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
