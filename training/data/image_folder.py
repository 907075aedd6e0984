"""People's own images: a folder with one folder of image files for each class, of any sizes and accepted types.

Owns what counts as a usable set and how it is split. Decoding is the service's own, so a network learns from what it
will be shown. The split depends on the files' contents alone: the same files give the same split under any names.
"""

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_store.errors import ImageError, UnusableImage
from model_store.images.decode import decode
from model_store.manifest import Resize
from training.data.dataset import LONGEST_LABEL, Images, is_label
from training.errors import TrainingError

FEWEST_IMAGES, FEWEST_CLASSES, MOST_CLASSES = 10, 2, 1_000
TEST_SHARE = VAL_SHARE = 10  # one in so many, of each class, and at least one
MOST_BYTES = 32_000_000
NAMED = 20  # skipped files are named up to this many


class _Example(NamedTuple):
    sha256: str
    pixels: NDArray[np.uint8]  # (32, 32, 3)


@dataclass(frozen=True)
class ClassFolders:
    """A `Dataset` that has been read whole."""

    labels: tuple[str, ...]
    train: Images
    val: Images
    test: Images
    sha256: str

    @property
    def trainval(self) -> Images:
        """All images that may be learned from, the held-out ones last."""
        pixels, labels = zip(*((part.pixels, part.labels) for part in (self.train, self.val)), strict=True)
        return Images(np.concatenate(pixels), np.concatenate(labels))


def is_class_folder(folder: Path) -> bool:
    """Whether a folder holds folders that hold files, and none of CIFAR-10's."""
    return any(any(path.is_file() for path in _visible(child)) for child in _class_folders(folder)) and not any(
        folder.glob("**/data_batch_1.bin")
    )


def load_classes(folder: Path) -> ClassFolders:
    """The images of every class, split by content: a tenth for test, a tenth held out, the rest to learn from.

    Files that are no usable image are named on stderr and skipped; files with the same contents count once.

    Raises:
        TrainingError: there are too few or too many classes, a class has too few images or no name that can be a
            label, or two disagree about an image.
    """
    classes = _class_folders(folder)
    labels = tuple(path.name for path in classes)
    if not FEWEST_CLASSES <= len(labels) <= MOST_CLASSES:
        raise TrainingError(
            f"{folder} holds {len(labels)} folders; a class each, from {FEWEST_CLASSES} to {MOST_CLASSES} of them"
        )
    if wrong := [label for label in labels if not is_label(label)]:
        raise TrainingError(
            f"the folder {wrong[0][:80]!r} in {folder} has no name for a class: up to {LONGEST_LABEL} printable "
            "characters in UTF-8; rename it"
        )
    examples = [_read_class(path) for path in classes]
    _check(folder, labels, examples)
    parts = [_split(found) for found in examples]
    test, val, train = (_images([part[index] for part in parts]) for index in range(3))
    return ClassFolders(labels, train, val, test, _sha256(labels, examples))


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _class_folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()] if folder.is_dir() else []


def _read_class(folder: Path) -> list[_Example]:
    """Sorted by SHA-256, each once."""
    files = [path for path in _visible(folder) if path.is_file()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read = list(_with_progress(pool.map(_read, files), folder.name, len(files)))
    skipped = [said for said in read if isinstance(said, str)]
    for said in skipped[:NAMED]:
        print(f"skipped: {said}", file=sys.stderr)
    if len(skipped) > NAMED:
        print(f"skipped: {len(skipped) - NAMED} more of {folder}", file=sys.stderr)
    unique = {example.sha256: example for example in read if not isinstance(example, str)}
    return [unique[key] for key in sorted(unique)]


def read_bounded(path: Path) -> bytes:
    """A file of no more bytes than the service takes, unless it is told to take more.

    Raises:
        UnusableImage: it has more.
    """
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise UnusableImage(f"it has more than {MOST_BYTES:,} bytes")
    return data


def _read(path: Path) -> _Example | str:
    """An example, or what is wrong with the file."""
    try:
        data = read_bounded(path)
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


def _check(folder: Path, labels: tuple[str, ...], examples: list[list[_Example]]) -> None:
    if few := [
        f"{label} ({len(found)})" for label, found in zip(labels, examples, strict=True) if len(found) < FEWEST_IMAGES
    ]:
        raise TrainingError(
            f"a class needs {FEWEST_IMAGES} different usable images; these of {folder} have fewer: {', '.join(few)}"
        )
    seen: dict[str, str] = {}
    for label, found in zip(labels, examples, strict=True):
        for example in found:
            if (other := seen.setdefault(example.sha256, label)) != label:
                raise TrainingError(f"the same image file is in {folder / other} and {folder / label}; remove one")


def _split(found: list[_Example]) -> tuple[list[_Example], list[_Example], list[_Example]]:
    """Test, validation and training examples of one class, which is sorted by hash, that is, in no order."""
    test = max(1, len(found) // TEST_SHARE)
    val = test + max(1, len(found) // VAL_SHARE)
    return found[:test], found[test:val], found[val:]


def _images(classes: list[list[_Example]]) -> Images:
    """All of them by their hash, so that any stretch of them has every class in it."""
    mixed = sorted((example.sha256, label, example.pixels) for label, found in enumerate(classes) for example in found)
    return Images(np.stack([pixels for *_, pixels in mixed]), np.array([label for _, label, _ in mixed], np.int32))


def _sha256(labels: tuple[str, ...], examples: list[list[_Example]]) -> str:
    digest = hashlib.sha256()
    for label, found in zip(labels, examples, strict=True):
        digest.update("\n".join([label, *(example.sha256 for example in found), ""]).encode())
    return digest.hexdigest()
