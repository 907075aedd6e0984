"""CIFAR-10's binary batches as arrays, and which images each job may look at.

Owns the split: the last 5,000 records of `data_batch_5` are held out, and every choice is made on them by a network
that never saw them. The test batch is for published figures only. Data: Krizhevsky, "Learning Multiple Layers of
Features from Tiny Images", 2009.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class Images:
    """Images and their labels, index by index."""

    pixels: NDArray[np.uint8]  # (N, 32, 32, 3)
    labels: NDArray[np.int32]  # (N,)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> "Images":
        return Images(self.pixels[part], self.labels[part])


def load_train(folder: Path) -> Images:
    """The 50,000 training images in their original order."""
    return _load(folder, TRAIN_BATCHES)


def load_fitting(folder: Path) -> Images:
    """The first 45,000 training images: what a network may see when choices are made on `load_held_out`."""
    return load_train(folder)[:-HELD_OUT]


def load_held_out(folder: Path) -> Images:
    """The last 5,000 training images, on which recipes, thresholds and policies are chosen."""
    return _load(folder, TRAIN_BATCHES[-1:])[-HELD_OUT:]


def load_test(folder: Path) -> Images:
    """The 10,000 test images, for published figures only."""
    return _load(folder, (TEST_BATCH,))


def data_sha256(folder: Path) -> str:
    """SHA-256 over the five training batches in order: which data a network was trained on."""
    digest = hashlib.sha256()
    for name in TRAIN_BATCHES:
        digest.update(_bytes(_resolve(folder) / name))
    return digest.hexdigest()


def _resolve(folder: Path) -> Path:
    """`fetch` prints the folder that holds it all; accept that one and the batches' own folder alike."""
    nested = folder / "cifar-10-batches-bin"
    return nested if nested.is_dir() else folder


def _load(folder: Path, names: tuple[str, ...]) -> Images:
    records = np.concatenate([_records(_resolve(folder) / name) for name in names])
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return Images(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].astype(np.int32))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise TrainingError(
            f"{path} does not exist; run `python -m training fetch` and pass the folder it prints as --data"
        ) from None


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
