"""The data in a folder, whichever kind it is: CIFAR-10 as `fetch` made it, or a folder of images for each class."""

from pathlib import Path

from training.data.cifar10 import MISSING, Cifar10
from training.data.dataset import Dataset
from training.data.image_folder import is_class_folder, load_classes
from training.errors import TrainingError


def load_dataset(folder: Path) -> Dataset:
    """CIFAR-10 as `fetch` made it, or a folder with one folder of images for each class.

    Raises:
        TrainingError: there is no such folder, or a folder of classes is too small. Damage to CIFAR-10 is found when a
            part is read.
    """
    if not folder.exists():
        raise TrainingError(f"{folder} {MISSING}")
    return load_classes(folder) if is_class_folder(folder) else Cifar10(_resolve(folder))


def _resolve(folder: Path) -> Path:
    """`fetch` prints the folder that holds it all; accept that one and the batches' own folder alike."""
    nested = folder / "cifar-10-batches-bin"
    return nested if nested.is_dir() else folder
