"""Accuracy under our own corruptions and CIFAR-10-C's, and of photo-sized files decoded as the service does.

Owns the sizes and files that stand for photos, and the figures. Predictions are by `Classifier.predict`.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model_store.classifier import Classifier
from model_store.images.decode import decode
from model_store.manifest import Preprocessing
from model_store.report import CorruptionReport, PhotoReport, RobustnessReport
from training.data.dataset import Images
from training.evaluate.accuracy import DECIMALS, predict_probabilities
from training.evaluate.cifar10_c import CIFAR10_C, SEVERITIES, CommonCorruption
from training.evaluate.corruptions import CORRUPTIONS, Corruption, Pixels
from training.evaluate.intervals import accuracy_document, mean_document, standard_error
from training.evaluate.simulated_uploads import encode, stretch

MAX_IMAGES = 2_000
MEASURED_SHAPE = (32, 32, 3)
PHOTO_SIZES = ((256, 256), (640, 480), (1024, 1024))  # width and height
PHOTO_FILES: dict[str, int | None] = {"JPEG 75": 75, "JPEG 90": 90, "PNG": None}
PHOTOS_AT_ONCE = 50  # an interrupt waits for them
CORRUPTION_SHARE = 0.15  # of the time
CIFAR10_C_SHARE = 0.45  # the rest goes into making and decoding photos

Hits: TypeAlias = NDArray[np.bool_]
ShowProgress: TypeAlias = Callable[[str, float], None]


@dataclass(frozen=True)
class Robustness:
    """Hits on N images: untouched, under C own and B published corruptions, and as photos of S sizes in F formats."""

    untouched: Hits  # (N,)
    corrupted: Hits  # (C, 5, N)
    cifar10_c: Hits  # (B, 5, N)
    photos: Hits  # (S, F, N)
    example: Pixels  # (32, 32, 3), to show the corruptions on

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.untouched)

    @property
    def accuracy(self) -> float:
        """Accuracy on these images, untouched."""
        return float(self.untouched.mean())

    @property
    def corruption_accuracy(self) -> float:
        """Mean over corruptions and strengths."""
        return float(self.corrupted.mean())

    @property
    def cifar10_c_accuracy(self) -> float:
        """Mean over CIFAR-10-C's corruptions, without frost, and severities."""
        return float(self.cifar10_c.mean())

    @property
    def photo_accuracy(self) -> float:
        """Mean over sizes and files."""
        return float(self.photos.mean())

    def summary(self) -> dict[str, Any]:
        """Return the figures for a manifest."""
        return {
            "images": self.images,
            "accuracy": round(self.accuracy, DECIMALS),
            "corruption_accuracy": round(self.corruption_accuracy, DECIMALS),
            "cifar10_c_accuracy": round(self.cifar10_c_accuracy, DECIMALS),
            "photo_accuracy": round(self.photo_accuracy, DECIMALS),
        }

    def report(self) -> RobustnessReport:
        """Return everything, as it is published."""
        return RobustnessReport(
            **self.summary(),
            corruption_standard_error=round(standard_error(self.corrupted), DECIMALS),
            corruptions=_corruption_reports(CORRUPTIONS, self.corrupted),
            corruptions_note="our own, after the idea of Hendrycks and Dietterich 2019; not CIFAR-10-C",
            cifar10_c_standard_error=round(standard_error(self.cifar10_c), DECIMALS),
            cifar10_c_corruptions=_corruption_reports(CIFAR10_C, self.cifar10_c),
            cifar10_c_note="14 of CIFAR-10-C's 15, made here; frost needs photographs that are not distributed here",
            photo_difference=round(self.photo_accuracy - self.accuracy, DECIMALS),
            photo_difference_standard_error=round(standard_error(self.photos - 1.0 * self.untouched), DECIMALS),
            photos=self._photos(),
        )

    def document(self) -> dict[str, Any]:
        """Return every accuracy for `evaluate --json`, see `accuracy_document`."""
        photos = [(*size, file) for size in PHOTO_SIZES for file in PHOTO_FILES]
        return {
            "accuracy": _document(self.untouched),
            "corruption_accuracy": mean_document(self.corrupted),
            "cifar10_c_accuracy": mean_document(self.cifar10_c),
            "photo_accuracy": mean_document(self.photos),
            "corruptions": _corruption_documents(CORRUPTIONS, self.corrupted),
            "cifar10_c_corruptions": _corruption_documents(CIFAR10_C, self.cifar10_c),
            "photos": [
                {"width": width, "height": height, "file": file, "accuracy": _document(hits)}
                for (width, height, file), hits in zip(photos, self.photos.reshape(len(photos), -1), strict=True)
            ],
        }

    def table(self) -> str:
        """Format the figures for a terminal."""
        sizes = ", ".join(f"{width}×{height}" for width, height in PHOTO_SIZES)
        own = f"{len(CORRUPTIONS)} kinds, 5 strengths; {_worst(CORRUPTIONS, self.corrupted)}"
        published = f"14 of its 15 kinds, 5 severities; {_worst(CIFAR10_C, self.cifar10_c)}"
        return "\n".join(
            [
                f"on {self.images:>5,} evenly spread      {self.accuracy:8.2%}   as they are; what follows is on these",
                f"mean under corruptions      {self.corruption_accuracy:8.2%}   {own}",
                f"mean under CIFAR-10-C's     {self.cifar10_c_accuracy:8.2%}   {published}",
                f"mean at photo sizes         {self.photo_accuracy:8.2%}   enlarged to {sizes}, decoded as served",
            ]
        )

    def _photos(self) -> tuple[PhotoReport, ...]:
        return tuple(
            PhotoReport(width=width, height=height, file=file, accuracy=round(float(right.mean()), DECIMALS))
            for (width, height), by_file in zip(PHOTO_SIZES, self.photos, strict=True)
            for file, right in zip(PHOTO_FILES, by_file, strict=True)
        )


