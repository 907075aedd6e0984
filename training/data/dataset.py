"""Labelled images, split into train, val and test.

`val` is for choices, by a network trained on `train` alone; `test` is for published figures only.
"""

import unicodedata
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model_store.images.decode import resize_pixels
from model_store.manifest import Preprocessing
from training.errors import TrainingError

MAX_LABEL_LENGTH = 64


@dataclass(frozen=True)
class Images:
    """Images and their labels, index by index."""

    pixels: NDArray[np.uint8]  # (N, H, W, 3) RGB; 32×32 unless they are for a network of another input
    labels: NDArray[np.int32]  # (N,)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> "Images":
        return Images(self.pixels[part], self.labels[part])


class Dataset(Protocol):
    """Labelled images in three parts, each read on first use."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the numbers in `Images.labels`."""

    @property
    def trainval(self) -> Images:
        """All images that may be trained on: `train`, then `val`."""

    @property
    def train(self) -> Images:
        """Training images when choices are made on `val`."""

    @property
    def val(self) -> Images:
        """Validation images, for choosing recipes, temperatures and thresholds."""

    @property
    def test(self) -> Images:
        """Test images, for published figures only."""

    @property
    def sha256(self) -> str:
        """SHA-256 of `trainval`: identifies the data a network was trained on."""


def compose(label: str) -> str:
    """Return a label in Unicode's composed form (NFC), because macOS decomposes the names of folders."""
    return unicodedata.normalize("NFC", label)


def is_label(text: str) -> bool:
    """Return True if the text is a valid class name: 1 to 64 printable characters."""
    return 1 <= len(text) <= MAX_LABEL_LENGTH and text.isprintable()


def same_labels(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Compare labels and their order; older versions may have labels that are not composed."""
    return [*map(compose, some)] == [*map(compose, others)]


def check_labels(
    network: Path,
    known: tuple[str, ...],
    labels: tuple[str, ...],
    remedy: str = "pass the --data it was trained on",
    whose: str = "the data has",
) -> None:
    """Check that a network has the data's labels, in the same order.

    Args:
        network: folder of the network, for the message.
        whose: the owner of `labels` and its verb, for the message.

    Raises:
        TrainingError: the labels differ; the text names the first difference.
    """
    for number, (theirs, ours) in enumerate(zip_longest(known, labels, fillvalue="no more"), start=1):
        if compose(theirs) != compose(ours):
            raise TrainingError(
                f"{network} knows {len(known)} labels, {whose} {len(labels)}, and label {number} is {theirs!r} there "
                f"and {ours!r} here; {remedy}"
            )


def as_inputs(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Turn images (N, H, W, 3) RGB into a network's inputs, as the service does with files of these pixels."""
    if preprocessing.schema_version == 1 and pixels.shape[1:] == preprocessing.shape:
        return pixels
    inputs = np.empty((len(pixels), *preprocessing.shape), np.uint8)
    for index, image in enumerate(pixels):
        inputs[index] = resize_pixels(image, preprocessing)
    return inputs


def sample_evenly(pixels: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Return up to `count` of the images (N, H, W, 3), evenly spaced, because data may be sorted by class."""
    return pixels[np.linspace(0, len(pixels) - 1, count).astype(np.intp)] if len(pixels) > count else pixels
