"""Users' own images: one folder of image files per class, of any size and accepted type.

Defines the requirements on a data set and its split. Images are decoded as in the service. The split depends only on
the files' contents: the same files give the same split under any names.
"""

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_store.errors import ImageError, UnusableImage
from model_store.images.decode import decode
from model_store.manifest import Resize
from training.data.dataset import MAX_LABEL_LENGTH, Images, is_label
from training.errors import TrainingError

MIN_CLASS_IMAGES, MIN_CLASSES, MAX_CLASSES = 10, 2, 1_000
TEST_SHARE = VAL_SHARE = 10  # one in ten of each class, and at least one
MAX_BYTES = 32_000_000
MAX_NAMED = 20  # skipped files listed by name


class _Example(NamedTuple):
    sha256: str
    pixels: NDArray[np.uint8]  # (32, 32, 3)


@dataclass(frozen=True)
class ClassFolders:
    """A `Dataset` held in memory."""

    labels: tuple[str, ...]
    train: Images
    val: Images
    test: Images
    sha256: str

    @property
    def trainval(self) -> Images:
        """All images that may be trained on, the validation images last."""
        pixels, labels = zip(*((part.pixels, part.labels) for part in (self.train, self.val)), strict=True)
        return Images(np.concatenate(pixels), np.concatenate(labels))


def is_class_folder(folder: Path) -> bool:
    """Return True if a folder holds folders of files, and no batch of CIFAR-10."""
    return any(any(path.is_file() for path in _visible(child)) for child in _class_folders(folder)) and not any(
        folder.glob("**/data_batch_1.bin")
    )


def load_classes(folder: Path) -> ClassFolders:
    """Read the images of every class and split them by content: a tenth for test, a tenth for val, the rest for train.

    Files that cannot be decoded are listed on stderr and skipped; files with the same contents count once.

    Raises:
        TrainingError: there are too few or too many classes, a class has too few images or an invalid name, or an
            image is in two classes.
    """
    classes = _class_folders(folder)
    labels = tuple(path.name for path in classes)
    if not MIN_CLASSES <= len(labels) <= MAX_CLASSES:
        raise TrainingError(
            f"{folder} holds {len(labels)} folders; it needs one per class, {MIN_CLASSES} to {MAX_CLASSES:,} of them"
        )
    if invalid := [label for label in labels if not is_label(label)]:
        raise TrainingError(
            f"the folder {invalid[0][:80]!r} in {folder} is not named like a class; rename it to up to "
            f"{MAX_LABEL_LENGTH} printable characters in UTF-8"
        )
    examples = [_read_class(path) for path in classes]
    _check_examples(folder, labels, examples)
    parts = zip(*(_split(class_examples) for class_examples in examples), strict=True)
    test, val, train = (_images(part) for part in parts)
    return ClassFolders(labels, train, val, test, _sha256(labels, examples))


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _class_folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()] if folder.is_dir() else []


def _read_class(folder: Path) -> list[_Example]:
    """Read a class: examples sorted by SHA-256, without duplicates."""
    files = [path for path in _visible(folder) if path.is_file()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(_with_progress(pool.map(_read, files), folder.name, len(files)))
    errors = [result for result in results if isinstance(result, str)]
    for error in errors[:MAX_NAMED]:
        print(f"skipped: {error}", file=sys.stderr)
    if len(errors) > MAX_NAMED:
        print(f"skipped: {len(errors) - MAX_NAMED} more of {folder}", file=sys.stderr)
    unique = {result.sha256: result for result in results if not isinstance(result, str)}
    return [unique[key] for key in sorted(unique)]


def read_image_file(path: Path) -> bytes:
    """Read a file of up to 32 MB, the service's default limit.

    Raises:
        UnusableImage: it is larger.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UnusableImage(f"it has more than {MAX_BYTES:,} bytes")
    return data


def _read(path: Path) -> _Example | str:
    """Return an example, or an error that names the file."""
    try:
        data = read_image_file(path)
        return _Example(hashlib.sha256(data).hexdigest(), decode(data, Resize()))
    except (OSError, ImageError) as error:
        return f"{path}: {error}"


def _with_progress(results: Iterable[_Example | str], name: str, count: int) -> Iterator[_Example | str]:
    live = sys.stdout.isatty()
    for number, result in enumerate(results, 1):
        if live and (number % 100 == 0 or number == count):
            end = "\n" if number == count else ""
            print(f"\r{name}: {number:,}/{count:,} images read", end=end, flush=True)
        yield result


def _check_examples(folder: Path, labels: tuple[str, ...], examples: list[list[_Example]]) -> None:
    counts = {label: len(class_examples) for label, class_examples in zip(labels, examples, strict=True)}
    if few := [f"{label} ({count})" for label, count in counts.items() if count < MIN_CLASS_IMAGES]:
        raise TrainingError(
            f"a class needs {MIN_CLASS_IMAGES} different usable images; these in {folder} have fewer: {', '.join(few)}"
        )
    label_of: dict[str, str] = {}
    for label, class_examples in zip(labels, examples, strict=True):
        for example in class_examples:
            if (other := label_of.setdefault(example.sha256, label)) != label:
                raise TrainingError(f"the same image file is in {folder / other} and {folder / label}; remove one")


def _split(examples: list[_Example]) -> tuple[list[_Example], list[_Example], list[_Example]]:
    """Split one class into test, val and train examples. Sorted by hash, they are in random order."""
    test = max(1, len(examples) // TEST_SHARE)
    val = test + max(1, len(examples) // VAL_SHARE)
    return examples[:test], examples[test:val], examples[val:]


def _images(classes: Sequence[list[_Example]]) -> Images:
    """Sort the examples of all classes by hash. This mixes the classes, so any long slice contains all of them."""
    mixed = sorted(
        (example.sha256, label, example.pixels) for label, examples in enumerate(classes) for example in examples
    )
    return Images(np.stack([pixels for *_, pixels in mixed]), np.array([label for _, label, _ in mixed], np.int32))


def _sha256(labels: tuple[str, ...], examples: list[list[_Example]]) -> str:
    digest = hashlib.sha256()
    for label, class_examples in zip(labels, examples, strict=True):
        digest.update("\n".join([label, *(example.sha256 for example in class_examples), ""]).encode())
    return digest.hexdigest()
