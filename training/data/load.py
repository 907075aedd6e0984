"""Load CIFAR-10 or your own images."""

from pathlib import Path

from training.data.cifar10 import FOLDER, REMEDY, TEST_BATCH, TRAIN_BATCHES, Cifar10
from training.data.dataset import Dataset
from training.data.image_folder import load_images
from training.errors import TrainingError


def load_dataset(data: Path) -> Dataset:
    """Load CIFAR-10 as written by `fetch`, class folders, a split with class folders in it, or a CSV file.

    Raises:
        TrainingError: the data does not exist, or does not meet the requirements of `load_images`. Damaged batches of
            CIFAR-10 are detected when a part is first read.
    """
    if not data.exists():
        raise TrainingError(f"{data} does not exist; {REMEDY}")
    if data.is_dir() and all(path.name.startswith(".") for path in data.iterdir()):
        raise TrainingError(f"{data} is empty; {REMEDY}")
    batches = _find_batches(data)
    return Cifar10(batches) if batches else load_images(data)


def _find_batches(data: Path) -> Path | None:
    """Accept both the folder passed to `fetch --to` and the batches' folder in it, which `fetch` prints."""
    nested = data / FOLDER
    if nested.is_dir():
        return nested
    return data if any((data / name).exists() for name in (*TRAIN_BATCHES, TEST_BATCH)) else None
