"""Filters and noise fields for batches of 32×32 images: values from 0 to 1, (N, 32, 32, C), float64."""

from functools import cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

SIDE = 32

Floats: TypeAlias = NDArray[np.float64]


def truncate(values: Floats) -> Floats:
    """Reduce values from 0 to 1 to whole levels of 255; 1e-9 keeps a level from rounding errors."""
    return np.floor(values * 255 + 1e-9) / 255


def transform(images: Floats, matrix: Floats) -> Floats:
    """Apply a matrix (32, 32) to the rows and to the columns of images (N, 32, 32, C)."""
    transformed: Floats = np.einsum("ij,njkc,lk->nilc", matrix, images, matrix, optimize=True)
    return transformed


@cache
def gaussian_matrix(deviation: float, radius: int, border: Literal["edge", "symmetric"], side: int = SIDE) -> Floats:
    """Matrix (side, side) of a Gaussian filter cut off at a radius in px, borders extended as by `np.pad`."""
    taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * max(deviation, 1e-9) ** 2))
    extended = np.pad(np.eye(side), ((radius, radius), (0, 0)), border)
    matrix: Floats = np.tensordot(taps / taps.sum(), [extended[tap : tap + side] for tap in range(len(taps))], 1)
    return matrix


@cache
def zoom_matrix(factor: float) -> Floats:
    """Matrix (32, 32) of a linear zoom into the middle: corners stay on corners, whole pixels are trimmed off."""
    cropped = int(np.ceil(SIDE / factor))
    zoomed = round(cropped * factor)
    place = (np.arange(SIDE) + (zoomed - SIDE) // 2) * (cropped - 1) / (zoomed - 1) + (SIDE - cropped) // 2
    matrix: Floats = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(SIDE)))
    return matrix


def smear(images: Floats, radius: int, sigma: float, degrees: Floats) -> Floats:
    """Blur each image (N, 32, 32, C) in a direction, as ImageMagick's MotionBlurImage does.

    The kernel is half a Gaussian, 2 radius + 1 steps long; steps are rounded to whole pixels, borders are repeated.
    Results are rounded to 16 bits and then cut to 8, which gives ImageMagick 6's bytes exactly.
    """
    steps, angles = np.arange(2 * radius + 1), np.deg2rad(degrees)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    down, right = (np.ceil(np.outer(part, steps) - 0.5).astype(int) for part in (np.sin(angles), np.cos(angles)))
    image, blurred = np.arange(len(images))[:, None, None], np.zeros_like(images)
    for step, weight in enumerate(weights / weights.sum()):
        rows, columns = (np.clip(np.arange(SIDE) + by[:, step, None], 0, SIDE - 1) for by in (down, right))
        blurred += weight * images[image, rows[:, :, None], columns[:, None]]
    return np.floor(np.rint(blurred * 65535) / 257) / 255


def plasma(count: int, decay: float, rng: Generator) -> Floats:
    """Fractal noise (N, 32, 32, 1) from 0 to 1 by the diamond-square algorithm, which wraps around at the borders."""
    heights, wobble = np.zeros((count, SIDE, SIDE)), 100.0
    for step in (32, 16, 8, 4, 2):
        half, corners = step // 2, heights[:, ::step, ::step]
        beside, below = (corners + np.roll(corners, -1, axis) for axis in (2, 1))
        centres = _wobble(beside + np.roll(beside, -1, 1), wobble, rng)
        heights[:, half::step, half::step] = centres
        heights[:, ::step, half::step] = _wobble(beside + centres + np.roll(centres, 1, 1), wobble, rng)
        heights[:, half::step, ::step] = _wobble(below + centres + np.roll(centres, 1, 2), wobble, rng)
        wobble /= decay
    heights -= heights.min((1, 2), keepdims=True)
    highest: Floats = heights.max((1, 2), keepdims=True)
    return (heights / highest)[..., None]


def _wobble(sums: Floats, wobble: float, rng: Generator) -> Floats:
    """Move means of four by at most the square of `wobble`."""
    return sums / 4 + wobble * rng.uniform(-wobble, wobble, sums.shape)


def sample(images: Floats, places: Floats, border: Literal["reflect", "symmetric"]) -> Floats:
    """Interpolate linearly at places (N, 32, 32, 2) of column and row, borders extended as by `np.pad`."""
    margin, image, sampled = 3 * SIDE, np.arange(len(images))[:, None, None], np.zeros_like(images)
    inside = np.pad(np.arange(SIDE), margin, border)
    corner = np.floor(places).astype(int)
    for offset in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weights = (1 - np.abs(places - corner - offset)).prod(-1, keepdims=True)
        columns, rows = np.moveaxis(inside[corner + offset + margin], -1, 0)
        sampled += weights * images[image, rows, columns]
    return sampled
