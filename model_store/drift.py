"""Drift: compare recent images and predictions with the version's test images.

Defines the features of an image and its prediction, their bins, and the comparison of counts. `app.monitoring` decides
which predictions to count, and for how long. Only counts are stored, so no image can be reconstructed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model_store.classifier import Predictions
from model_store.manifest import FEATURE_BINS, ChannelOrder, Feature, Reference, Verdicts
from model_store.novelty import Verdict

BinIndices = NDArray[np.int64]  # (N, 5): each image's bin of each feature, numbered consecutively over all features
Counts = NDArray[np.int64]  # (B,): images in each bin, one feature after another
Status = Literal["ok", "watch", "drifted", "too_few_images", "no_reference"]

FEATURES: tuple[Feature, ...] = get_args(Feature)
MIN_DRIFT_IMAGES = 500
WATCH, DRIFTED = 0.1, 0.25  # PSI thresholds by Siddiqi, in common use
NORMAL_QUANTILE = 3.09  # exceeded by one sample in a thousand without any drift
PSEUDO_COUNT = 0.5  # added to every bin, so that an empty one has a logarithm
LUMA = {"R": np.uint16(77), "G": np.uint16(150), "B": np.uint16(29)}  # ITU-R BT.601's 0.299, 0.587, 0.114 in 256ths


@dataclass(frozen=True)
class Comparison:
    """Shares of recent and of reference images in the bins of one feature; each sums to 1."""

    bins: tuple[str, ...] | tuple[float, ...]  # names, or edges, one more than shares
    recent: NDArray[np.float64]
    reference: NDArray[np.float64]
    psi: float
    status: Status


def bins_of(feature: Feature, labels: tuple[str, ...]) -> tuple[str, ...] | tuple[float, ...]:
    """Return the names of a feature's bins, or their edges. The first and last bin of sharpness are unbounded."""
    steps = FEATURE_BINS.get(feature, 0) + 1
    if feature == "class":
        return labels
    if feature == "verdict":
        return get_args(Verdict)
    if feature == "sharpness":
        return tuple(np.round(2 ** (np.arange(steps) / 2), 2).tolist())
    return tuple(np.round(np.linspace(0, 1 if feature == "confidence" else 256, steps), 4).tolist())


def bin_counts_by_feature(classes: int) -> dict[Feature, int]:
    """Return the number of bins of each feature, in the order of `Counts`."""
    return {feature: FEATURE_BINS.get(feature, classes) for feature in FEATURES}


def bin_indices(
    images: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    rejected: NDArray[np.bool_],
    verdicts: Verdicts,
    channel_order: ChannelOrder = "RGB",
) -> BinIndices:
    """Find the bins of images (N, H, W, C), their probabilities (N, K) and verdicts; see `Predictions.rejected`.

    Bins of sharpness are comparable only among images of one size, such as those of one version.
    """
    classes = probabilities.shape[1]
    confidence, luma = probabilities.max(1), _luma(images, channel_order)
    indices = np.empty((len(FEATURES), len(images)), np.int64)
    indices[0] = probabilities.argmax(1)
    indices[1] = np.minimum(confidence * 10, 9)
    indices[2] = np.where(rejected, 2, confidence < np.float64(verdicts.confidence_below))  # as `novelty.verdict`
    indices[3] = luma.reshape(len(images), -1).mean(1) / 16
    indices[4] = np.clip(2 * np.log2(np.maximum(_sharpness(luma), 1)), 0, 15)
    return indices.T + _first_bins(classes)


@cache
def _first_bins(classes: int) -> BinIndices:
    """Return the index (1, 5) of each feature's first bin."""
    bins = np.array([list(bin_counts_by_feature(classes).values())])
    first: BinIndices = np.cumsum(bins, axis=1) - bins
    return first


def count_bins(indices: BinIndices, classes: int) -> Counts:
    """Count the images in each bin."""
    return np.bincount(indices.ravel(), minlength=sum(bin_counts_by_feature(classes).values()))


def _luma(images: NDArray[np.uint8], channel_order: ChannelOrder) -> NDArray[np.int16]:
    """Return luma (N, H, W), 0 to 255. Integers, because a matrix product would start BLAS's own threads."""
    if images.shape[3] == 1:
        return images[..., 0].astype(np.int16)
    red, green, blue = (images[..., channel_order.index(name)] * LUMA[name] for name in "RGB")
    luma: NDArray[np.int16] = ((red + green + blue) >> 8).view(np.int16)
    return luma


