"""Labelled images, split into train, val and test.

Choices are made on `val`, by a network trained on `train` alone; `test` is for published figures only.
"""

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError

MAX_LABEL_LENGTH = 64


@dataclass(frozen=True)
class Images:
    """Images and their labels, index by index."""

    pixels: NDArray[np.uint8]  # (N, 32, 32, 3)
    labels: NDArray[np.int32]  # (N,)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> "Images":
        return Images(self.pixels[part], self.labels[part])


class Dataset(Protocol):
    """Labelled images in three parts, each read when it is first used."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the numbers in `Images.labels`."""

    @property
    def trainval(self) -> Images:
        """All images that may be trained on: `train`, then `val`."""

    @property
    def train(self) -> Images:
        """The images to train on when choices are made on `val`."""

    @property
    def val(self) -> Images:
        """The images on which recipes, temperatures and thresholds are chosen."""

    @property
    def test(self) -> Images:
        """The images of published figures only."""

    @property
    def sha256(self) -> str:
        """SHA-256 of `trainval`: identifies the data a network was trained on."""


def is_label(text: str) -> bool:
    """Whether the text can name a class: 1 to 64 printable characters."""
    return 1 <= len(text) <= MAX_LABEL_LENGTH and text.isprintable()


def check_labels(
    network: Path,
    known: tuple[str, ...],
    labels: tuple[str, ...],
    remedy: str = "pass its --data",
    whose: str = "the data has",
) -> None:
    """Refuse a network whose labels are not those of the data, in the same order.

    Args:
        network: folder of the network, for the message.
        whose: the owner of `labels` and its verb, for the message.

    Raises:
        TrainingError: the labels differ; the text has the first difference.
    """
    for number, (theirs, ours) in enumerate(zip_longest(known, labels, fillvalue="no more"), start=1):
        if theirs != ours:
            raise TrainingError(
                f"{network} knows {len(known)} labels, {whose} {len(labels)}, and label {number} is {theirs!r} there "
                f"and {ours!r} here; {remedy}"
            )


def sample_evenly(pixels: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Up to `count` of the images (N, 32, 32, 3), evenly spaced, since data sets may be sorted by class."""
    return pixels[np.linspace(0, len(pixels) - 1, count).astype(np.intp)] if len(pixels) > count else pixels
