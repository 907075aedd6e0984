"""Load a data set from a folder of either kind."""

from pathlib import Path

from training.data.cifar10 import FOLDER, MISSING, Cifar10
from training.data.dataset import Dataset
from training.data.image_folder import is_class_folder, load_classes
from training.errors import TrainingError


def load_dataset(folder: Path) -> Dataset:
    """Load CIFAR-10 as `fetch` made it, or a folder with one folder of images for each class.

    Raises:
        TrainingError: the folder does not exist, or a folder of classes is too small. Damage to CIFAR-10 is
            noticed when a part is read.
    """
    if not folder.exists():
        raise TrainingError(f"{folder} {MISSING}")
    return load_classes(folder) if is_class_folder(folder) else Cifar10(_resolve(folder))


def _resolve(folder: Path) -> Path:
    """Accept the folder passed to `fetch --to` as well as the batches' own, which `fetch` prints."""
    nested = folder / FOLDER
    return nested if nested.is_dir() else folder
