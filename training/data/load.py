"""Load CIFAR-10 or a folder of your own images."""

from pathlib import Path

from training.data.cifar10 import FOLDER, MISSING, Cifar10
from training.data.dataset import Dataset
from training.data.image_folder import is_class_folder, load_classes
from training.errors import TrainingError


def load_dataset(folder: Path) -> Dataset:
    """Load CIFAR-10 as written by `fetch`, or a folder with one folder of images per class.

    Raises:
        TrainingError: the folder does not exist, or does not meet the requirements of `load_classes`. Damaged
            batches of CIFAR-10 are detected when a part is first read.
    """
    if not folder.exists():
        raise TrainingError(f"{folder} {MISSING}")
    return load_classes(folder) if is_class_folder(folder) else Cifar10(_resolve(folder))


def _resolve(folder: Path) -> Path:
    """Accept both the folder passed to `fetch --to` and the batches' folder in it, which `fetch` prints."""
    nested = folder / FOLDER
    return nested if nested.is_dir() else folder
