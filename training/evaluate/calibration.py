"""Temperature scaling: one number that logits are divided by before softmax, so that confidence matches accuracy.

Owns the fit and its figures; `training.publish.fitting` says which images it may be fitted on.
Source: Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
MIN_PROBABILITY = 1e-30  # float32 softmax rounds to 0 below about this


class Calibration(NamedTuple):
    """A temperature and the mean negative log-likelihood of the images it was fitted on, without and with it."""

    temperature: float
    images: int
    before: float
    after: float

    def document(self) -> dict[str, float]:
        """Ready for a manifest."""
        return {
            "temperature": round(self.temperature, 4),
            "fitted_on_images": self.images,
            "negative_log_likelihood_before": round(self.before, 4),
            "negative_log_likelihood_after": round(self.after, 4),
        }


def fit_temperature(probabilities: NDArray[np.float32], labels: NDArray[np.int32]) -> Calibration | None:
    """Find the temperature with the least negative log-likelihood. The order of the classes does not change.

    Returns None if no minimum lies between 0.05 and 20, as when every prediction is right: nothing bounds confidence.

    Args:
        probabilities: (N, K), softmax of the logits at temperature 1.
        labels: (N,).
    """
    logs = np.log(np.maximum(probabilities.astype(np.float64), MIN_PROBABILITY))  # logits, up to a constant a row
    low, high = np.log(1 / MAX_TEMPERATURE), np.log(1 / MIN_TEMPERATURE)
    for _ in range(60):  # convex in 1 / temperature, so halving by the sign of the slope finds the one minimum
        middle = (low + high) / 2
        low, high = (low, middle) if _slope(logs, labels, np.exp(middle)) > 0 else (middle, high)
    temperature = float(np.exp(-low))
    if not MIN_TEMPERATURE * 1.001 < temperature < MAX_TEMPERATURE / 1.001:
        return None
    return Calibration(temperature, len(labels), _loss(logs, labels, 1.0), _loss(logs, labels, 1 / temperature))


def _loss(logs: NDArray[np.float64], labels: NDArray[np.int32], sharpness: float) -> float:
    scaled = logs * sharpness
    top = scaled.max(1)
    normaliser = np.log(np.exp(scaled - top[:, None]).sum(1)) + top
    return float((normaliser - scaled[np.arange(len(labels)), labels]).mean())


def _slope(logs: NDArray[np.float64], labels: NDArray[np.int32], sharpness: float) -> float:
    """The derivative of the loss by `sharpness`, 1 / temperature."""
    scaled = logs * sharpness
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    expected = (powers * logs).sum(1) / powers.sum(1)
    return float((expected - logs[np.arange(len(labels)), labels]).mean())
