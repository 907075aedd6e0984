"""Measure how many out-of-distribution images a version rejects, from folders and generated images.

Uses the service's decoder, HEIC aside, and its classifier and the version's own thresholds. Never use these images to
choose or fit anything.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from model_store.classifier import Classifier
from model_store.errors import ImageError
from model_store.manifest import Preprocessing
from training.data.dataset import as_inputs
from training.data.image_file import decode_with_heic, problem, read_image_file, skip_reason
from training.data.scan import Skipped
from training.errors import TrainingError
from training.evaluate.corruptions import Pixels

GENERATED_IMAGES = 500
SIDE = 32  # of generated images


class OodResult(NamedTuple):
    """Figures for one kind of out-of-distribution images."""

    kind: str
    images: int
    rejected: float  # share with the verdict `none_of_these`
    auroc: float  # for separating them from known images by score
    confident: float  # share with the verdict `confident`


def measure_out_of_distribution(classifier: Classifier, known: Pixels, folders: Sequence[Path]) -> Iterator[OodResult]:
    """Yield the figures of each kind of out-of-distribution image, compared with known images.

    Args:
        known: images (N, H, W, 3) RGB of the classifier's own classes, not used for any fit.
        folders: each holds image files of one kind, at any depth.

    Raises:
        TrainingError: the version has no verdicts, or a folder has no readable image.
    """
    verdicts, preprocessing = classifier.verdicts, classifier.preprocessing
    if verdicts is None:
        raise TrainingError(
            "this version has no verdicts; publish its run again with --calibration-run, or train a run with --hold-out"
        )
    known_scores = classifier.predict(as_inputs(known, preprocessing)).rejection_score
    assert known_scores is not None
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise TrainingError(f"{missing[0]} is not a folder; pass one folder of image files for each kind")
    for kind, pixels in _kinds(folders, preprocessing):
        predictions = classifier.predict(pixels)
        rejected = predictions.rejected
        assert predictions.rejection_score is not None and rejected is not None
        confident = (predictions.probabilities.max(1) >= verdicts.confidence_below) & ~rejected
        area = auroc(known_scores, predictions.rejection_score)
        yield OodResult(kind, len(pixels), float(rejected.mean()), area, float(confident.mean()))


def auroc(known: NDArray[np.float32], foreign: NDArray[np.float32]) -> float:
    """Compute the area under the ROC curve: how often a foreign score (M,) exceeds a known one (N,).

    Ties count half.
    """
    ordered = np.sort(known)
    below, upto = (np.searchsorted(ordered, foreign, side=side) for side in ("left", "right"))
    return float((below + upto).mean() / 2 / len(known))


def _kinds(folders: Sequence[Path], preprocessing: Preprocessing) -> Iterator[tuple[str, Pixels]]:
    for kind, draw in GENERATORS.items():
        random = np.random.default_rng(0)
        pixels = np.stack([draw(random) for _ in range(GENERATED_IMAGES)])
        yield f"{kind} (generated)", as_inputs(pixels, preprocessing)
    for folder in folders:
        yield folder.name, read_folder(folder, preprocessing)


def read_folder(folder: Path, preprocessing: Preprocessing) -> Pixels:
    """Decode the images under a folder in path order, as a network takes them.

    Prints to stderr how many files were skipped, by reason.

    Raises:
        TrainingError: no image could be decoded.
    """
    images, skipped = [], Skipped()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            images.append(decode_with_heic(read_image_file(path), preprocessing))
        except OSError as error:
            skipped.add(skip_reason(error), f"{path}: {error.strerror}")
        except ImageError as error:
            skipped.add(skip_reason(error), f"{path}: {problem(error)}")
    for line in skipped.lines():
        print(line, file=sys.stderr)
    if not images:
        raise TrainingError(f"{folder} contains no image that can be read; pass a folder of image files")
    return np.stack(images)


def _noise(random: Generator) -> Pixels:
    return random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def _one_colour(random: Generator) -> Pixels:
    return np.broadcast_to(random.integers(0, 256, 3, dtype=np.uint8), (SIDE, SIDE, 3))


def _soft_patches(random: Generator) -> Pixels:
    cells = int(random.integers(2, 10))
    patches = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
    return np.asarray(patches.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


GENERATORS = {"noise": _noise, "one colour": _one_colour, "soft patches": _soft_patches}
