"""Labelled images for a job, and the split that decides which of them it may look at.

A network that choices are made with is trained on `train`; the choices are made on `val`, which it has not seen; `test`
is for published figures only.
"""

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError

LONGEST_LABEL = 64


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
    """Labelled images in three parts. A part is read when it is first used, so a job touches no other."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the numbers in `Images.labels`."""

    @property
    def trainval(self) -> Images:
        """All images that may be learned from: `train`, then `val`."""

    @property
    def train(self) -> Images:
        """All that a network sees when choices are made on `val`."""

    @property
    def val(self) -> Images:
        """The images on which recipes, temperatures and thresholds are chosen."""

    @property
    def test(self) -> Images:
        """The images of published figures, and of nothing else."""

    @property
    def sha256(self) -> str:
        """SHA-256 of `trainval`: identifies the data a network was trained on."""


def is_label(text: str) -> bool:
    """Whether it can name a class: 1 to 64 printable characters."""
    return 1 <= len(text) <= LONGEST_LABEL and text.isprintable()


def check_labels(
    what: Path,
    known: tuple[str, ...],
    labels: tuple[str, ...],
    remedy: str = "pass its --data",
    whose: str = "the data has",
) -> None:
    """Refuse a network that knows other labels than the data, or whose they are, or the same in another order.

    Raises:
        TrainingError: it does; the text has the first difference.
    """
    for number, (here, there) in enumerate(zip_longest(known, labels, fillvalue="no more"), start=1):
        if here != there:
            raise TrainingError(
                f"{what} knows {len(known)} labels, {whose} {len(labels)}, and label {number} is {here!r} there and "
                f"{there!r} here; {remedy}"
            )


def spread(pixels: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """So many of the images (N, 32, 32, 3), or all of fewer, from the first to the last: people's own come by class."""
    return pixels[np.linspace(0, len(pixels) - 1, count).astype(np.intp)] if len(pixels) > count else pixels
