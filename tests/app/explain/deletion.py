"""Deletion and insertion tests of saliency maps (Petsiuk et al. 2018, arXiv:1806.07421).

A map orders an image's pixels. Replacing them in that order by a blurred copy, in 16 steps, should lose the predicted
class soon: the area under its probability is the score, lower is better. Scattered single pixels damage a small picture
wherever they are, so whole regions of 4×4 pixels are replaced too, in the order of their means (Samek et al. 2017).
Insertion puts the regions back into the blurred image: higher is better.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from app.explain.saliency import Floats, fit_saliency, hide, sample_masks

Pixels = NDArray[np.uint8]
Predict = Callable[[Pixels], Floats]  # (N, 32, 32, 3) → probabilities (N, K)
STEPS = 16
REGION = 4
SERVED, RANDOM, SOBEL = "as served", "random, smooth", "Sobel magnitude"


def mean_areas(predict: Predict, images: Pixels) -> dict[str, dict[str, float]]:
    """Mean areas over images (N, 32, 32, 3), by map and by kind of replacement."""
    masks, rng = sample_masks(), np.random.default_rng(0)
    areas: dict[str, list[dict[str, float]]] = {SERVED: [], RANDOM: [], SOBEL: []}
    for image in images:
        rows = predict(np.concatenate([image[None], hide(image, masks.visible)]))
        index = int(rows[0].argmax())
        maps = {
            SERVED: fit_saliency(masks, float(rows[0, index]), rows[1:, index]),
            RANDOM: sample_masks(2, int(rng.integers(2**31))).visible[0],
            SOBEL: sobel(image),
        }
        for name, heatmap in maps.items():
            areas[name].append(deletion_areas(predict, image, index, heatmap))
    return {
        name: {kind: float(np.mean([area[kind] for area in each])) for kind in each[0]} for name, each in areas.items()
    }


def deletion_areas(predict: Predict, image: Pixels, index: int, heatmap: Floats) -> dict[str, float]:
    """Areas under the probability of class `index`: `pixels` and `regions` blurred, `insertion` of regions."""
    means = heatmap.reshape(32 // REGION, REGION, 32 // REGION, REGION).mean((1, 3))
    pixels, regions = _deletion_masks(heatmap), _deletion_masks(means).repeat(REGION, 1).repeat(REGION, 2)
    copies = np.concatenate([hide(image, mask) for mask in (pixels, regions, 1 - regions)])
    curves = predict(copies)[:, index].reshape(3, -1)
    areas = [float(np.trapezoid(curve)) / STEPS for curve in curves]
    return dict(zip(("pixels", "regions", "insertion"), areas, strict=True))


def _deletion_masks(order: Floats) -> Floats:
    """Masks (17, height, width) that hide more and more cells of a map (height, width), the highest first."""
    rank = np.empty(order.size, np.int64)
    rank[np.argsort(-order, axis=None, kind="stable")] = np.arange(order.size)
    hidden = np.arange(STEPS + 1) * order.size // STEPS
    return (rank.reshape(order.shape) >= hidden[:, None, None]).astype(np.float32)


def sobel(image: Pixels) -> Floats:
    """Gradient magnitude (32, 32) of the grey image."""
    grey = np.pad(image.mean(-1, dtype=np.float32), 1, mode="edge")
    across = grey[:, 2:] - grey[:, :-2]
    down = grey[2:] - grey[:-2]
    return np.hypot(across[:-2] + 2 * across[1:-1] + across[2:], down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:])
