"""Whether the answered images are still like those that the version was tested on.

Owns what is watched of an image and its answer, the bins that it is counted in, and how counts are compared; as arrays
and numbers. Who counts, for how long, and who hears of it is the service's business. Counts are all that is needed:
no image can be made from them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model_store.classifier import Predictions
from model_store.manifest import FEATURE_BINS, Feature, Reference, Verdicts
from model_store.novelty import Verdict

Places = NDArray[np.int64]  # (N, 5): one bin of each feature for every image, numbered through all features
Counts = NDArray[np.int64]  # (B,): the bins of every feature, one feature after another
Status = Literal["ok", "watch", "drifted", "too_few_images", "no_reference"]

FEATURES: tuple[Feature, ...] = get_args(Feature)
FEWEST_IMAGES = 500
WATCH, DRIFTED = 0.1, 0.25  # the customary thresholds, by Siddiqi
NORMAL_QUANTILE = 3.09  # one sample of a thousand lies above without any drift
PSEUDO_COUNT = 0.5  # in every bin, so that an empty one has a logarithm
LUMA = np.array([77, 150, 29], np.uint16)  # ITU-R BT.601's 0.299, 0.587, 0.114 in 256ths


@dataclass(frozen=True)
class Comparison:
    """One feature of recent answers beside the reference's: bins and their shares, which each sum to one."""

    bins: tuple[str, ...] | tuple[float, ...]  # names, or the edges: one more than there are shares
    recent: NDArray[np.float64]
    reference: NDArray[np.float64]
    psi: float
    status: Status


def bins_of(feature: Feature, labels: tuple[str, ...]) -> tuple[str, ...] | tuple[float, ...]:
    """The names of a feature's bins, or their edges; of sharpness the first and last bin are open outwards."""
    steps = FEATURE_BINS.get(feature, 0) + 1
    if feature == "class":
        return labels
    if feature == "verdict":
        return get_args(Verdict)
    if feature == "sharpness":
        return tuple(np.round(2 ** (np.arange(steps) / 2), 2).tolist())
    return tuple(np.round(np.linspace(0, 1 if feature == "confidence" else 256, steps), 4).tolist())


def sizes(classes: int) -> dict[Feature, int]:
    """How many bins each feature has, in the order in which they are counted."""
    return {feature: FEATURE_BINS.get(feature, classes) for feature in FEATURES}


def places(images: NDArray[np.uint8], said: Predictions, verdicts: Verdicts) -> Places:
    """Into which bins images (N, 32, 32, 3) and their answers fall."""
    classes = said.probabilities.shape[1]
    confidence, luma = said.probabilities.max(1), _luma(images)
    found = np.empty((len(FEATURES), len(images)), np.int64)
    found[0] = said.probabilities.argmax(1)
    found[1] = np.minimum(confidence * 10, 9)
    found[2] = _verdicts(confidence, said, verdicts)
    found[3] = luma.reshape(len(images), -1).mean(1) / 16
    found[4] = np.clip(2 * np.log2(np.maximum(_sharpness(luma), 1)), 0, 15)
    return found.T + _first_places(classes)


@cache
def _first_places(classes: int) -> Places:
    """Where each feature's bins begin, (1, 5)."""
    bins = np.array([list(sizes(classes).values())])
    first: Places = np.cumsum(bins, axis=1) - bins
    return first


def count(found: Places, classes: int) -> Counts:
    """How many images fall into each bin."""
    return np.bincount(found.ravel(), minlength=sum(sizes(classes).values()))


def _luma(images: NDArray[np.uint8]) -> NDArray[np.int16]:
    """(N, 32, 32) from 0 to 255. In whole numbers: a matrix product would start BLAS's own threads."""
    red, green, blue = (images[..., channel] * LUMA[channel] for channel in range(3))
    luma: NDArray[np.int16] = ((red + green + blue) >> 8).view(np.int16)
    return luma


