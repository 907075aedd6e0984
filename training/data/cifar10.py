"""Labelled images for a job, and which of them it may look at.

Owns the split: training images, of which the last ones are held out and every choice is made on them by a network that
never saw them, and test images, which are for published figures only. Reads CIFAR-10's binary batches (Krizhevsky,
"Learning Multiple Layers of Features from Tiny Images", 2009); `folders.py` reads people's own images.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError

LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_BATCH = "test_batch.bin"
HELD_OUT = 5_000
RECORD = 1 + 3 * 32 * 32
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
LONGEST_LABEL = 64
MISSING = (
    "does not exist; run `python -m training fetch` and pass the folder it prints as --data, "
    "or a folder with one folder of images for each class"
)


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
    """One set of labelled images. The parts are read when they are asked for: a job touches no other."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the numbers in `Images.labels`."""

    @property
    def train(self) -> Images:
        """All images that may be learned from, the held-out ones last."""

    @property
    def fitting(self) -> Images:
        """What a network may see when choices are made on the held-out images: all others of `train`."""

    @property
    def held_out(self) -> Images:
        """On which recipes, temperatures and policies are chosen."""

    @property
    def test(self) -> Images:
        """For published figures only."""

    @property
    def sha256(self) -> str:
        """Of the training images: which data a network was trained on."""


@dataclass(frozen=True)
class Cifar10:
    """The binary version in the folder that `fetch` made."""

    folder: Path
    labels: tuple[str, ...] = LABELS

    @cached_property
    def train(self) -> Images:
        """The 50,000 training images in their original order."""
        return _load(self.folder, TRAIN_BATCHES)

    @property
    def fitting(self) -> Images:
        """The first 45,000 of them."""
        return self.train[:-HELD_OUT]

    @cached_property
    def held_out(self) -> Images:
        """The last 5,000 of them."""
        return _load(self.folder, TRAIN_BATCHES[-1:])[-HELD_OUT:]

    @cached_property
    def test(self) -> Images:
        """The 10,000 test images."""
        return _load(self.folder, (TEST_BATCH,))

    @cached_property
    def sha256(self) -> str:
        """Over the five training batches in order."""
        digest = hashlib.sha256()
        for name in TRAIN_BATCHES:
            digest.update(_bytes(self.folder / name))
        return digest.hexdigest()


def load(folder: Path) -> Dataset:
    """CIFAR-10 as `fetch` made it, or a folder with one folder of images for each class.

    Raises:
        TrainingError: there is no such folder, or a folder of classes is too small. Damage to CIFAR-10 is found when a
            part is read.
    """
    from training.data.image_folder import is_class_folder, load_classes

    if not folder.exists():
        raise TrainingError(f"{folder} {MISSING}")
    return load_classes(folder) if is_class_folder(folder) else Cifar10(_resolve(folder))


def spread(pixels: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """So many of the images (N, 32, 32, 3), or all of fewer, from the first to the last: people's own come by class."""
    return pixels[np.linspace(0, len(pixels) - 1, count).astype(np.intp)] if len(pixels) > count else pixels


def _resolve(folder: Path) -> Path:
    """`fetch` prints the folder that holds it all; accept that one and the batches' own folder alike."""
    nested = folder / "cifar-10-batches-bin"
    return nested if nested.is_dir() else folder


def _load(batches: Path, names: tuple[str, ...]) -> Images:
    records = np.concatenate([_records(batches / name) for name in names])
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return Images(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].astype(np.int32))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise TrainingError(f"{path} {MISSING}") from None


def _records(path: Path) -> NDArray[np.uint8]:
    flat = np.frombuffer(_bytes(path), np.uint8)
    if len(flat) == 0 or len(flat) % RECORD:
        raise TrainingError(
            f"{path} has {len(flat):,} bytes, not a whole number of {RECORD}-byte records; "
            "run `python -m training fetch` again to replace it"
        )
    records = flat.reshape(-1, RECORD)
    if records[:, 0].max() >= len(LABELS):
        raise TrainingError(f"{path} has a label {records[:, 0].max()}; CIFAR-10's binary version has 0 to 9")
    return records
