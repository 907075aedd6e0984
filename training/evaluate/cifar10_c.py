"""CIFAR-10-C's test corruptions at their five published severities, without frost, for images of 32×32 pixels.

Source: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
ICLR 2019, arXiv:1903.12261; parameters and order of operations from `make_cifar_c.py` in hendrycks/robustness. Frost
overlays photographs that are not distributed here. The benchmark's random numbers are not reproduced, only their
distributions, so its mean over these 14 corruptions compares with ours up to sampling error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from training.evaluate.filters import (
    SIDE,
    Floats,
    gaussian_matrix,
    plasma,
    sample,
    smear,
    transform,
    truncate,
    zoom_matrix,
)
from training.evaluate.simulated_uploads import encode

SEED = 0
SEVERITIES = (1, 2, 3, 4, 5)
BATCH = 250  # images, 6 MB in float64

Pixels: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True)
class CommonCorruption:
    """A corruption of the benchmark. `parameters` are the published ones by severity, in the order of their source."""

    name: str
    parameters: tuple[Any, Any, Any, Any, Any]
    damage: Callable[[Floats, Any, Generator], Floats]  # images (N, 32, 32, 3), 0 to 1 before and mostly after
    parameter: ClassVar[str] = "severity"
    strengths: ClassVar[tuple[int, ...]] = SEVERITIES

    def apply(self, pixels: Pixels, severity: int) -> Pixels:
        """Corrupt images (N, 32, 32, 3) uint8 at a severity of 1 to 5; the same images at every call.

        Values are truncated to whole levels, not rounded, as in the benchmark.
        """
        corrupted = np.empty_like(pixels)
        for start in range(0, len(pixels), BATCH):
            rng, part = np.random.default_rng((SEED, severity, start)), slice(start, start + BATCH)
            values = self.damage(pixels[part] / 255, self.parameters[severity - 1], rng)
            corrupted[part] = (np.clip(values, 0, 1) * 255).astype(np.uint8)
        return corrupted


def _gaussian_noise(images: Floats, deviation: float, rng: Generator) -> Floats:
    return images + rng.normal(0, deviation, images.shape)


def _shot_noise(images: Floats, photons: float, rng: Generator) -> Floats:
    return rng.poisson(images * photons) / photons


def _impulse_noise(images: Floats, share: float, rng: Generator) -> Floats:
    """Set a share of the values to 0 or 1, each channel on its own."""
    return np.where(rng.random(images.shape) < share, rng.random(images.shape) < 0.5, images)


def _defocus_blur(images: Floats, disk: tuple[float, float], _: Generator) -> Floats:
    """Convolve with a disk of a radius in px, smoothed by a Gaussian of 3×3 px."""
    (radius, deviation), margin = disk, 3
    offsets = np.arange(-margin, margin + 1)
    kernel = (offsets**2 + offsets[:, None] ** 2 <= radius**2).astype(np.float64)
    smooth = gaussian_matrix(deviation, 1, "edge", len(kernel))
    kernel = smooth @ (kernel / kernel.sum()) @ smooth.T
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), "reflect")
    blurred = np.zeros_like(images)
    for row, column in np.argwhere(kernel > 1e-9):
        blurred += kernel[row, column] * padded[:, row : row + SIDE, column : column + SIDE]
    return blurred


def _glass_blur(images: Floats, glass: tuple[float, int, int], rng: Generator) -> Floats:
    """Blur, replace pixels by neighbours, blur again.

    The source means to swap pixels but swaps two views of one array, which copies the neighbour. With offsets of -1 and
    0, visited from the last pixel to the first, a neighbour is always read before it changes: one gather does the same.
    """
    deviation, distance, iterations = glass
    smooth = gaussian_matrix(deviation, int(4 * deviation + 0.5), "edge")
    shuffled = truncate(transform(images, smooth))
    image, place = np.arange(len(images))[:, None, None], np.arange(distance + 1, SIDE)
    for _ in range(iterations):
        down, right = rng.integers(-distance, distance, (2, len(images), len(place), len(place)))
        shuffled[:, distance + 1 :, distance + 1 :] = shuffled[image, place[:, None] + down, place + right]
    return transform(shuffled, smooth)


def _motion_blur(images: Floats, motion: tuple[int, float], rng: Generator) -> Floats:
    return smear(images, *motion, rng.uniform(-45, 45, len(images)))


def _zoom_blur(images: Floats, end: float, _: Generator) -> Floats:
    blurred = np.tensordot(images.reshape(len(images), -1, 3), _zoom_blur_matrix(end), (1, 1))  # (N, 3, 1024)
    return np.moveaxis(blurred, 2, 1).reshape(images.shape)


@cache
def _zoom_blur_matrix(end: float) -> Floats:
    """Matrix (1024, 1024) that averages an image and its zooms from 1 in steps of 0.01.

    As in the source, rounding errors of `np.arange` decide if `end` is among them.
    """
    factors = [1.0, *np.arange(1, end, 0.01).tolist()]
    matrix = np.zeros((SIDE**2, SIDE**2))
    for factor in factors:
        matrix += np.kron(zoom_matrix(factor), zoom_matrix(factor)) / len(factors)
    return matrix


def _snow(images: Floats, snow: tuple[float, float, float, float, int, float, float], rng: Generator) -> Floats:
    """Whiten, then add flakes: zoomed noise above a threshold, smeared downwards, and the same turned by 180°."""
    mean, deviation, zoom, threshold, radius, sigma, kept = snow
    flakes = transform(rng.normal(mean, deviation, (len(images), SIDE, SIDE, 1)), zoom_matrix(zoom))
    flakes = truncate(np.clip(np.where(flakes < threshold, 0, flakes), 0, 1))
    flakes = smear(flakes, radius, sigma, rng.uniform(-135, -45, len(images)))
    grey = (images @ (0.299, 0.587, 0.114))[..., None]
    whitened = kept * images + (1 - kept) * np.maximum(images, 1.5 * grey + 0.5)
    return whitened + flakes + flakes[:, ::-1, ::-1]


def _fog(images: Floats, fog: tuple[float, float], rng: Generator) -> Floats:
    amount, decay = fog
    brightest = images.max((1, 2, 3), keepdims=True)
    foggy: Floats = (images + amount * plasma(len(images), decay, rng)) * brightest / (brightest + amount)
    return foggy


def _brightness(images: Floats, change: float, _: Generator) -> Floats:
    """Raise the value of HSV: hue and saturation stay where all channels grow by one factor."""
    value: Floats = images.max(-1, keepdims=True)
    raised = np.minimum(value + change, 1)
    return np.where(value > 0, images * raised / np.maximum(value, 1e-9), raised)


def _contrast(images: Floats, share: float, _: Generator) -> Floats:
    means: Floats = images.mean((1, 2), keepdims=True)
    return (images - means) * share + means


def _elastic_transform(images: Floats, elastic: tuple[float, float, float], rng: Generator) -> Floats:
    """Move three points by up to `shift` px, which is an affine map, then every pixel by smoothed noise.

    Places are exact as in OpenCV 5; earlier releases round them to 1/32 px.
    """
    amount, deviation, shift = elastic
    points = np.array([(26, 26), (26, 6), (6, 6)], np.float64)
    moved = points + rng.uniform(-shift, shift, (len(images), 3, 2))
    back = np.linalg.solve(np.insert(moved, 2, 1, axis=2), np.broadcast_to(points, moved.shape))  # (N, 3, 2)
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1)  # (32, 32, 2): column and row
    affine = sample(images, np.insert(grid, 2, 1, axis=2) @ back[:, None], "reflect")
    smooth = gaussian_matrix(deviation, int(3 * deviation + 0.5), "symmetric")
    noise = transform(rng.uniform(-1, 1, (len(images), SIDE, SIDE, 2)), smooth)
    return sample(affine, grid + amount * noise, "symmetric")


def _pixelate(images: Floats, share: float, _: Generator) -> Floats:
    side, box = int(SIDE * share), Image.Resampling.BOX
    return _edit(images, lambda image: image.resize((side, side), box).resize((SIDE, SIDE), box))


def _jpeg_compression(images: Floats, quality: int, _: Generator) -> Floats:
    return _edit(images, lambda image: Image.open(BytesIO(encode(image, quality))))


def _edit(images: Floats, edit: Callable[[Image.Image], Image.Image]) -> Floats:
    levels = np.rint(images * 255).astype(np.uint8)
    return np.stack([np.asarray(edit(Image.fromarray(image))) for image in levels]) / 255


CIFAR10_C = (
    CommonCorruption("gaussian noise", (0.04, 0.06, 0.08, 0.09, 0.10), _gaussian_noise),
    CommonCorruption("shot noise", (500, 250, 100, 75, 50), _shot_noise),
    CommonCorruption("impulse noise", (0.01, 0.02, 0.03, 0.05, 0.07), _impulse_noise),
    CommonCorruption("defocus blur", ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)), _defocus_blur),
    CommonCorruption("glass blur", ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)), _glass_blur),
    CommonCorruption("motion blur", ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)), _motion_blur),
    CommonCorruption("zoom blur", (1.06, 1.11, 1.16, 1.21, 1.26), _zoom_blur),
    CommonCorruption(
        "snow",
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        _snow,
    ),
    CommonCorruption("fog", ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)), _fog),
    CommonCorruption("brightness", (0.05, 0.1, 0.15, 0.2, 0.3), _brightness),
    CommonCorruption("contrast", (0.75, 0.5, 0.4, 0.3, 0.15), _contrast),
    CommonCorruption(  # published as multiples of 32 px
        "elastic transform",
        ((0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96)),
        _elastic_transform,
    ),
    CommonCorruption("pixelate", (0.95, 0.9, 0.85, 0.75, 0.65), _pixelate),
    CommonCorruption("JPEG compression", (80, 65, 58, 50, 40), _jpeg_compression),
)
