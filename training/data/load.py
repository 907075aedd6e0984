"""Load CIFAR-10 or your own images."""

from pathlib import Path

from model_store.manifest import UNNORMALISED, Preprocessing
from training.data.cifar10 import FOLDER, TEST_BATCH, TRAIN_BATCHES, Cifar10, remedy
from training.data.dataset import Dataset
from training.data.image_folder import EveryImage, load_every_image, load_images
from training.errors import TrainingError


def load_dataset(data: Path, preprocessing: Preprocessing = UNNORMALISED) -> Dataset:
    """Load CIFAR-10 as written by `fetch`, class folders, a split with class folders in it, or a CSV file.

    Args:
        preprocessing: of the network that takes the images. CIFAR-10's stay at 32×32, see `as_inputs`.

    Raises:
        TrainingError: the data does not exist, or does not meet the requirements of `load_images`. Damaged batches of
            CIFAR-10 are detected when a part is first read.
    """
    _check_there(data)
    batches = _find_batches(data)
    return Cifar10(batches) if batches else load_images(data, preprocessing)


def load_whole(data: Path, preprocessing: Preprocessing = UNNORMALISED) -> EveryImage:
    """Load every image of your own, without a split.

    Raises:
        TrainingError: the data does not exist, is CIFAR-10, or does not meet the requirements of `load_every_image`.
    """
    _check_there(data)
    if _find_batches(data):
        raise TrainingError(f"{data} is CIFAR-10, of which `test` is measured; leave out --split all")
    return load_every_image(data, preprocessing)


def _check_there(data: Path) -> None:
    if not data.exists():
        raise TrainingError(f"{data} does not exist; {remedy()}")
    if data.is_dir() and all(path.name.startswith(".") for path in data.iterdir()):
        raise TrainingError(f"{data} is empty; {remedy()}")


def _find_batches(data: Path) -> Path | None:
    """Accept both the folder passed to `fetch --to` and the batches' folder in it, which `fetch` prints."""
    nested = data / FOLDER
    if nested.is_dir():
        return nested
    return data if any((data / name).exists() for name in (*TRAIN_BATCHES, TEST_BATCH)) else None
