"""Users' own images as a data set: its requirements, and its split where none is given.

The split depends only on the files' contents and labels: the same files give the same split under any names.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model_store.manifest import UNNORMALISED, Preprocessing
from training.data.dataset import MAX_LABEL_LENGTH, Images, is_label
from training.data.examples import MAX_NAMED, Example, check_conflicts, read_examples, remove_copies
from training.data.layout import list_images
from training.data.listing import Part
from training.data.scan import Skipped
from training.errors import TrainingError

MIN_CLASS_IMAGES, MIN_CLASSES, MAX_CLASSES = 10, 2, 1_000
SPLIT_SHARE = 10  # one in ten of each class for val and for test, and at least one

Classes = list[list[Example]]  # class by class, sorted by SHA-256


@dataclass(frozen=True)
class OwnImages:
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


class EveryImage(NamedTuple):
    """All images of a folder or CSV file, and the `sha256` that `OwnImages` has for it."""

    labels: tuple[str, ...]
    images: Images
    sha256: str


def load_images(data: Path, preprocessing: Preprocessing = UNNORMALISED) -> OwnImages:
    """Read the images of a folder or CSV file; val and test, if not given, are split from train.

    Prints to stderr how many files were skipped, by reason. Files with the same contents count once.

    Args:
        preprocessing: of the network that takes them. They are resized for it, and held as RGB.

    Raises:
        TrainingError: the arrangement is none of `list_images`, there are too few or too many classes, a class has too
            few images or an invalid name, or an image is in two classes.
    """
    labels, parts, given = _read(data, preprocessing)
    for part in sorted(parts - given.keys()):
        print(f"{part} has no image of its own and is split from train", file=sys.stderr)
    _check_counts(data, labels, given)
    train, val, test = (_images(classes) for classes in _split(given))
    print(f"{len(train):,} in train, {len(val):,} in val, {len(test):,} in test", file=sys.stderr)
    return OwnImages(labels, train, val, test, _sha256(labels, given))


def load_every_image(data: Path, preprocessing: Preprocessing = UNNORMALISED) -> EveryImage:
    """Read the images of a folder or CSV file without splitting them; a class may have few.

    Takes, prints and raises as `load_images`.
    """
    labels, _, given = _read(data, preprocessing)
    classes = [[example for part in parts for example in part] for parts in zip(*given.values(), strict=True)]
    if not any(classes):
        raise TrainingError(f"{data} has no usable image")
    return EveryImage(labels, _images(classes), _sha256(labels, given))


def _read(data: Path, preprocessing: Preprocessing) -> tuple[tuple[str, ...], set[Part], dict[Part, Classes]]:
    """Return the labels, the parts that have files, and the different images of each part that has some."""
    labels, files, skipped, doubts = list_images(data)
    for doubt in doubts:
        print(doubt, file=sys.stderr)
    _check_labels(data, labels)
    examples = read_examples(files, skipped, preprocessing=preprocessing)
    copies = Skipped()
    unique = remove_copies(examples, copies)
    for line in skipped.lines():  # before an error, which may be caused by what was skipped
        print(line, file=sys.stderr)
    check_conflicts(examples)
    for line in copies.lines():
        print(line, file=sys.stderr)
    counts = Counter(example.file.label for example in unique)
    named = [f"{label} {counts[label]:,}" for label in labels[:MAX_NAMED]]
    named += [f"and {len(labels) - MAX_NAMED:,} more"] if len(labels) > MAX_NAMED else []
    print(
        f"{data}: {len(unique):,} different images of {len(labels):,} classes: {', '.join(named)}",
        file=sys.stderr,
    )
    return labels, {file.part for file in files}, _group(unique, labels)


def _check_labels(data: Path, labels: tuple[str, ...]) -> None:
    if not MIN_CLASSES <= len(labels) <= MAX_CLASSES:
        raise TrainingError(f"{data} has {len(labels):,} classes; a network needs {MIN_CLASSES} to {MAX_CLASSES:,}")
    if invalid := [label for label in labels if not is_label(label)]:
        raise TrainingError(
            f"{invalid[0][:80]!r} in {data} is not a valid class name; rename it to up to {MAX_LABEL_LENGTH} printable "
            "characters in UTF-8"
        )


def _group(unique: list[Example], labels: tuple[str, ...]) -> dict[Part, Classes]:
    """Group the examples by part and class, without val or test if they have no image."""
    indices = {label: index for index, label in enumerate(labels)}
    parts: dict[Part, Classes] = {part: [[] for _ in labels] for part in ("train", "val", "test")}
    for example in unique:
        parts[example.file.part][indices[example.file.label]].append(example)
    return {part: classes for part, classes in parts.items() if part == "train" or any(classes)}


def _check_counts(data: Path, labels: tuple[str, ...], given: Mapping[Part, Classes]) -> None:
    counts = {label: len(examples) for label, examples in zip(labels, given["train"], strict=True)}
    if few := [f"{label} ({count})" for label, count in counts.items() if count < MIN_CLASS_IMAGES]:
        where = f"train of {data}" if len(given) > 1 else data
        raise TrainingError(
            f"a class needs {MIN_CLASS_IMAGES} different usable images; these in {where} have fewer: {', '.join(few)}"
        )
    for part, classes in given.items():
        if lacking := [label for label, examples in zip(labels, classes, strict=True) if not examples]:
            raise TrainingError(
                f"{part} of {data} has no usable image of its own of {', '.join(lacking[:MAX_NAMED])}; add some, or "
                f"remove {part}, which is then split from train"
            )


def _split(given: Mapping[Part, Classes]) -> tuple[Classes, Classes, Classes]:
    """Return train, val and test. Sorted by hash, the examples of a class are in random order."""
    train, val, test = given["train"], given.get("val"), given.get("test")
    shares = [max(1, len(examples) // SPLIT_SHARE) for examples in train]
    if test is None:
        test, train = _take(train, shares)
    if val is None:
        val, train = _take(train, shares)
    return train, val, test


def _take(classes: Classes, shares: list[int]) -> tuple[Classes, Classes]:
    pairs = list(zip(classes, shares, strict=True))
    return [examples[:share] for examples, share in pairs], [examples[share:] for examples, share in pairs]


def _images(classes: Classes) -> Images:
    """Sort the examples of all classes by hash. This mixes the classes, so any long slice contains all of them."""
    mixed = sorted(
        (example.sha256, label, example.pixels) for label, examples in enumerate(classes) for example in examples
    )
    return Images(np.stack([pixels for *_, pixels in mixed]), np.array([label for _, label, _ in mixed], np.int32))


def _sha256(labels: tuple[str, ...], given: Mapping[Part, Classes]) -> str:
    """Hash labels and files and, where val or test is given, the split."""
    digest = hashlib.sha256()
    for part, classes in given.items():
        digest.update(b"" if part == "train" else f"/{part}\n".encode())
        for label, examples in zip(labels, classes, strict=True):
            digest.update("\n".join([label, *(example.sha256 for example in examples), ""]).encode())
    return digest.hexdigest()
