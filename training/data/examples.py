"""Labelled files read into examples: each image once, in one class and in one part of the split."""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model_store.errors import ImageError
from model_store.manifest import UNNORMALISED, Preprocessing
from training.data.image_file import problem, read_training_image, skip_reason
from training.data.listing import PARTS, LabelledFile
from training.data.scan import Skipped
from training.errors import TrainingError
from training.pace import Clock, Pace, format_duration

MAX_NAMED = 20  # conflicts listed by name


class Example(NamedTuple):
    """A file that was read: its SHA-256 and its pixels (H, W, 3)."""

    file: LabelledFile
    sha256: str
    pixels: NDArray[np.uint8]


_Result: TypeAlias = "Example | ImageError | OSError"


def read_examples(
    files: list[LabelledFile],
    skipped: Skipped,
    clock: Clock = time.monotonic,
    preprocessing: Preprocessing = UNNORMALISED,
) -> list[Example]:
    """Read the files in order at the size that a network takes, without those that cannot be used."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(
            _with_progress(pool.map(partial(_try_read, preprocessing=preprocessing), files), len(files), clock)
        )
    for file, result in zip(files, results, strict=True):
        if isinstance(result, OSError):
            skipped.add(skip_reason(result), f"{file.path}: {result.strerror}")
        elif isinstance(result, ImageError):
            skipped.add(skip_reason(result), f"{file.path}: {problem(result)}")
    return [result for result in results if isinstance(result, Example)]


def check_conflicts(examples: list[Example]) -> None:
    """Raise TrainingError with the paths of all files whose image is in two classes."""
    files: dict[str, list[LabelledFile]] = defaultdict(list)
    for example in examples:
        files[example.sha256].append(example.file)
    conflicts = [
        " and ".join(f"{file.path} ({file.label})" for file in copies)
        for copies in files.values()
        if len({file.label for file in copies}) > 1
    ]
    if conflicts:
        more = [f"and {len(conflicts) - MAX_NAMED:,} more"] if len(conflicts) > MAX_NAMED else []
        raise TrainingError(
            f"{'1 image is' if len(conflicts) == 1 else f'{len(conflicts):,} images are'} in two or more classes; "
            "keep each in one:\n  " + "\n  ".join(conflicts[:MAX_NAMED] + more)
        )


def remove_copies(examples: list[Example], skipped: Skipped) -> list[Example]:
    """Return the examples sorted by SHA-256, each once: in train if it is there, else in val."""
    order = list(dict.fromkeys(PARTS.values()))
    unique: dict[str, Example] = {}
    for example in sorted(examples, key=lambda example: order.index(example.file.part)):
        first = unique.setdefault(example.sha256, example).file
        if first is not example.file:
            is_leak = first.part != example.file.part
            reason = f"{example.file.part} images that are in {first.part}, too" if is_leak else "copies of images"
            skipped.add(reason, f"{example.file.path}, which is {first.path}")
    return [unique[sha256] for sha256 in sorted(unique)]


def _try_read(file: LabelledFile, preprocessing: Preprocessing) -> _Result:
    try:
        return Example(file, *read_training_image(file.path, preprocessing))
    except (OSError, ImageError) as error:
        return error


def _with_progress(results: Iterable[_Result], count: int, clock: Clock) -> Iterator[_Result]:
    """Show on stderr how many images are read: live on a terminal, else a line a minute."""
    live, pace, began = sys.stderr.isatty(), Pace(clock), clock()
    for number, result in enumerate(results, 1):
        text = f"{number:,}/{count:,} images read"
        if live and (number % 100 == 0 or number == count):
            print(f"\r{text}", end="\n" if number == count else "", file=sys.stderr, flush=True)
        elif not live and pace.due():
            left = format_duration((clock() - began) * (count / number - 1))
            print(f"{text}, {left} left", file=sys.stderr, flush=True)
        yield result