def show_nothing(step: str, share: float) -> None:
    """Ignore progress."""


def measure_robustness(classifier: Classifier, images: Images, show: ShowProgress = show_nothing) -> Robustness | None:
    """Measure a classifier on at most 2,000 images, evenly spread over `images`: corrupted, and as photos.

    None for a network of another input than 32×32×3, for whose images the corruptions are made.

    Args:
        images: at least one.
        show: receives the step that is being measured and the share of the work that is done, 0 to 1.
    """
    if classifier.shape != MEASURED_SHAPE:
        return None
    sample = take_evenly(images, MAX_IMAGES)
    return Robustness(
        untouched=_find_hits(classifier, sample.pixels, sample.labels),
        corrupted=_measure_corruptions(classifier, sample, show),
        cifar10_c=_measure_cifar10_c(classifier, sample, show),
        photos=_measure_photos(classifier, sample, show),
        example=sample.pixels[0],
    )


def take_evenly(images: Images, limit: int) -> Images:
    """Take every image, or every second, third, …, at most `limit`, so that a sorted set stays representative."""
    return images[:: -(-len(images) // limit)]


def make_photos(pixels: Pixels, size: tuple[int, int], preprocessing: Preprocessing) -> Pixels:
    """Enlarge an image (32, 32, 3) to (width, height), encode it as each kind of file (F), decode as served.

    Returns:
        uint8 (F, 32, 32, 3).
    """
    photo = stretch(Image.fromarray(pixels), np.random.default_rng(), size)
    return np.stack([decode(encode(photo, quality), preprocessing) for quality in PHOTO_FILES.values()])


def _measure_corruptions(classifier: Classifier, sample: Images, show: ShowProgress) -> Hits:
    hits = np.empty((len(CORRUPTIONS), 5, len(sample)), np.bool_)
    for kind, level in np.ndindex(hits.shape[:2]):
        corruption = CORRUPTIONS[kind]
        show(corruption.name, CORRUPTION_SHARE * (kind * 5 + level) / (5 * len(CORRUPTIONS)))
        pixels = corruption.apply(sample.pixels, corruption.strengths[level])
        hits[kind, level] = _find_hits(classifier, pixels, sample.labels)
    return hits


def _measure_cifar10_c(classifier: Classifier, sample: Images, show: ShowProgress) -> Hits:
    hits = np.empty((len(CIFAR10_C), len(SEVERITIES), len(sample)), np.bool_)
    for kind, level in np.ndindex(hits.shape[:2]):
        corruption = CIFAR10_C[kind]
        share = (kind * len(SEVERITIES) + level) / (len(SEVERITIES) * len(CIFAR10_C))
        show(f"CIFAR-10-C's {corruption.name}", CORRUPTION_SHARE + CIFAR10_C_SHARE * share)
        pixels = corruption.apply(sample.pixels, SEVERITIES[level])
        hits[kind, level] = _find_hits(classifier, pixels, sample.labels)
    return hits


def _measure_photos(classifier: Classifier, sample: Images, show: ShowProgress) -> Hits:
    make = partial(make_photos, preprocessing=classifier.preprocessing.as_rgb)
    hits = np.empty((len(PHOTO_SIZES), len(PHOTO_FILES), len(sample)), np.bool_)
    pixels = np.cumsum([0, *(width * height for width, height in PHOTO_SIZES)])
    before = CORRUPTION_SHARE + CIFAR10_C_SHARE
    shares = before + (1 - before) * pixels / pixels[-1]
    for row, size in enumerate(PHOTO_SIZES):
        decoded = np.empty((len(PHOTO_FILES), *sample.pixels.shape), np.uint8)
        with ThreadPoolExecutor() as pool:  # Pillow lets other threads run while it works
            for start in range(0, len(sample), PHOTOS_AT_ONCE):
                share = shares[row] + (shares[row + 1] - shares[row]) * start / len(sample)
                show(f"{size[0]}×{size[1]} px", float(share))
                part = slice(start, start + PHOTOS_AT_ONCE)
                photos = pool.map(partial(make, size=size), sample.pixels[part])
                decoded[:, part] = np.stack(list(photos), axis=1)
        hits[row] = [_find_hits(classifier, photos, sample.labels) for photos in decoded]
    return hits


def _find_hits(classifier: Classifier, pixels: Pixels, labels: NDArray[np.int32]) -> Hits:
    hits: Hits = predict_probabilities(classifier, pixels).argmax(1) == labels
    return hits


def _corruption_reports(
    corruptions: Sequence[Corruption | CommonCorruption], hits: Hits
) -> dict[str, CorruptionReport]:
    """Report each corruption by name; hits are (C, 5, N)."""
    return {
        corruption.name: CorruptionReport(
            parameter=corruption.parameter,
            strengths=tuple(corruption.strengths),
            accuracy=right.mean(1).round(DECIMALS).tolist(),
            mean=round(float(right.mean()), DECIMALS),
        )
        for corruption, right in zip(corruptions, hits, strict=True)
    }


def _corruption_documents(
    corruptions: Sequence[Corruption | CommonCorruption], hits: Hits
) -> dict[str, list[dict[str, Any]]]:
    """Return each corruption's accuracy at each strength; hits are (C, 5, N)."""
    return {
        corruption.name: [_document(right) for right in by_strength]
        for corruption, by_strength in zip(corruptions, hits, strict=True)
    }


def _document(hits: Hits) -> dict[str, Any]:
    return accuracy_document(int(hits.sum()), len(hits))


def _worst(corruptions: Sequence[Corruption | CommonCorruption], hits: Hits) -> str:
    """Name the corruption with the lowest mean; hits are (C, 5, N)."""
    means = hits.mean((1, 2))
    worst = int(means.argmin())
    return f"worst: {corruptions[worst].name}, {means[worst]:.1%}"