def _sharpness(luma: NDArray[np.int16]) -> NDArray[np.float64]:
    """Return the mean absolute Laplacian (N,) of luma (N, H, W) without borders. It is low for blurred images."""
    edges = luma[:, 1:-1, 1:-1] * np.int16(4)
    for neighbours in (luma[:, :-2, 1:-1], luma[:, 2:, 1:-1], luma[:, 1:-1, :-2], luma[:, 1:-1, 2:]):
        edges -= neighbours
    mean: NDArray[np.float64] = np.abs(edges, out=edges).reshape(len(luma), -1).mean(1)
    return mean


def split_by_feature(counts: Counts, classes: int) -> dict[Feature, Counts]:
    """Split counts by feature."""
    ends = np.cumsum(list(bin_counts_by_feature(classes).values()))
    return dict(zip(FEATURES, np.split(counts, ends[:-1]), strict=True))


def count_reference(images: NDArray[np.uint8], predictions: Predictions, verdicts: Verdicts) -> Reference:
    """Count a version's test images (N, H, W, C), RGB or grey, by bin, as the reference for later predictions."""
    probabilities, rejected = predictions.probabilities, predictions.rejected
    assert rejected is not None
    classes = probabilities.shape[1]
    bins = bin_indices(images, probabilities, rejected, verdicts)
    counts_by_feature = split_by_feature(count_bins(bins, classes), classes)
    return Reference(counts={feature: tuple(counts.tolist()) for feature, counts in counts_by_feature.items()})


def psi(reference: NDArray[np.int64], recent: NDArray[np.int64]) -> float:
    """Return the population stability index of counts (B,) and a reference: 0 for equal shares, unbounded above.

    Σ (q - p) ln(q / p) over the bins' shares. To avoid shares of zero, half a count is added to every bin of the
    reference, and as many in all to the recent counts in the reference's proportions, so that an empty sample gives 0.
    Source: Siddiqi, "Credit Risk Scorecards", Wiley 2006.
    """
    p = (reference + PSEUDO_COUNT) / (reference.sum() + PSEUDO_COUNT * len(reference))
    q = (recent + PSEUDO_COUNT * len(recent) * p) / (recent.sum() + PSEUDO_COUNT * len(recent))
    return float(((q - p) * np.log(q / p)).sum())


def chance(bins: int, reference_images: int, recent_images: int) -> float:
    """Return the PSI that one pair of samples in a thousand exceeds without drift.

    Without drift the index is distributed like (1/n + 1/m) χ² with B - 1 degrees of freedom; the quantile is Wilson
    and Hilferty's approximation. Source: Yurdakul, "Statistical Properties of Population Stability Index",
    Western Michigan University 2018.
    """
    freedom = bins - 1
    spread = 2 / (9 * freedom)
    quantile: float = freedom * (1 - spread + NORMAL_QUANTILE * spread**0.5) ** 3
    return quantile * (1 / reference_images + 1 / recent_images)


def status_of(index: float, bins: int, reference_images: int, recent_images: int) -> Status:
    """Rate a PSI: drift needs one that is large and also exceeds `chance`."""
    if recent_images < MIN_DRIFT_IMAGES:
        return "too_few_images"
    if index <= max(WATCH, chance(bins, reference_images, recent_images)):
        return "ok"
    return "drifted" if index > DRIFTED else "watch"


def worst_status(statuses: Iterable[Status]) -> Status:
    """Return the worst status. Either all features have `too_few_images` or none has."""
    order: tuple[Status, ...] = ("no_reference", "too_few_images", "ok", "watch", "drifted")
    return max(statuses, key=order.index)


def compare_with_reference(reference: Reference, recent: Counts, labels: tuple[str, ...]) -> dict[Feature, Comparison]:
    """Compare every feature of recent predictions with the reference. Without images, recent shares are 0."""
    comparisons: dict[Feature, Comparison] = {}
    for feature, counts in split_by_feature(recent, len(labels)).items():
        expected, images = np.array(reference.counts[feature]), int(counts.sum())
        index = psi(expected, counts)
        comparisons[feature] = Comparison(
            bins_of(feature, labels),
            counts / max(images, 1),
            expected / expected.sum(),
            index,
            status_of(index, len(counts), int(expected.sum()), images),
        )
    return comparisons
