"""How many images of something else entirely are recognised as such: folders of them, and kinds made here.

Owns the measuring, through the service's decoder and classifier; the thresholds are the version's. These images must
never have had a part in choosing or fitting anything.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from model_store.classifier import Classifier
from model_store.errors import ImageError
from model_store.images.decode import SIDE, decode
from model_store.manifest import Resize
from training.data.image_folder import read_bounded
from training.errors import TrainingError

MADE_IMAGES = 500
Pixels = NDArray[np.uint8]  # (N, 32, 32, 3)


class Foreign(NamedTuple):
    """One kind's figures."""

    kind: str
    images: int
    rejected: float  # the share called none of these
    auroc: float  # how often one of them is stranger than a known image, ties counted half
    confident: float  # the share that is answered confidently all the same


def measure_foreign(
    classifier: Classifier, known: Pixels, resize: Resize, folders: Sequence[Path], say: Callable[[str], None] = print
) -> list[Foreign]:
    """Compare kinds of foreign images with known ones.

    Args:
        known: images of the classifier's labels that nothing was fitted on.
        folders: each holds image files of one kind, at any depth.
        say: takes a line for each kind as it is measured.

    Raises:
        TrainingError: the version has no verdicts, or a folder no image that can be read.
    """
    verdicts = classifier.verdicts
    if verdicts is None:
        raise TrainingError(
            "this version has no verdicts; publish its run anew, with a --twin or trained by --hold-out"
        )
    expected = classifier.predict(known)
    assert expected.ood_score is not None
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise TrainingError(f"{missing[0]} is not a folder; pass folders of image files, one of each kind")
    rows = []
    for kind, pixels in _kinds(folders, resize):
        said = classifier.predict(pixels)
        assert said.ood_score is not None and said.novelty is not None
        strange, sure = said.novelty > verdicts.novelty_above, said.probabilities.max(1) >= verdicts.confidence_below
        figures = float(strange.mean()), auroc(expected.ood_score, said.ood_score), float((sure & ~strange).mean())
        rows.append(Foreign(kind, len(pixels), *figures))
        say(row(rows[-1]))
    return rows


def row(foreign: Foreign) -> str:
    """For a terminal."""
    return (
        f"{foreign.kind:<40}{foreign.images:>7}{foreign.rejected:>10.1%}{foreign.auroc:>9.3f}{foreign.confident:>11.1%}"
    )


HEADER = f"{'':<40}{'images':>7}{'rejected':>10}{'AUROC':>9}{'confident':>11}"


def auroc(known: NDArray[np.float32], foreign: NDArray[np.float32]) -> float:
    """The area under the ROC curve: how often a foreign score (M,) is above a known one (N,), ties counted half."""
    ordered = np.sort(known)
    below, upto = (np.searchsorted(ordered, foreign, side=side) for side in ("left", "right"))
    return float((below + upto).mean() / 2 / len(known))


def _kinds(folders: Sequence[Path], resize: Resize) -> Iterator[tuple[str, Pixels]]:
    for kind, make in MADE.items():
        random = np.random.default_rng(0)
        yield f"{kind} (made here)", np.stack([make(random) for _ in range(MADE_IMAGES)])
    for folder in folders:
        yield folder.name, read_folder(folder, resize)


def read_folder(folder: Path, resize: Resize) -> Pixels:
    """The images under a folder, in the order of their paths; files that the service would refuse are passed over.

    Raises:
        TrainingError: there is none.
    """
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            found.append(decode(read_bounded(path), resize))
        except (OSError, ImageError):
            continue
    if not found:
        raise TrainingError(f"{folder} holds no image that the service would take; pass a folder of image files")
    return np.stack(found)


def _noise(random: Generator) -> Pixels:
    return random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def _one_colour(random: Generator) -> Pixels:
    return np.broadcast_to(random.integers(0, 256, 3, dtype=np.uint8), (SIDE, SIDE, 3))


def _soft_patches(random: Generator) -> Pixels:
    cells = int(random.integers(2, 10))
    few = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
    return np.asarray(few.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


MADE = {"noise": _noise, "one colour": _one_colour, "soft patches": _soft_patches}
