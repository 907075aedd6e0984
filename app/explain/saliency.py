"""Which pixels an answer rests on: the masks under which the network is asked again, and the map its answers give.

Arrays only: knows neither the network, the queue in front of it, nor HTTP. Everything random is drawn once, from a
fixed seed, so that the same image always gets the same map.

The idea is RISE's (Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
2018, arXiv:1806.07421): hide random parts of the image and see what that does to the answer. RISE averages thousands
of masks; there is time for 80 here, so two things differ. Masks come in pairs that complement each other, and the map
is the smooth one that explains the changes best, by ridge regression, instead of an average.
`docs/experiments/explanations.md` compares it with RISE's average and other maps.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_store.images.decode import SIDE

Floats = NDArray[np.float32]

METHOD = {
    "name": "ridge regression on random masks",
    "source": "after RISE: Petsiuk, Das and Saenko, 2018, arXiv:1806.07421",
}

MASKS = 80
SEED = 0
SPOT = 3.0  # pixels; the standard deviation of the Gaussian that a mask's noise is smoothed with
STEEPNESS = 4.0  # of the step from hidden to kept
BLUR = 4.0  # pixels; of the Gaussian that stands in for what is hidden
REACH = 4.0  # pixels; how far neighbours in a map resemble each other
NOISE = 0.1  # how much of the scores' spread is taken to be none of a map's
LEAST = 1e-4  # probabilities are told apart down to here: below, the network's last bits speak


@dataclass(frozen=True)
class Masks:
    """What is hidden from the network, and the matrix that turns its answers into a map."""

    kept: Floats  # (N, 32, 32), how much of each pixel stays, from 0 to 1
    solution: Floats  # (1024, N), a map from changes of score


def random_masks(count: int = MASKS, seed: int = SEED) -> Masks:
    """An even number of masks in complementary pairs, the same ones for the same seed."""
    wide = 2 * SIDE  # so that the borders are like the middle
    noise = np.random.default_rng(seed).standard_normal((count // 2, wide, wide))
    edge = SIDE // 2
    field = (_gaussian(wide, SPOT) @ noise @ _gaussian(wide, SPOT).T)[:, edge:-edge, edge:-edge]
    field -= np.median(field, (1, 2), keepdims=True)  # half of the pixels are hidden
    field /= field.std((1, 2), keepdims=True)
    half = 1 / (1 + np.exp(-STEEPNESS * field))
    kept = np.stack([half, 1 - half], 1).reshape(-1, SIDE, SIDE)
    return Masks(kept.astype(np.float32), _solution(kept).astype(np.float32))


def hide(image: NDArray[np.uint8], kept: Floats) -> NDArray[np.uint8]:
    """Copies (n, 32, 32, 3) of an image (32, 32, 3), blurred where the masks (n, 32, 32) do not keep it.

    Blurred rather than grey: a hole with edges is something to see, too.
    """
    gaussian = _gaussian(SIDE, BLUR).astype(np.float32)
    sharp = image.astype(np.float32)
    blurred = (gaussian @ sharp.transpose(2, 0, 1) @ gaussian.T).transpose(1, 2, 0)
    return np.rint(blurred + kept[..., None] * (sharp - blurred)).astype(np.uint8)


def saliency(masks: Masks, whole: float, hidden: Floats) -> Floats:
    """The map (32, 32) from 0 to 1 of what speaks for a class.

    1 is the pixel that the answer rests on most; 0 are all those that change nothing or speak against the class.

    Args:
        whole: the class's probability for the image itself.
        hidden: its probabilities (N,) under each of the masks.
    """
    change = _log_odds(hidden) - _log_odds(np.float32(whole))
    found: Floats = (masks.solution @ change).reshape(SIDE, SIDE).clip(0)
    most = found.max()
    return found / most if most > 0 else found


def _solution(kept: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix (1024, N) of the map's posterior mean under a Gaussian process, which is kernel ridge regression.

    A change of score is minus the sum of the map over what is hidden, plus noise; a map's pixels covary as a Gaussian
    of their distance (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, equation 2.25).
    """
    hidden = 1 - kept
    along = _closeness(SIDE, REACH)  # of two pixels in a row or a column; their product is that of any two
    across = (along @ hidden @ along).reshape(len(kept), -1)
    explained = across @ hidden.reshape(len(kept), -1).T
    noise = NOISE * np.trace(explained) / len(kept) * np.eye(len(kept))
    solved: NDArray[np.float64] = np.linalg.solve(explained + noise, across)
    return -solved.T


def _gaussian(side: int, sigma: float) -> NDArray[np.float64]:
    """The matrix (side, side) that smooths a column; each row sums to one, so that borders do not darken."""
    weights = _closeness(side, sigma)
    smoothing: NDArray[np.float64] = weights / weights.sum(1, keepdims=True)
    return smoothing


def _closeness(side: int, sigma: float) -> NDArray[np.float64]:
    """The Gaussian of the distance between every two of `side` points in a line: (side, side)."""
    close: NDArray[np.float64] = np.exp(-0.5 * (np.subtract.outer(np.arange(side), np.arange(side)) / sigma) ** 2)
    return close


def _log_odds(probability: Floats | np.float32) -> Floats:
    """Sure answers differ here as much as unsure ones do; as probabilities they hardly would."""
    bounded = np.clip(probability, LEAST, 1 - LEAST)
    odds: Floats = np.log(bounded / (1 - bounded))
    return odds
