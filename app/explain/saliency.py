"""Saliency maps: random masks of an image, and a map of influential pixels fitted to the predictions under them.

Works on arrays only, and knows nothing about the network, its queue or HTTP. The masks are drawn once from a fixed
seed, so the same image always gets the same map.

The idea is RISE's (Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
2018, arXiv:1806.07421): hide random parts of the image and see how the prediction changes. RISE averages thousands of
masks. A request has time for 80, so two things differ: masks come in complementary pairs, and ridge regression finds
the smooth map that best explains the changes. `docs/experiments/explanations.md` compares it with RISE's average and
other maps.

Masks and maps have 32×32 cells whatever the image's size: they are too smooth to need more.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

METHOD = {
    "name": "ridge regression on random masks",
    "source": "after RISE: Petsiuk, Das and Saenko, 2018, arXiv:1806.07421",
}

SIDE = 32  # of masks and maps, in cells
MASK_COUNT = 80
SEED = 0
# Standard deviations of Gaussians, in cells.
MASK_SIGMA = 3.0  # smoothing of a mask's noise
BLUR_SIGMA = 4.0  # blur of hidden pixels
MAP_SIGMA = 4.0  # covariance of cells in a map
STEEPNESS = 4.0  # of the step from hidden to visible
NOISE = 0.1  # noise variance, as a fraction of the scores' variance
MIN_PROBABILITY = 1e-4  # smaller ones count as this: they depend on rounding in the network


@dataclass(frozen=True)
class Masks:
    """Masks, and the matrix that converts the predictions under them to a map."""

    visible: Floats  # (N, 32, 32), visibility of each cell, from 0 to 1
    solution: Floats  # (1024, N), maps changes in score to cells


def sample_masks(count: int = MASK_COUNT, seed: int = SEED) -> Masks:
    """Draw `count` masks, an even number, in complementary pairs."""
    wide = 2 * SIDE  # cropped below, so that smoothing treats borders like the middle
    noise = np.random.default_rng(seed).standard_normal((count // 2, wide, wide))
    edge = SIDE // 2
    field = (_smoothing(wide, MASK_SIGMA) @ noise @ _smoothing(wide, MASK_SIGMA).T)[:, edge:-edge, edge:-edge]
    field -= np.median(field, (1, 2), keepdims=True)  # each mask hides half of the pixels
    field /= field.std((1, 2), keepdims=True)
    half = 1 / (1 + np.exp(-STEEPNESS * field))
    visible = np.stack([half, 1 - half], 1).reshape(-1, SIDE, SIDE)
    return Masks(visible.astype(np.float32), _solve(visible).astype(np.float32))


def hide(image: NDArray[np.uint8], visible: Floats) -> NDArray[np.uint8]:
    """Return a copy of an image (H, W, C) once per mask (n, 32, 32), blurring its hidden pixels: (n, H, W, C).

    Painting them grey would not hide them: the network reacts to the edges of a grey hole.
    """
    height, width, _ = image.shape
    sharp = image.astype(np.float32)
    blurred = (_blur(height) @ sharp.transpose(2, 0, 1) @ _blur(width).T).transpose(1, 2, 0)
    if (height, width) != visible.shape[1:]:
        visible = np.asarray(_interpolation(height) @ visible @ _interpolation(width).T, np.float32)
    return np.rint(blurred + visible[..., None] * (sharp - blurred)).astype(np.uint8)


def fit_saliency(masks: Masks, unmasked: float, masked: Floats) -> Floats:
    """Fit a map (32, 32) of each cell's support for a class, from 0 to 1.

    The most influential cell is 1; cells that have no influence or count against the class are 0.

    Args:
        unmasked: probability of the class for the unmasked image.
        masked: probabilities (N,) of the class under each mask.
    """
    change = _log_odds(masked) - _log_odds(np.float32(unmasked))
    saliency: Floats = (masks.solution @ change).reshape(SIDE, SIDE).clip(0)
    maximum = saliency.max()
    return saliency / maximum if maximum > 0 else saliency


def _solve(visible: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the matrix (1024, N) for a map's posterior mean under a Gaussian process: kernel ridge regression.

    A change in score is modelled as minus the sum of the map over the hidden cells, plus noise. The covariance of two
    cells is a Gaussian of their distance (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006,
    equation 2.25).
    """
    hidden, count = 1 - visible, len(visible)
    kernel = _kernel(SIDE, MAP_SIGMA)  # covariance along one axis; for two axes they multiply
    map_score = (kernel @ hidden @ kernel).reshape(count, -1)  # covariances (N, 1024)
    score_score = map_score @ hidden.reshape(count, -1).T  # (N, N)
    noise = NOISE * np.trace(score_score) / count * np.eye(count)
    solution: NDArray[np.float64] = np.linalg.solve(score_score + noise, map_score)
    return -solution.T


@cache
def _blur(side: int) -> Floats:
    """Compute the matrix (side, side) that blurs a column of an image."""
    return _smoothing(side, BLUR_SIGMA * side / SIDE).astype(np.float32)


@cache
def _interpolation(side: int) -> Floats:
    """Compute the matrix (side, 32) that interpolates a column of a mask linearly, its ends extended."""
    places = np.clip((np.arange(side) + 0.5) * SIDE / side - 0.5, 0, SIDE - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(places[:, None] - np.arange(SIDE))), np.float32)


def _smoothing(side: int, sigma: float) -> NDArray[np.float64]:
    """Compute the matrix (side, side) that smooths a column; its rows sum to 1, so borders do not darken."""
    weights = _kernel(side, sigma)
    matrix: NDArray[np.float64] = weights / weights.sum(1, keepdims=True)
    return matrix


def _kernel(side: int, sigma: float) -> NDArray[np.float64]:
    """Compute the Gaussian (side, side) of the distance between every two of `side` points on a line."""
    kernel: NDArray[np.float64] = np.exp(-0.5 * (np.subtract.outer(np.arange(side), np.arange(side)) / sigma) ** 2)
    return kernel


def _log_odds(probability: Floats | np.float32) -> Floats:
    """Compute log-odds, which still distinguish confident predictions whose probabilities hardly differ."""
    bounded = np.clip(probability, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    odds: Floats = np.log(bounded / (1 - bounded))
    return odds
