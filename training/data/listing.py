"""Labelled image files as they were found, before any is read."""

from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from training.data.scan import Skipped

Part: TypeAlias = Literal["train", "val", "test"]
PARTS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


class LabelledFile(NamedTuple):
    """A file that may be an image, its label and its part of the split; all are `train` if no split is given."""

    path: Path
    label: str
    part: Part


class Listing(NamedTuple):
    """All labels in order, including those without files, the files and an account of the skipped ones.

    `doubts` are sentences about an arrangement that is accepted, but may not be meant.
    """

    labels: tuple[str, ...]
    files: list[LabelledFile]
    skipped: Skipped
    doubts: tuple[str, ...] = ()