def _sharpness(luma: NDArray[np.int16]) -> NDArray[np.float64]:
    """The mean absolute Laplacian (N,) of images (N, 32, 32), without their borders: small for a blurred image."""
    edges = luma[:, 1:-1, 1:-1] * np.int16(4)
    for neighbours in (luma[:, :-2, 1:-1], luma[:, 2:, 1:-1], luma[:, 1:-1, :-2], luma[:, 1:-1, 2:]):
        edges -= neighbours
    mean: NDArray[np.float64] = np.abs(edges, out=edges).reshape(len(luma), -1).mean(1)
    return mean


def _verdicts(confidence: NDArray[np.float32], said: Predictions, verdicts: Verdicts) -> NDArray[np.int64]:
    """`novelty.verdict` of many answers, as places (N,) in `Verdict`."""
    assert said.novelty is not None
    strange = said.novelty > np.float64(verdicts.novelty_above)  # compared in float64, as Python's floats are there
    return np.where(strange, 2, confidence < np.float64(verdicts.confidence_below))


def by_feature(counts: Counts, classes: int) -> dict[Feature, Counts]:
    """Each feature's own counts."""
    ends = np.cumsum(list(sizes(classes).values()))
    return dict(zip(FEATURES, np.split(counts, ends[:-1]), strict=True))


def reference_of(images: NDArray[np.uint8], said: Predictions, verdicts: Verdicts) -> Reference:
    """What later answers are to be compared with: those to the images (N, 32, 32, 3) that a version was tested on."""
    classes = said.probabilities.shape[1]
    counts = by_feature(count(places(images, said, verdicts), classes), classes)
    return Reference(counts={feature: tuple(found.tolist()) for feature, found in counts.items()})


def psi(reference: NDArray[np.int64], recent: NDArray[np.int64]) -> float:
    """The population stability index of counts (B,) against a reference's: 0 for equal shares, without upper bound.

    Σ (q - p) ln(q / p) over the bins' shares. No share is zero: every bin of the reference has half a count more, and
    the recent counts have as many more, spread as the reference is, so that no images at all give 0. Source: Siddiqi,
    "Credit Risk Scorecards", Wiley 2006.
    """
    p = (reference + PSEUDO_COUNT) / (reference.sum() + PSEUDO_COUNT * len(reference))
    q = (recent + PSEUDO_COUNT * len(recent) * p) / (recent.sum() + PSEUDO_COUNT * len(recent))
    return float(((q - p) * np.log(q / p)).sum())


def chance(bins: int, reference_images: int, recent_images: int) -> float:
    """The index that one pair of samples of a thousand exceeds although nothing has changed.

    Without drift it is distributed like (1/n + 1/m) χ² with B - 1 degrees of freedom, whose quantile is taken by
    Wilson and Hilferty's approximation. Source: Yurdakul, "Statistical Properties of Population Stability Index",
    Western Michigan University 2018.
    """
    freedom = bins - 1
    spread = 2 / (9 * freedom)
    quantile: float = freedom * (1 - spread + NORMAL_QUANTILE * spread**0.5) ** 3
    return quantile * (1 / reference_images + 1 / recent_images)


def status_of(index: float, bins: int, reference_images: int, recent_images: int) -> Status:
    """What to make of an index: an alarm only when it is both large and more than chance would make it."""
    if recent_images < FEWEST_IMAGES:
        return "too_few_images"
    if index <= max(WATCH, chance(bins, reference_images, recent_images)):
        return "ok"
    return "drifted" if index > DRIFTED else "watch"


def overall(statuses: Iterable[Status]) -> Status:
    """The worst of the features' statuses, which are all `too_few_images` or none of them is."""
    order: tuple[Status, ...] = ("no_reference", "too_few_images", "ok", "watch", "drifted")
    return max(statuses, key=order.index)


def compare(reference: Reference, recent: Counts, labels: tuple[str, ...]) -> dict[Feature, Comparison]:
    """Every feature of recent answers beside the reference's. Of no images, every recent share is 0."""
    found: dict[Feature, Comparison] = {}
    for feature, counts in by_feature(recent, len(labels)).items():
        expected, images = np.array(reference.counts[feature]), int(counts.sum())
        index = psi(expected, counts)
        found[feature] = Comparison(
            bins_of(feature, labels),
            counts / max(images, 1),
            expected / expected.sum(),
            index,
            status_of(index, len(counts), int(expected.sum()), images),
        )
    return found
