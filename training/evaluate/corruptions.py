"""Six kinds of damage to small images, each at five strengths; pure numpy and Pillow, the same at every call.

The idea is from Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", 2019. These are not their images: kinds, strengths and code are our own, so accuracies under them
compare with each other and with nothing that is published for CIFAR-10-C.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from training.evaluate.simulated_uploads import encode

CORRUPTION_SEED = 0

Pixels: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True)
class Corruption:
    """One kind of damage. `parameter` says in words what `strengths`, mildest first, are values of."""

    name: str
    parameter: str
    strengths: tuple[float, float, float, float, float]
    damage: Callable[[Pixels, float, Generator], Pixels]  # one image (H, W, 3)

    def apply(self, pixels: Pixels, strength: float) -> Pixels:
        """Images (N, H, W, 3) uint8, damaged. What is random depends on an image's index alone, not on the strength."""
        generators = (np.random.default_rng((CORRUPTION_SEED, index)) for index in range(len(pixels)))
        return np.stack([self.damage(image, strength, rng) for image, rng in zip(pixels, generators, strict=True)])


def _noise(image: Pixels, deviation: float, rng: Generator) -> Pixels:
    return _levels(image + deviation * rng.standard_normal(image.shape, np.float32))


def _blur(image: Pixels, radius: float, _: Generator) -> Pixels:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def _brightness(image: Pixels, change: float, rng: Generator) -> Pixels:
    return _levels(image + np.float32(change if rng.random() < 0.5 else -change))


def _contrast(image: Pixels, share: float, _: Generator) -> Pixels:
    mean = image.mean(dtype=np.float32)
    return _levels(mean + np.float32(share) * (image - mean))


def _jpeg(image: Pixels, quality: float, _: Generator) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(encode(Image.fromarray(image), round(quality)))))


def _pixelation(image: Pixels, side: float, _: Generator) -> Pixels:
    height, width = image.shape[:2]
    coarse = Image.fromarray(image).resize((round(side), round(side)), Image.Resampling.BOX)
    return np.asarray(coarse.resize((width, height), Image.Resampling.NEAREST))


def _levels(values: NDArray[np.float32]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


# At the fifth strength most images can still be told by eye.
CORRUPTIONS = (
    Corruption("gaussian noise", "standard deviation, of 255 levels", (4, 8, 12, 18, 24), _noise),
    Corruption("blur", "standard deviation of the Gaussian, px", (0.4, 0.6, 0.8, 1.0, 1.2), _blur),
    Corruption("brightness", "levels of 255, up or down by chance", (24, 48, 72, 96, 120), _brightness),
    Corruption("contrast", "share that is left", (0.75, 0.55, 0.4, 0.3, 0.2), _contrast),
    Corruption("JPEG compression", "quality", (80, 60, 40, 25, 15), _jpeg),
    Corruption("pixelation", "side in px that 32 are reduced to", (28, 25, 22, 19, 16), _pixelation),
)
