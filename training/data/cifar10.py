"""CIFAR-10's binary batches as arrays, and human accuracy on its test images.

Sources: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. Human accuracy: CIFAR-10H,
Peterson, Battleday, Griffiths and Russakovsky, "Human uncertainty makes classification more robust", 2019: some fifty
people labelled each of the 10,000 test images. A class's accuracy is the fraction of single answers that agree with
CIFAR-10's label; a majority vote would score higher.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_store.command_line import python_command
from model_store.os_errors import naming
from training.data.dataset import Images
from training.errors import TrainingError

FOLDER = "cifar-10-batches-bin"
LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_BATCH = "test_batch.bin"
VAL_IMAGES = 5_000
RECORD = 1 + 3 * 32 * 32
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
HUMAN_SOURCE = "single annotators of CIFAR-10H, on the test images (Peterson et al. 2019)"
_HUMAN_ACCURACY = (0.952, 0.972, 0.948, 0.915, 0.905, 0.949, 0.962, 0.979, 0.973, 0.968)


@dataclass(frozen=True)
class Cifar10:
    """CIFAR-10's binary version, in the folder that `fetch` prints."""

    folder: Path
    labels: tuple[str, ...] = LABELS

    @cached_property
    def trainval(self) -> Images:
        """The 50,000 training images in their original order."""
        return _load(self.folder, TRAIN_BATCHES)

    @property
    def train(self) -> Images:
        """The first 45,000 of them."""
        return self.trainval[:-VAL_IMAGES]

    @cached_property
    def val(self) -> Images:
        """The last 5,000 of them."""
        return _load(self.folder, TRAIN_BATCHES[-1:])[-VAL_IMAGES:]

    @cached_property
    def test(self) -> Images:
        """The 10,000 test images."""
        return _load(self.folder, (TEST_BATCH,))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the five training batches in order."""
        digest = hashlib.sha256()
        for name in TRAIN_BATCHES:
            digest.update(_bytes(self.folder / name))
        return digest.hexdigest()


def remedy() -> str:
    """Say how to get data, for messages."""
    return (
        f"run `{python_command('training fetch')}` and pass the folder it prints as --data, or pass a folder with one "
        "folder of images per class, or a CSV file with columns file and label"
    )


def human_accuracy(labels: tuple[str, ...]) -> tuple[float, ...] | None:
    """Return human accuracy for each label, or None unless the labels are CIFAR-10's, in its order."""
    return _HUMAN_ACCURACY if labels == LABELS else None


def _load(batches: Path, names: tuple[str, ...]) -> Images:
    records = np.concatenate([_records(batches / name) for name in names])
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return Images(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].astype(np.int32))


def _bytes(path: Path) -> bytes:
    try:
        with naming(path):
            return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise TrainingError(f"{path} does not exist; {remedy()}") from None


def _records(path: Path) -> NDArray[np.uint8]:
    flat = np.frombuffer(_bytes(path), np.uint8)
    if len(flat) == 0 or len(flat) % RECORD:
        raise TrainingError(
            f"{path} has {len(flat):,} bytes, not a whole number of {RECORD}-byte records; "
            f"run `{python_command('training fetch')}` again to replace it"
        )
    records = flat.reshape(-1, RECORD)
    if records[:, 0].max() >= len(LABELS):
        raise TrainingError(
            f"{path} has a label {records[:, 0].max()}; CIFAR-10's are 0 to 9; run `fetch` again to replace it"
        )
    return records
